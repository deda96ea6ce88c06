"""Environments with something that is not usual, which tests register with gymnasium."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

HAS_SIMULATOR = all(importlib.util.find_spec(name) is not None for name in ("mujoco", "imageio"))
_fails: str | None = None


class Counting(gymnasium.Env[int, int]):
    """Pays 1 for each step, and refuses steps after its end as gymnasium's own environments do."""

    observation_space = Discrete(4, start=1)
    action_space = Discrete(2, start=-1)

    def __init__(self, render_mode: str | None = None) -> None:
        self.steps, self.last, self.cuts = 0, 100, False
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return 1, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        assert self.steps < self.last, "a step after the end"
        self.steps += 1
        over = self.steps == self.last
        return 2, 1.0, over and not self.cuts, over and self.cuts, {}


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError


OBSERVATIONS = {"outside": 99, "below": -1, "fraction": 1.5, "nothing": None}


class Failing(Counting):
    """Fails as `failing` says."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        if _fails == "reset":
            raise RuntimeError("it broke\nin two lines")
        return super().reset(seed=seed)

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        found = super().step(action)
        if _fails == "step" and self.steps == 3:
            raise RuntimeError("it broke\nin two lines")
        if _fails == "shape":
            return np.zeros(2), *found[1:]
        if _fails == "exception":
            raise Silent
        if _fails == "exit":
            raise SystemExit(0)
        if _fails in OBSERVATIONS:
            return OBSERVATIONS[_fails], *found[1:]
        return found


class Breaking(PendulumEnv):
    """Fails after `most` steps of all environments together."""

    taken = 0
    most: int | None = None

    def step(self, action: Any) -> Any:
        Breaking.taken += 1
        if Breaking.most is not None and Breaking.taken > Breaking.most:
            raise ZeroDivisionError("the arm\nis broken")
        return super().step(action)


class Square(Counting):
    observation_space = Box(-1, 5, (2, 3), np.int64)  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.arange(6).reshape(2, 3), {}


class Dictionary(Counting):
    observation_space = Dict({"a": Discrete(2)})  # type: ignore[assignment]


class Several(Counting):
    action_space = MultiDiscrete([2, 3])  # type: ignore[assignment]


class Huge(Counting):
    observation_space = Box(0, 1, (300, 300))  # type: ignore[assignment]


class Choices(Counting):
    action_space = Discrete(2**40)


class Unmade(Counting):
    def __init__(self, render_mode: str | None = None) -> None:
        raise RuntimeError("no licence\non this machine")


ALL = (Counting, Failing, Breaking, Square, Dictionary, Several, Huge, Choices, Unmade)


def register() -> None:
    for kind in ALL:
        gymnasium.register(f"{kind.__name__}-v0", entry_point=kind)
    gymnasium.register("Windowed-v0", entry_point=Counting, max_episode_steps=2, kwargs={"render_mode": "human"})


def unregister() -> None:
    for name in (*(kind.__name__ for kind in ALL), "Windowed"):
        gymnasium.registry.pop(f"{name}-v0", None)


@contextmanager
def failing(how: str) -> Iterator[None]:
    global _fails
    _fails = how
    try:
        yield
    finally:
        _fails = None
