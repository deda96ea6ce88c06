"""The two families of HalfCheetah of Finn, Abbeel, Levine 2017, "Model-agnostic meta-learning", section 5.3.

A task is a direction, forward or backward with equal chances, or a velocity, uniform between two limits. The rewards are
those of the authors' code: the velocity in the direction, or minus the distance of the velocity to that of the task, and in
both minus 0.05 times the sum of the squared actions.

Where this departs from the authors: the simulator is gymnasium's HalfCheetah-v5, not rllab's; the velocity is that of the
torso over a step, instead of that of the centre of mass at its end; and observations do not have the position of the centre
of mass.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import Horizon
from metashot.bad_input import BadInput
from metashot.randomness import uniform_inside
from metashot.sources.worlds.environments import Environments
from metashot.worlds import stream_of_tasks

_ENVIRONMENT = "HalfCheetah-v5"
_COST = 0.05  # of a squared action


class HalfCheetahDirection(Environments):
    """Cheetahs that are to run forward, or backward.

    Args:
        horizon: The steps of a trajectory.
    """

    needs = ("gymnasium", "mujoco", "imageio")

    def __init__(self, horizon: Horizon) -> None:
        super().__init__(_ENVIRONMENT, {}, horizon)
        self.described_by = 1

    def descriptions(self, key: tuple[int, int], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """1 for forward and -1 for backward: [T, 1]."""
        return np.where(uniform_inside(key, numbers, stream_of_tasks(), 1) < 0.5, -1.0, 1.0)

    def set_task(self, environment: Any, description: NDArray[np.float64]) -> None:
        """Only rewards differ."""

    def reward(
        self, environment: Any, description: NDArray[np.float64], action: Any, reward: float, info: Mapping[str, Any]
    ) -> float:
        return float(description[0] * info["x_velocity"] - _cost(action))


class HalfCheetahVelocity(Environments):
    """Cheetahs that are to run at a velocity.

    Args:
        velocity: The least and the largest velocity.
        horizon: The steps of a trajectory.
    """

    needs = ("gymnasium", "mujoco", "imageio")

    def __init__(self, velocity: list[float], horizon: Horizon) -> None:
        if len(velocity) != 2 or not velocity[0] <= velocity[1]:
            raise BadInput(f"data.source.velocity={velocity} cannot be used; allowed: [least, most], such as [0.0,2.0]")
        super().__init__(_ENVIRONMENT, {}, horizon)
        self.described_by = 1
        self.velocity = velocity

    def descriptions(self, key: tuple[int, int], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """The velocities: [T, 1]."""
        least, most = self.velocity
        found: NDArray[np.float64] = least + (most - least) * uniform_inside(key, numbers, stream_of_tasks(), 1)
        return found

    def set_task(self, environment: Any, description: NDArray[np.float64]) -> None:
        """Only rewards differ."""

    def reward(
        self, environment: Any, description: NDArray[np.float64], action: Any, reward: float, info: Mapping[str, Any]
    ) -> float:
        return float(-abs(info["x_velocity"] - description[0]) - _cost(action))


def _cost(action: Any) -> float:
    torques = action.astype(np.float64)
    return _COST * float(torques @ torques)
