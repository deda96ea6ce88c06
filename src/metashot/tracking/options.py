"""The `logger` group: where the metrics of a run go."""

import os
from pathlib import Path
from typing import Literal

from pytorch_lightning.loggers import Logger

from metashot.tracking.csv_file import CsvLogger


class Nowhere:
    """`logger=none`"""

    def loggers(self, folder: Path) -> tuple[list[Logger], str]:
        return [], ""


class CsvOnly:
    """`logger=csv`"""

    def loggers(self, folder: Path) -> tuple[list[Logger], str]:
        return [CsvLogger(folder)], ""


class WandbAndCsv:
    """`logger=wandb`"""

    def __init__(
        self,
        project: str,
        entity: str | None,
        group: str | None,
        tags: list[str],
        mode: Literal["auto", "online", "offline"],
    ) -> None:
        self.project = project
        self.entity = entity
        self.group = group
        self.tags = tags
        self.mode = mode

    def loggers(self, folder: Path) -> tuple[list[Logger], str]:
        if os.environ.get("WANDB_MODE") == "disabled":
            return [CsvLogger(folder)], "W&B: disabled by WANDB_MODE"
        from metashot.tracking.wandb_run import open_wandb  # half a second that the other loggers do not cost

        wandb, line = open_wandb(folder, self.project, self.entity, self.group, self.tags, self.mode)
        return [wandb, CsvLogger(folder)], line
