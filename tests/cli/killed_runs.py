"""Runs that are killed at chosen moments, and whether two runs are one to the last bit."""

import signal
from collections.abc import Callable
from pathlib import Path

from .conftest import Command
from .processes import checkpoint, different, report, rows, step_of

ATTEMPTS = 6  # to hit a moment with a signal


def same_run(one: Path, other: Path) -> None:
    """Both checkpoints, every measurement and the report are equal to the last bit."""
    for name in ("last.ckpt", "best.ckpt"):
        a, b = checkpoint(one, name), checkpoint(other, name)
        for loaded in (a, b):  # how often a run is saved is not what it computes
            del loaded["metashot"]["config"]["trainer"]["checkpoint_every"]
        assert different(a, b) == [], name
    assert rows(one) == rows(other)
    assert report(one) == report(other)


def fastest_step(run: Path) -> int:
    return max((int(row["step"]) for row in rows(run) if row["step"]), default=0)


# A moment is when to send the signal, how it must have hit, and how often the run is saved.
def before_first_checkpoint(run: Path) -> bool:
    return fastest_step(run) >= 5


def hit_before_first_checkpoint(run: Path) -> bool:
    return not list(run.glob("checkpoints/*.ckpt")) and fastest_step(run) >= 5


def between_validations(run: Path) -> bool:
    return step_of(run) >= 28


def hit_between_validations(run: Path) -> bool:
    return 28 <= step_of(run) < 50


def after_validation(run: Path) -> bool:
    return step_of(run) >= 25


def hit_after_validation(run: Path) -> bool:
    return step_of(run) == 25


def during_test(run: Path) -> bool:
    return step_of(run) >= 60


def hit_during_test(run: Path) -> bool:
    return step_of(run) == 60 and not (run / "report.json").exists()


Check = Callable[[Path], bool]
MOMENTS: dict[str, tuple[Check, Check, int]] = {
    "before the first checkpoint": (before_first_checkpoint, hit_before_first_checkpoint, 1000),
    "between two validations": (between_validations, hit_between_validations, 7),
    "right after a validation": (after_validation, hit_after_validation, 1000),
    "during the final test": (during_test, hit_during_test, 7),
}


def killed(command: Command, run: str, moment: str, *given: str) -> Path:
    """A small training with these arguments that was killed at that moment."""
    due, hit, every = MOMENTS[moment]
    for attempt in range(ATTEMPTS):
        folder = f"{run}-{attempt}"
        process = command.start_small(*given, f"trainer.checkpoint_every={every}", f"folder={folder}")
        if process.wait_until(lambda path=command.folder / folder: due(path)):  # type: ignore[misc]
            process.send(signal.SIGKILL)
        outcome = process.wait()
        if outcome.code == -signal.SIGKILL and hit(command.folder / folder):
            return command.folder / folder
    raise AssertionError(f"no kill hit the moment in {ATTEMPTS} attempts\n{outcome}")
