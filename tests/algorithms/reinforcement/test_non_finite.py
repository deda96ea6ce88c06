"""A step whose gradient is not finite is skipped, and the training goes on."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from metashot.algorithms.reinforcement.maml_rl import MAMLRL, Tried
from metashot.algorithms.reinforcement.trust_region import Objective
from metashot.bad_input import GaveUp

from .fits import STEPS, batches, fit
from .tiny import flat


class Spoiled(MAMLRL):
    """Gains of some steps have a derivative that is not finite; those of the steps are numbers."""

    def objective(self, tried: list[Tried], judged: Tried) -> Objective:
        found = super().objective(tried, judged)
        return Objective(self.spoil(found.gain), found.divergence)

    def clipped_gain(self, tried: list[Tried], judged: Tried) -> Tensor:
        return self.spoil(super().clipped_gain(tried, judged))

    def spoil(self, gain: Tensor) -> Tensor:
        zero = gain - gain
        return gain + zero.sqrt() if self.global_step + 1 in self.steps else gain  # whose derivative at 0 is infinite

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        self.weights.append(flat(self.network.parameters()))
        return super().training_step(batch, batch_idx)


def spoiled(outer: str, *steps: int) -> tuple[MAMLRL, list[Any], list[Tensor]]:
    made, given = batches("mazes", 0, outer=outer)
    made.__class__ = Spoiled
    weights: list[Tensor] = []
    made.steps, made.weights = steps, weights  # type: ignore[assignment]
    return made, given, weights


@pytest.mark.parametrize("outer", ["trpo", "ppo"])
def test_step_whose_gradient_is_not_finite_is_skipped(tmp_path: Path, outer: str) -> None:
    made, given, weights = spoiled(outer, 2)
    said = fit(made, given, folder=tmp_path)
    weights.append(flat(made.network.parameters()))
    assert [bool(a.ne(b).any()) for a, b in itertools.pairwise(weights)] == [True, False, True]
    assert all(one.isfinite().all() for one in weights)
    assert "the outer gradient is not finite in step 2, which is skipped (1 in a row)" in said
    assert made.global_step == STEPS


@pytest.mark.parametrize("outer", ["trpo", "ppo"])
def test_too_many_in_a_row_end_the_training(tmp_path: Path, outer: str) -> None:
    made, given, _ = spoiled(outer, 1, 2, 3)
    with pytest.raises(GaveUp, match="3 steps in a row could not be used"):
        fit(made, given, folder=tmp_path)
    assert flat(made.network.parameters()).isfinite().all()


def test_norm_of_the_averaged_gradient_decides_whether_a_proximal_step_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device whose own gradient is finite, beside one whose gradient is not."""
    made, given = batches("mazes", 0, outer="ppo")
    epochs = []

    def averaged(self: MAMLRL, values: Tensor) -> Tensor:
        return values + float("nan") if values.ndim else values

    def counting(self: MAMLRL, tried: list[Tried], judged: Tried) -> Tensor:
        epochs.append(0)
        return clipped_gain(self, tried, judged)

    clipped_gain = MAMLRL.clipped_gain
    monkeypatch.setattr(MAMLRL, "mean_over_devices", averaged)
    monkeypatch.setattr(MAMLRL, "clipped_gain", counting)
    fit(made, given[:1])
    assert len(epochs) == 1
