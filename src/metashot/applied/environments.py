"""Environments of users, with the interface of `gymnasium.Env`, which need not be installed: what they give is checked."""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metashot.bad_input import BadInput, BadValue, shown
from metashot.worlds import Box, Discrete, Space, Spaces

_ALLOWED = "allowed: an environment with the interface of gymnasium.Env, such as gymnasium.make(...)"
_PARTS = 5  # of what `step` returns


class Environment:
    """An environment of a user. It is reset and stepped, and never closed.

    Args:
        given: The environment.

    Raises:
        BadValue: It lacks what is needed, or its spaces are of other kinds.
    """

    def __init__(self, given: Any) -> None:
        if isinstance(given, type) or not all(callable(getattr(given, name, None)) for name in ("reset", "step")):
            raise BadValue(f"{shown(given)} cannot be used as an environment; {_ALLOWED}")
        if hasattr(given, "num_envs"):
            raise BadValue(f"{shown(given)} is a vector of environments; {_ALLOWED}, which is a single one")
        self.given = given
        self.name = type(given).__name__
        try:
            self.name = str(getattr(getattr(given, "spec", None), "id", None) or self.name)[:100]
            self.spaces = Spaces(*(_space_of(given, name) for name in ("observation_space", "action_space")))
        except BadInput:
            raise
        except Exception as error:  # spaces of a stranger's class may be anything
            raise BadValue(
                f"{self.name}: its spaces cannot be used ({type(error).__name__}: {_said(error)}); {_ALLOWED}"
            ) from error

    def start(self, seed: int | None, trajectory: int) -> NDArray[Any]:
        """The first observation of a trajectory.

        Args:
            seed: What the environment is seeded with, where it takes a seed; None to go on with its own random numbers.
            trajectory: The number of the trajectory, for messages.
        """
        self._trajectory = trajectory
        with self._named("reset()"):
            takes_seed = seed is not None and _takes_seed(self.given.reset)
            found = self.given.reset(seed=seed) if takes_seed else self.given.reset()
            if not isinstance(found, tuple) or len(found) != 2:
                raise BadInput(f"returned {_kind(found)}; allowed: an observation and a dictionary")
            return self._observation(found[0])

    def step(self, action: Any, step: int) -> tuple[NDArray[Any], float, bool]:
        """The next observation, the reward, and whether the trajectory has ended.

        Args:
            action: An action of its space.
            step: The number of the step, for messages.
        """
        with self._named(f"step {step}"):
            found = self.given.step(action)
            if not isinstance(found, tuple) or len(found) != _PARTS:
                raise BadInput(
                    f"returned {_kind(found)}; allowed: an observation, a reward, terminated, truncated and a dictionary"
                )
            observation, reward, terminated, truncated, _ = found
            try:
                value = float(reward)
            except (TypeError, ValueError, OverflowError):
                value = math.nan
            if not math.isfinite(value):
                raise BadInput(f"returned the reward {shown(reward)}; allowed: a finite number")
            return self._observation(observation), value, bool(terminated) or bool(truncated)

    def _observation(self, given: Any) -> NDArray[Any]:
        values = observations_of(given, self.spaces.observations, "returned an observation")
        if values.shape != shape_of(self.spaces.observations):
            raise BadInput(f"returned observations of the shape {list(values.shape)}; allowed: one observation")
        return values

    @contextmanager
    def _named(self, place: str) -> Iterator[None]:
        """Say where an environment fails."""
        try:
            yield
        except BadInput as error:
            raise BadValue(f"{self.name}: {place} of trajectory {self._trajectory} {error}") from error
        except (Exception, SystemExit) as error:
            raise BadValue(
                f"{self.name}: {place} of trajectory {self._trajectory} raised {type(error).__name__}: {_said(error)}"
            ) from error


def _said(error: BaseException) -> str:
    """What an exception says, which may be an exception of its own."""
    try:
        return str(error)[:300]
    except Exception:
        return "which does not say why"


def observations_of(given: Any, space: Space, what: str) -> NDArray[Any]:
    """One observation, or several, as an array whose last dimensions are those of the space.

    Args:
        given: The observation or observations.
        space: The space.
        what: What is given, for messages.

    Raises:
        BadInput: It is not of the space.
    """
    values = numbers(given, what)
    if isinstance(space, Discrete):
        if values.dtype.kind not in "iu" or ((values < space.start) | (values >= space.start + space.n)).any():
            raise BadInput(f"{what} {shown(given)}; allowed: whole numbers, {space}")
        return values
    if values.ndim < len(space.shape) or values.shape[values.ndim - len(space.shape) :] != space.shape:
        raise BadInput(f"{what} of the shape {list(values.shape)}; allowed: {list(space.shape)}")
    return values


def shape_of(space: Space) -> tuple[int, ...]:
    """The shape of one element of a space."""
    return space.shape if isinstance(space, Box) else ()


def numbers(given: Any, what: str) -> NDArray[Any]:
    """An array of finite numbers.

    Raises:
        BadInput: It is something else.
    """
    try:
        values = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    except Exception as error:
        raise BadInput(f"{what} {shown(given)}; allowed: an array of numbers") from error
    if values.dtype.kind not in "biuf":
        raise BadInput(f"{what} {shown(given)}; allowed: an array of numbers")
    if not np.isfinite(values).all():
        raise BadInput(f"{what} with {values[~np.isfinite(values)].flat[0]}; allowed: finite numbers")
    return values


def _space_of(environment: Any, name: str) -> Space:
    space = getattr(environment, name, None)
    low, high, shape, n = (getattr(space, part, None) for part in ("low", "high", "shape", "n"))
    if isinstance(n, int | np.integer) and not shape:
        return Discrete(int(n), int(getattr(space, "start", 0)))
    whole = name == "action_space" and np.dtype(getattr(space, "dtype", None) or float).kind != "f"
    if low is None or high is None or not isinstance(shape, tuple) or whole:
        advice = ": gymnasium.wrappers.FlattenObservation can flatten it" if name == "observation_space" else ""
        raise BadValue(
            f"the environment's {name}={shown(space)} cannot be used; allowed: Discrete, or a Box of floats{advice}"
        )
    bounds = (np.broadcast_to(np.asarray(bound, dtype=np.float64), shape).ravel().tolist() for bound in (low, high))
    return Box(tuple(map(int, shape)), *map(tuple, bounds))


def _takes_seed(reset: Any) -> bool:
    try:
        parameters = inspect.signature(reset).parameters.values()
    except (TypeError, ValueError):  # of a function in C
        return True
    return any(one.name == "seed" or one.kind is one.VAR_KEYWORD for one in parameters)


def _kind(found: Any) -> str:
    return f"{len(found)} values" if isinstance(found, tuple) else shown(found)
