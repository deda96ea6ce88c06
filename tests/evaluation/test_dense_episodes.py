"""Dense labels from training to the report, by a toy: nothing on the way assumes one answer a query."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

from metashot.algorithms.base import Algorithm
from metashot.algorithms.optimization import Optimization
from metashot.bad_input import GaveUp
from metashot.data.module import SPLITS, EpisodicDataModule
from metashot.data.seen_classes import TrainingClasses
from metashot.episodes import Batch, Episode, EpisodeSpec, Examples
from metashot.evaluation import testing
from metashot.evaluation.gallery import write_evaluation
from metashot.evaluation.protocol import EpisodeResults, Scoring
from metashot.evaluation.statistics import mean_and_interval
from metashot.evaluation.timing import Timing
from metashot.problems import DenseLabels
from metashot.problems.dense import IGNORED

EPISODES, WATCHED, CLASSES, SIDES = 7, 4, 3, (6, 8)
AFTER = (0, 2)  # inner steps


class Scenes(EpisodicDataModule):
    """Images of coloured patches, all by an episode's number; every other one has a class and a query more."""

    asks = DenseLabels

    def __init__(self) -> None:
        specs = dict.fromkeys(SPLITS, EpisodeSpec(1, 2, 3))
        super().__init__("scenes", specs, dict.fromkeys(SPLITS, EPISODES), 4, tasks_per_evaluation_step=4, seed=0)
        self.problem = DenseLabels(CLASSES)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return 3, *SIDES

    def batch(self, split: Any, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        groups = [numbers[numbers % 2 == odd] for odd in (0, 1)]
        return [self.group(group) for group in groups if len(group)]

    def group(self, numbers: NDArray[np.int64]) -> Episode:
        scenes = [self.scene(int(number)) for number in numbers]
        x, y = (torch.stack(parts) for parts in zip(*scenes, strict=True))
        classes = torch.arange(2 + int(numbers[0]) % 2).expand(len(numbers), -1)
        return Episode(Examples(x[:, :2], y[:, :2]), Examples(x[:, 2:], y[:, 2:]), torch.from_numpy(numbers), classes)

    def scene(self, number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(number)
        classes, images = 2 + number % 2, 4 + number % 2
        colours = torch.rand(classes, 3, generator=generator)
        y = torch.randint(classes, (images, *SIDES), generator=generator)
        x = 0.7 * colours[y].movedim(-1, 1) + 0.3 * torch.rand(images, 3, *SIDES, generator=generator)
        y[torch.rand(y.shape, generator=generator) < 0.1] = IGNORED
        return x, y


class NearestColour(Algorithm):
    """A pixel belongs to the class whose mean colour in the support set is nearest to its own."""

    solves = (DenseLabels,)

    def __init__(self, broken: bool = False) -> None:
        optimizer = Optimization("adam", 0.1, 0.9, 0.0, "constant", 1, 1.0)
        super().__init__(optimizer, transductive=False, problem=DenseLabels(CLASSES))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.broken = broken

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        classes = int(support.y[support.y != IGNORED].max()) + 1
        mask = torch.stack([support.y == label for label in range(classes)], dim=2).to(support.x.dtype)  # [T, S, C, H, W]
        sums = torch.einsum("tschw,tsxhw->tcx", mask, support.x)
        means = sums / mask.sum((1, 3, 4)).unsqueeze(-1)  # [T, C, channels]
        distances = (query_x.unsqueeze(2) - means[:, None, :, :, None, None]).square().sum(3)
        answers = -self.scale * distances  # [T, Q, C, H, W]
        if self.broken:
            answers[:, -1, 0, 0, 0] = float("nan")
        return answers

    @property
    def watched_steps(self) -> tuple[int, ...]:
        return AFTER

    def answers_after_steps(self, episode: Episode) -> Tensor:
        answers = self.answers_to(episode)
        return torch.stack([answers.flip(2), answers], dim=1)  # wrong before it has adapted


def expected(algorithm: Algorithm, data: Scenes, number: int, flipped: bool = False) -> tuple[float, float]:
    """The score by torchmetrics, and the loss as torch has it for maps, of one episode."""
    episode = data.group(np.array([number]))
    with torch.no_grad():
        answers, y = algorithm(episode.support, episode.query.x)[0], episode.query.y[0]
    answers = answers.flip(1) if flipped else answers
    metric = MulticlassJaccardIndex(answers.shape[1], average="macro", ignore_index=IGNORED)
    losses = [
        nn.functional.cross_entropy(one[None], labels[None], ignore_index=IGNORED).item()
        for one, labels in zip(answers, y, strict=True)
    ]
    return float(metric(answers.argmax(1), y)), float(np.mean(losses))


def trainer(*callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return pl.Trainer(
        accelerator="cpu", devices=1, callbacks=list(callbacks), use_distributed_sampler=False, **quiet, **settings
    )


def scored(algorithm: Algorithm, data: Scenes) -> testing.Evaluation:
    scoring, timing = Scoring(), Timing()
    classes = TrainingClasses(frozenset(), frozenset(), True)
    tested = testing.Tested("nearest", Path("best.ckpt"), 3, 0, classes, "scenes")
    return testing.test(trainer(scoring, timing), algorithm, data, scoring, timing, "test", WATCHED, tested)


def test_training_and_validation_score_episodes_of_maps() -> None:
    algorithm, data, scoring = NearestColour(), Scenes(), Scoring()
    steps: list[dict[str, Tensor]] = []

    class Kept(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            steps.append({name: value.detach() for name, value in outputs.items()})

    before = [expected(algorithm, data, number) for number in range(4)]
    trainer(scoring, Kept(), max_steps=3, val_check_interval=3, check_val_every_n_epoch=None).fit(algorithm, data)
    score, loss = np.mean(before, axis=0)
    assert float(steps[0]["loss"]) == pytest.approx(loss, abs=1e-5)
    assert float(steps[0]["score"]) == pytest.approx(score, abs=1e-5)
    assert algorithm.scale.item() > 1.1
    assert scoring.results is not None
    after = [expected(algorithm, data, number) for number in range(EPISODES)]
    assert scoring.results.numbers == list(range(EPISODES))
    assert scoring.results.scores == pytest.approx([score for score, _ in after], abs=1e-6)
    assert scoring.results.losses == pytest.approx([loss for _, loss in after], abs=1e-5)
    assert scoring.results.queries == 4 * 2 + 3 * 3


def test_a_report_of_dense_labels_is_as_whole_as_any(tmp_path: Path) -> None:
    algorithm, data = NearestColour(), Scenes()
    evaluation = scored(algorithm, data)
    scores = [expected(algorithm, data, number)[0] for number in range(EPISODES)]
    at_first = [expected(algorithm, data, number, flipped=True)[0] for number in range(WATCHED)]
    pictures = write_evaluation(evaluation, algorithm, data, "all", tmp_path)
    assert [path.name for path in pictures] == ["episode.png", "adaptation.png", "histogram.png"]
    for path in pictures:
        with Image.open(path) as image:
            image.load()
    content = json.loads((tmp_path / "report.json").read_text())
    assert next(iter(content)) == "mean_iou"
    assert (content["mean_iou"], content["ci95"]) == pytest.approx(mean_and_interval(scores), abs=1e-6)
    assert [step["score"] for step in content["inner_steps"]] == pytest.approx(
        [np.mean(at_first), np.mean(scores[:WATCHED])], abs=1e-6
    )
    rows = list(csv.DictReader(io.StringIO((tmp_path / "episodes.csv").read_text())))
    assert [list(row) for row in rows] == [["number", "mean_iou", "loss"]] * EPISODES
    assert f"**mean_iou {100 * content['mean_iou']:.2f} % ±" in (tmp_path / "report.md").read_text()


def test_one_pixel_with_an_answer_that_is_not_finite_makes_no_score() -> None:
    with pytest.raises(GaveUp, match="the answers to 7 of 17 queries, in 7 of 7 episodes, are not finite"):
        scored(NearestColour(broken=True), Scenes())


def test_statistics_do_not_depend_on_how_many_episodes_are_answered_at_once() -> None:
    data = Scenes()
    together = scored(NearestColour(), data).results
    data.tasks_per_evaluation_step = 1
    assert replace(scored(NearestColour(), data).results, problem=together.problem) == together


def test_an_episode_without_a_labelled_pixel_is_named_and_not_averaged() -> None:
    results = EpisodeResults(DenseLabels(3), [0.5, math.nan, 0.7], [1.0, 0.0, 1.0], [4, 7, 9], {}, [0, 0, 0], 30)
    assert results.first_non_finite() == "episode 7 has no mean_iou, because none of its queries has a label"
