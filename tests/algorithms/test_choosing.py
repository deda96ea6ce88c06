"""Hyperparameters chosen on validation episodes, by Lightning's own trainer on random episodes."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metashot import configuration
from metashot.algorithms.choosing import Choice, ChoosesOnValidation
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import class_means, squared_distances
from metashot.episodes import Examples
from metashot.problems import Classification
from metashot.training.trainer import TrainerOptions
from tests.configuration.test_configuration import composed
from tests.training.fits import SHAPE, WAYS, RandomEpisodes

from .feature_learners import Pixels

SHARPNESS, SHIFT = (-2.0, -1.0, 0.5, 2.0, 3.0), (0.0, 1e6)


class Nearest(FeatureLearner, ChoosesOnValidation):
    """Nearest means, if both choices are right: a negative sharpness prefers the farthest, a shift one class."""

    def __init__(self, sharpness: float | None, shifts: Sequence[float] = SHIFT) -> None:
        optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
        super().__init__(Pixels(*SHAPE), Classification(WAYS), optimizer)
        self.sharpness = Choice(sharpness, SHARPNESS)
        self.shift = Choice(None, shifts)
        self.seen: list[tuple[torch.dtype, bool, bool]] = []

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        self.seen.append((query_x.dtype, torch.is_autocast_enabled("cpu"), self.training))
        return super().forward(support, query_x)

    def summary(self, support: Examples) -> Tensor:
        return class_means(support.x, support.y)

    def answer(self, means: Tensor, query: Tensor) -> Tensor:
        logits = -self.sharpness.value * squared_distances(query, means)
        return logits + self.shift.value * torch.eye(WAYS, dtype=logits.dtype)[0]


def validated(algorithm: Nearest, precision: str = "32-true", episodes: int = 30) -> Nearest:
    config = composed("train", "trainer=cpu", f"trainer.precision={precision}")
    options: TrainerOptions = configuration.build(config["trainer"])
    options.arrange(algorithm)
    data = RandomEpisodes(tasks_per_step=1, supervised=False)
    data.episodes["val"] = episodes
    options.trainer([], []).validate(algorithm, data, verbose=False)
    return algorithm


def test_the_first_of_the_best_combinations_is_chosen() -> None:
    algorithm = Nearest(None)
    assert (algorithm.sharpness.value, algorithm.shift.value) == (0.5, 1e6)  # the candidates in the middle
    validated(algorithm)
    assert (algorithm.sharpness.value, algorithm.shift.value) == (0.5, 0.0)  # which has the accuracy of 2 and 3


def test_a_value_that_is_given_is_kept() -> None:
    algorithm = validated(Nearest(-1.0))
    assert (algorithm.sharpness.value, algorithm.shift.value) == (-1.0, 1e6)
    assert algorithm.choices() == [algorithm.shift]


def test_a_choice_is_part_of_the_state_and_is_made_again_in_the_same_way() -> None:
    chosen, other = validated(Nearest(None)), Nearest(None)
    other.load_state_dict(chosen.state_dict())
    assert (other.sharpness.value, other.shift.value) == (0.5, 0.0)
    other.sharpness.choose(3.0)
    validated(other)
    assert {name: value.tolist() for name, value in other.state_dict().items()} == {
        name: value.tolist() for name, value in chosen.state_dict().items()
    }


def test_a_choice_has_the_precision_of_weights_by_which_a_checkpoint_is_loaded() -> None:
    assert {value.dtype for value in Nearest(None).state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(("precision", "dtype", "mixed"), [
    ("32-true", torch.float32, False), ("64-true", torch.float64, False), ("bf16-mixed", torch.float32, True),
])  # fmt: skip
def test_candidates_are_compared_in_the_precision_of_validation(precision: str, dtype: torch.dtype, mixed: bool) -> None:
    algorithm = validated(Nearest(None), precision)
    assert algorithm.sharpness.value == 0.5
    assert set(algorithm.seen) == {(dtype, mixed, False)}


class OneOfSeveral:
    """The part of a trainer and its data that a choice asks, on one of several devices."""

    def __init__(self, rank: int, devices: int, episodes: int) -> None:
        self.own = np.minimum(rank + devices * np.arange(-(-episodes // devices)), episodes - 1)
        self.drawn: list[int] = []
        self.episodes = RandomEpisodes(tasks_per_step=1, supervised=False)

    def evaluation_numbers(self, split: str) -> Any:
        return self.own

    def batch(self, split: str, numbers: Any, device: torch.device) -> Any:
        self.drawn += numbers.tolist()
        return self.episodes.batch(split, numbers, device)


@pytest.mark.parametrize(("devices", "episodes"), [(1, 130), (3, 130), (3, 7), (4, 2)])
def test_each_episode_decides_once_on_any_number_of_devices(
    monkeypatch: pytest.MonkeyPatch, devices: int, episodes: int
) -> None:
    drawn = []
    for rank in range(devices):
        algorithm, data = Nearest(1.0, (0.0, 1.0)), OneOfSeveral(rank, devices, episodes)
        plain = configuration.build(composed("train", "trainer=cpu")["trainer"]).trainer([], [])
        trainer = SimpleNamespace(datamodule=data, world_size=devices, precision_plugin=plain.precision_plugin)
        monkeypatch.setattr(Nearest, "trainer", trainer)
        monkeypatch.setattr(Nearest, "global_rank", rank)
        algorithm._scores(algorithm.choices(), [(0.0,), (1.0,)])
        drawn += data.drawn
    assert sorted(drawn) == list(range(min(episodes, 100)))
