"""The `logger` group: where the metrics of a run are logged."""

import os
from pathlib import Path
from typing import Literal

from pytorch_lightning.loggers import Logger

from metashot.bad_input import BadInput
from metashot.tracking.csv_file import CsvLogger


class Nowhere:
    """`logger=none`: no metrics are logged."""

    def loggers(self, folder: Path) -> tuple[list[Logger], str]:
        return [], ""


class CsvOnly:
    """`logger=csv`: metrics are written to a table in the run's folder."""

    def loggers(self, folder: Path) -> tuple[list[Logger], str]:
        return [CsvLogger(folder)], ""


class WandbAndCsv:
    """`logger=wandb`: metrics are logged to Weights & Biases and to a table in the run's folder.

    Args:
        project: the W&B project.
        entity: the W&B user or team; None for the default of the account.
        group: the W&B group of the run, if any.
        tags: the W&B tags of the run.
        mode: online, offline, or auto, which follows `WANDB_MODE`.
    """

    def __init__(
        self,
        project: str,
        entity: str | None,
        group: str | None,
        tags: list[str],
        mode: Literal["auto", "online", "offline"],
    ) -> None:
        refuse_invalid_for_wandb(project, entity, group, tags)
        self.project = project
        self.entity = entity
        self.group = group
        self.tags = tags
        self.mode = mode

    def loggers(self, folder: Path) -> tuple[list[Logger], str]:
        if os.environ.get("WANDB_MODE") == "disabled":
            return [CsvLogger(folder)], "W&B: disabled by WANDB_MODE"
        from metashot.tracking.wandb_run import open_wandb  # this import takes half a second, which only W&B needs

        wandb, line = open_wandb(folder, self.project, self.entity, self.group, self.tags, self.mode)
        return [wandb, CsvLogger(folder)], line


# W&B's limits, checked here because an offline run would be refused only when it is uploaded.
_NAME, _TAG = 128, 64  # characters
_FORBIDDEN = r"/\#?%:"


def refuse_invalid_for_wandb(project: str, entity: str | None, group: str | None, tags: list[str]) -> None:
    for key, name in (("project", project), ("entity", entity)):
        found = [character for character in _FORBIDDEN if name is not None and character in name]
        if found:
            raise BadInput(f"logger.{key}={name} cannot be used: W&B allows none of {' '.join(_FORBIDDEN)} in it")
    for key, name in (("project", project), ("entity", entity), ("group", group)):
        if name is not None and not 0 < len(name) <= _NAME:
            raise BadInput(f"logger.{key}={_short(name)} has {len(name)} characters; allowed: 1 to {_NAME}")
    for tag in tags:
        if not 0 < len(tag) <= _TAG:
            raise BadInput(f"logger.tags: {_short(tag)} has {len(tag)} characters; allowed: 1 to {_TAG}")


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:20]}...{name[-20:]}"
