"""Episodes of regression: a function is a task, drawn from its number alone, and nothing lies on disk."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.arguments import Episodes, Images, Seed, Tasks
from metashot.data.module import EpisodicDataModule, own_seeds
from metashot.episodes import Batch, Episode, EpisodeSpec, Examples
from metashot.problems import Regression
from metashot.randomness import key_of
from metashot.sources.curves.sinusoid import Sinusoid
from metashot.sources.splitting import SPLITS, Split


class RegressionSplit:
    """What one split has for itself; whatever is null is as for all splits."""

    def __init__(
        self,
        shots: Images | None,
        queries: Images | None,
        episodes: Episodes | None = None,
        seed: Seed | None = None,  # checkpoints from before this key have none
    ) -> None:
        self.shots = shots
        self.queries = queries
        self.episodes = episodes
        self.seed = seed


class RegressionEpisodes(EpisodicDataModule):
    """Episodes of a family of functions; shots and queries are points of one function."""

    asks = Regression

    def __init__(
        self,
        name: str,
        source: Sinusoid,
        shots: Images,
        queries: Images,
        train: RegressionSplit,
        val: RegressionSplit,
        test: RegressionSplit,
        tasks_per_step: Tasks,
        tasks_per_evaluation_step: Tasks,
        seed: int,
    ) -> None:
        options: dict[Split, RegressionSplit] = {"train": train, "val": val, "test": test}
        specs = {split: EpisodeSpec(1, own.shots or shots, own.queries or queries) for split, own in options.items()}
        episodes = {split: options[split].episodes for split in SPLITS}
        seeds = own_seeds(train.seed, val.seed, test.seed)
        super().__init__(name, specs, episodes, tasks_per_step, tasks_per_evaluation_step, seed, seeds)
        self.source = source
        self.problem = Regression(source.outputs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.source.inputs,)

    def setup(self, stage: str | None = None) -> None:
        self.refuse_more_than_memory()

    def shape_of(self, split: Split) -> str:
        return f"{self.specs[split].shots}-shot {self.specs[split].queries} queries"

    def batch(self, split: Split, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        spec, key = self.specs[split], key_of(self.seeds[split], split)
        assert isinstance(spec.shots, int)
        assert isinstance(spec.queries, int)
        support, query = self.source.draw(key, numbers, spec.shots, spec.queries)

        def placed(values: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(values.astype(np.float32)).to(device)

        number = torch.from_numpy(numbers).to(device)
        classes = number.new_empty((len(numbers), 0))
        return [Episode(Examples(*map(placed, support)), Examples(*map(placed, query)), number, classes)]
