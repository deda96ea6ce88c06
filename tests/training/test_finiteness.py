"""A step whose loss is no number is reported, changes nothing, and too many of them in a row end a run."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor

from metashot.algorithms.gradient.inner_optimizer import InnerOptimizer
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.algorithms.gradient.reptile import Reptile
from metashot.backbones.mlp import MLP
from metashot.bad_input import GaveUp
from metashot.checkpoints.run_folder import RunFolder
from metashot.episodes import Batch, Episode, Examples
from metashot.training.finiteness import Finiteness
from tests.algorithms.gradient_learners import learner, random_episode

STEPS = 8


def with_numbers(episode: Episode, first: int, support: dict[int, float], query: dict[int, float]) -> Episode:
    """The tasks as those with the numbers from `first` on; some have a pixel of a value of its own."""

    def spoiled(examples: Examples, values: dict[int, float]) -> Examples:
        x = examples.x.clone()
        for number, value in values.items():
            if first <= number < first + len(episode):
                x[number - first, 0, 0, 0, 0] = value
        return Examples(x, examples.y)

    numbers = torch.arange(first, first + len(episode))
    return Episode(spoiled(episode.support, support), spoiled(episode.query, query), numbers, episode.classes)


def batches(support: dict[int, float] | None = None, query: dict[int, float] | None = None) -> list[Batch]:
    """Two tasks a step, numbered from 0 on."""
    return [
        [with_numbers(random_episode(shape=(1, 4, 4), seed=step), 2 * step, support or {}, query or {})]
        for step in range(STEPS)
    ]


class Given(pl.LightningDataModule):
    """These batches, handed over as metashot's own data modules do."""

    def __init__(self, batches: list[Batch]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> list[int]:
        return list(range(len(self.batches)))

    def transfer_batch_to_device(self, batch: int, device: torch.device, dataloader_idx: int) -> Batch:
        return self.batches[batch]


class Remembered(pl.Callback):
    """The weights before each step and after the last one."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def on_train_batch_start(self, trainer: Any, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        self.weights.append(torch.cat([parameter.detach().flatten() for parameter in pl_module.parameters()]))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.on_train_batch_start(trainer, pl_module, None, 0)


def train(
    folder: Path, given: list[Batch], most_in_a_row: int = 3, made: GradientLearner | None = None
) -> tuple[list[bool], str, GradientLearner]:
    """Whether each step changed the weights, what was printed, and the learner."""
    torch.manual_seed(0)
    if made is None:
        made = learner("maml", MLP((1, 4, 4), [5], "transductive"), steps=2)
    remembered = Remembered()
    console = Console(record=True, width=200, quiet=False, file=(folder / "printed").open("w"))
    finiteness = Finiteness(console, RunFolder(folder, None), most_in_a_row)
    trainer = pl.Trainer(
        max_steps=STEPS,
        callbacks=[finiteness, remembered],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        max_epochs=1,
        gradient_clip_val=1.0,
    )
    try:
        trainer.fit(made, Given(given))
    finally:
        printed = console.export_text()
    weights = remembered.weights
    changed = [not torch.equal(before, after) for before, after in itertools.pairwise(weights)]
    assert all(one.isfinite().all() for one in weights)
    return changed, printed, made


def test_a_support_loss_that_is_no_number_is_reported_with_its_task_and_the_step_is_skipped(tmp_path: Path) -> None:
    changed, printed, _ = train(tmp_path, batches(support={5: float("nan")}))
    assert changed == [True, True, False, True, True, True, True, True]
    assert printed.split("\n")[0] == (
        "the support loss of task 5 before inner step 1 is not finite in step 3, which is skipped (1 in a row)"
    )


def test_a_query_loss_that_is_no_number_is_reported_with_its_task_and_the_step_is_skipped(tmp_path: Path) -> None:
    changed, printed, _ = train(tmp_path, batches(query={2: float("inf"), 12: float("nan")}))
    assert changed == [True, False, True, True, True, True, False, True]
    assert "the query loss of task 2 is not finite in step 2, which is skipped (1 in a row)" in printed
    assert "the query loss of task 12 is not finite in step 7, which is skipped (1 in a row)" in printed
    assert printed.endswith("note: 2 training steps were skipped, since a loss or a gradient was not finite\n")


def test_steps_without_trouble_are_as_if_nobody_had_looked(tmp_path: Path) -> None:
    changed, printed, _ = train(tmp_path, batches())
    assert changed == [True] * STEPS
    assert printed == ""


def test_skipping_leaves_the_optimiser_as_it_was(tmp_path: Path) -> None:
    """Training without the bad batch ends with the same weights."""
    whole = batches(support={6: float("nan"), 7: float("nan")})
    _, _, skipped = train(tmp_path, whole)
    _, _, without = train(tmp_path, whole[:3] + whole[4:])
    for one, other in zip(skipped.parameters(), without.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("spoiled", [{"support": {6: float("nan")}}, {"query": {6: float("nan")}}], ids=str)
def test_skipping_leaves_what_reptile_carries_over_as_it_was(tmp_path: Path, spoiled: dict[str, dict[int, float]]) -> None:
    """Otherwise one NaN would spoil every later step and every later checkpoint."""

    def reptile() -> Reptile:
        torch.manual_seed(0)
        network = MLP((1, 4, 4), [5], "transductive")
        made = learner(
            "reptile",
            network,
            steps=2,
            test_inner_batch=None,
            inner_optimizer=InnerOptimizer("adam", 0.0),
            carries_squares=True,
        )
        assert isinstance(made, Reptile)
        return made

    whole = batches(**spoiled)
    skipping, without = reptile(), reptile()
    changed, _, _ = train(tmp_path, whole, made=skipping)
    assert changed == [True, True, True, False, True, True, True, True]
    train(tmp_path, whole[:3] + whole[4:], made=without)
    assert skipping.squares is not None
    assert without.squares is not None
    assert skipping.share is not None
    assert 0 < skipping.share < 1
    assert skipping.squares.abs().max() > 0
    for name, value in skipping.state_dict().items():
        torch.testing.assert_close(value, without.state_dict()[name], rtol=0, atol=0)


def test_too_many_in_a_row_end_the_run_with_a_message(tmp_path: Path) -> None:
    spoiled = {4: float("nan"), 6: float("nan"), 8: float("nan")}
    with pytest.raises(GaveUp, match=r"3 steps in a row could not be used.*task 8.*step 5.*no checkpoint yet.*inner_lr"):
        train(tmp_path, batches(support=spoiled))
    changed, _, _ = train(tmp_path, batches(support=spoiled), most_in_a_row=4)
    assert changed == [True, True, False, False, False, True, True, True]
    del spoiled[6]
    changed, _, _ = train(tmp_path, batches(support=spoiled), most_in_a_row=2)
    assert changed == [True, True, False, True, False, True, True, True]


def test_an_outer_gradient_that_is_no_number_is_skipped_although_the_losses_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = GradientLearner.training_loss

    def root_of_zero(self: GradientLearner, episode: Episode) -> Any:
        learned = plain(self, episode)
        nothing = sum(parameter.sum() for parameter in self.parameters()) * 0
        extra = nothing.sqrt() if 4 in episode.number else nothing  # its value is 0, its derivative is no number
        return learned._replace(loss=learned.loss + extra)

    monkeypatch.setattr(GradientLearner, "training_loss", root_of_zero)
    changed, printed, _ = train(tmp_path, batches())
    assert changed == [True, True, False, True, True, True, True, True]
    assert "the outer gradient is not finite in step 3" in printed
