"""Episodes of reinforcement learning: each task is a world, drawn from the episode number; nothing is stored on disk."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metashot.arguments import Episodes, Images, Seed, Tasks
from metashot.bad_input import BadInput
from metashot.data.memory import FLOAT, all_memory
from metashot.data.module import EpisodicDataModule, own_seeds
from metashot.episodes import EpisodeSpec, maximum
from metashot.problems import Returns
from metashot.randomness import key_of
from metashot.sources.splitting import SPLITS, Split
from metashot.sources.worlds.bandits import Bandits
from metashot.sources.worlds.environments import Environments
from metashot.sources.worlds.mazes import Mazes
from metashot.sources.worlds.navigation import Navigation
from metashot.worlds import Box, Spaces, Worlds, refuse_other_spaces


class WorldSplit:
    """The options of one split; a null option has the value given for all splits.

    Args:
        shots: trajectories that are tried before each update.
        queries: trajectories that a policy is judged by.
        episodes: the number of worlds of an evaluation.
        seed: the seed of the split's worlds.
    """

    def __init__(
        self, shots: Images | None, queries: Images | None, episodes: Episodes | None = None, seed: Seed | None = None
    ) -> None:
        self.shots = shots
        self.queries = queries
        self.episodes = episodes
        self.seed = seed


class WorldEpisodes(EpisodicDataModule):
    """Worlds of a family, and the trajectories that are played in each.

    Args:
        name: the name of the data set, as in `data=NAME`.
        source: the family of worlds.
        shots: trajectories tried before each update, for all splits that have no value of their own.
        queries: trajectories that a policy is judged by, likewise.
        train: the options of the training split.
        val: the options of the validation split.
        test: the options of the test split.
        tasks_per_step: worlds in a training step, over all devices.
        tasks_per_evaluation_step: worlds evaluated at a time.
        seed: the seed of all splits that have none of their own.
    """

    asks = Returns
    problem: Returns

    def __init__(
        self,
        name: str,
        source: Navigation | Bandits | Mazes | Environments,
        shots: Images,
        queries: Images,
        train: WorldSplit,
        val: WorldSplit,
        test: WorldSplit,
        tasks_per_step: Tasks,
        tasks_per_evaluation_step: Tasks,
        seed: int,
    ) -> None:
        if not isinstance(shots, int):  # of a grid
            raise BadInput(f"shots={shots} cannot be used for data={name}; allowed: a number of trajectories")
        options: dict[Split, WorldSplit] = {"train": train, "val": val, "test": test}
        specs = {
            split: EpisodeSpec(1, shots if own.shots is None else own.shots, queries if own.queries is None else own.queries)
            for split, own in options.items()
        }
        episodes = {split: options[split].episodes for split in SPLITS}
        seeds = own_seeds(train.seed, val.seed, test.seed)
        super().__init__(name, specs, episodes, tasks_per_step, tasks_per_evaluation_step, seed, seeds)
        self.source = source
        self.tells = False
        actions = source.spaces.actions
        continuous = isinstance(actions, Box)
        self.problem = Returns(2 * actions.size if continuous else actions.size, "continuous" if continuous else "discrete")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.source.spaces.observations.size + (self.source.described_by if self.tells else 0),)

    @property
    def spaces(self) -> Spaces:
        return self.source.spaces

    @property
    def family(self) -> str:
        return str(getattr(self.source, "label", self.source.name))

    def tell_tasks(self, tells: bool) -> None:
        self.tells = tells

    def setup(self, stage: str | None = None) -> None:
        self.refuse_more_than_memory()

    def refuse_more_than_memory(self, margin: int = 0) -> None:
        """Refuse trajectories that need more memory than there is while they are played."""
        # Observations are kept step by step and then together, in 32 bits; noise is drawn before the first step.
        of_a_step = 2 * FLOAT * (self.input_shape[0] + 2) + 4 * FLOAT * self.problem.action_size
        for split in SPLITS:
            shots, queries = (maximum(amount) for amount in (self.specs[split].shots, self.specs[split].queries))
            if split == "train":  # which needs all of them in the end
                key, tasks, trajectories = "data.tasks_per_step", self.tasks_per_step, shots + queries
            else:
                key, trajectories = "data.tasks_per_evaluation_step", max(shots, queries)
                tasks = min(self.tasks_per_evaluation_step, self.episodes[split] or 1)
            needed, there = tasks * trajectories * self.source.horizon * of_a_step, all_memory()
            if needed > there:
                raise BadInput(
                    f"data.shots={shots} and data.queries={queries} with {key}={tasks} cannot be used on the {split} split: "
                    f"{tasks:,} worlds with {trajectories:,} trajectories of {self.source.horizon:,} steps need "
                    f"{needed / 1e9:,.0f} GB at once, and there are {there / 1e9:,.0f} GB of memory: lower one of them"
                )

    def description(self, tries: bool = True) -> str:
        return "; ".join(f"{split} {self._trajectories(split, tries)}" for split in SPLITS)

    def shape_of(self, split: Split) -> str:
        return self._trajectories(split, True)

    def _trajectories(self, split: Split, tries: bool) -> str:
        spec = self.specs[split]
        if tries:
            return f"{spec.shots} tried before each update and {spec.queries} judged"
        return f"{spec.queries} judged {'trajectory' if spec.queries == 1 else 'trajectories'}"

    @property
    def noun(self) -> str:
        return "worlds"

    def origin(self) -> dict[str, Any]:
        return super().origin() | {
            "actions": self.problem.actions,
            "spaces": self.source.spaces.plain(),
            "horizon": self.source.horizon,
            "told": self.tells,
        }

    def refuse_other_worlds(self, origin: Mapping[str, Any]) -> None:
        """Raise `BadInput` where policies that were trained on other worlds cannot act in these.

        Args:
            origin: the description of the worlds of their training.
        """
        refuse_other_spaces(self.source.spaces, origin, f"data={self.name}")
        told = self.source.spaces.observations.size + self.source.described_by
        if origin.get("told") and origin["input_shape"] != [told]:
            raise BadInput(
                f"data={self.name} cannot be used: the policy was trained to be told tasks of other worlds, those of "
                f"{origin['name']}"
            )
        self.tell_tasks(bool(origin.get("told")))

    def batch(self, split: Split, numbers: NDArray[np.int64], device: torch.device) -> Any:
        """Worlds, which take the place of episodes."""
        spec, key = self.specs[split], key_of(self.seeds[split], "worlds", split)
        number = torch.from_numpy(numbers).to(device)
        return [Worlds(self.source, key, number, maximum(spec.shots), maximum(spec.queries), self.tells)]
