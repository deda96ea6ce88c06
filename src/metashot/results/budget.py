"""The time that a call has, and that a training may take."""

import time
from dataclasses import dataclass

from metashot.results.not_measured import TimeOver


@dataclass(frozen=True)
class Budget:
    """How long a call may take, and how long a training.

    Attributes:
        end: When the call ends, by `time.monotonic`.
        training: The seconds that a training may take; longer ones are left out.
    """

    end: float
    training: float

    @property
    def left(self) -> float:
        """The seconds until the call ends."""
        return self.end - time.monotonic()

    def refuse_over(self, training: str) -> None:
        """Raise `TimeOver` where nothing is left for a command of a training."""
        if self.left <= 0:
            raise TimeOver(training, "the time is over; the same call continues")
