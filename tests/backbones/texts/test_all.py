"""What every backbone of texts promises: padding changes nothing, no text breaks it, and it runs wherever images do."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from metashot.backbones.normalisation import Protocol, in_batches
from metashot.backbones.texts.tokens import hashed
from metashot.episodes import Episode, Examples
from metashot.problems import Classification
from tests.algorithms.gradient_learners import ENGINES, assert_same, learner, outer_gradient, slopes

from .networks import LENGTH, NETWORKS, inputs, made, random_texts

PROTOCOLS: tuple[Protocol, ...] = ("transductive", "running", "support", "support_later", "none")
OF_WEIGHTS = [name for name in NETWORKS if name != "ngrams, buckets"]
DEVICE_PRECISIONS = {torch.float32: 1e-5, torch.bfloat16: 0.1}
STRANGE = ["", " ", "\U0010ffff" * LENGTH, "a", "你好，世界", "مرحبا", "👩‍👩‍👧", "aaaaaaaaaaaaaaaa"]


def episode(seed: int = 0) -> Episode:
    x = random_texts(2, 12, seed)
    y = torch.arange(2).repeat(2, 6)
    return Episode(
        Examples(x[:, :6], y[:, :6]), Examples(x[:, 6:], y[:, 6:]), torch.arange(2), torch.arange(2).expand(2, -1)
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_features_do_not_depend_on_the_amount_of_padding(name: str, protocol: Protocol) -> None:
    network = made(name, protocol)
    x = random_texts(2, 5, length=LENGTH - 7)
    longer = torch.nn.functional.pad(x, (0, 7))
    torch.testing.assert_close(network(longer, support=2), network(x, support=2), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_stands_at_the_padding_is_not_read(name: str) -> None:
    network, x = made(name), random_texts(1, 5)
    other = x.clone()
    other[:, :, 0][x[:, :, 1] == 0] = 77
    torch.testing.assert_close(network(other, support=2), network(x, support=2), rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_strange_texts_have_finite_features_and_gradients(name: str, training: bool) -> None:
    network = made(name).train(training)
    x = torch.cat([inputs(STRANGE)[:, 2:], inputs(STRANGE)[:, :2]], dim=1)
    features = network(x, support=4)
    assert features.shape == (1, len(STRANGE), network.features)
    assert features.isfinite().all()
    for parameter in network.parameters():
        (gradient,) = torch.autograd.grad(features.square().sum(), parameter, retain_graph=True)
        assert gradient.isfinite().all()
    for shortest in (1, 2):  # no column but these
        assert network(inputs(["", "a"], shortest), support=1).isfinite().all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_features_of_a_task_are_the_same_alone_and_in_a_batch(name: str, protocol: Protocol, training: bool) -> None:
    network, x = made(name, protocol).train(training), random_texts(3, 6)
    together = network(x, support=4)
    network = made(name, protocol).train(training)  # whose averages have not moved
    torch.testing.assert_close(together[2:], network(x[2:], support=4), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_backbone_says_whether_queries_see_each_other(name: str, protocol: Protocol) -> None:
    network, x = made(name, protocol).eval(), random_texts(1, 6)
    changed = x.clone()
    changed[0, 5] = inputs(["another"])[0, 0]
    before, after = network(x, support=4), network(changed, support=4)
    assert bool(((before - after)[0, :5].abs() > 1e-12).any()) is network.transductive
    alone = network(x[:, 4:5], support=0) if network.embeds_independently else before[:, 4:5]
    torch.testing.assert_close(alone, before[:, 4:5], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_weights_of_each_task_at_once_give_what_a_loop_gives(name: str, protocol: Protocol) -> None:
    network, x = made(name, protocol).eval(), random_texts(3, 6)
    own = {key: torch.stack([value + 0.01 * task for task in range(3)]) for key, value in network.named_parameters()}

    def features(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        found: Tensor = functional_call(network, weights, (x[None], 4))
        return found[0]

    one_by_one = torch.stack([features({key: value[task] for key, value in own.items()}, x[task]) for task in range(3)])
    with in_batches(network):
        torch.testing.assert_close(vmap(features)(own, x), one_by_one, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_second_derivatives_are_the_same_with_both_engines(name: str, protocol: Protocol) -> None:
    found = []
    for engine in ENGINES.values():
        network = learner("maml", made(name, protocol), Classification(2), engine, steps=2)
        torch.manual_seed(1)
        torch.nn.init.normal_(network.network.head.weight, std=0.5)
        found.append(outer_gradient(network, episode()))
    assert_same(*found)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_outer_gradients_are_the_slopes_of_the_loss(name: str, engine: str) -> None:
    network = learner("maml", made(name, "none"), Classification(2), ENGINES[engine], steps=2)
    torch.manual_seed(1)
    torch.nn.init.normal_(network.network.head.weight, std=0.5)
    for parameter, expected, found in slopes(network, episode()):
        assert found == pytest.approx(expected, rel=2e-4, abs=2e-7), parameter


@pytest.mark.parametrize("name", NETWORKS)
def test_features_in_other_precisions_are_close(name: str) -> None:
    network, x = made(name).eval(), random_texts(2, 6)
    expected = network(x, support=4)
    single = copy.deepcopy(network).float()
    assert network.double()(x, support=4).dtype == torch.float64
    torch.testing.assert_close(single(x, support=4).double(), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = single(x, support=4)
    torch.testing.assert_close(mixed.double(), expected, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("name", NETWORKS)
def test_saved_weights_give_the_same_features(name: str) -> None:
    network, x = made(name).eval(), random_texts(1, 4)
    torch.manual_seed(9)
    other = NETWORKS[name]().double().eval()
    other.load_state_dict(network.state_dict())
    torch.testing.assert_close(other(x, support=2), network(x, support=2), rtol=0, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_do_not_depend_on_the_length_of_the_inputs(name: str) -> None:
    short, long = ({key: value.shape for key, value in made(name).state_dict().items()} for _ in range(2))
    assert short == long
    assert made(name).wants["input_shape"] == [2, LENGTH]  # type: ignore[index]


@pytest.mark.parametrize("name", ["textcnn", "transformer"])
def test_dropout_draws_in_training_alone_and_inner_loops_refuse_it(name: str) -> None:
    from metashot.bad_input import BadInput

    network: Any = NETWORKS[name]("none", dropout=0.5).double()
    x = random_texts(1, 6)
    assert network.draws
    assert not NETWORKS[name]("none").draws
    torch.manual_seed(0)
    first = network(x, support=3)
    assert not torch.equal(network(x, support=3), first)
    torch.manual_seed(0)
    torch.testing.assert_close(network(x, support=3), first, rtol=0, atol=0)
    torch.testing.assert_close(network.eval()(x, support=3), network(x, support=3), rtol=0, atol=0)
    with pytest.raises(BadInput, match="must not draw random numbers"):
        learner("maml", network)


def test_hashes_are_in_their_buckets_and_spread_for_all_code_points() -> None:
    ids = torch.arange(0x110000)
    for buckets in (2, 1000, 4096):
        found = hashed(ids, buckets)
        assert (found.min(), found.max()) == (0, buckets - 1)
        counts = torch.bincount(found, minlength=buckets).double()
        expected = len(ids) / buckets
        assert (counts / expected - 1).abs().max() < 0.5
    assert hashed(torch.tensor([0xFFFFFFFF, 2**32]), 7).tolist() == [
        ((value * 0x9E3779B1 & 0xFFFFFFFF) ^ ((value * 0x9E3779B1 & 0xFFFFFFFF) >> 15)) % 7 for value in (0xFFFFFFFF, 2**32)
    ]
