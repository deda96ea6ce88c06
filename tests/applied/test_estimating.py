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


@pytest.mark.parametrize(("ways", "shots"), [(5, 2), (5, 5), (3, 10), (18, 3)])  # the last two larger than simulated tasks
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
    answers: dict[tuple[int, int], list[float]] = {}
    for shift in range(min(2, max(counts))):
        for fold in range(max(counts)):
            left_out = [(fold + shift * label) % count for label, count in enumerate(counts)]
            means = torch.stack(
                [torch.stack(own[:place] + own[place + 1 :]).mean(0) for own, place in zip(members, left_out, strict=True)]
            )
            for label, place in enumerate(left_out):
                distances = (means - members[label][place]).square().sum(-1)
                others = min(float(each) for other, each in enumerate(distances) if other != label)
                answers.setdefault((label, place), []).append(others - float(distances[label]))
    assert len(answers) == sum(counts)
    width = 0.7 * np.std([margin for own in answers.values() for margin in own])
    expected = np.mean([np.mean([margin > 0 for margin in own]) for own in answers.values()])
    smoothed = np.mean([np.mean([1 / (1 + np.exp(-margin / width)) for margin in own]) for own in answers.values()])
    x = torch.cat([torch.stack(own) for own in members])
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    in_turn = torch.cat([torch.arange(count) for count in counts]).argsort(stable=True)
    for order in (torch.arange(len(y)), in_turn):  # sorted by label, and not
        assert estimated(algorithm, x[order], y[order]).left_out == pytest.approx(expected)
        found = estimating._left_out(algorithm, x[order], y[order], 0.7, estimating.Deadline(None))
        assert found == (pytest.approx(expected), pytest.approx(smoothed))
    assert 0 < expected < 1


def test_the_number_of_queries_of_simulated_tasks_is_known_as_noise() -> None:
    random, exact = np.random.default_rng(0), np.array([0.95, 0.8, 0.6])
    drawn = random.binomial(12, exact, (4000, 3)) / 12
    angles = [estimating._angle(of_classes.mean()) for of_classes in drawn]
    assert np.mean([estimating._noise(of_classes, 12) for of_classes in drawn]) == pytest.approx(np.var(angles), rel=0.1)
    assert estimating._noise(np.ones(3), 12) == 0


def test_new_classes_differ_more_than_tasks_of_the_same_few_classes() -> None:
    random, classes, ways, own = np.random.default_rng(0), 12, 6, 4
    expected, rests, errors = [], [], []
    for _ in range(200):
        effects = random.normal(size=classes)
        takes_part = np.stack([random.permutation(classes) < ways for _ in range(100)]).astype(float)
        values = takes_part @ effects / ways + random.normal(0.0, 0.5, 100)
        between, rest = estimating._variances(values, takes_part)
        expected.append(estimating._of_new_classes(between, classes, ways, own))
        rests.append(rest)
        errors.append(random.normal(size=own).mean() - effects.mean())
    assert np.mean(rests) == pytest.approx(0.25, rel=0.05)
    assert np.mean(expected) == pytest.approx(1 / own + 1 / classes, rel=0.15)
    assert np.mean(np.square(errors)) == pytest.approx(1 / own + 1 / classes, rel=0.25)
    same = np.ones((100, ways))
    assert estimating._variances(values, same)[0] == 0
    assert estimating._of_new_classes(0.0, ways, ways, own) == 0


def test_estimates_do_not_depend_on_the_scale_of_logits() -> None:
    support, y, _, _ = task(6, ways=4, shots=5, spread=1.2)
    soft, hard = (
        made(ProtoNet, 1.2, distance="euclidean", temperature=temperature, learned_temperature=False)
        for temperature in (10.0, 0.1)
    )
    assert estimated(soft, support, y) == pytest.approx(estimated(hard, support, y))


def test_a_single_class_is_always_right() -> None:
    assert estimated(protonet(), *task(6, ways=1, shots=5, spread=1.2)[:2]) == (1, 1, 1, 1)


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
    whole, algorithm.familiarity.sample = algorithm.familiarity.sample, algorithm.familiarity.sample[:2]
    with pytest.raises(BadInput, match="at least 3 validation classes"):
        refuse_estimate(algorithm, torch.tensor([0, 0, 1, 1]), names)
    algorithm.familiarity.sample = whole
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
