"""Thompson sampling for Bernoulli bandits: Thompson 1933, "On the likelihood that one unknown probability exceeds another in
view of the evidence of two samples", Biometrika 25.

The probability of each arm is Beta(1, 1) before anything is seen. Every time, one probability is drawn from the posterior
distribution of each arm, and the arm with the largest one is pulled.
"""

from torch import Tensor

from metashot.algorithms.reinforcement.beta import beta_quantiles
from metashot.algorithms.reinforcement.rules import BanditPlayer, BanditRule, first_best
from metashot.bad_input import BadInput
from metashot.worlds import Worlds

_MOST_NUMBERS = 2**27  # of 20 bytes each while they are drawn


class Thompson(BanditRule):
    """Pulls each arm with the probability that it is the best one."""

    def player(self, worlds: Worlds, trials: int) -> "ThompsonPlayer":
        return ThompsonPlayer(worlds, trials)


class ThompsonPlayer(BanditPlayer):
    """Draws a probability of each arm from its posterior distribution."""

    def begin(self) -> None:
        super().begin()
        numbers = self.successes.numel() * self.worlds.family.horizon
        if numbers > _MOST_NUMBERS:
            raise BadInput(
                f"algo=thompson draws {numbers:,} numbers at once, one for each world, trial, pull and arm; allowed: at "
                f"most {_MOST_NUMBERS:,}: lower data.tasks_per_evaluation_step or data.queries"
            )
        self.noise = self.worlds.in_double().uniform_noise(self.trials, self.episode, self.successes.shape[-1])
        self.first = self.pulls

    def choose(self) -> Tensor:
        shares = self.noise[:, :, self.pulls - self.first]
        return first_best(beta_quantiles(1 + self.successes, 1 + self.failures, shares))
