"""What looks familiar: scores against formulas, thresholds that keep their rate, and a state that may be absent."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.familiarity import Familiarity, auroc
from metashot.episodes import Examples

CLASSES, IMAGES, FEATURES = 30, 40, 24


def clusters(seed: int, classes: int = CLASSES, images: int = IMAGES, spread: float = 0.7) -> Tensor:
    """Non-negative features around class means: [classes, images, features]."""
    random = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, 1, FEATURES, generator=random)
    return (means + spread * torch.randn(classes, images, FEATURES, generator=random)).exp()


@pytest.fixture(scope="module")
def learned() -> Familiarity:
    familiarity = Familiarity(FEATURES)
    familiarity.learn(clusters(0), clusters(1))
    return familiarity


def task(seed: int, shots: int, ways: int = 5, tasks: int = 200) -> tuple[Examples, Tensor, Tensor]:
    """Support sets, queries of their classes and of others, from classes of their own."""
    found, random = clusters(seed, 40, shots + 15), np.random.default_rng(seed)
    order = np.stack([random.permutation(len(found)) for _ in range(tasks)])
    own, others = found[order[:, :ways]], found[order[:, ways : 2 * ways]]
    y = torch.arange(ways).repeat_interleave(shots).expand(tasks, -1)
    return Examples(own[:, :, :shots].flatten(1, 2), y), own[:, :, shots:].flatten(1, 2), others[:, :, shots:].flatten(1, 2)


def test_familiarity_is_the_formula(learned: Familiarity) -> None:
    assert learned.mean is not None
    assert learned.background is not None
    assert learned.share is not None
    training = F.normalize((clusters(0) + 1e-6).sqrt(), dim=-1)
    mean = training.flatten(0, 1).mean(0)
    torch.testing.assert_close(learned.mean, mean)
    support, known, _ = task(3, shots=5, tasks=2)
    found = learned(support, known)

    def transformed(x: Tensor) -> Tensor:
        x = (x + 1e-6).sqrt()
        x = x / x.norm(dim=-1, keepdim=True) - mean
        return x / x.norm(dim=-1, keepdim=True)

    background = transformed(clusters(0)).mean(1)
    for t in range(2):
        for q in range(0, 75, 10):
            z = transformed(known[t, q])
            means = [transformed(support.x[t, support.y[t] == label]).mean(0) for label in range(5)]
            nearest = max(float(z @ m / m.norm()) for m in means)
            similar = sorted((float(z @ m / m.norm()) for m in background), reverse=True)[:5]
            assert float(found[t, q]) == pytest.approx(nearest - float(learned.share) * np.mean(similar), abs=1e-5)


@pytest.mark.parametrize("shots", [1, 2, 5, 7])
@pytest.mark.parametrize("together", [False, True])
def test_false_alarms_come_at_the_rate_that_was_asked_for(learned: Familiarity, shots: int, together: bool) -> None:
    asked: dict[float, list[float]] = {0.05: [], 0.2: []}
    for seed in range(20, 28):  # some classes are easier than others
        support, known, strangers = task(seed, shots, tasks=50)
        familiar = learned(support, torch.cat([known, strangers], 1), together)[:, : known.shape[1]]
        for rate, alarms in asked.items():
            limit = learned.threshold(support, rate, together)
            alarms.append(float((familiar < limit.unsqueeze(1)).double().mean()))
    for rate, alarms in asked.items():
        assert np.mean(alarms) == pytest.approx(rate, abs=rate / 4)
    assert (learned.threshold(support, 0.01, together) < learned.threshold(support, 0.5, together)).all()


def test_judging_together_tells_strangers_better_and_one_query_stays_as_it_is(learned: Familiarity) -> None:
    support, known, strangers = task(5, shots=1)
    asked = torch.cat([known, strangers], 1)

    def separated(together: bool) -> float:
        familiar = learned(support, asked, together)
        own, others = familiar[:, : known.shape[1]], familiar[:, known.shape[1] :]
        return float((own.unsqueeze(-1) > others.unsqueeze(1)).double().mean())

    assert separated(True) > separated(False) + 0.01
    alone = learned(support, asked[:, :1])
    torch.testing.assert_close(learned(support, asked[:, :1], together=True), alone)


def test_queries_are_compared_in_parts_that_fit_into_memory(learned: Familiarity, monkeypatch: pytest.MonkeyPatch) -> None:
    support, known, strangers = task(5, shots=5, tasks=1)
    asked = torch.cat([known, strangers], dim=1)
    whole, count = learned(support, asked, together=True), asked.shape[1]
    assert learned.apart < 1
    monkeypatch.setattr("metashot.algorithms.familiarity._NUMBERS_AT_ONCE", 7 * count)
    sizes, topk = [], Tensor.topk

    def noting(x: Tensor, *given: int) -> Any:
        if x.shape[-1] == count:
            sizes.append(x.numel())
        return topk(x, *given)

    monkeypatch.setattr(Tensor, "topk", noting)
    torch.testing.assert_close(learned(support, asked, together=True), whole)
    assert max(sizes) <= 7 * count < count**2


def test_tasks_do_not_depend_on_each_other(learned: Familiarity) -> None:
    support, known, _ = task(6, shots=2, tasks=3)
    whole = learned(support, known, together=True)
    for t in range(3):
        one = Examples(support.x[t : t + 1], support.y[t : t + 1])
        torch.testing.assert_close(learned(one, known[t : t + 1], together=True), whole[t : t + 1])
        torch.testing.assert_close(learned.threshold(one, 0.1), learned.threshold(support, 0.1)[t : t + 1])


def test_learning_is_reproducible_and_leaves_global_randomness_alone(learned: Familiarity) -> None:
    before = torch.get_rng_state()
    other = Familiarity(FEATURES)
    other.learn(clusters(0), clusters(1))
    assert torch.equal(before, torch.get_rng_state())
    for name, value in learned.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_the_state_is_restored_and_may_be_absent(learned: Familiarity) -> None:
    other = Familiarity(FEATURES)
    assert not other.state_dict()
    other.load_state_dict(learned.state_dict())
    support, known, _ = task(7, shots=5, tasks=2)
    torch.testing.assert_close(other(support, known, together=True), learned(support, known, together=True), rtol=0, atol=0)
    torch.testing.assert_close(other.threshold(support, 0.05), learned.threshold(support, 0.05), rtol=0, atol=0)
    other.load_state_dict({})
    assert not other.has_learned


def test_few_images_and_few_classes_are_enough() -> None:
    familiarity = Familiarity(FEATURES)
    familiarity.learn(clusters(0, 3, 2), clusters(1, 2, 2))
    support, known, _ = task(8, shots=1, ways=2, tasks=2)
    assert familiarity(support, known, together=True).isfinite().all()
    assert familiarity.threshold(support, 0.05).isfinite().all()


def test_auroc_is_the_share_of_pairs_that_are_in_order() -> None:
    random = torch.Generator().manual_seed(0)
    positive, negative = (torch.randint(0, 6, (4, count), generator=random).double() for count in (9, 13))  # with ties
    difference = positive.unsqueeze(-1) - negative.unsqueeze(-2)
    pairs = (difference > 0).double() + (difference == 0).double() / 2
    torch.testing.assert_close(auroc(positive, negative), pairs.mean((1, 2)))


BROKEN = {
    "a shape": ("table", lambda value: value[:, :3]),
    "other features": ("mean", lambda value: value[:-1]),
    "a dimension": ("sample", lambda value: value[None]),
    "no classes": ("sample", lambda value: value[:0]),
    "no number": ("slope", lambda value: value / 0),
    "integers": ("background", lambda value: value.long()),
    "order": ("shots", lambda value: value.flip(0)),
    "order of unsigned numbers": ("shots", lambda value: value.flip(0).to(torch.uint8)),
    "truth values": ("shots", lambda value: value > 0),
    "zero shots": ("shots", lambda value: value - value[0]),
    "squares that overflow": ("sample", lambda value: value * 1e20),
    "64 bits": ("sample", lambda value: value.double() * 1e300),
    "a huge slope": ("slope", lambda value: value * 0 + 3e38),
    "a huge mean": ("mean", lambda value: value * 0 + 3e38),
    "a huge share": ("share", lambda value: value * 0 + 3e38),
    "a huge table": ("table_together", lambda value: value * 0 + 3e38),
    "decreasing quantiles": ("table", lambda value: value.flip(1)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_state_that_could_not_be_used_is_refused(learned: Familiarity, what: str) -> None:
    name, change = BROKEN[what]
    state = learned.state_dict()
    state[name] = change(state[name].clone())
    with pytest.raises(RuntimeError, match=name):
        Familiarity(FEATURES).load_state_dict(state)


def test_what_is_learned_can_be_read_again(learned: Familiarity) -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):  # ready-made learners are stored in 16 bits
        Familiarity(FEATURES).load_state_dict({name: value.to(dtype) for name, value in learned.state_dict().items()})
    huge = Familiarity(FEATURES)
    huge.learn(clusters(0), 1e20 * clusters(1))
    assert not huge.has_learned
    few = Familiarity(FEATURES)
    few.learn(clusters(0, 3, 2), clusters(1, 2, 2))
    Familiarity(FEATURES).load_state_dict(few.state_dict())


@pytest.mark.parametrize("name", Familiarity.NAMES)
def test_a_state_is_whole_or_absent(learned: Familiarity, name: str) -> None:
    state = learned.state_dict()
    del state[name]
    other = Familiarity(FEATURES)
    if name == "sample":  # older checkpoints have none
        other.load_state_dict(state)
        assert other.has_learned
        return
    with pytest.raises(RuntimeError, match=f"{name} is missing"):
        other.load_state_dict(state)
