"""Episodes of regression: each task is a function drawn from the episode number, so nothing is stored on disk."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.arguments import Episodes, Images, Seed, Tasks
from metashot.bad_input import BadInput
from metashot.data.module import EpisodicDataModule, amount, own_seeds
from metashot.episodes import Amount, Batch, Episode, EpisodeSpec, Examples, format_amount, maximum
from metashot.problems import Regression
from metashot.randomness import key_of
from metashot.sources.curves.gaussian_process import GaussianProcess
from metashot.sources.curves.sinusoid import Sinusoid
from metashot.sources.splitting import SPLITS, Split


class RegressionSplit:
    """The options of one split; a null option has the value given for all splits.

    Args:
        shots: support points per task, or [least, most], between which each episode draws its own number.
        queries: query points per task, likewise.
        episodes: the number of episodes for an evaluation.
        seed: the seed of the split's episodes.
    """

    def __init__(
        self,
        shots: Images | list[Images] | None,
        queries: Images | list[Images] | None,
        episodes: Episodes | None = None,
        seed: Seed | None = None,  # missing in checkpoints older than this key
    ) -> None:
        self.shots = shots
        self.queries = queries
        self.episodes = episodes
        self.seed = seed


class RegressionEpisodes(EpisodicDataModule):
    """Episodes of a family of functions; support and queries are points of one function.

    Args:
        name: the name of the data set, as in `data=NAME`.
        source: the family of functions.
        shots: support points per task, for all splits that have no value of their own.
        queries: query points per task, likewise.
        train: the options of the training split.
        val: the options of the validation split.
        test: the options of the test split.
        tasks_per_step: tasks in a training step, over all devices.
        tasks_per_evaluation_step: tasks evaluated at a time.
        seed: the seed of all splits that have none of their own.
    """

    asks = Regression

    def __init__(
        self,
        name: str,
        source: Sinusoid | GaussianProcess,
        shots: Images | list[Images],
        queries: Images | list[Images],
        train: RegressionSplit,
        val: RegressionSplit,
        test: RegressionSplit,
        tasks_per_step: Tasks,
        tasks_per_evaluation_step: Tasks,
        seed: int,
    ) -> None:
        options: dict[Split, RegressionSplit] = {"train": train, "val": val, "test": test}
        specs = {split: _spec(split, own, shots, queries) for split, own in options.items()}
        episodes = {split: options[split].episodes for split in SPLITS}
        seeds = own_seeds(train.seed, val.seed, test.seed)
        super().__init__(name, specs, episodes, tasks_per_step, tasks_per_evaluation_step, seed, seeds)
        self.source = source
        self.problem = Regression(source.outputs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.source.inputs,)

    def setup(self, stage: str | None = None) -> None:
        for split, spec in self.specs.items():
            points, most = maximum(spec.shots) + maximum(spec.queries), self.source.most_points
            if points > most:
                raise BadInput(
                    f"a curve of the {split} split has {points} points, its shots and queries; allowed with "
                    f"data={self.name}: at most {most:,}; change the shots or the queries of data or data.{split}"
                )
        self.refuse_more_than_memory()

    def shape_of(self, split: Split) -> str:
        spec = self.specs[split]
        return f"{format_amount(spec.shots)}-shot {format_amount(spec.queries)} queries"

    def batch(self, split: Split, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        spec, key = self.specs[split], key_of(self.seeds[split], "shapes", split)
        return [self._episode(split, group, spec.shapes(key, group[:1])[0], device) for group in spec.groups(key, numbers)]

    def _episode(self, split: Split, numbers: NDArray[np.int64], shape: NDArray[np.int64], device: torch.device) -> Episode:
        """Tasks of one shape: ways, shots and queries."""
        _, shots, queries = shape.tolist()
        support, query = self.source.draw(key_of(self.seeds[split], split), numbers, shots, queries)

        def placed(values: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(values.astype(np.float32)).to(device)

        number = torch.from_numpy(numbers).to(device)
        classes = number.new_empty((len(numbers), 0))
        return Episode(Examples(*map(placed, support)), Examples(*map(placed, query)), number, classes)


def _spec(split: Split, own: RegressionSplit, shots: int | list[int], queries: int | list[int]) -> EpisodeSpec:
    """The amounts of one split, or else those of all splits."""

    def of(name: str, its: int | list[int] | None, of_all: int | list[int]) -> Amount:
        return amount(of_all, f"data.{name}") if its is None else amount(its, f"data.{split}.{name}")

    return EpisodeSpec(1, of("shots", own.shots, shots), of("queries", own.queries, queries))
