"""`learner.estimate()`: how accurate a fitted learner will be, from its support set alone."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.closed_form.logistic import LogisticRegression
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.applied import estimating
from metashot.applied.estimating import Deadline, Estimate, corrected, estimated, refuse_estimate, simulated
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
def test_the_interval_holds_the_truth_in_about_nine_tasks_of_ten(ways: int, shots: int) -> None:
    algorithm, held, errors = protonet(), [], []
    deviation = simulated(algorithm, ways, shots)  # it is the same for all these tasks
    for seed in range(100, 180):
        support, y, query, labels = task(seed, ways, shots, spread=1.2)
        truth, found = accuracy(algorithm, support, y, query, labels), corrected(algorithm, support, y, deviation)
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
    of_classes = [[np.array(own) for (label, _), own in answers.items() if label == each] for each in range(len(counts))]
    expected = np.mean([np.mean([(margins > 0).mean() for margins in own]) for own in of_classes])
    smoothed = np.mean([np.mean([(1 / (1 + np.exp(-margins / width))).mean() for margins in own]) for own in of_classes])
    x = torch.cat([torch.stack(own) for own in members])
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    in_turn = torch.cat([torch.arange(count) for count in counts]).argsort(stable=True)
    for order in (torch.arange(len(y)), in_turn):  # sorted by label, and not
        assert estimated(algorithm, x[order], y[order]).left_out == pytest.approx(expected)
        found = estimating._left_out(algorithm, torch.stack([x[order]] * 2), y[order], 0.7, estimating.Deadline(None))
        assert found.accuracy == pytest.approx([expected] * 2)
        assert found.smoothed == pytest.approx([smoothed] * 2)
    assert 0 < expected < 1


@pytest.mark.parametrize("counts", [(4, 4, 4), (2, 3, 6)])
def test_an_estimate_follows_from_smoothed_accuracy_and_deviation(counts: tuple[int, ...]) -> None:
    algorithm, deviation = protonet(), estimating.Deviation(mean=0.05, error=0.1, smoothing=0.3)
    x = torch.cat([own[:count] for own, count in zip(clusters(9, 3, 6, 1.2), counts, strict=True)])
    y = torch.arange(3).repeat_interleave(torch.tensor(counts))
    smoothed = float(estimating._left_out(algorithm, x[None], y, 0.3, estimating.Deadline(None)).smoothed[0])
    angles = [
        math.asin(math.sqrt(value)) + 0.05 + shift
        for value, shift in (
            (smoothed, 0.0),
            (smoothed / 1.0025, -0.1 * 1.6448536),
            ((smoothed + 0.0025) / 1.0025, 0.1 * 1.6448536),
        )
    ]
    expected = [math.sin(min(angle, math.pi / 2)) ** 2 for angle in angles]
    assert corrected(algorithm, x, y, deviation)[:3] == pytest.approx(expected)
    assert 0 < smoothed < 1


@pytest.mark.parametrize(("counts", "shots"), [((3, 3, 3), 3.0), ((2, 2, 2, 2, 20), 2.44), ((20, 20, 20, 20, 2), 7.14)])
def test_unequal_classes_count_by_the_harmonic_mean(
    counts: tuple[int, ...], shots: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def noted(_: FeatureLearner, ways: int, shots: float, __: object) -> estimating.Deviation:
        given.extend((ways, shots))
        return estimating.Deviation(0.0, 0.1, 0.1)

    monkeypatch.setattr(estimating, "simulated", noted)
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    estimated(protonet(), torch.randn(len(y), FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), y)
    assert given == [len(counts), pytest.approx(shots, abs=0.005)]


def test_simulated_tasks_are_those_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "_FEWEST_TASKS", 60)
    monkeypatch.setattr(estimating, "_NUMBERS", 0)
    in_a_task = 6 * 8 * FEATURES  # (folds, and what each keeps)
    monkeypatch.setattr(estimating, "_NUMBERS_AT_ONCE", 7 * in_a_task)  # so that the last part is smaller
    algorithm, ways, shots = protonet(), 4, 3.4
    assert algorithm.familiarity.sample is not None
    sample = algorithm.familiarity.sample.numpy()
    random, width = np.random.default_rng(0), 1.0 / math.sqrt(4 * 3.4)
    members, deviations, noise = np.zeros((60, 20)), [], []
    for row in members:
        chosen = random.permutation(20)[:4]
        items = np.stack([sample[label][random.permutation(20)] for label in chosen])
        right = np.zeros((4, 17))
        for label in range(4):
            for place in range(17):
                distances = np.square(items[:, :3].mean(1) - items[label, 3 + place]).sum(1)
                right[label, place] = distances.argmin() == label
        accuracy = right.mean(1)
        x, y = torch.from_numpy(items[:, :3].reshape(12, FEATURES)), torch.arange(4).repeat_interleave(3)
        smoothed = estimating._left_out(algorithm, x[None], y, width, estimating.Deadline(None)).smoothed[0]
        deviations.append(math.asin(math.sqrt(accuracy.mean())) - math.asin(math.sqrt(smoothed)))
        noise.append(estimating._noise(accuracy, 17))
        row[chosen] = 1
    between, rest = estimating._variances(np.array(deviations), members)
    variance = between * (1 / 4 + 1 / 20) / (1 / 4 - 1 / 20) + max(rest - np.mean(noise), 0.1 * rest) * 12 / (4 * 3.4)
    assert simulated(algorithm, ways, shots) == pytest.approx((np.mean(deviations), math.sqrt(variance), width))


@pytest.mark.parametrize(
    ("ways", "shots", "made", "tasks"),
    [(3, 2, 0, 1000), (5, 5, 0, 2**21 // (10 * 20 * 12)), (12, 5, 0, 400), (3, 2, 50, 400)],
)
def test_large_tasks_are_simulated_less_often(
    ways: int, shots: int, made: int, tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated_ones: list[int] = []
    variances = estimating._variances

    def noted(values: NDArray[np.float64], takes_part: NDArray[np.float64]) -> tuple[float, float]:
        simulated_ones.append(len(values))
        return variances(values, takes_part)

    monkeypatch.setattr(estimating, "_variances", noted)
    monkeypatch.setattr(estimating, "_NUMBERS", 2**21)
    algorithm = protonet()
    algorithm.made = made
    simulated(algorithm, ways, shots)
    assert simulated_ones == [tasks]


def test_estimates_are_not_too_high_where_classes_are_hard_to_tell_apart() -> None:
    algorithm, errors = protonet(), []
    deviation = simulated(algorithm, 5, 5)
    for seed in range(200, 260):
        random = torch.Generator().manual_seed(seed)
        x = 1.2 * torch.randn(25, FEATURES, generator=random, dtype=torch.float64)  # one cluster: accuracy 20 %
        found = corrected(algorithm, x, torch.arange(5).repeat_interleave(5), deviation)
        errors.append(found.accuracy - 0.2)
    assert np.mean(errors) < 0.06


def test_a_class_with_more_examples_has_no_greater_weight() -> None:
    algorithm, errors = protonet(), []
    deviation = simulated(algorithm, 3, 3 / (1 / 2 + 1 / 2 + 1 / 20))
    for seed in range(300, 360):
        found = clusters(seed, 3, 120, 1.8)
        x = torch.cat([found[0, :2], found[1, :2], found[2, :20]])
        y = torch.tensor([0, 0, 1, 1, *[2] * 20])
        truth = accuracy(algorithm, x, y, found[:, 20:].flatten(0, 1), torch.arange(3).repeat_interleave(100))
        errors.append(corrected(algorithm, x, y, deviation).accuracy - truth)
    assert np.mean(errors) < 0


def test_equal_features_are_a_guess() -> None:
    x, y = torch.ones(20, FEATURES, dtype=torch.float64), torch.arange(4).repeat_interleave(5)
    found = estimated(protonet(), x, y)
    assert found.low < 0.25 < found.high
    assert found.accuracy < 0.3
    left_out = estimating._left_out(protonet(), x[None], y, 0.1, estimating.Deadline(None))
    assert left_out.smoothed == pytest.approx([0.25])


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
    with pytest.raises(BadInput, match=r"takes longer than 0\.001 s here: allow more time, by a larger within="):
        estimated(algorithm, support, y, Deadline(0.001))
    assert estimated(algorithm, support, y, Deadline(600.0)) == estimated(algorithm, support, y)
    for refused in ("2", 0, -1.0, float("nan"), True, -(10**5000), np.timedelta64(5, "s")):
        with pytest.raises(BadInput, match=r"within=.* cannot be used; allowed: a positive number of seconds"):
            Deadline(refused)  # type: ignore[arg-type]


def test_an_estimate_reads_as_a_sentence() -> None:
    assert str(Estimate(0.914, 0.82, 0.968, 0.88)) == "91 % (82 to 97 %)"


def test_the_interval_is_rounded_outwards() -> None:
    assert str(Estimate(0.999, 0.9969, 1.0, 1.0)) == "100 % (99 to 100 %)"
    assert str(Estimate(0.001, 0.0, 0.0031, 0.0)) == "0 % (0 to 1 %)"
    assert str(Estimate(0.4, 0.29, 0.55, 0.4)) == "40 % (29 to 55 %)"  # 100 * 0.29 is less than 29, 100 * 0.55 more than 55
    assert str(Estimate(1.0, 1.0, 1.0, 1.0)) == "100 % (100 to 100 %)"
