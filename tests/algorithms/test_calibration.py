"""Temperature scaling: the temperature minimises the cross-entropy, is part of the state, and changes probabilities only."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.calibration import Answered, Calibration


def alone(values: Tensor) -> Tensor:
    return values


def answered(temperature: float, ways: int = 5, seed: int = 0) -> Answered:
    """Logits with labels that are drawn from the softmax of the logits divided by a temperature."""
    random = torch.Generator().manual_seed(seed)
    logits = 3 * temperature * torch.randn(40, 75, ways, generator=random)
    y = torch.multinomial((logits / temperature).softmax(-1).flatten(0, 1), 1, generator=random).view(40, 75)
    return logits, y


@pytest.mark.parametrize("temperature", [0.02, 0.5, 1.0, 30.0])
def test_temperature_of_the_labels_is_found(temperature: float) -> None:
    calibration = Calibration()
    calibration.choose([answered(temperature), answered(temperature, ways=3, seed=1)], alone)
    assert float(calibration.temperature) == pytest.approx(temperature, rel=0.05)  # type: ignore[arg-type]


def test_no_other_temperature_has_a_lower_cross_entropy() -> None:
    logits, y = answered(2.0)
    calibration = Calibration()
    calibration.choose([(logits, y)], alone)
    assert calibration.temperature is not None

    def entropy(temperature: float) -> float:
        return float(F.cross_entropy((logits.double() / temperature).flatten(0, 1), y.flatten()))

    chosen = float(calibration.temperature)
    grid = chosen * np.geomspace(0.5, 2, 101)
    assert entropy(chosen) <= min(map(entropy, grid)) + 1e-6


def test_devices_together_choose_what_one_would(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [answered(2.0, seed=0), answered(3.0, seed=1)]
    one = Calibration()
    one.choose(parts, alone)
    from metashot.algorithms import calibration as module

    both = {id(parts[0]): parts[1]}
    slope = module._slope

    def total_of_both(values: Tensor) -> Tensor:  # the other device has as many finite logits, and its own slope
        return values

    monkeypatch.setattr(module, "_slope", lambda own, at: slope(own, at) + slope([both[id(own[0])]], at))
    first = Calibration()
    first.choose(parts[:1], total_of_both)
    assert torch.equal(first.temperature, one.temperature)  # type: ignore[arg-type]


def test_non_finite_logits_leave_it_as_it_is() -> None:
    calibration = Calibration()
    calibration.choose([answered(2.0)], alone)
    before = calibration.temperature
    logits, y = answered(5.0)
    logits[0, 0, 0] = torch.nan
    calibration.choose([(logits, y)], alone)
    assert calibration.temperature is before


def test_perfect_and_useless_answers_have_bounded_temperatures() -> None:
    y = torch.arange(5).repeat(15).expand(4, -1)
    for logits in (10 * F.one_hot(y, 5).float(), torch.zeros(4, 75, 5), -F.one_hot(y, 5).float()):
        calibration = Calibration()
        calibration.choose([(logits, y)], alone)
        assert 1e-5 < float(calibration.temperature) < 1e5  # type: ignore[arg-type]
        assert calibration(logits).isfinite().all()


def test_state_is_restored_and_may_be_absent() -> None:
    calibration, other = Calibration(), Calibration()
    logits, y = answered(2.0)
    assert torch.equal(calibration(logits), logits)
    assert not calibration.state_dict()
    calibration.choose([(logits, y)], alone)
    assert torch.equal(calibration(logits).argmax(-1), logits.argmax(-1))
    other.load_state_dict(calibration.state_dict())
    assert torch.equal(other(logits), calibration(logits))
    other.load_state_dict({})
    assert other.temperature is None


@pytest.mark.parametrize("value", [-1.0, 0.0, float("inf"), float("nan"), [1.0, 2.0]])
def test_a_temperature_that_is_none_is_refused(value: float | list[float]) -> None:
    with pytest.raises(RuntimeError, match="temperature is not a positive number"):
        Calibration().load_state_dict({"temperature": torch.tensor(value)})
