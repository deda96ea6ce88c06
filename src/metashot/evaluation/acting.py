"""What an evaluation says of a policy beside its returns: how it adapts, its steps in environments, and its regret."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metashot.algorithms.reinforcement.learner import AdaptsBy
from metashot.evaluation.statistics import mean_and_interval


@dataclass(frozen=True)
class ActingReport:
    """How a policy acted in the worlds of an evaluation."""

    adapts_by: AdaptsBy  # by updates, or by the memory of a trial, which lasts for several episodes
    environment_steps: int  # in this evaluation, in each world once
    environment_steps_in_training: int
    family: str = ""  # what the worlds are, with the settings that they share

    def content(self) -> dict[str, Any]:
        """The values as plain containers."""
        return asdict(self)

    def metrics(self) -> dict[str, float]:
        """The numbers that loggers get."""
        return {name: value for name, value in asdict(self).items() if name not in ("adapts_by", "family")}

    def after(self, steps: int) -> str:
        """What the returns after a number of updates, or of earlier episodes of a trial, are called."""
        if self.adapts_by == "trials":
            return f"in episode {steps + 1}"
        return f"after {steps} {'update' if steps == 1 else 'updates'}"

    def stage(self, steps: int) -> str:
        """The same in the legend of a picture."""
        return "before adapting" if self.adapts_by == "updates" and steps == 0 else self.after(steps)

    @property
    def counted(self) -> str:
        """What is counted while it adapts, on the axis of a picture."""
        return "earlier episodes" if self.adapts_by == "trials" else "updates"

    @property
    def heading(self) -> str:
        """The heading above these returns."""
        return "In the episodes of a trial" if self.adapts_by == "trials" else "After updates"

    @property
    def column(self) -> str:
        return "episode" if self.adapts_by == "trials" else "updates"

    def place(self, steps: int) -> int:
        """The number in this column, since episodes are counted from 1."""
        return steps + 1 if self.adapts_by == "trials" else steps

    def trajectories(self, shots: str, queries: str, adapts: bool) -> str:
        """How many trajectories are played in a world."""
        if self.adapts_by == "trials":
            return f"{queries} trials"
        return f"{shots} tried before each update, {queries} judged" if adapts else f"{queries} judged"

    def rows(self) -> dict[str, str]:
        """The rows of a table for people."""
        here, before = self.environment_steps, self.environment_steps_in_training
        return {"steps": f"{here:,} in the environments of this test, {before:,} in training"}


class RegretCurve(NamedTuple):
    """The mean cumulative regret over worlds after each step, with the half-width of its 95 % interval."""

    means: Sequence[float]  # [H]
    ci95: Sequence[float | None]  # [H]

    @classmethod
    def of(cls, regrets: NDArray[np.float64]) -> "RegretCurve":
        """The curve of the regrets [E, H] in E worlds."""
        means, ci95 = zip(*(mean_and_interval(after.tolist()) for after in regrets.T), strict=True)
        return cls(means, ci95)
