"""Small trainings in worlds with Lightning's trainer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from rich.console import Console

from metashot.algorithms.reinforcement.maml_rl import MAMLRL
from metashot.checkpoints.run_folder import RunFolder
from metashot.randomness import key_of
from metashot.sources.worlds.mazes import Mazes
from metashot.sources.worlds.navigation import Navigation
from metashot.training.finiteness import Finiteness
from metashot.worlds import Family, Worlds

from .tiny import learner

STEPS, TASKS = 3, 3


def family(name: str) -> Family:
    return Mazes(3, 2, 5) if name == "mazes" else Navigation(8, 0.3, 0.1, "distance")


def worlds(of: Family, numbers: list[int], seed: int = 0, split: str = "train", shots: int = 6, queries: int = 6) -> Worlds:
    key = key_of(seed, "worlds", split)
    return Worlds(of, key, torch.from_numpy(np.array(numbers)), shots, queries)


def batches(name: str, seed: int, double: bool = True, **given: Any) -> tuple[MAMLRL, list[Worlds]]:
    """A learner and the worlds of its steps."""
    of = family(name)
    actions: Any = "discrete" if name == "mazes" else "continuous"
    size = of.spaces.actions.size * (1 if name == "mazes" else 2)
    given = {"inner_lr": 0.5 if name == "mazes" else 0.05, **given}
    made = learner(actions, seed=seed, inputs=of.spaces.observations.size, outputs=size, **given)
    steps = [worlds(of, list(range(TASKS * step, TASKS * (step + 1))), seed) for step in range(STEPS)]
    return (made if double else made.float()), [one.in_double() if double else one for one in steps]


class Given(pl.LightningDataModule):
    """These worlds, handed over as metashot's own data modules do."""

    def __init__(self, given: list[Worlds]) -> None:
        super().__init__()
        self.given = given

    def train_dataloader(self) -> list[int]:
        return list(range(len(self.given)))

    def transfer_batch_to_device(self, batch: int, device: torch.device, dataloader_idx: int) -> list[Worlds]:
        return [self.given[batch]]


def fit(made: MAMLRL, given: list[Worlds], *callbacks: pl.Callback, folder: Path | None = None) -> str:
    """Train on these worlds, a step for each batch; with a folder non-finite steps are skipped. Returns what is said."""
    console = Console(record=True, width=200, quiet=False, file=None if folder is None else (folder / "said").open("w"))
    checks = [] if folder is None else [Finiteness(console, RunFolder(folder, None), 3)]
    trainer = pl.Trainer(
        max_steps=len(given),
        max_epochs=1,
        callbacks=[*checks, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(made, Given(given))
    return console.export_text()
