"""Small environments with the spaces of `data=navigation` and `data=bandits`, and policies that are trained for a moment."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

import metashot

GOAL = (0.3, 0.2)
SMALL = (
    *("data.shots=4", "data.queries=4", "data.val.episodes=4", "data.test.episodes=4", "data.tasks_per_step=4"),
    *("trainer.max_steps=1", "logger=csv", "pictures=none"),
)


def trained(folder: Path, *settings: str) -> Path:
    """A run's folder."""
    given = {setting.partition("=")[0] for setting in settings}
    small = [setting for setting in SMALL if setting.partition("=")[0] not in given]
    with metashot.Experiment(*small, *settings, f"folder={folder}") as experiment:
        experiment.fit()
    return folder


class Robot(gymnasium.Env[Any, Any]):
    """The point robot with one goal."""

    def __init__(self, goal: tuple[float, float] = GOAL, floats: type[Any] = np.float32) -> None:
        self.goal = np.array(goal)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-0.1, 0.1, (2,), floats)
        self.closed = False
        self.seeds: list[int | None] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.position = np.zeros(2)
        return self.position.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.position = self.position + action
        away = self.position - self.goal
        return self.position.astype(np.float32), -float(np.linalg.norm(away)), bool((abs(away) < 0.01).all()), False, {}

    def close(self) -> None:
        self.closed = True


class Arms(gymnasium.Env[Any, Any]):
    """A bandit, of which one arm pays more often than the others; trajectories end after a number of pulls."""

    def __init__(self, best: int = 2, start: int = 0, arms: int = 5, horizon: int = 10) -> None:
        self.best = best
        self.horizon = horizon
        self.observation_space = spaces.Discrete(1)
        self.action_space = spaces.Discrete(arms, start=start)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.pulls = 0
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        assert type(action) is int
        self.pulls += 1
        chance = 0.9 if action == self.best + self.action_space.start else 0.1
        return 0, float(self.np_random.random() < chance), False, self.pulls >= self.horizon, {}


class Plain:
    """The robot without gymnasium: a class with the four names that are needed, and a reset that takes no seed."""

    def __init__(self) -> None:
        robot = Robot()
        self.observation_space, self.action_space = robot.observation_space, robot.action_space
        self._robot = robot

    def reset(self) -> tuple[Any, dict[str, Any]]:
        return self._robot.reset()

    def step(self, action: Any) -> Any:
        return self._robot.step(action)
