"""Hyperparameters of adapting that are chosen on validation episodes, and are part of an algorithm's state."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from metashot.algorithms.base import Algorithm
from metashot.episodes import Episode, Examples

_MOST_EPISODES = 100  # validation episodes that decide
_AT_ONCE = 10  # episodes


class Choice(nn.Module):
    """A hyperparameter that has a given value, or is the best of several candidates.

    Args:
        given: Its value; None to choose it on validation episodes.
        candidates: What it is chosen from. Until the first validation, it is the candidate in the middle.
    """

    chosen: Tensor

    def __init__(self, given: float | None, candidates: Sequence[float]) -> None:
        super().__init__()
        self.candidates = tuple(candidates) if given is None else (float(given),)
        middle = self.candidates[len(self.candidates) // 2]
        self.register_buffer("chosen", torch.tensor(middle))  # in the precision of weights, which tells that of a checkpoint

    @property
    def value(self) -> float:
        return float(self.chosen)

    def choose(self, value: float) -> None:
        self.chosen.fill_(value)


class ChoosesOnValidation(Algorithm):
    """An algorithm with `Choice`s, which makes them at the start of each validation, by accuracy.

    All combinations of the candidates are compared on the same episodes, the first `_MOST_EPISODES` of the validation. The
    first of several equally good ones wins, so that a choice is reproducible.
    """

    def choices(self) -> list[Choice]:
        """The hyperparameters that are open, in a fixed order."""
        return [module for module in self.modules() if isinstance(module, Choice) and len(module.candidates) > 1]

    def on_validation_start(self) -> None:
        super().on_validation_start()
        choices = self.choices()
        if not choices:
            return
        combinations = list(product(*(choice.candidates for choice in choices)))
        scores = self.trainer.strategy.reduce(self._scores(choices, combinations), reduce_op="sum")
        assert isinstance(scores, Tensor)
        best = int(scores.round(decimals=9).argmax())  # devices add in another order, which may not break a tie
        for choice, value in zip(choices, combinations[best], strict=True):
            choice.choose(value)

    @torch.no_grad()
    def _scores(self, choices: list[Choice], combinations: list[tuple[float, ...]]) -> Tensor:
        """The sum of the scores of this device's episodes, for each combination: [combinations]."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        own = data.evaluation_numbers("val")
        # Each episode counts once, on whatever number of devices, which repeat the last one to evaluate equally many.
        numbers = own[(own < _MOST_EPISODES) & (own % self.trainer.world_size == self.global_rank)]
        scores = torch.zeros(len(combinations), dtype=torch.float64, device=self.device)
        for part in np.split(numbers, range(_AT_ONCE, len(numbers), _AT_ONCE)):
            drawn = data.batch("val", part, self.device) if len(part) else []  # more devices than episodes
            episodes = [in_precision_of(self, episode) for episode in drawn]
            for place, combination in enumerate(combinations):
                for choice, value in zip(choices, combination, strict=True):
                    choice.choose(value)
                for episode in episodes:
                    with self.trainer.precision_plugin.val_step_context():
                        answers = self.answers_to(episode)
                    scores[place] += self.problem.score(answers, episode.query.y).double() * len(episode)
        return scores


def in_precision_of(algorithm: Algorithm, episode: Episode) -> Episode:
    """An episode from `data.batch` in the precision of an algorithm's weights; integers stay unchanged."""

    def converted(part: Examples) -> Examples:
        x, y = (value.to(algorithm.dtype) if value.is_floating_point() else value for value in (part.x, part.y))
        return Examples(x, y, names=part.names)

    return replace(episode, support=converted(episode.support), query=converted(episode.query))
