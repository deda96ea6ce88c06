"""What remains of the gain of made drawings when support drawings are only blurred.

`python -m benchmarks blurred --ckpt RUN` scores a run of `algo=vae_images` on its test episodes with the same classifier
three times: with the support set alone, with made drawings, and with the support set blurred by a Gaussian, whose width is
the one that scores best on validation episodes. Made drawings are smooth, and a class mean of pixels gains from that alone.
With `--judge RUN`, a run of another algorithm on the same data, such as `algo=protonet`, it also says how often that learner
recognises the class of a single made drawing, and that of a query, from the support set alone.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import metashot
from benchmarks.compare.table import machine
from benchmarks.outputs import refuse_json, write_json
from benchmarks.unseen_classes import own_data, refuse_seen
from metashot.algorithms.base import Algorithm
from metashot.algorithms.generative.vae_images import VAEImages, blurred
from metashot.applied.learner import Learner
from metashot.bad_input import BadInput
from metashot.data.class_episodes import ClassEpisodes
from metashot.episodes import Episode, Examples
from metashot.evaluation.statistics import mean_and_interval, paired_difference

ASKED: Final = ("val", "test")  # splits
WIDTHS, AT_ONCE = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0), 16


@dataclass(frozen=True)
class Row:
    """An accuracy, and how much higher it is with made drawings on the same episodes, with 95 % intervals."""

    support: str
    accuracy: float
    ci95: float | None
    made_gains: float
    made_gains_ci95: float | None


@dataclass(frozen=True)
class Recognised:
    """How often a judge recognises single drawings, with 95 % intervals over episodes."""

    judge: str
    made: float
    made_ci95: float | None
    queries: float
    queries_ci95: float | None


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks blurred", description=__doc__)
    parser.add_argument("--ckpt", required=True, help="the folder of a run or a checkpoint, of algo=vae_images")
    parser.add_argument(
        "--judge", help="a run of another algorithm on the same data, which says whether drawings keep their class"
    )
    parser.add_argument("--episodes", type=int, default=600, help="episodes of each split, at least 2 (default: 600)")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    given = parser.parse_args(arguments)
    if given.episodes < 2:
        parser.error(f"--episodes {given.episodes}: allowed: at least 2")
    refuse_json(parser, given.json)
    try:
        learner = metashot.load(given.ckpt)
        algorithm, data = drawing(learner), own_data(learner, ASKED)
    except BadInput as error:
        parser.error(f"--ckpt {given.ckpt}: {error}")
    judge = None
    if given.judge:
        try:
            judge = metashot.load(given.judge)
            refuse_judge(judge, learner)
            refuse_seen(judge, data, ASKED)
        except BadInput as error:
            parser.error(f"--judge {given.judge}: {error}")
    tried = {width: scores(algorithm, data, "val", given.episodes, width) for width in WIDTHS}
    width = max(tried, key=lambda width: float(np.mean(tried[width])))
    made = scores(algorithm, data, "test", given.episodes, None)
    rows = [
        compared("as it is", scores(algorithm, data, "test", given.episodes, 0.0), made),
        compared(f"blurred by {width:g} pixels", scores(algorithm, data, "test", given.episodes, width), made),
        compared(f"with {algorithm.made} made drawings of each class", made, made),
    ]
    console, table = Console(), Table("support set", "accuracy", "gain of made drawings over it")
    for row in rows:
        table.add_row(row.support, _points(row.accuracy, row.ci95), _points(row.made_gains, row.made_gains_ci95))
    recognised = judge and recognised_by(judge, algorithm, data, given.episodes)
    console.print(table)
    if recognised:
        singles, queries = (
            _points(recognised.made, recognised.made_ci95),
            _points(recognised.queries, recognised.queries_ci95),
        )
        console.print(
            f"{recognised.judge} recognises {singles} % of single made drawings, and {queries} % of queries", highlight=False
        )
    console.print(f"{given.episodes:,} test episodes on {learner.origin['name']}; {machine()}", highlight=False)
    if given.json:
        validated = {f"{width:g}": float(np.mean(found)) for width, found in tried.items()}
        found = {"validated": validated, "rows": [asdict(row) for row in rows]}
        write_json(given.json, {"machine": machine(), **found, "recognised": recognised and asdict(recognised)})


def drawing(learner: Learner) -> VAEImages:
    """The algorithm of a learner.

    Raises:
        BadInput: It makes no drawings.
    """
    algorithm = learner.algorithm
    if not isinstance(algorithm, VAEImages) or not algorithm.made:
        raise BadInput(f"this is for learners of algo=vae_images that make drawings, and {learner.name} makes none")
    return algorithm


def refuse_judge(judge: Learner, learner: Learner) -> None:
    """Refuse a judge that reads other drawings than a learner, or makes drawings itself."""
    if isinstance(judge.algorithm, VAEImages):
        raise BadInput("a judge does not make drawings itself: give a run of another algorithm, such as algo=protonet")
    for name in ("name", "input_shape", "mean", "std"):
        own, wanted = (one.origin.get(name) for one in (judge, learner))
        if own != wanted:
            raise BadInput(f"its data have {name}={own}, and the drawings {name}={wanted}: train the judge on the same data")


@torch.no_grad()
def scores(
    algorithm: VAEImages, data: ClassEpisodes, split: Literal["val", "test"], count: int, width: float | None
) -> list[float]:
    """The accuracy of each episode, with the support set blurred by this width; None for made drawings instead."""
    found: list[Tensor] = []
    for numbers in np.array_split(np.arange(count), -(-count // AT_ONCE)):
        for episode in data.batch(split, numbers, algorithm.device):
            answers = algorithm.answers_to(episode) if width is None else answers_from_blurred(algorithm, episode, width)
            found.append((answers.argmax(-1) == episode.query.y).double().mean(1))
    return [float(score) for score in torch.cat(found)]


def recognised_by(judge: Learner, algorithm: VAEImages, data: ClassEpisodes, count: int) -> Recognised:
    """How often a judge that knows the support sets of test episodes recognises single made drawings, and queries."""
    found: tuple[list[float], list[float]] = [], []
    for numbers in np.array_split(np.arange(count), -(-count // AT_ONCE)):
        for episode in data.batch("test", numbers, algorithm.device):
            for scored, query in zip(found, (made_drawings(algorithm, episode), episode.query), strict=True):
                scored.extend(recognition(judge.algorithm, episode, query).tolist())
    made, queries = map(mean_and_interval, found)
    return Recognised(judge.name, *made, *queries)


@torch.no_grad()
def made_drawings(algorithm: VAEImages, episode: Episode) -> Examples:
    """The made drawings of an episode in the form of its queries: [T, ways * made, channels, height, width]."""
    support, _ = algorithm.features_of(episode)
    made = algorithm.examples_made(replace(support, x=algorithm.inputs_of(support.x)), episode.number)
    return Examples(made.x.unflatten(-1, algorithm.backbone.input_shape), made.y)


@torch.no_grad()
def recognition(judge: Algorithm, episode: Episode, query: Examples) -> Tensor:
    """The accuracy [T] of a judge on other queries of an episode."""
    answers = judge.answers_to(replace(episode, query=query))
    return (answers.argmax(-1) == query.y).double().mean(1)


def answers_from_blurred(algorithm: VAEImages, episode: Episode, width: float) -> Tensor:
    """The answers of the classifier that learns from the blurred support set alone."""
    support, query = algorithm.features_of(episode)
    drawings = support.x.reshape(-1, *algorithm.backbone.input_shape)
    learned = replace(support, x=blurred(drawings, width).view_as(support.x))
    return algorithm.answer(algorithm.classifier_of(learned, support.y.shape[1]), query.x)


def compared(support: str, found: list[float], made: list[float]) -> Row:
    gain = paired_difference(made, found)
    return Row(support, *mean_and_interval(found), gain[0], gain[1])


def _points(value: float, interval: float | None) -> str:
    return f"{100 * value:.2f}" + ("" if interval is None else f" ± {100 * interval:.2f}")
