"""Any environment of gymnasium as a family of worlds: tasks differ in attributes of the environment.

A subclass may draw other tasks, set more of an environment for a task, or pay other rewards.
"""

import difflib
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Annotated, Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from metashot.arguments import Horizon, Matching
from metashot.bad_input import BadInput, GaveUp, in_one_line, shown
from metashot.randomness import random_words, uniform_inside
from metashot.sources.worlds.batched import gymnasium_space
from metashot.sources.worlds.requiring import not_installed
from metashot.worlds import Box, Discrete, Space, Spaces, stream_of_environments, stream_of_tasks

EnvironmentName = Annotated[
    str,
    Matching(r"[A-Za-z0-9][\w./-]{0,99}", "that names an environment of gymnasium, as in Pendulum-v1, without a module"),
]
Range = list[float] | None  # [least, most]; None for the environment's own value
Parameters = dict[str, Range]

_MOST_OBSERVED, _MOST_DONE, _MOST_CHOICES = 65_536, 8192, 16_384  # sizes of spaces
_MOST_ENVIRONMENTS = 100_000  # at once
_OF_SIMULATORS = ("mujoco", "imageio")  # what gymnasium's simulators need of the extra `rl`
_LONGEST_REASON = 300  # characters


class Environments:
    """Worlds that are an environment of gymnasium, with parameters of their own.

    Args:
        environment: Its name in gymnasium's registry.
        parameters: For each attribute of the environment that tasks differ in, the range that it is drawn from.
        horizon: The most steps of a trajectory, in place of the environment's own limit.

    Raises:
        BadInput: There is no such environment, it cannot be made, its spaces are others than `Discrete` and `Box`, or it has
            no such parameter.
    """

    needs: tuple[str, ...] = ("gymnasium",)

    def __init__(self, environment: EnvironmentName, parameters: Parameters, horizon: Horizon) -> None:
        self.name = environment
        self.horizon = horizon
        first = made(environment)
        self.spaces = Spaces(
            _space(first.observation_space, environment, "observations", (_MOST_OBSERVED, _MOST_OBSERVED)),
            _space(first.action_space, environment, "actions", (_MOST_DONE, _MOST_CHOICES)),
        )
        given = {name: limits for name, limits in sorted(parameters.items()) if limits is not None}
        for name, limits in given.items():
            _refuse_parameter(first.unwrapped, environment, name, limits)
        self.parameters = tuple(given)
        self.limits = np.array(list(given.values()), dtype=np.float64).reshape(-1, 2)
        self.described_by = len(given)
        self._free = [first]  # environments that are kept for the next worlds

    @property
    def label(self) -> str:
        """What the worlds are, for reports."""
        drawn = [f"{name} {least:g} to {most:g}" for name, (least, most) in zip(self.parameters, self.limits, strict=True)]
        return f"{self.name}: {', '.join([*drawn, f'horizon {self.horizon}'])}"

    def descriptions(self, key: tuple[int, int], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """The parameters in the order of their names: [T, described_by]."""
        least, most = self.limits.T
        found: NDArray[np.float64] = least + (most - least) * uniform_inside(
            key, numbers, stream_of_tasks(), len(self.parameters)
        )
        return found

    def set_task(self, environment: Any, description: NDArray[np.float64]) -> None:
        """Let an environment, without its wrappers, be the one of a task.

        It was perhaps that of another task before.
        """
        for name, value in zip(self.parameters, description.tolist(), strict=True):
            setattr(environment, name, value)

    def reward(
        self, environment: Any, description: NDArray[np.float64], action: Any, reward: float, info: Mapping[str, Any]
    ) -> float:
        """What a step pays in a task.

        Args:
            environment: The environment after the step, without its wrappers.
            description: The description of the task.
            action: The action that the environment took.
            reward: What the environment pays itself.
            info: What it says about the step.
        """
        return reward

    def regrets(self, key: tuple[int, int], numbers: NDArray[np.int64], actions: NDArray[np.int64]) -> None:
        """Nothing is known of the best actions."""

    def environment(
        self,
        key: tuple[int, int],
        numbers: NDArray[np.int64],
        copies: int,
        round: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> "Copies":
        words = random_words(key, numbers[:, None], stream_of_environments(round, copies), 1)
        seeds = (words[..., 0] >> np.uint64(1)).astype(np.int64)  # [T, N], below 2^31: some simulators take no larger ones
        return Copies(self, self.descriptions(key, numbers), numbers, seeds, device, dtype)

    def borrow(self, count: int) -> list[gymnasium.Env[Any, Any]]:
        """Environments of some task, which nobody else uses until they are given back."""
        if count > _MOST_ENVIRONMENTS:
            raise BadInput(
                f"{count:,} environments of {self.name} at once are more than {_MOST_ENVIRONMENTS:,}: give less "
                "data.tasks_per_step, data.tasks_per_evaluation_step, data.shots or data.queries"
            )
        while len(self._free) < count:
            self._free.append(made(self.name))
        borrowed, self._free = self._free[:count], self._free[count:]
        return borrowed

    def give_back(self, environments: list[gymnasium.Env[Any, Any]]) -> None:
        self._free = environments + self._free


class Copies(VectorEnv[Tensor, Tensor, Tensor]):
    """N environments of each of T tasks, which are stepped one after the other until they end.

    An environment that has ended stays as it is and pays nothing.

    Args:
        family: Their family, which lends the environments until this one is closed or forgotten.
        descriptions: [T, described_by]
        numbers: The numbers [T] of the tasks, for messages.
        seeds: The seeds [T, N] of all trajectories.
        device: Where observations and rewards are needed.
        dtype: Their precision.
    """

    def __init__(
        self,
        family: Environments,
        descriptions: NDArray[np.float64],
        numbers: NDArray[np.int64],
        seeds: NDArray[np.int64],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.closed = True  # until environments are borrowed
        tasks, self.copies = seeds.shape
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.num_envs = tasks * self.copies
        self.family = family
        self.single_observation_space, self.single_action_space = map(gymnasium_space, family.spaces)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.descriptions = descriptions.repeat(self.copies, 0)
        self.numbers = numbers.repeat(self.copies)
        self.seeds = seeds.reshape(-1)
        self.device = device
        self.dtype = dtype
        observations = family.spaces.observations
        shape = observations.shape if isinstance(observations, Box) else ()
        kind = np.float64 if isinstance(observations, Box) else np.int64
        self.seen: NDArray[Any] = np.zeros((self.num_envs, *shape), kind)
        self.terminated, self.truncated = np.zeros((2, self.num_envs), bool)
        self.elapsed = 0
        self.environments = family.borrow(self.num_envs)
        self.unwrapped_environments = [environment.unwrapped for environment in self.environments]
        self.closed = False

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin all trajectories again, with the same random numbers: the seed is that of the worlds."""
        place, seeds = 0, self.seeds.tolist()
        try:
            for place, environment in enumerate(self.environments):
                self.family.set_task(self.unwrapped_environments[place], self.descriptions[place])
                self.seen[place] = self._observation(environment.reset(seed=seeds[place])[0])
        except (Exception, SystemExit) as error:  # an environment may raise anything
            raise self._failed(place, "reset", error) from error
        self.terminated[:] = self.truncated[:] = False
        self.elapsed = 0
        return self._observations(), {}

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        if self.elapsed >= self.family.horizon:
            raise gymnasium.error.ResetNeeded(f"the trajectories have taken all of their {self.family.horizon} steps")
        self.elapsed += 1
        moves = torch.as_tensor(actions).cpu().numpy()
        if isinstance(self.family.spaces.actions, Box):
            moves = moves.astype(self.environments[0].action_space.dtype)
        rewards, place = np.zeros(self.num_envs), 0
        try:
            for place in np.flatnonzero(~(self.terminated | self.truncated)).tolist():
                move, task = moves[place], self.descriptions[place]
                seen, reward, ended, cut, info = self.environments[place].step(move)
                self.terminated[place], self.truncated[place] = bool(ended), bool(cut)
                self.seen[place] = self._observation(seen)
                inner = self.unwrapped_environments[place]
                rewards[place] = self.family.reward(inner, task, move, float(reward), info)
        except (Exception, SystemExit) as error:
            raise self._failed(place, f"step {self.elapsed}", error) from error
        if self.elapsed == self.family.horizon:
            self.truncated |= ~self.terminated
        paid = torch.tensor(rewards, dtype=self.dtype, device=self.device)
        terminated, truncated = (torch.tensor(ends, device=self.device) for ends in (self.terminated, self.truncated))
        return self._observations(), paid, terminated, truncated, {}

    def _observations(self) -> Tensor:
        dtype = self.dtype if isinstance(self.family.spaces.observations, Box) else torch.int64
        return torch.tensor(self.seen, dtype=dtype, device=self.device)

    def _observation(self, given: Any) -> NDArray[Any]:
        """An observation, which has to be of its space: it would be broadcast or rounded otherwise."""
        values, space = np.asarray(given), self.family.spaces.observations
        if isinstance(space, Box):
            if values.shape != space.shape or values.dtype.kind not in "fiub":
                raise ValueError(f"an observation of the shape {list(values.shape)}, {values.dtype}; allowed: {space}")
        elif values.ndim or values.dtype.kind not in "iu" or not space.start <= values < space.start + space.n:
            raise ValueError(f"the observation {shown(given)}; allowed: {space}")
        return values

    def _failed(self, place: int, when: str, error: BaseException) -> GaveUp:
        self.environments = []  # which are in no known state
        trajectory = place % self.copies + 1
        return GaveUp(
            f"the environment {self.family.name} of world {self.numbers[place]} failed in {when} of trajectory {trajectory} "
            f"({_said(error)})"
        )

    def close_extras(self, **kwargs: Any) -> None:
        self.family.give_back(self.environments)
        self.environments = []

    def __del__(self) -> None:
        if not getattr(self, "closed", True):
            self.close()


def made(name: str) -> gymnasium.Env[Any, Any]:
    """Make an environment without a limit of steps or a window.

    Only what is registered is made, and no other name is looked up: gymnasium would import the module of `module:name`.

    Raises:
        BadInput: It is not registered, or cannot be made.
    """
    known = gymnasium.registry
    if name not in known:
        near = difflib.get_close_matches(name.lower(), [other.lower() for other in known], 3, 0.5)
        suggested = [other for match in near for other in known if other.lower() == match]
        advice = f"did you mean {', '.join(suggested)}?" if suggested else "gymnasium.pprint_registry() lists all"
        raise BadInput(f"data.source.environment={shown(name)} is not an environment that gymnasium knows; {advice}")
    if "mujoco" in str(known[name].entry_point):
        _take_warnings_of_simulators()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about models and versions, for each of many environments
            return gymnasium.make(known[name], max_episode_steps=-1, disable_env_checker=True, render_mode=None)
    except Exception as error:  # it may raise anything
        for package in _OF_SIMULATORS:
            if (
                isinstance(error, ModuleNotFoundError | gymnasium.error.DependencyNotInstalled)
                and package in str(error).lower()
            ):
                raise not_installed(package, f"data.source.environment={name} needs") from error
        raise BadInput(f"data.source.environment={name} cannot be made ({_said(error)})") from error


def _take_warnings_of_simulators() -> None:
    """Let Python warn instead of MuJoCo, which would write a file into the working folder."""
    with suppress(ImportError):  # said where the environment is made
        import mujoco

        if mujoco.get_mju_user_warning() is None:
            mujoco.set_mju_user_warning(lambda said: _warn_once(said.partition(".")[0]))


@cache
def _warn_once(said: str) -> None:
    warnings.warn(f"MuJoCo: {said}", RuntimeWarning, stacklevel=2)


def _space(space: Any, environment: str, what: str, largest: tuple[int, int]) -> Space:
    """A space of an environment, which may have `largest` numbers or choices.

    Raises:
        BadInput: It is of another kind, or too large.
    """
    if isinstance(space, gymnasium.spaces.Discrete) and space.n <= largest[1]:
        return Discrete(int(space.n), int(space.start))
    if isinstance(space, gymnasium.spaces.Box) and 1 <= np.prod(space.shape, dtype=float) <= largest[0]:
        low, high = (tuple(bound.reshape(-1).astype(np.float64).tolist()) for bound in (space.low, space.high))
        return Box(space.shape, low, high)
    numbers, choices = largest
    raise BadInput(
        f"data.source.environment={environment} cannot be used: its {what} are {in_one_line(str(space))[:_LONGEST_REASON]}; "
        f"allowed: Box of at most {numbers:,} numbers, Discrete of at most {choices:,}"
    )


def _refuse_parameter(environment: Any, name: str, parameter: str, limits: list[float]) -> None:
    """Raise `BadInput` unless `parameter` is a number of an environment and `limits` are a range."""
    key = f"data.source.parameters.{parameter}"
    numbers = [other for other in dir(environment) if _is_number(environment, other)]
    if parameter not in numbers:
        kind = "is no number" if not parameter.startswith("_") and hasattr(environment, parameter) else "does not exist"
        near = difflib.get_close_matches(parameter, numbers, 1)
        suggested = f" (did you mean {near[0]}?)" if near else ""
        listed = ", ".join(numbers) or "none"
        raise BadInput(f"{key} cannot be set: this attribute of {name} {kind}; its numbers: {listed}{suggested}")
    if len(limits) != 2 or not limits[0] <= limits[1]:
        raise BadInput(f"{key}={limits} cannot be used; allowed: [least, most], such as [5.0,15.0]")


def _is_number(environment: Any, name: str) -> bool:
    if name.startswith("_") or isinstance(getattr(type(environment), name, None), property):
        return False
    value = getattr(environment, name, None)
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _said(error: BaseException) -> str:
    try:
        said = " ".join(in_one_line(" ".join(str(error).split())).split())
    except Exception:
        said = "it says nothing that can be read"
    return f"{type(error).__name__}: {said}"[:_LONGEST_REASON]
