"""Worlds: the tasks of reinforcement learning. Their support set is what was tried in them.

A batch of T worlds takes the place of an `Episode` where a learner acts instead of answering queries. An environment of a
batch plays N trajectories in each of its worlds at once, with the interface of gymnasium's vector environments.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.randomness import normal, uniform_inside

MOST_TRAJECTORIES, MOST_ROUNDS = 2**17, 2**10
# How trajectories are drawn: as paths in the plane, as the arms that are pulled, or as the rewards of each step.
Drawing = Literal["paths", "arms", "rewards"]
_TASK, _ENVIRONMENT, _ACTIONS = range(3)  # uses of random numbers


class Discrete(NamedTuple):
    """The numbers `start`, ..., `start + n - 1`; as an input, one of n is 1 and the others are 0."""

    n: int
    start: int = 0

    @property
    def size(self) -> int:
        return self.n

    def plain(self) -> dict[str, Any]:
        """As plain containers, for checkpoints."""
        return {"kind": "discrete", "n": self.n, "start": self.start}

    def __str__(self) -> str:
        return f"{self.n} {'choice' if self.n == 1 else 'choices'}" + (f" from {self.start}" if self.start else "")


class Box(NamedTuple):
    """Numbers of this shape between bounds, which may be infinite."""

    shape: tuple[int, ...]
    low: tuple[float, ...]  # of each number, flattened
    high: tuple[float, ...]

    @property
    def size(self) -> int:
        return len(self.low)

    def plain(self) -> dict[str, Any]:
        # A stored configuration holds no infinite numbers; None stands for no bound.
        bounds = {
            name: [value if np.isfinite(value) else None for value in values]
            for name, values in (("low", self.low), ("high", self.high))
        }
        return {"kind": "box", "shape": list(self.shape), **bounds}

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape)) or "1"
        noun = "number" if self.size == 1 else "numbers"
        bounds = {*zip(self.low, self.high, strict=True)}
        if len(bounds) == 1:
            low, high = bounds.pop()
            return f"{size} {noun} from {low:g} to {high:g}"
        return f"{size} {noun} with bounds of their own"


Space = Discrete | Box


def space_of(plain: Mapping[str, Any]) -> Space:
    """The space that `plain` of a space describes."""
    if plain["kind"] == "discrete":
        return Discrete(plain["n"], plain["start"])
    low = tuple(-np.inf if value is None else float(value) for value in plain["low"])
    high = tuple(np.inf if value is None else float(value) for value in plain["high"])
    return Box(tuple(plain["shape"]), low, high)


def spaces_of(origin: Mapping[str, Any]) -> "Spaces":
    """The spaces of the worlds that a checkpoint describes."""
    return Spaces(*(space_of(origin["spaces"][name]) for name in ("observations", "actions")))


class Spaces(NamedTuple):
    """What is observed in a world, and what can be done."""

    observations: Space
    actions: Space

    def inputs(self, observations: Tensor, dtype: torch.dtype) -> Tensor:
        """Observations [B, ...] of environments as inputs of a network: [B, size]."""
        space = self.observations
        if isinstance(space, Discrete):
            return torch.nn.functional.one_hot(observations.long() - space.start, space.n).to(dtype)
        return observations.reshape(len(observations), -1).to(dtype)

    def moves(self, actions: Tensor) -> Tensor:
        """What environments take for actions [B] or [B, size] of a policy.

        Numbers between finite bounds are scaled, so that -1 and 1 stand for them, and all are clipped to their bounds.
        """
        space = self.actions
        if isinstance(space, Discrete):
            return actions + space.start
        low, high = (torch.tensor(bound, dtype=actions.dtype, device=actions.device) for bound in (space.low, space.high))
        bounded = low.isfinite() & high.isfinite()
        middle, half = (high + low) / 2, (high - low) / 2
        scaled = torch.where(bounded, torch.where(bounded, middle, 0) + torch.where(bounded, half, 1) * actions, actions)
        return torch.minimum(torch.maximum(scaled, low), high).reshape(len(actions), *space.shape)

    def chosen(self, moves: Tensor) -> Tensor:
        """The actions [B] or [B, size] of a policy that `moves` turns into these; numbers at a bound stand for the bound."""
        space = self.actions
        if isinstance(space, Discrete):
            return moves - space.start
        flat = moves.reshape(len(moves), -1)
        low, high = (torch.tensor(bound, dtype=flat.dtype, device=flat.device) for bound in (space.low, space.high))
        bounded = low.isfinite() & high.isfinite()
        middle, half = (high + low) / 2, (high - low) / 2
        scaled = (flat - torch.where(bounded, middle, 0)) / torch.where(bounded & (half > 0), half, 1)
        return torch.where(bounded, scaled, flat)

    def plain(self) -> dict[str, Any]:
        return {"observations": self.observations.plain(), "actions": self.actions.plain()}


def are_alike(one: Space, other: Space) -> bool:
    """Whether two spaces are the same, up to the rounding of bounds to 32 bits."""
    if isinstance(one, Box) and isinstance(other, Box):
        own, others = (np.array([space.low, space.high], dtype=np.float32) for space in (one, other))
        return one.shape == other.shape and np.array_equal(own, others)
    return one == other


def refuse_other_spaces(given: Spaces, origin: Mapping[str, Any], what: str) -> None:
    """Raise `BadInput` where a policy cannot act in worlds, since what is observed or done there differs.

    Args:
        given: The spaces of the worlds.
        origin: The description of the worlds that it was trained on.
        what: The worlds, for the message.
    """
    trained = spaces_of(origin)
    for name, here, there in zip(("observations", "actions"), given, trained, strict=True):
        if not are_alike(here, there):
            raise BadInput(
                f"{what} cannot be used: its {name} are {here}, and those of {origin['name']}, which the policy was trained "
                f"on, are {there}{_difference(here, there)}"
            )


def _difference(here: Space, there: Space) -> str:
    """Where two spaces of the same shape have other bounds."""
    if not isinstance(here, Box) or not isinstance(there, Box) or here.shape != there.shape:
        return ""
    own, others = (np.array([space.low, space.high], dtype=np.float32) for space in (here, there))
    place = int((own != others).any(0).argmax())
    (low, high), (other_low, other_high) = own[:, place], others[:, place]
    return f": number {place + 1} is from {low:g} to {high:g}, and was from {other_low:g} to {other_high:g}"


class Environment(Protocol):
    """T * N environments, N of each of T worlds one after the other, with the interface of gymnasium's `VectorEnv`.

    They are not reset by themselves (`AutoresetMode.DISABLED`).
    """

    def reset(self) -> tuple[Any, dict[str, Any]]: ...

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]: ...


class Family(Protocol):
    """Worlds that differ in what a task draws.

    A family that is drawn as something else than rewards says so by an attribute `drawn_as`; one that is drawn as paths also
    has a method `map`.
    """

    name: str
    spaces: Spaces
    horizon: int  # the most steps of a trajectory
    described_by: int  # how many numbers describe a task

    def descriptions(self, key: tuple[int, int], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """What tells the tasks with these numbers from others: [T, described_by]."""

    def regrets(
        self, key: tuple[int, int], numbers: NDArray[np.int64], actions: NDArray[np.int64]
    ) -> NDArray[np.float64] | None:
        """How much less each action is expected to pay than the best one; None where that is not known.

        Args:
            key: The key of the random numbers.
            numbers: The numbers [T] of the tasks.
            actions: What was done in their trajectories [T, N, H].
        """

    def environment(
        self,
        key: tuple[int, int],
        numbers: NDArray[np.int64],
        copies: int,
        round: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Environment:
        """Environments of tasks.

        Args:
            key: The key of the random numbers.
            numbers: The numbers [T] of the tasks.
            copies: N, the number of environments of each task.
            round: The number of the round, since each has noise of its own.
            device: Where observations and rewards are needed.
            dtype: Their precision.
        """


class Map(NamedTuple):
    """Trajectories in the plane."""

    paths: Tensor  # [T, N, H, 2], the positions before each step
    goals: Tensor  # [T, 2]
    side: float  # of the square around the origin in which goals lie


@dataclass(frozen=True)
class Worlds:
    """A batch of T worlds, each a pure function of seed, split and number: the counterpart of `Episode`."""

    family: Family
    key: tuple[int, int]  # of seed and split
    number: Tensor  # [T]
    shots: int  # trajectories that are tried before each update
    queries: int  # trajectories that a policy is judged by
    tells: bool = False  # whether observations end with the description of the task
    dtype: torch.dtype = torch.float32

    def __len__(self) -> int:
        return len(self.number)

    @property
    def classes(self) -> Tensor:
        """Worlds have no classes: [T, 0]."""
        return self.number.new_empty((len(self), 0))

    @property
    def numbers(self) -> NDArray[np.int64]:
        return np.asarray(self.number.cpu().numpy())

    def parts(self, size: int) -> Iterator["Worlds"]:
        """The same worlds, at most `size` at a time."""
        for first in range(0, len(self), size):
            yield replace(self, number=self.number[first : first + size])

    def to(self, device: torch.device) -> "Worlds":
        return replace(self, number=self.number.to(device))

    def in_double(self) -> "Worlds":
        return replace(self, dtype=torch.float64)

    def environment(self, trajectories: int, round: int) -> Environment:
        return self.family.environment(self.key, self.numbers, trajectories, round, self.number.device, self.dtype)

    def descriptions(self) -> Tensor:
        """[T, described_by]"""
        found = self.family.descriptions(self.key, self.numbers)
        return torch.from_numpy(found).to(self.number.device, self.dtype)

    def regrets(self, actions: Tensor) -> Tensor | None:
        """How much less each action [T, N, H] is expected to pay than the best one; None where that is not known."""
        found = self.family.regrets(self.key, self.numbers, np.asarray(actions.cpu().numpy()))
        return None if found is None else torch.from_numpy(found).to(actions.device)

    @property
    def drawn_as(self) -> Drawing:
        return cast(Drawing, getattr(self.family, "drawn_as", "rewards"))

    def map(self, trajectories: "Trajectories") -> Map:
        """Trajectories of a family that is drawn as paths."""
        found: Map = self.family.map(self.key, self.numbers, trajectories.observations)  # type: ignore[attr-defined]
        return found

    def uniform_noise(self, trajectories: int, round: int, size: int = 1) -> Tensor:
        """Numbers in (0, 1) for the actions of each trajectory and step: [T, N, horizon, size]."""
        return self._noise(uniform_inside, trajectories, round, size)

    def normal_noise(self, trajectories: int, round: int, size: int) -> Tensor:
        """As `uniform_noise`, standard normal numbers."""
        return self._noise(normal, trajectories, round, size)

    def _noise(self, draw: Any, trajectories: int, round: int, size: int) -> Tensor:
        streams, horizon = stream_of_actions(round, trajectories), self.family.horizon
        drawn: NDArray[np.float64] = draw(self.key, self.numbers[:, None], streams, horizon * size)
        shape = (len(self), trajectories, horizon, size)
        return torch.from_numpy(drawn.reshape(shape)).to(self.number.device, self.dtype)


def stream_of_tasks() -> int:
    """The stream of the random numbers that tasks are drawn with."""
    return _TASK << 28


def stream_of_environments(round: int, trajectories: int) -> NDArray[np.int64]:
    """The streams of the random numbers of environments in a round, one for each trajectory [N]."""
    return (_ENVIRONMENT << 28) + round * MOST_TRAJECTORIES + np.arange(trajectories)


def stream_of_actions(round: int, trajectories: int) -> NDArray[np.int64]:
    """As `stream_of_environments`, of a policy's actions."""
    return (_ACTIONS << 28) + round * MOST_TRAJECTORIES + np.arange(trajectories)


@dataclass(frozen=True)
class Trajectories:
    """N trajectories in each of T worlds, of at most H steps. Steps after the end of a trajectory are zero."""

    observations: Tensor  # [T, N, H, inputs]
    actions: Tensor  # [T, N, H, size], or [T, N, H] where they are choices
    rewards: Tensor  # [T, N, H]
    taken: Tensor  # [T, N, H], whether the trajectory still went on
    described: int = 0  # the number of inputs, the last ones, that describe the task and not what is seen in it

    @property
    def returns(self) -> Tensor:
        """The sums of rewards: [T, N]."""
        return self.rewards.sum(-1)

    @property
    def steps(self) -> Tensor:
        """The number of steps that were taken in each world: [T]."""
        return self.taken.sum((1, 2))
