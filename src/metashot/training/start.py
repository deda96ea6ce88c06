"""The start of a run: from scratch or from a checkpoint, in a new folder or in the folder of the resumed run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.checkpoints.compatibility import refuse_another_experiment
from metashot.checkpoints.reading import read_checkpoint, write_checkpoint
from metashot.checkpoints.run_folder import RunFolder
from metashot.checkpoints.stored import BEST, CONFIG, LAST, OURS, configuration_of_folder, find_checkpoint
from metashot.data.module import EpisodicDataModule
from metashot.data.seen_classes import TrainingClasses
from metashot.files.paths import given_path


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        checkpoint: the checkpoint to resume from; None for a new run.
        step: the training step of the checkpoint.
        origin: the description of the training data in the checkpoint.
        continued: the folder in which a resumed run continues; None if it gets a new one.
    """

    checkpoint: Path | None = None
    step: int = 0
    origin: dict[str, Any] | None = None
    continued: Path | None = None

    @classmethod
    def of(cls, resume: str | None, experiment: dict[str, Any]) -> "Start":
        """Find where a run starts.

        Args:
            resume: the checkpoint or the folder of the run to resume; None for a new run.
            experiment: the configuration of the run, which has to match the resumed run.

        Raises:
            BadInput: if there is nothing to resume, or it belongs to another experiment.
        """
        if resume is None:
            return cls()
        path = given_path(resume, "resume")
        if path.is_dir() and (path / CONFIG).is_file() and not list((path / "checkpoints").glob("*.ckpt")):
            refuse_another_experiment(experiment, configuration_of_folder(path))
            return cls(continued=path)  # the run was killed before its first checkpoint
        file = find_checkpoint(resume, "resume", LAST)
        checkpoint = read_checkpoint(file)
        refuse_another_experiment(experiment, checkpoint[OURS]["config"])
        folder = file.resolve().parent.parent if not path.is_dir() else path
        in_place = file.name == LAST and file.parent.name == "checkpoints" and (folder / CONFIG).is_file()
        if in_place and "algo" not in configuration_of_folder(folder):
            raise BadInput(f"{folder / CONFIG} is not the configuration of a run: give the folder of a run with resume=")
        return cls(file, checkpoint["global_step"], checkpoint[OURS].get("origin"), folder if in_place else None)

    def classes(self, init_from: str | None) -> TrainingClasses:
        """The classes that were trained on before the first step of this process.

        A checkpoint to resume from records them, unless it was written by a version that did not.

        Args:
            init_from: the checkpoint or run whose weights a new run starts from, if any.
        """
        if self.checkpoint is not None and ("classes" in (self.origin or {}) or init_from is not None):
            return TrainingClasses.noted_in(self.origin, self.checkpoint)
        if self.checkpoint is not None or init_from is None:
            return TrainingClasses()
        path = find_checkpoint(init_from, "init_from", BEST)
        return TrainingClasses.noted_in(read_checkpoint(path)[OURS].get("origin"), path)

    def refuse_other_items(self, data: EpisodicDataModule) -> None:
        noted = {key: value for key, value in (self.origin or {}).items() if key != "classes"}
        if self.origin is not None and not _are_equal(noted, data.origin()):
            raise BadInput(
                f"the {data.noun} of data={data.name} are not those that {self.checkpoint} was trained on, and a resumed "
                "run goes on as it was: give their folder with data.root, or start a new run with repeat= instead of resume="
            )

    def folder(self, wanted: str, experiment: dict[str, Any]) -> RunFolder:
        """Claim the folder of the run for this process.

        Args:
            wanted: the name of a new folder, if the run does not continue in an existing one.
            experiment: the configuration to store in the folder.
        """
        if self.continued is not None:
            return RunFolder.reopen(self.continued, experiment)
        folder = RunFolder.claim(wanted, experiment)
        best = self.checkpoint.with_name(BEST) if self.checkpoint is not None else None
        if best is not None and best.is_file():
            write_checkpoint(read_checkpoint(best), folder.checkpoints / BEST)  # still the best score to beat
        return folder


def _are_equal(one: Any, other: Any) -> bool:
    """Whether plain containers are equal, in which tensors such as a vocabulary may be."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return bool(one == other)
