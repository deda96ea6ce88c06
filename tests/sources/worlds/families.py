"""Families as tests need them, and what happens in their environments under fixed actions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metashot.randomness import key_of
from metashot.sources.worlds.bandits import Bandits
from metashot.sources.worlds.cartpole import CartPole
from metashot.sources.worlds.environments import Environments
from metashot.sources.worlds.halfcheetah import HalfCheetahDirection, HalfCheetahVelocity
from metashot.sources.worlds.mazes import Mazes
from metashot.sources.worlds.navigation import Navigation
from metashot.worlds import Family, Worlds

KEY = key_of(0, "worlds", "train")
HORIZON = 15
CPU = torch.device("cpu")
IN_TORCH: dict[str, Callable[[], Family]] = {
    "navigation": lambda: Navigation(HORIZON, 1.0, 0.1, "distance"),
    "bandits": lambda: Bandits(4, HORIZON),
    "mazes": lambda: Mazes(6, 3, HORIZON),
}
OF_GYMNASIUM: dict[str, Callable[[], Family]] = {
    "cartpole": lambda: CartPole({"length": [0.25, 1.0], "masspole": [0.05, 0.5], "gravity": [5.0, 15.0]}, HORIZON),
    "pendulum": lambda: Environments("Pendulum-v1", {"g": [5.0, 15.0], "m": [0.5, 2.0]}, HORIZON),
}
OF_MUJOCO: dict[str, Callable[[], Family]] = {
    "halfcheetah_direction": lambda: HalfCheetahDirection(HORIZON),
    "halfcheetah_velocity": lambda: HalfCheetahVelocity([0.0, 2.0], HORIZON),
}


def worlds(family: Family, *numbers: int, dtype: torch.dtype = torch.float32) -> Worlds:
    return Worlds(family, KEY, torch.tensor(numbers), 3, 3, dtype=dtype)


def actions(family: Family, numbers: list[int], copies: int, step: int) -> Tensor:
    """Actions [T * N, ...] that depend on the number of the world, the copy and the step alone."""
    space = family.spaces.actions
    rows = []
    for number in numbers:
        for copy in range(copies):
            random = np.random.default_rng([number, copy, step])
            rows.append(random.normal(size=space.size) if hasattr(space, "low") else random.integers(space.n))
    return torch.tensor(np.array(rows))


def happened(family: Family, numbers: list[int], copies: int, round: int, dtype: torch.dtype = torch.float64) -> list[Any]:
    """What is observed, paid and ended in each trajectory, [T, N] lists of [steps, ...] arrays."""
    environment = worlds(family, *numbers, dtype=dtype).environment(copies, round)
    seen, _ = environment.reset()
    parts: list[list[Tensor]] = [[seen], [], []]
    for step in range(family.horizon):
        seen, paid, terminated, truncated, _ = environment.step(family.spaces.moves(actions(family, numbers, copies, step)))
        assert paid.dtype == dtype
        for part, found in zip(parts, (seen, paid, terminated | truncated), strict=True):
            part.append(found)
    stacked = [torch.stack(part, 1).numpy() for part in parts]  # [T * N, steps, ...]
    return [[tuple(part[t * copies + n] for part in stacked) for n in range(copies)] for t in range(len(numbers))]


def same(first: Any, second: Any) -> bool:
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(first, second, strict=True))
