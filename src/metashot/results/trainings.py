"""Which cells one training serves: those whose recipes differ in their test alone."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from metashot.bad_input import BadInput
from metashot.checkpoints.recipes import TRAINING
from metashot.checkpoints.run_folder import METRICS, REPORT
from metashot.checkpoints.stored import CONFIG, LAST, configuration_of_folder
from metashot.configuration import Container, differences
from metashot.configuration.composing import composed
from metashot.files.outputs import LEFTOVER
from metashot.files.paths import printable
from metashot.results.not_measured import Failed
from metashot.results.tables import Cell

# Keys that change neither what is trained nor which checkpoint is the best one.
_NOT_TRAINED = (
    *("folder", "init_from", "resume", "repeat", "plugins", "pictures", "curve", "logger."),
    *("data.root", "data.banks", "data.test.", "data.tasks_per_evaluation_step"),
    *("trainer.accelerator", "trainer.devices", "trainer.nodes", "trainer.strategy"),
    *("trainer.log_every", "trainer.heartbeat", "trainer.join_within", "trainer.checkpoint_every"),
)
# What a run that was stopped before its first checkpoint leaves in its folder.
_UNFINISHED = {".lock", CONFIG, METRICS, "checkpoints"}


@dataclass(frozen=True)
class Training:
    """A training, and where its run is.

    Attributes:
        cell: The cell that names it: the first one that it serves.
        config: The composed configuration of that cell.
        folder: The folder of its run.
        start: The training whose run it starts from.
    """

    cell: Cell
    config: Container
    folder: Path
    start: "Training | None"

    @property
    def name(self) -> str:
        return self.cell.name

    @property
    def note(self) -> Path:
        """The file that says how long it took so far, and how it ended."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def log(self) -> Path:
        """The file of what it printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def is_done(self) -> bool:
        """Whether it has been trained and tested."""
        return (self.folder / REPORT).is_file()

    @property
    def can_be_resumed(self) -> bool:
        return (self.folder / "checkpoints" / LAST).is_file()

    def refuse_other(self) -> None:
        """Refuse a run that is in its folder and was trained in another way.

        Raises:
            BadInput: the run has another configuration.
        """
        if not (self.folder / CONFIG).is_file():
            return
        changed = training_differences(self.config, configuration_of_folder(self.folder))
        if self.start is not None:  # whose backbone it has
            changed = [found for found in changed if not found[0].startswith("backbone.")]
        if changed:
            key, new, old = changed[0]
            raise BadInput(
                f"{self.folder} was trained with {key}={old}, and the recipe {self.cell.recipe} has {key}={new} now: move "
                "that folder away to train it again, or name another one with runs="
            )

    def remove_unfinished(self) -> None:
        """Remove the folder of a run that was stopped before its first checkpoint, and nothing else.

        Raises:
            Failed: the folder has something else.
        """
        folder = self.folder
        if not folder.exists() and not folder.is_symlink():
            return
        inside = [] if folder.is_symlink() or not folder.is_dir() else [path.name for path in folder.iterdir()]
        checkpoints = folder / "checkpoints"
        inside += [f"checkpoints/{path.name}" for path in checkpoints.iterdir()] if checkpoints.is_dir() else []
        strange = [name for name in inside if name not in _UNFINISHED and not LEFTOVER.fullmatch(Path(name).name)]
        if strange or folder.is_symlink() or not folder.is_dir():
            named = f"{printable(folder)} has {printable(strange[0])}" if strange else f"{printable(folder)} is not a folder"
            raise Failed(self.name, f"{self.name}: {named}, which no run without a checkpoint has: move it away")
        shutil.rmtree(folder)


def training_differences(one: Container, other: Container) -> list[tuple[str, Any, Any]]:
    """The keys in which two configurations are trained differently, with both values."""
    return [found for found in differences(one, other) if not f"{found[0]}.".startswith(_NOT_TRAINED)]


def training_of(cell: Cell, cells: Sequence[Cell], runs: Path) -> Training:
    """The training that serves a cell.

    Args:
        cell: The cell.
        cells: All cells, in the order in which they are measured.
        runs: The folder of all runs.

    Returns:
        The training, which is named after the first cell that it serves.
    """
    config = configuration_of(cell)
    for first in (one for one in cells if _same_row(one, cell)):
        own = config if first == cell else configuration_of(first)
        if first == cell or not training_differences(own, config):
            start = None
            if first.starts_from is not None:
                start = training_of(next(one for one in cells if one.recipe == first.starts_from), cells, runs)
            return Training(first, own, runs / first.name, start)
    raise LookupError(f"{cell.name} is none of the cells")


def _same_row(one: Cell, other: Cell) -> bool:
    return (one.table, one.row, one.seed, one.variant) == (other.table, other.row, other.seed, other.variant)


@cache
def configuration_of(cell: Cell) -> Container:
    """The configuration of a cell's recipe, which nobody changes."""
    return composed(TRAINING, cell.overrides)
