"""The folder of an evaluation: its reports, and its pictures of one episode and of all episodes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from metashot.algorithms.base import Algorithm
from metashot.algorithms.generative.learner import GenerativeLearner
from metashot.algorithms.reinforcement.learner import PolicyLearner
from metashot.algorithms.similarities import squared_distances
from metashot.checkpoints.run_folder import (
    EPISODES,
    PAGE,
    PICTURE,
    REGRET_CURVE,
    REPORT,
    REPORT_FOR_PEOPLE,
    WORLDS_PICTURE,
)
from metashot.data.class_episodes import ClassEpisodes
from metashot.data.module import EpisodicDataModule, in_double
from metashot.episodes import Episode, Examples
from metashot.evaluation.comparison import Comparison
from metashot.evaluation.documents import write_for_people, write_numbers
from metashot.evaluation.pictures.attention import attention_picture
from metashot.evaluation.pictures.episodes import bands_picture, curves_picture, episode_picture
from metashot.evaluation.pictures.features import features_picture
from metashot.evaluation.pictures.made import made_features_picture, made_sheet
from metashot.evaluation.pictures.masks import masks_picture
from metashot.evaluation.pictures.scores import (
    adaptation_picture,
    confusion_picture,
    histogram_picture,
    reliability_picture,
)
from metashot.evaluation.pictures.texts import texts_page
from metashot.evaluation.pictures.worlds import SHOWN_WORLDS, Line, regret_picture, returns_picture, worlds_picture
from metashot.evaluation.testing import Evaluation
from metashot.files.outputs import refuse_to_replace
from metashot.problems import Picture
from metashot.worlds import Worlds

Pictures = Literal["all", "episode", "none"]
_DRAWN = ("adaptation", "histogram", "reliability", "confusion", "features", "attention", "made", "made_features")
_DRAWN_OF_POLICIES = ("returns", "regret")
_TRAINING_CLASSES, _TRAINING_IMAGES = 2000, 20  # among which the nearest to a made image is searched
_EPISODE_PICTURES: Mapping[Picture, Callable[[Episode, Tensor, Sequence[str], Path], None]] = {
    "classes": episode_picture,
    "curves": curves_picture,
    "bands": bands_picture,
    "masks": masks_picture,
}
_NAMES = (
    *(REPORT, REPORT_FOR_PEOPLE, EPISODES, REGRET_CURVE, PICTURE, PAGE, WORLDS_PICTURE),
    *(f"{name}.png" for name in (*_DRAWN, *_DRAWN_OF_POLICIES)),
)


def refuse_to_replace_evaluation(folder: Path) -> None:
    """Raise `BadInput`, before anything is scored, where an output would replace a file that metashot did not write."""
    for inner in (folder, *(path for path in folder.glob("*_*") if path.is_dir())):  # sub-folders of several checkpoints
        for name in _NAMES:
            refuse_to_replace(inner / name, "out")


def write_evaluation(
    evaluation: Evaluation,
    algorithm: Algorithm,
    data: EpisodicDataModule,
    wanted: Pictures,
    folder: Path,
) -> list[Path]:
    """Write an evaluation to a folder: first the numbers, which matter most if the disk is full, then pictures and report.

    Args:
        evaluation: The evaluation.
        algorithm: The algorithm that was scored, for pictures of its features and attention.
        data: The data that it was scored on.
        wanted: Which pictures to draw: all, only the one of an episode, or none.
        folder: The folder to write to.

    Returns:
        The paths of the pictures; that of an episode of texts is a page of HTML.
    """
    write_numbers(evaluation, folder)
    pictures = [] if wanted == "none" else _draw(evaluation, algorithm, data, wanted, folder)
    write_for_people(evaluation, folder, pictures)
    return pictures


def _draw(
    evaluation: Evaluation,
    algorithm: Algorithm,
    data: EpisodicDataModule,
    wanted: Pictures,
    folder: Path,
) -> list[Path]:
    """Draw the wanted pictures, except those without anything to show."""
    report, results, answers = evaluation.report, evaluation.results, evaluation.answers
    assert evaluation.first_batch is not None
    episode, first_answers = evaluation.first_batch
    if isinstance(episode, Worlds):
        assert isinstance(algorithm, PolicyLearner)
        return _draw_policy(evaluation, algorithm, episode, wanted, folder)
    drawn: list[Path] = []
    names = [evaluation.names[place] for place in episode.classes[0].tolist()] if evaluation.names else []
    seen = data.for_display(episode)
    if seen is not None:
        drawn.append(folder / PICTURE)
        _EPISODE_PICTURES[results.problem.picture](seen, first_answers, names, drawn[0])
    if evaluation.texts is not None:
        drawn.append(folder / PAGE)
        texts_page(evaluation.texts, drawn[0])
    if wanted == "episode":
        return drawn

    def path(name: str) -> Path:
        drawn.append(folder / f"{name}.png")
        return drawn[-1]

    if len(report.inner_steps) > 1:
        steps, scores, ci95 = zip(*((at.steps, at.score, at.ci95) for at in report.inner_steps), strict=True)
        adaptation_picture(steps, scores, ci95, report.metric, path("adaptation"))
    histogram_picture(results.scores, report.ci95, report.worst_episodes, report.metric, path("histogram"))
    if answers is None:
        return drawn
    assert report.calibration_error is not None
    reliability_picture(answers, report.calibration_error, path("reliability"))
    confusion_picture(answers, evaluation.names, path("confusion"))
    one = _as_learned(algorithm, data, int(episode.number[0]))
    with torch.no_grad():
        features = algorithm.eval().features_before_and_after(one)
        attention = algorithm.attention(one)
    if features is not None:
        before, after = features
        y = torch.cat([one.support.y[0], one.query.y[0]])
        features_picture(before[0], None if after is None else after[0], y, one.support.y.shape[1], names, path("features"))
    seen = data.for_display(one)
    if attention is not None and seen is not None:
        attention_picture(seen, attention[0], names, path("attention"))
    if isinstance(algorithm, GenerativeLearner) and algorithm.made:
        _draw_made(algorithm, data, one, names, path)
    return drawn


def write_comparison_pictures(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw several policies together: their returns as they adapt and, where it is known, their regret.

    Returns:
        The paths of the pictures; none for learners that answer queries.
    """
    evaluations = {f"{place} {one.evaluation.report.algo}": one.evaluation for place, one in enumerate(comparison.scored, 1)}
    acting = [one.report.acting for one in evaluations.values() if one.report.acting is not None]
    drawn: list[Path] = []
    if len(acting) < len(evaluations):
        return drawn
    lines = [
        Line(name, *zip(*((at.steps, at.score, at.ci95) for at in one.report.inner_steps), strict=True))
        for name, one in evaluations.items()
    ]
    adapting = [of for of, line in zip(acting, lines, strict=True) if len(line.steps) > 1]
    if adapting:
        drawn.append(folder / "returns.png")
        counted = " or ".join(sorted({of.counted for of in adapting}, reverse=True))
        returns_picture(lines, comparison.metric, counted, drawn[-1])
    curves = {name: one.regret for name, one in evaluations.items() if one.regret is not None}
    if curves:
        drawn.append(folder / "regret.png")
        first = comparison.scored[0].evaluation.first_batch
        regret_picture(curves, _steps_of(None if first is None else first[0]), drawn[-1])
    return drawn


def _steps_of(worlds: Episode | Worlds | None) -> str:
    return "pulls" if isinstance(worlds, Worlds) and worlds.drawn_as == "arms" else "steps"


def _draw_policy(
    evaluation: Evaluation, algorithm: PolicyLearner, worlds: Worlds, wanted: Pictures, folder: Path
) -> list[Path]:
    """Draw what a policy does in the first worlds and, if wanted, its returns and its regret in all of them."""
    report, results = evaluation.report, evaluation.results
    assert report.acting is not None
    drawn: list[Path] = []
    first = next(worlds.to(algorithm.device).parts(SHOWN_WORLDS))
    with torch.no_grad():
        after = algorithm.eval().shown(first)
    if after:
        drawn.append(folder / WORLDS_PICTURE)
        chosen = sorted({*(*after,)[:2], max(after)})
        named = {report.acting.stage(steps) if len(chosen) > 1 else report.algo: after[steps] for steps in chosen}
        worlds_picture(first, named, drawn[-1])
    if wanted == "episode":
        return drawn
    if len(report.inner_steps) > 1:
        drawn.append(folder / "adaptation.png")
        steps, scores, ci95 = zip(*((at.steps, at.score, at.ci95) for at in report.inner_steps), strict=True)
        adaptation_picture(steps, scores, ci95, report.metric, drawn[-1], report.acting.counted, report.noun)
    drawn.append(folder / "histogram.png")
    histogram_picture(results.scores, report.ci95, report.worst_episodes, report.metric, drawn[-1], report.noun)
    if evaluation.regret is not None:
        drawn.append(folder / "regret.png")
        regret_picture({report.algo: evaluation.regret}, _steps_of(worlds), drawn[-1])
    return drawn


@torch.no_grad()
def _draw_made(
    algorithm: GenerativeLearner,
    data: EpisodicDataModule,
    episode: Episode,
    names: Sequence[str],
    path: Callable[[str], Path],
) -> None:
    """Draw made features with real ones and, where pixels are made, made drawings with the nearest training images."""
    support, query = (Examples(algorithm.inputs_of(part.x)[0], part.y[0]) for part in algorithm.features_of(episode))
    found = algorithm.examples_made(Examples(support.x[None], support.y[None]), episode.number)
    made = Examples(found.x[0], found.y[0])
    made_features_picture(support, query, made, names, path("made_features"))
    shape = algorithm.backbone.input_shape
    if algorithm.backbone.has_weights or len(shape) != 3 or not isinstance(data, ClassEpisodes):
        return
    # The sheet shows one example of each class, and drawings that are made from it.
    first = [int(torch.nonzero(support.y == label)[0]) for label in range(int(support.y.max()) + 1)]
    found = algorithm.examples_made(Examples(support.x[None, first], support.y[None, first]), episode.number)
    made = Examples(found.x[0], found.y[0])
    places = data.spread_places("train", _TRAINING_CLASSES, _TRAINING_IMAGES).reshape(-1)
    training = data.inputs_at("train", places, algorithm.device).flatten(1).to(made.x)
    nearest = training[squared_distances(made.x[None], training[None])[0].argmin(1)]
    support, query, made = (Examples(part.x.view(-1, *shape), part.y) for part in (support, query, made))
    made_sheet(support, query, made, nearest.view(-1, *shape), names, path("made"))


def _as_learned(algorithm: Algorithm, data: EpisodicDataModule, number: int) -> Episode:
    """An episode of items (not of stored features), in the algorithm's precision."""
    (episode,) = data.batch(data.evaluated_split, np.array([number]), algorithm.device)
    return in_double(episode) if algorithm.dtype == torch.float64 else episode
