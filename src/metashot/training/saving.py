"""Checkpoints of a run (`last.ckpt` to resume from, `best.ckpt` by validation score), and early stopping."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from metashot.bad_input import BadInput, GaveUp
from metashot.checkpoints.reading import metashot_part
from metashot.checkpoints.run_folder import refuse_missing_folder
from metashot.checkpoints.stored import BEST, LAST, OURS
from metashot.evaluation.protocol import Scoring
from metashot.files.paths import printable
from metashot.process.interruption import STOP, Stopped
from metashot.process.invocation import typed
from metashot.training.interruption import stopping
from metashot.training.trainer import TrainerOptions

_LARGEST = torch.finfo(torch.float32).max


class Saving(Checkpoint):
    """Saves checkpoints at the end of a step or of the validation after it, where a run can be resumed exactly.

    Args:
        folder: where checkpoints are written.
        config: the configuration that is stored in them.
        origin: the description of the training data that is stored in them.
        scoring: holds the results of the latest validation.
        options: how often to save and to validate, and the patience of early stopping.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        origin: dict[str, Any],
        scoring: Scoring,
        options: TrainerOptions,
    ) -> None:
        self.folder = folder
        self.config = config
        self.origin = origin
        self.scoring = scoring
        self.every = options.checkpoint_every
        self.validate_every = options.validate_every
        self.patience = options.early_stopping
        self.best_score: float | None = None
        self.best_step = 0
        self.waited = 0  # validations since the best score
        self.stepped = False  # whether this process has taken a training step
        self.restored = False  # whether training has begun with the checkpoint fully restored

    @contextmanager
    def resuming(self, checkpoint: Path | None) -> Iterator[None]:
        """Refuse a checkpoint that Lightning cannot restore, because a part is missing, broken or from another run.

        Args:
            checkpoint: the checkpoint to resume from; None for a new run.

        Raises:
            BadInput: if the checkpoint cannot be restored.
        """
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
            if checkpoint is None or self.stepped or (self.restored and isinstance(error, RuntimeError)):
                raise
            reason = printable(" ".join(str(error).split())[:200])
            raise BadInput(
                f"resume: the checkpoint {checkpoint} cannot be resumed, because a part of it is missing or broken "
                f"({type(error).__name__}: {reason}); resume from another one, or begin from its weights with init_from="
            ) from error

    @property
    def exhausted(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not (self.folder / BEST).exists():
            self.best_score = None  # resumed in a new folder, without the best checkpoint
        if self.exhausted:  # the resumed run had stopped early
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.stepped = True
        step = trainer.global_step
        if step == trainer.max_steps:
            trainer.should_stop = True  # makes Lightning validate the final weights, regardless of the interval
        if step % self.validate_every == 0 or step == trainer.max_steps:
            return  # saved after the validation
        stops = stopping(trainer)
        if stops or step % self.every == 0:
            self._save(trainer, LAST)
        if stops:
            raise Stopped(STOP.message)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self.scoring.results is not None
        score = self.scoring.results.score
        better = self.scoring.results.problem.better(score, self.best_score)
        if better:
            self.best_score, self.best_step, self.waited = score, trainer.global_step, 0
        else:
            self.waited += 1
        if self.exhausted:
            trainer.should_stop = True
        if better:
            self._save(trainer, BEST)
        self._save(trainer, LAST)
        if stopping(trainer):
            raise Stopped(STOP.message)

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        refuse_missing_folder(self.folder.parent)
        trainer.save_checkpoint(self.folder / name)

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "best_step": self.best_step, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not isinstance(state_dict["best_score"], int | float | None):
            raise ValueError(f"best_score is {state_dict['best_score']}")
        self.best_score = state_dict["best_score"]
        self.best_step = state_dict["best_step"]
        self.waited = state_dict["waited"]

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[OURS] = metashot_part(self.config, self.origin) | {"random_state": random_state()}

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._random_state = checkpoint[OURS]["random_state"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if hasattr(self, "_random_state"):  # restored last, because setting up a run draws random numbers
            restore_random_state(self._random_state)
            del self._random_state
        for optimizer in trainer.optimizers:
            refuse_broken_optimizer_state(optimizer)
        self.restored = True


def refuse_broken_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """Check that the state of an optimiser has the shapes of its parameters and no NaN.

    Infinite values are allowed: squares of large gradients overflow in valid runs.

    Raises:
        ValueError: if the state is broken.
    """
    for group in optimizer.param_groups:
        lr = group["lr"]
        if not isinstance(lr, int | float) or not 0 <= lr <= _LARGEST:
            raise ValueError(f"optimizer_states: the learning rate {lr!r}")
    for parameter, memory in optimizer.state.items():
        for name, value in memory.items():
            shape = torch.Size() if name == "step" else parameter.shape
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                raise ValueError(f"optimizer_states: {name} has values that are no tensor of floating-point numbers")
            if value.shape != shape:
                shapes = f"the shape {list(value.shape)} for a parameter of the shape {list(parameter.shape)}"
                raise ValueError(f"optimizer_states: {name} has {shapes}")
            if value.isnan().any() or (name == "step" and not 0 <= value < math.inf):
                raise ValueError(f"optimizer_states: {name} has values that are NaN, or no number of steps")


def random_state() -> dict[str, Any]:
    """The state of every global random number generator, as plain containers and tensors."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": [version, list(words), gauss],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


def refuse_no_best(folder: Path) -> None:
    """Give up on testing a run without a best checkpoint, because no validation had a finite score."""
    if (folder / BEST).is_file():
        return
    last = folder / LAST
    raise GaveUp(
        f"no validation had a finite score, so that there is no best checkpoint, and nothing was tested: {last} holds the "
        f"last weights, which {typed('evaluate')} ckpt={last} split=val looks at; try a lower algo.optimizer.lr or "
        "algo.inner_lr, trainer.gradient_clip, or trainer.precision=32-true"
    )
