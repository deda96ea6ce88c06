"""Whether what learners say of themselves is true: the intervals of `estimate()`, and the gains of `next_to_label()`.

`python -m benchmarks estimates --ckpt RUN` draws tasks from the test split of a checkpoint's data. In each, the accuracy on
all other images of the task's classes is compared with the estimate from its support set, and the images that the learner
asks for are labelled, and as many random ones. Tasks of similar classes are those of a random class and the ones whose mean
features are nearest to its own. Items are embedded once.
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
from torch import Tensor

import metashot
from benchmarks.compare.table import machine
from benchmarks.outputs import between, refuse_json, write_json
from benchmarks.unseen_classes import own_data
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.similarities import squared_distances
from metashot.applied.estimating import corrected, refuse_estimate, simulated
from metashot.applied.labelling import accuracies, chosen, refuse_labelling
from metashot.applied.labelling import simulated as simulated_labelling
from metashot.applied.learner import Learner
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from metashot.evaluation.statistics import mean_and_interval, paired_difference

SHAPES = (  # ways, shots and whether classes are similar, of the tasks whose accuracy is estimated
    *((5, 2, False), (5, 5, False), (5, 10, False), (10, 5, False)),
    *((5, 2, True), (5, 5, True)),
)
SHOTS = (1, 2, 5)  # of the 5-way tasks in which images are labelled
WAYS, LABELLED, EACH = 5, 5, 20  # of these: classes, images to label, and unlabelled images of a class
DRAWS = 4  # random choices in each task
CLASSES, IMAGES = 1000, 200  # at most, of the test split, each class as many
SPLIT: Final = "test"
SEED = 0
BEGIN, END = "<!-- estimates -->", "<!-- end of estimates -->"
AT_ONCE = 256  # items to embed


@dataclass(frozen=True)
class Estimated:
    """How the estimates of one kind of task compare with the accuracies."""

    ways: int
    shots: int
    similar: bool  # whether the classes are
    accuracy: float  # the mean
    error: float  # the mean of the estimate minus the accuracy
    held: float  # the share of the intervals that hold the accuracy
    margin: float  # of that share, half of its 95 % interval
    held_of_highest: float  # the same share among the highest tenth of the estimates
    held_of_lowest: float  # the same share among the lowest tenth
    width: float  # the mean one of the intervals


@dataclass(frozen=True)
class Labelled:
    """What labels gain in one kind of task: mean accuracies, and the difference with its 95 % interval."""

    shots: int
    pool: str
    before: float
    random: float
    ours: float
    gain: float
    ci95: float
    said: float  # the gain that next_to_label() tells its user


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks estimates", description=__doc__)
    parser.add_argument(
        "--ckpt", required=True, help="the folder of a run or a checkpoint, of a learner that compares features"
    )
    parser.add_argument("--tasks", type=int, default=1000, help="tasks of each kind, at least 2 (default: 1000)")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    parser.add_argument("--markdown", type=Path, help=f"a file whose part between {BEGIN} and {END} becomes the tables")
    given = parser.parse_args(arguments)
    if given.tasks < 2:
        parser.error(f"--tasks {given.tasks}: allowed: at least 2")
    refuse_json(parser, given.json)
    text = between(parser, given.markdown, BEGIN, END)
    try:
        learner = metashot.load(given.ckpt)
        features = test_features(learner)
    except BadInput as error:
        parser.error(f"--ckpt {given.ckpt}: {error}")
    algorithm = learner.algorithm
    assert isinstance(algorithm, FeatureLearner)
    console = Console()
    estimated = [
        measured_estimates(algorithm, features, *shape, given.tasks) for shape in fitting(features, algorithm.fixed_ways)
    ]
    console.print(_on_a_terminal(_ESTIMATED, map(_estimated_cells, estimated)))
    labelled = [row for shots in SHOTS for row in measured_labels(algorithm, features, shots, given.tasks)]
    console.print(_on_a_terminal(_LABELLED, map(_labelled_cells, labelled)))
    console.print(machine(), highlight=False)
    if given.json:
        rows = {"estimated": [asdict(row) for row in estimated], "labelled": [asdict(row) for row in labelled]}
        write_json(given.json, {"machine": machine(), "tasks": given.tasks, **rows})
    if text:
        tables = [
            _in_markdown(_ESTIMATED, map(_estimated_cells, estimated)),
            _in_markdown(_LABELLED, map(_labelled_cells, labelled)),
        ]
        of = f"`algo={learner.name}` on {learner.origin['name']}, external data: {algorithm.external_data or 'none'}"
        text.replace("\n\n".join([*tables, f"{of}; {given.tasks:,} tasks of test classes in each row; {machine()}."]))


def test_features(learner: Learner) -> Tensor:
    """The features [classes, images, features] of the test split of the data that a learner was trained on.

    Raises:
        BadInput: The learner cannot estimate, has seen these classes in training, or the split has too few.
    """
    network, algorithm = learner.network, learner.algorithm
    if not isinstance(algorithm, FeatureLearner):
        raise BadInput(f"this is for learners that compare features, and {network.name} changes its network for each task")
    refuse_estimate(algorithm, torch.tensor([0, 0]), ["first"])
    refuse_labelling(algorithm)
    data = own_data(learner, [SPLIT])
    places = data.spread_places(SPLIT, CLASSES, IMAGES)
    if len(places) < WAYS:
        raise BadInput(f"its {SPLIT} split has {len(places)} classes, and at least {WAYS} are needed")
    parts = []
    with torch.no_grad():
        for part in np.array_split(places.reshape(-1), -(-places.size // AT_ONCE)):
            inputs = data.inputs_at(SPLIT, part, network.device).to(network.dtype)
            parts.append(algorithm.embed(inputs[None], support=0)[0])
    return torch.cat(parts).view(*places.shape, -1)


def fitting(features: Tensor, most_ways: int | None = None) -> Iterator[tuple[int, int, bool]]:
    """The shapes for which there are enough classes and images, and outputs of the learner's head, if it has one."""
    classes, images, _ = features.shape
    for ways, shots, similar in SHAPES:
        if (ways < classes if similar else ways <= classes) and shots <= images // 2 and ways <= (most_ways or ways):
            yield ways, shots, similar


@torch.no_grad()
def measured_estimates(
    algorithm: FeatureLearner, features: Tensor, ways: int, shots: int, similar: bool, tasks: int
) -> Estimated:
    deviation = simulated(algorithm, ways, shots)  # as in each call of `estimate()`
    nearest = nearest_classes(features, ways) if similar else None
    truths, found = [], []
    for items in drawn(features, ways, features.shape[1], tasks, nearest):
        support, query = (examples(part[None]) for part in torch.split(items, [shots, items.shape[1] - shots], dim=1))
        truths.append(float(accuracies(algorithm, support, query, np.zeros((1, 0), np.int64), query)[0]))
        found.append(corrected(algorithm, support.x[0], support.y[0], deviation))
    held = [estimate.low <= truth <= estimate.high for estimate, truth in zip(found, truths, strict=True)]
    share, margin = mean_and_interval([float(each) for each in held])
    error = np.mean([estimate.accuracy for estimate in found]) - np.mean(truths)
    width = np.mean([estimate.high - estimate.low for estimate in found])
    order, tenth = np.argsort([-estimate.accuracy for estimate in found], kind="stable"), -(-tasks // 10)
    of_highest, of_lowest = (float(np.mean([held[place] for place in part])) for part in (order[:tenth], order[-tenth:]))
    means = float(np.mean(truths)), float(error)
    return Estimated(ways, shots, similar, *means, share, margin or 0.0, of_highest, of_lowest, float(width))


def nearest_classes(features: Tensor, ways: int) -> NDArray[np.int64]:
    """For each class, itself and the classes whose mean features are nearest to its own: [classes, ways]."""
    means = features.mean(1)
    distances = squared_distances(means[None], means[None])[0].fill_diagonal_(-torch.inf)
    found: NDArray[np.int64] = distances.argsort(-1)[:, :ways].cpu().numpy()
    return found


@torch.no_grad()
def measured_labels(algorithm: FeatureLearner, features: Tensor, shots: int, tasks: int) -> Iterator[Labelled]:
    """What labels gain where all unlabelled images belong to the classes, and where half of them belong to others."""
    classes, images, _ = features.shape
    each = min(EACH, (images - shots) // 2)
    said = simulated_labelling(algorithm, WAYS, shots, WAYS * each, LABELLED)
    for others in (0, WAYS):
        if WAYS + others > classes:
            continue
        own = each // 2 if others else each
        random = np.random.default_rng(SEED)
        before, ours, chance = [], [], []
        for items in drawn(features, WAYS + others, images, tasks):
            known, strange = items[None, :WAYS], items[None, WAYS:, :own]
            support, pool, query = (examples(part) for part in torch.split(known, [shots, own, images - shots - own], dim=2))
            unlabelled = torch.cat([pool.x, strange.flatten(1, 2)], dim=1)

            def after(places: NDArray[np.int64]) -> float:
                """With the labels of those that belong to the classes; of the others there is nothing to learn."""
                useful = places[places < pool.x.shape[1]][None]  # noqa: B023
                return float(accuracies(algorithm, support, pool, useful, query)[0])  # noqa: B023

            before.append(after(np.zeros(0, np.int64)))
            ours.append(after(chosen(algorithm, support, unlabelled, LABELLED)[0]))
            draws = [random.permutation(unlabelled.shape[1])[:LABELLED] for _ in range(DRAWS)]
            chance.append(float(np.mean([after(places) for places in draws])))
        gain = paired_difference(ours, chance)
        pool_of = f"{WAYS * own}" + (f" and {others * own} of other classes" if others else "")
        means = (float(np.mean(values)) for values in (before, chance, ours))
        yield Labelled(shots, pool_of, *means, gain.mean, gain.ci95 or 0.0, float(np.mean(said[0] - said[1])))


def drawn(
    features: Tensor, classes: int, images: int, tasks: int, nearest: NDArray[np.int64] | None = None
) -> Iterator[Tensor]:
    """Tasks: the features [classes, images, features] of random classes, with their images in random order.

    Args:
        features: Features [classes, images, features] to draw from.
        classes: The number of classes of a task.
        images: The number of images of each.
        tasks: The number of tasks.
        nearest: For each class, the classes of its task; None for random ones.

    Yields:
        The features of a task.
    """
    random = np.random.default_rng(SEED)
    for _ in range(tasks):
        own = random.permutation(features.shape[0])[:classes]
        if nearest is not None:
            own = nearest[own[0]]
        order = np.stack([random.permutation(features.shape[1])[:images] for _ in own])
        yield features[torch.from_numpy(own)[:, None], torch.from_numpy(order)]


def examples(items: Tensor) -> Examples:
    """Features [T, ways, images, features] as examples, sorted by label."""
    y = torch.arange(items.shape[1], device=items.device).repeat_interleave(items.shape[2])
    return Examples(items.flatten(1, 2), y.expand(len(items), -1))


_ESTIMATED = [
    "task",
    "accuracy",
    "estimate minus accuracy",
    "intervals that hold it",
    "of the highest tenth of estimates",
    "of the lowest tenth",
    "mean width",
]
_LABELLED = [
    "task",
    "unlabelled images",
    "accuracy before",
    f"{LABELLED} random labels",
    "next_to_label()",
    "gain",
    "predicted gain",
]


def _estimated_cells(row: Estimated) -> list[str]:
    return [
        f"{row.ways}-way {row.shots}-shot" + (", similar classes" if row.similar else ""),
        f"{100 * row.accuracy:.1f} %",
        f"{100 * row.error:+.1f}",
        f"{100 * row.held:.1f} % ± {100 * row.margin:.1f}",
        f"{100 * row.held_of_highest:.0f} %",
        f"{100 * row.held_of_lowest:.0f} %",
        f"{100 * row.width:.1f}",
    ]


def _labelled_cells(row: Labelled) -> list[str]:
    return [
        f"{WAYS}-way {row.shots}-shot",
        row.pool,
        f"{100 * row.before:.1f} %",
        f"{100 * row.random:.1f} %",
        f"{100 * row.ours:.1f} %",
        f"{100 * row.gain:+.1f} ± {100 * row.ci95:.1f}",
        f"{100 * row.said:+.1f}",
    ]


def _on_a_terminal(header: list[str], rows: Iterator[list[str]]) -> Table:
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    return table


def _in_markdown(header: list[str], rows: Iterator[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] + ["---:"] * (len(header) - 1), *rows))
