"""gymnasium's CartPole (Barto, Sutton, Anderson 1983) with poles, masses and gravity that differ between tasks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import Horizon
from metashot.sources.worlds.environments import Environments, Parameters


class CartPole(Environments):
    """Carts with poles of their own.

    Args:
        parameters: The range of each attribute of the environment that tasks differ in.
        horizon: The most steps of a trajectory.
    """

    def __init__(self, parameters: Parameters, horizon: Horizon) -> None:
        super().__init__("CartPole-v1", parameters, horizon)

    def set_task(self, environment: Any, description: NDArray[np.float64]) -> None:
        super().set_task(environment, description)
        # The environment computes these when it is made.
        environment.total_mass = environment.masspole + environment.masscart
        environment.polemass_length = environment.masspole * environment.length
