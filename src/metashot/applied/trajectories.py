"""Trajectories as users have them: what was observed, done and paid in the terms of their environment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.applied.environments import numbers, observations_of, shape_of
from metashot.bad_input import BadInput, BadValue, shown
from metashot.worlds import Discrete, Spaces, Trajectories

_MOST, _LONGEST = 100_000, 10_000
_ALLOWED = "allowed: a list of metashot.Trajectory or of (observations, actions, rewards)"
_PARTS = 3
_ROUNDING = 1e-6  # of a bound, by which an action may be beyond it


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What happened in an environment from a reset to the end, in H steps.

    Args:
        observations: What was observed before each action: [H, ...].
        actions: What the environment was given: [H], or [H, ...].
        rewards: What each action paid: [H].
        drawn: The actions as the policy drew them, before they were scaled and clipped to the bounds of the environment
            (`Acting.drawn`): [H, size]. None where that is not known: an update then takes numbers at a bound for what was
            drawn, which shortens its step where many actions are clipped.
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[Any]
    drawn: NDArray[Any] | None = None

    @property
    def total_reward(self) -> float:
        """The return: the sum of the rewards."""
        return float(np.sum(self.rewards))

    def __len__(self) -> int:
        return len(self.rewards)

    def __repr__(self) -> str:
        return f"<Trajectory: {len(self)} steps, total_reward={self.total_reward:g}>"


@dataclass(frozen=True)
class Steps:
    """The steps of one trajectory as a policy takes them."""

    observations: Tensor  # [H, inputs]
    actions: Tensor  # [H], or [H, size]
    rewards: Tensor  # [H]


def recorded(given: Any, spaces: Spaces, dtype: torch.dtype) -> list[Steps]:
    """Trajectories that a user has recorded.

    Args:
        given: The trajectories.
        spaces: The spaces of the worlds that the policy was trained on.
        dtype: The precision of the policy.

    Raises:
        BadValue: They cannot be used.
    """
    if isinstance(given, Trajectory):
        given = [given]
    if not isinstance(given, list | tuple):
        raise BadValue(f"{shown(given)} cannot be used: it is no environment and no trajectories; {_ALLOWED}")
    if not 1 <= len(given) <= _MOST:
        raise BadValue(f"{len(given)} trajectories were given; allowed: 1 to {_MOST:,}")
    return [_steps(one, spaces, dtype, place) for place, one in enumerate(given, 1)]


def _steps(given: Any, spaces: Spaces, dtype: torch.dtype, place: int) -> Steps:
    parts = (given.observations, given.actions, given.rewards) if isinstance(given, Trajectory) else given
    if not isinstance(parts, list | tuple) or len(parts) != _PARTS:
        raise BadValue(f"trajectory {place} is {shown(given)}; {_ALLOWED}")
    try:
        seen = observations_of(parts[0], spaces.observations, "has observations")
        done, paid = _actions(parts[1], spaces), numbers(parts[2], "has rewards").astype(np.float64)
        drawn = _drawn(given, done, spaces)
        if seen.ndim != 1 + len(shape_of(spaces.observations)):
            raise BadInput(f"has observations of the shape {list(seen.shape)}; allowed: those before each of its actions")
        if paid.ndim != 1 or not len(seen) == len(done) == len(paid):
            counts = f"{len(seen)} observations, {len(done)} actions and {paid.size} rewards"
            raise BadInput(f"has {counts}; allowed: one reward for each action, and the observation before it")
        if not 1 <= len(paid) <= _LONGEST:
            raise BadInput(f"has {len(paid)} steps; allowed: 1 to {_LONGEST:,}")
        found = Steps(
            finite_inputs(seen, spaces, dtype, "has observations"),
            spaces.chosen(torch.from_numpy(done)) if drawn is None else torch.from_numpy(drawn),
            finite(torch.from_numpy(paid).to(dtype), "has rewards"),
        )
    except BadInput as error:
        raise BadValue(f"trajectory {place} {error}") from error
    return Steps(found.observations, found.actions if found.actions.dim() == 1 else found.actions.to(dtype), found.rewards)


def _drawn(given: Any, done: NDArray[Any], spaces: Spaces) -> NDArray[np.float64] | None:
    """The actions as the policy drew them, if they are known and are numbers."""
    if not isinstance(given, Trajectory) or given.drawn is None or isinstance(spaces.actions, Discrete):
        return None
    values = numbers(given.drawn, "has drawn actions").astype(np.float64)
    if values.shape != (len(done), spaces.actions.size):
        allowed = [len(done), spaces.actions.size]
        raise BadInput(f"has drawn actions of the shape {list(values.shape)}; allowed: {allowed}")
    return values


def _actions(given: Any, spaces: Spaces) -> NDArray[Any]:
    values, space = numbers(given, "has actions"), spaces.actions
    if isinstance(space, Discrete):
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise BadInput(f"has actions of the shape {list(values.shape)}, {values.dtype}; allowed: whole numbers, {space}")
        outside = (values < space.start) | (values >= space.start + space.n)
        if outside.any():
            raise BadInput(f"has the action {values[outside][0]}; allowed: {space}")
        return values.astype(np.int64)
    if values.shape[1:] != space.shape or values.ndim == 0:
        raise BadInput(f"has actions of the shape {list(values.shape)}; allowed: {['steps', *space.shape]}")
    low, high = (np.array(bound).reshape(space.shape) for bound in (space.low, space.high))
    with np.errstate(invalid="ignore"):  # of infinite bounds
        outside = (values < low - _ROUNDING * np.abs(low)) | (values > high + _ROUNDING * np.abs(high))
    if outside.any():
        raise BadInput(f"has an action with {values[outside][0]:g}; allowed: {space}")
    return np.clip(values.astype(np.float64), low, high)


def finite_inputs(observations: NDArray[Any], spaces: Spaces, dtype: torch.dtype, what: str) -> Tensor:
    """Observations [B, ...] as inputs of a policy [B, inputs].

    Raises:
        BadInput: They are too large for the precision of the policy.
    """
    whole = isinstance(spaces.observations, Discrete)
    given = torch.from_numpy(observations.astype(np.int64 if whole else np.float64))
    return finite(spaces.inputs(given, dtype), what)


def finite(values: Tensor, what: str) -> Tensor:
    if not values.isfinite().all():
        raise BadInput(f"{what} that are too large for the {values.element_size() * 8} bits of the policy")
    return values


def together(steps: Sequence[Steps], device: torch.device) -> Trajectories:
    """Trajectories of one world with zeros after their ends: [1, N, H]."""
    longest = max(len(one.rewards) for one in steps)

    def padded(values: list[Tensor]) -> Tensor:
        found = torch.stack([torch.cat([one, one.new_zeros(longest - len(one), *one.shape[1:])]) for one in values])
        return found[None].to(device)

    taken = padded([torch.ones(len(one.rewards), dtype=torch.bool) for one in steps])
    observations, actions, rewards = (
        padded([getattr(one, name) for one in steps]) for name in ("observations", "actions", "rewards")
    )
    return Trajectories(observations, actions, rewards, taken)
