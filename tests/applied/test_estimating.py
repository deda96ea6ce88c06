"""`learner.estimate()`: how accurate a fitted learner will be, from its support set alone."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metashot.algorithms.closed_form.logistic import LogisticRegression
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.applied import estimating
from metashot.applied.estimating import Estimate, estimated, refuse_estimate
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from tests.algorithms.feature_learners import Pixels, learner

FEATURES = 12


def clusters(seed: int, classes: int, images: int, spread: float) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, 1, FEATURES, generator=random, dtype=torch.float64)
    return means + spread * torch.randn(classes, images, FEATURES, generator=random, dtype=torch.float64)


def made(kind: type[FeatureLearner], spread: float, **settings: Any) -> FeatureLearner:
    found = learner(kind, Pixels(FEATURES), **settings)
    assert isinstance(found, FeatureLearner)
    found.familiarity.learn(clusters(0, 20, 30, spread), clusters(1, 20, 30, spread))
    return found.eval()


def protonet(spread: float = 1.2) -> FeatureLearner:
    return made(ProtoNet, spread, distance="euclidean", temperature=1.0, learned_temperature=False)


def task(seed: int, ways: int, shots: int, spread: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A support set and many queries, with their labels."""
    found = clusters(seed, ways, shots + 100, spread)
    labels = torch.arange(ways)
    support, query = found[:, :shots].flatten(0, 1), found[:, shots:].flatten(0, 1)
    return support, labels.repeat_interleave(shots), query, labels.repeat_interleave(100)


def accuracy(algorithm: FeatureLearner, x: Tensor, y: Tensor, query: Tensor, labels: Tensor) -> float:
    answers = algorithm.answer(algorithm.summary(Examples(x[None], y[None])), query[None])[0]
    return float((answers.argmax(-1) == labels).double().mean())


@pytest.mark.parametrize(("ways", "shots"), [(5, 2), (5, 5), (3, 8)])
def test_the_interval_holds_the_truth_in_about_nine_tasks_of_ten(
    ways: int, shots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "simulated", cache(estimating.simulated))  # it is the same for all these tasks
    algorithm, held, errors = protonet(), [], []
    for seed in range(100, 180):
        support, y, query, labels = task(seed, ways, shots, spread=1.2)
        truth, found = accuracy(algorithm, support, y, query, labels), estimated(algorithm, support, y)
        assert 0 <= found.low <= found.accuracy <= found.high <= 1
        held.append(found.low <= truth <= found.high)
        errors.append(found.accuracy - truth)
    assert 0.8 <= np.mean(held) <= 0.99
    assert abs(np.mean(errors)) < 0.05


@pytest.mark.parametrize("counts", [(3, 3, 3, 3), (2, 2), (5, 2, 3)])
def test_left_out_examples_are_those_of_a_plain_loop(counts: tuple[int, ...]) -> None:
    algorithm = protonet()
    classes = clusters(5, len(counts), max(counts), 3.0)
    members = [list(own[:count]) for own, count in zip(classes, counts, strict=True)]
    answers: dict[tuple[int, int], list[bool]] = {}
    for shift in range(min(3, max(counts))):
        for fold in range(max(counts)):
            left_out = [(fold + shift * label) % count for label, count in enumerate(counts)]
            means = torch.stack(
                [torch.stack(own[:place] + own[place + 1 :]).mean(0) for own, place in zip(members, left_out, strict=True)]
            )
            for label, place in enumerate(left_out):
                nearest = int((means - members[label][place]).square().sum(-1).argmin())
                answers.setdefault((label, place), []).append(nearest == label)
    assert len(answers) == sum(counts)
    expected = np.mean([np.mean(own) for own in answers.values()])
    x = torch.cat([torch.stack(own) for own in members])
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    in_turn = torch.cat([torch.arange(count) for count in counts]).argsort(stable=True)
    for order in (torch.arange(len(y)), in_turn):  # sorted by label, and not
        assert estimated(algorithm, x[order], y[order]).left_out == pytest.approx(expected)
    assert 0 < expected < 1


def test_the_number_of_queries_of_simulated_tasks_does_not_widen_intervals() -> None:
    random = np.random.default_rng(0)
    exact = random.normal(3.0, 1.0, 4000)
    found = estimating._without_noise(exact + random.normal(0.0, 2.0, 4000), np.full(4000, 4.0))
    assert np.std(found) == pytest.approx(1.0, rel=0.1)
    assert np.median(found) == pytest.approx(3.0, abs=0.1)
    found = estimating._without_noise(exact, np.full(4000, 9.0))  # more noise than there is: tasks differ nevertheless
    assert 0.2 < np.std(found) < 0.5
    assert np.ptp(estimating._without_noise(np.ones(5), np.zeros(5))) == 0


def test_estimates_are_reproducible_and_leave_global_randomness_alone() -> None:
    algorithm = made(LogisticRegression, 1.2, regularisation=1.0)
    support, y, _, _ = task(6, ways=3, shots=4, spread=1.2)
    before = torch.get_rng_state()
    first = estimated(algorithm, support, y)
    assert first == estimated(algorithm, support, y)
    assert torch.equal(before, torch.get_rng_state())


def test_better_separated_classes_have_better_estimates() -> None:
    algorithm = protonet()
    easy, hard = (estimated(algorithm, *task(7, 5, 5, spread)[:2]) for spread in (0.3, 3.0))
    assert easy.low > hard.high


def test_what_cannot_be_estimated_is_said() -> None:
    algorithm = protonet()
    names = ["cat", "dog"]
    refuse_estimate(algorithm, torch.tensor([0, 0, 1, 1]), names)
    with pytest.raises(BadInput, match="the class dog has only one"):
        refuse_estimate(algorithm, torch.tensor([0, 0, 1]), names)
    algorithm.transductive = True
    with pytest.raises(BadInput, match="answers many queries together"):
        refuse_estimate(algorithm, torch.tensor([0, 0, 1, 1]), names)
    algorithm.transductive = False
    assert algorithm.familiarity.sample is not None
    algorithm.familiarity.sample = algorithm.familiarity.sample[:, :3]
    with pytest.raises(BadInput, match="at least 4 images of each validation class"):
        refuse_estimate(algorithm, torch.tensor([0, 0, 1, 1]), names)
    algorithm.familiarity.load_state_dict({})
    with pytest.raises(BadInput, match="an older version of metashot"):
        refuse_estimate(algorithm, torch.tensor([0, 0, 1, 1]), names)


def test_an_estimate_that_takes_too_long_is_given_up() -> None:
    algorithm = protonet()
    support, y, *_ = task(7, 5, 5, 0.3)
    with pytest.raises(BadInput, match=r"takes longer than 0\.001 s here: allow more time, in the shell by estimate=true"):
        estimated(algorithm, support, y, within=0.001)
    assert estimated(algorithm, support, y, within=600.0) == estimated(algorithm, support, y)
    for refused in ("2", 0, -1.0, float("nan"), True, -(10**5000), np.timedelta64(5, "s")):
        with pytest.raises(BadInput, match=r"within=.* cannot be used; allowed: a positive number of seconds"):
            estimated(algorithm, support, y, within=refused)  # type: ignore[arg-type]


def test_an_estimate_reads_as_a_sentence() -> None:
    assert str(Estimate(0.914, 0.82, 0.968, 0.88)) == "91 % (82 to 97 %)"
