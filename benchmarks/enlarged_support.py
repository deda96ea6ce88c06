"""What a logistic regression gains from augmented copies of its support set.

`python -m benchmarks enlarged_support --ckpt RUN --root FOLDER` draws validation episodes of the data of a run with
`algo=logistic`, and fits its classifier to the support images, and to random crops and flips of them instead, five of each,
as in the code of Tian et al. 2020 (arXiv:2003.11539). Either has the lambda that is best for it on these episodes.
"""

import argparse
from dataclasses import asdict, dataclass, replace
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
from benchmarks.outputs import refuse_json, write_json
from benchmarks.unseen_classes import own_data
from metashot.algorithms.closed_form.logistic import CANDIDATES, LogisticRegression
from metashot.applied.learner import Learner
from metashot.bad_input import BadInput
from metashot.data.class_episodes import ClassEpisodes
from metashot.data.presentation.augmentation import Augmentation
from metashot.data.presentation.pixels import Pixels
from metashot.episodes import Episode, Examples
from metashot.evaluation.statistics import mean_and_interval, paired_difference

SPLIT: Final = "val"
AT_ONCE = 10


@dataclass(frozen=True)
class Fitted:
    """The accuracy with one kind of support set, and what it gains on the images alone."""

    support: str
    regularisation: float  # lambda
    accuracy: float
    ci95: float | None
    gain: float
    gain_ci95: float | None


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks enlarged_support", description=__doc__)
    parser.add_argument("--ckpt", required=True, help="the folder of a run or a checkpoint, of algo=logistic")
    parser.add_argument("--root", help="where the files of its data are (default: where they were)")
    parser.add_argument("--shots", type=int, default=1, help="support images of a class, 1 to 100 (default: 1)")
    parser.add_argument("--copies", type=int, default=5, help="copies of each support image, 1 to 100 (default: 5)")
    parser.add_argument("--episodes", type=int, default=600, help="episodes, 2 to 1,000,000 (default: 600)")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    given = parser.parse_args(arguments)
    for name, least, most in (("shots", 1, 100), ("copies", 1, 100), ("episodes", 2, 10**6)):
        if not least <= getattr(given, name) <= most:
            parser.error(f"--{name} {getattr(given, name)}: allowed: {least} to {most:,}")
    refuse_json(parser, given.json)
    try:
        learner = metashot.load(given.ckpt)
        algorithm = regression_of(learner)
    except BadInput as error:
        parser.error(f"--ckpt {given.ckpt}: {error}")
    try:
        rows = measure(algorithm, images_of(learner, given.shots, given.root), given.episodes, given.copies)
    except BadInput as error:
        parser.error(f"the data of {given.ckpt}, with --root {given.root or 'as it was'} and --shots {given.shots}: {error}")
    console, table = Console(), Table("fitted to", "lambda", "accuracy", "gain")
    for row in rows:
        table.add_row(
            row.support, f"{row.regularisation:g}", _percent(row.accuracy, row.ci95), _percent(row.gain, row.gain_ci95)
        )
    console.print(table)
    episodes = f"{given.episodes:,} validation episodes, on which each lambda was chosen, too"
    of = f"{given.ckpt}, {given.shots}-shot, {episodes}"
    console.print(f"{of}; {machine()}", highlight=False)
    if given.json:
        write_json(given.json, {"machine": machine(), "of": of, "fitted": [asdict(row) for row in rows]})


def regression_of(learner: Learner) -> LogisticRegression:
    """The algorithm of a learner.

    Raises:
        BadInput: It is no logistic regression.
    """
    if not isinstance(learner.algorithm, LogisticRegression):
        raise BadInput(f"this is for learners of algo=logistic, and this one has algo={learner.name}")
    return learner.algorithm


def images_of(learner: Learner, shots: int, root: str | None) -> ClassEpisodes:
    """Validation episodes of the data that the learner was trained on."""
    config = learner.network.config["data"]
    changed = {"shots": shots, SPLIT: config[SPLIT] | {"shots": None}} | ({"root": root} if root else {})
    data = own_data(learner, [SPLIT], changed)
    if not isinstance(data.presentation, Pixels):
        raise BadInput(f"this is for images, and {data.name} has none")
    return data


@torch.no_grad()
def measure(algorithm: LogisticRegression, data: ClassEpisodes, episodes: int, copies: int) -> list[Fitted]:
    padding = max(1, data.presentation.input_shape[-1] // 8)  # 4 of 32 pixels
    crops_and_flips = Augmentation(padding, 0.5, 0, 0, 0, 0, "none")
    found: dict[str, list[NDArray[np.float64]]] = {"the images": [], f"{copies} crops and flips of each": []}
    for numbers in np.array_split(np.arange(episodes), -(-episodes // AT_ONCE)):
        for episode in data.batch(SPLIT, numbers, algorithm.device):
            larger = enlarged(episode, data, crops_and_flips, copies)
            for of, support in zip(found, (episode.support, larger), strict=True):
                found[of].append(shares_right(algorithm, replace(episode, support=support)))
    scores = {of: np.concatenate(parts) for of, parts in found.items()}  # [episodes, lambdas]
    best = {of: int(each.mean(0).argmax()) for of, each in scores.items()}
    alone = next(iter(scores))
    plain = scores[alone][:, best[alone]].tolist()
    rows = []
    for of, each in scores.items():
        at_best = each[:, best[of]].tolist()
        gain = paired_difference(at_best, plain)
        rows.append(Fitted(of, CANDIDATES[best[of]], *mean_and_interval(at_best), gain.mean, gain.ci95))
    return rows


def enlarged(episode: Episode, data: ClassEpisodes, augmentation: Augmentation, copies: int) -> Examples:
    """The support set of an episode, with augmented copies of each image in place of it."""
    pixels = data.presentation.for_display(episode.support.x)
    assert pixels is not None
    several = replace(episode, support=Examples(pixels.repeat(1, copies, 1, 1, 1), episode.support.y.repeat(1, copies)))
    changed = augmentation(several, data.sampler(SPLIT).key).support
    return replace(changed, x=data.presentation.inputs(changed.x))


def shares_right(algorithm: LogisticRegression, episode: Episode) -> NDArray[np.float64]:
    """The accuracy of each task with each lambda: [T, lambdas]."""
    chosen, shares = algorithm.regularisation.value, []
    features = Examples(algorithm.embed(episode.support.x, 0), episode.support.y)
    query = algorithm.embed(episode.query.x, 0)
    for candidate in CANDIDATES:
        algorithm.regularisation.choose(candidate)
        answers: Tensor = algorithm.answer(algorithm.summary(features), query)
        shares.append((answers.argmax(-1) == episode.query.y).double().mean(1))
    algorithm.regularisation.choose(chosen)
    return torch.stack(shares, dim=1).cpu().numpy()


def _percent(share: float, interval: float | None) -> str:
    return f"{100 * share:.2f}" + ("" if interval is None else f" ± {100 * interval:.2f}")
