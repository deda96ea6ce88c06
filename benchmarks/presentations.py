"""How a learner with a memory answers the first, second and later presentations of a class in one sequence.

`python -m benchmarks presentations --ckpt RUN` draws sequences from the test split of the data of a run with `algo=mann`: as
many classes as its head has, ten presentations of each, in random order and with the label one step late, as in Santoro et
al. 2016 (arXiv:1605.06065), whose accuracies are shown beside it.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import metashot
from benchmarks.compare.table import machine
from benchmarks.outputs import between, refuse_json, write_json
from benchmarks.unseen_classes import own_data
from metashot.algorithms.model.mann import Mann
from metashot.applied.learner import Learner
from metashot.bad_input import BadInput
from metashot.data.class_episodes import ClassEpisodes
from metashot.episodes import Episode
from metashot.evaluation.pictures.drawing import new_figure, write_picture
from metashot.evaluation.statistics import mean_and_interval
from metashot.files.outputs import refuse_to_replace

PRESENTATIONS, AT_ONCE = 10, 16
SPLIT: Final = "test"
# Santoro et al. 2016, table 1: Omniglot, 5 classes, after 100,000 episodes; by the number of the presentation.
PUBLISHED = {1: 0.364, 2: 0.828, 3: 0.910, 4: 0.926, 5: 0.949, 10: 0.981}
BEGIN, END = "<!-- presentations -->", "<!-- end of presentations -->"


@dataclass(frozen=True)
class Presentation:
    """The accuracy at one presentation of a class, with its 95 % interval over sequences."""

    number: int
    accuracy: float
    ci95: float | None
    published: float | None


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks presentations", description=__doc__)
    parser.add_argument("--ckpt", required=True, help="the folder of a run or a checkpoint, of algo=mann")
    parser.add_argument("--sequences", type=int, default=600, help="sequences, 2 to 1,000,000 (default: 600)")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    parser.add_argument("--picture", type=Path, help="a PNG file for the curve")
    parser.add_argument("--markdown", type=Path, help=f"a file whose part between {BEGIN} and {END} becomes the table")
    given = parser.parse_args(arguments)
    if not 2 <= given.sequences <= 10**6:
        parser.error(f"--sequences {given.sequences}: allowed: 2 to 1,000,000")
    if given.picture and given.picture.suffix != ".png":
        parser.error(f"--picture {given.picture}: allowed: the name of a PNG file")
    refuse_json(parser, given.json)
    text = between(parser, given.markdown, BEGIN, END)
    try:
        if given.picture:
            refuse_to_replace(given.picture, "--picture", "picture")
        learner = metashot.load(given.ckpt)
        algorithm, data = memory_of(learner), test_data(learner)
    except BadInput as error:
        parser.error(f"--ckpt {given.ckpt}: {error}")
    found = np.concatenate([correct(algorithm, episode) for episode in sequences(data, given.sequences, algorithm)])
    rows = summarised(found)
    of = (
        f"algo={learner.name} on {learner.origin['name']}, {algorithm.fixed_ways} classes of the test split, "
        f"{given.sequences:,} sequences"
    )
    console, table = Console(), Table(*_HEADER)
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    console.print(f"{of}; {machine()}", highlight=False)
    if given.json:
        write_json(given.json, {"machine": machine(), "of": of, "presentations": [asdict(row) for row in rows]})
    if given.picture:
        draw(rows, of, algorithm.problem.outputs, given.picture)
    if text:
        lines = ["| " + " | ".join(cells) + " |" for cells in (_HEADER, ["---:"] * len(_HEADER), *map(_cells, rows))]
        text.replace("\n".join(lines) + f"\n\n{of}; {machine()}.")


def memory_of(learner: Learner) -> Mann:
    """The algorithm of a learner.

    Raises:
        BadInput: It has no memory, or presentations of a sequence affect each other's features.
    """
    algorithm = learner.algorithm
    if not isinstance(algorithm, Mann):
        raise BadInput(f"this is for learners of algo=mann, and {learner.name} is shown no sequence")
    if not algorithm.backbone.embeds_independently:
        raise BadInput(
            "the features of a presentation depend on later ones, which are normalised together with it: train with "
            "backbone.normalisation=running or none"
        )
    return algorithm


def test_data(learner: Learner) -> ClassEpisodes:
    """Episodes of unseen classes that have as many examples of each class as there are presentations."""
    of_all = {"shots": 1, "queries": PRESENTATIONS - 1, "ways": learner.algorithm.fixed_ways}
    own = {"ways": None, "shots": None, "queries": None, "unequal_support": None, "unequal_queries": None}
    split = learner.network.config["data"][SPLIT] | own
    return own_data(learner, [SPLIT], of_all | {"unequal_support": None, "unequal_queries": None, SPLIT: split})


def sequences(data: ClassEpisodes, count: int, algorithm: Mann) -> Iterator[Episode]:
    for numbers in np.array_split(np.arange(count), -(-count // AT_ONCE)):
        yield from data.batch(SPLIT, numbers, algorithm.device)


@torch.no_grad()
def correct(algorithm: Mann, episode: Episode) -> NDArray[np.float64]:
    """The share of the classes that are answered correctly at each presentation: [T, presentations]."""
    presented = algorithm.presentations(episode)
    y = presented.y  # [T, N]
    earlier = (y.unsqueeze(2) == y.unsqueeze(1)).tril(-1).sum(2)  # [T, N], presentations of the same class before it
    right = (presented.logits.argmax(-1) == y).double()
    shares = [(right * (earlier == number)).sum(1) / (earlier == number).sum(1) for number in range(PRESENTATIONS)]
    return torch.stack(shares, dim=1).cpu().numpy()


def summarised(found: NDArray[np.float64]) -> list[Presentation]:
    return [
        Presentation(number, *mean_and_interval(found[:, number - 1].tolist()), PUBLISHED.get(number))
        for number in range(1, PRESENTATIONS + 1)
    ]


_HEADER = ["presentation of a class", "accuracy", "Santoro et al. 2016, Omniglot"]


def _cells(row: Presentation) -> list[str]:
    interval = "" if row.ci95 is None else f" ± {100 * row.ci95:.2f}"
    return [
        str(row.number),
        f"{100 * row.accuracy:.2f} %{interval}",
        "" if row.published is None else f"{100 * row.published:.1f} %",
    ]


def draw(rows: list[Presentation], of: str, ways: int, path: Path) -> None:
    figure = new_figure(6, 4)
    axes = figure.subplots()
    numbers = [row.number for row in rows]
    axes.errorbar(
        numbers, [row.accuracy for row in rows], [row.ci95 or 0 for row in rows], marker="o", capsize=3, label="measured"
    )
    published = [row for row in rows if row.published is not None]
    axes.plot(
        [row.number for row in published],
        [row.published for row in published],
        marker="s",
        linestyle="--",
        color="gray",
        label="Santoro et al. 2016, Omniglot",
    )
    axes.axhline(1 / ways, color="gray", linewidth=0.8, linestyle=":", label="chance")
    axes.set(xlabel="presentation of a class in its sequence", ylabel="accuracy", ylim=(0, 1.02), xticks=numbers)
    axes.set_title(of, fontsize=8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    write_picture(figure, path, "--picture")
