"""Every algorithm in two phases: a support set is learned first and queries are answered later, as in an episode."""

import numpy as np
import pytest
import torch

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.episodes import Episode, Examples
from metashot.problems import Classification
from tests.configuration.test_configuration import composed
from tests.training.fits import ALGORITHMS, GRADIENT, OWN, SHAPE, WAYS, RandomEpisodes

PROTOCOLS = pytest.mark.parametrize("protocol", ["transductive", "running", "support_later"])
EVERY = (*ALGORITHMS, "finetune")


def made(algo: str, protocol: str, *settings: str) -> Algorithm:
    """With weights, averages and step sizes away from where training begins."""
    given = [*OWN.get(algo, [f"algo={algo}"]), f"backbone.normalisation={protocol}", *settings]
    if algo in (*GRADIENT, "finetune"):
        given.append("algo.inner_lr=0.02")  # steps that no loss explodes with
    if algo == "mamlpp" and protocol != "running":
        given.append("algo.averages_per_step=false")
    config = composed("train", *given, "backbone.channels=4", "backbone.downsampling=stride")
    backbone = configuration.build(config["backbone"], input_shape=SHAPE)
    torch.manual_seed(0)
    algorithm: Algorithm = configuration.build_algorithm(config, backbone=backbone, problem=Classification(WAYS))
    with torch.no_grad():
        for parameter in algorithm.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
        for name, buffer in algorithm.named_buffers():
            if "running" in name:  # as small as what layers make of these images, so that something is left of it
                buffer.mul_(0.02).add_(0.01)
    return algorithm.double().eval()


def episode() -> Episode:
    (batch,) = RandomEpisodes(2, supervised=False).batch("test", np.array([3, 8]), torch.device("cpu"))
    support, query = (Examples(part.x.double(), part.y) for part in (batch.support, batch.query))
    return Episode(support, query, batch.number, batch.classes)


def without_gradients(values: torch.Tensor) -> torch.Tensor:
    assert values.dtype == torch.float64
    return values.detach()


@PROTOCOLS
@pytest.mark.parametrize("algo", EVERY)
def test_queries_are_answered_later_as_in_an_episode(algo: str, protocol: str) -> None:
    algorithm, asked = made(algo, protocol), episode()
    weights = {name: value.clone() for name, value in algorithm.state_dict().items()}
    with torch.no_grad():
        expected = algorithm(asked.support, asked.query.x)
        learned = algorithm.adapt(asked.support)
        for _ in range(2):  # it can be asked again
            torch.testing.assert_close(algorithm.answer_queries(learned, asked.query.x), expected, atol=1e-10, rtol=0)
        if not algorithm.transductive:
            one_by_one = [algorithm.answer_queries(learned, one) for one in asked.query.x.split(1, dim=1)]
            torch.testing.assert_close(torch.cat(one_by_one, dim=1), expected, atol=1e-10, rtol=0)
    assert expected.std() > 1e-6
    for name, value in algorithm.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize("engine", ["learn2learn", "batched"])
def test_engines_answer_later_alike(engine: str) -> None:
    algorithm, asked = made("maml", "support", f"engine={engine}"), episode()
    with torch.no_grad():
        learned = algorithm.adapt(asked.support)
        answers = algorithm.answer_queries(learned, asked.query.x)
        torch.testing.assert_close(answers, algorithm(asked.support, asked.query.x), atol=1e-10, rtol=0)


@pytest.mark.parametrize(("steps", "watched"), [(0, [0]), (3, [0, 1, 2, 3]), (12, [*range(11), 12])])
def test_answers_on_the_way_are_those_of_so_many_steps(steps: int, watched: list[int]) -> None:
    algorithm, asked = made("maml", "transductive", f"algo.test_inner_steps={steps}"), episode()
    assert list(algorithm.watched_steps) == watched
    answers = algorithm.answers_after_steps(asked)
    assert isinstance(algorithm, GradientLearner)
    for place, count in enumerate(watched):
        algorithm.test_inner_steps = count
        torch.testing.assert_close(
            without_gradients(answers[:, place]),
            without_gradients(algorithm(asked.support, asked.query.x)),
            atol=1e-9,
            rtol=0,
        )


@PROTOCOLS
@pytest.mark.parametrize("algo", ["maml", "anil", "mamlpp"])
def test_features_after_adapting_are_what_the_adapted_head_answers_from(algo: str, protocol: str) -> None:
    algorithm, asked = made(algo, protocol), episode()
    assert isinstance(algorithm, GradientLearner)
    before, after = algorithm.features_before_and_after(asked)
    assert after is not None
    adapted, count = algorithm.adapt(asked.support).parameters, asked.support.x.shape[1]
    head = {name: value.detach() for name, value in algorithm.network.head.named_parameters()}
    weight = adapted.get("head.weight", head["weight"].expand(len(asked), -1, -1))
    bias = adapted.get("head.bias", head["bias"].expand(len(asked), -1))
    answers = after[:, count:] @ weight.transpose(1, 2) + bias.unsqueeze(1)
    torch.testing.assert_close(
        without_gradients(answers), without_gradients(algorithm(asked.support, asked.query.x)), atol=1e-9, rtol=0
    )
    moved = (after - before).abs().max() > 1e-9
    assert bool(moved) is (algo != "anil")


@pytest.mark.parametrize("algo", ["protonet", "baselinepp", "full context"])
def test_features_of_a_task_change_only_where_an_algorithm_reads_the_support_set(algo: str) -> None:
    algorithm, asked = made(algo, "running"), episode()
    assert isinstance(algorithm, FeatureLearner)
    before, after = algorithm.features_before_and_after(asked)
    images = torch.cat([asked.support.x, asked.query.x], dim=1)
    torch.testing.assert_close(before, algorithm.embed(images, support=asked.support.x.shape[1]))
    assert (after is not None) is (algo == "full context")
    if after is not None:
        assert after.shape == before.shape
        assert not torch.allclose(after, before)


@pytest.mark.parametrize("algo", ["matching", "full context", "snail"])
def test_attention_belongs_to_the_support_examples_in_the_order_they_were_given(algo: str) -> None:
    algorithm, asked = made(algo, "running"), episode()
    looked = algorithm.attention(asked)
    assert looked is not None
    assert looked.shape == (2, asked.query.x.shape[1], asked.support.x.shape[1])
    assert (looked >= 0).all()
    assert looked.sum(-1).max() <= 1 + 1e-9
    order = torch.tensor([4, 5, 0, 1, 2, 3])  # of classes, so that those that are read in order keep it
    turned = Episode(
        Examples(asked.support.x[:, order], asked.support.y[:, order]), asked.query, asked.number, asked.classes
    )
    again = algorithm.attention(turned)
    assert again is not None
    torch.testing.assert_close(without_gradients(again), without_gradients(looked[..., order]), atol=1e-10, rtol=0)
    if algo != "snail":
        probabilities = algorithm(asked.support, asked.query.x).softmax(-1)
        of_classes = torch.stack(
            [(looked * (asked.support.y == label).unsqueeze(1)).sum(-1) for label in range(WAYS)], dim=-1
        )
        torch.testing.assert_close(without_gradients(of_classes), without_gradients(probabilities), atol=1e-9, rtol=0)


def test_an_algorithm_that_only_answers_has_nothing_to_show() -> None:
    """What derives from `Algorithm` alone is tested and drawn like others, without these pictures."""

    class First(Algorithm):
        def forward(self, support: Examples, query_x: torch.Tensor) -> torch.Tensor:
            return query_x.new_zeros(*query_x.shape[:2], WAYS)

    algorithm, asked = First(made("protonet", "running").optimization, False, Classification(WAYS)), episode()
    assert algorithm.features_before_and_after(asked) is None
    assert algorithm.attention(asked) is None
    assert algorithm.answer_queries(algorithm.adapt(asked.support), asked.query.x).shape[-1] == WAYS


def test_algorithms_that_look_at_nothing_have_no_attention() -> None:
    for algo in ("protonet", "maml", "relation"):
        assert made(algo, "running").attention(episode()) is None
