"""A policy in a user's hands: it acts, plays in environments, and adapts to them, which makes another policy."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.reinforcement.learner import PolicyLearner
from metashot.algorithms.reinforcement.playing import Player, are_usable
from metashot.applied.environments import Environment, observations_of, shape_of
from metashot.applied.network import TrainedNetwork
from metashot.applied.trajectories import Steps, Trajectory, finite, finite_inputs, recorded, together
from metashot.arguments import AtLeast, AtMost, Horizon, Images, Seed, check_value
from metashot.bad_input import BadInput, BadValue, shown
from metashot.data.memory import all_memory
from metashot.worlds import Box, Spaces, refuse_other_spaces, spaces_of

Randomness = int | np.random.Generator | None
_Updates = Annotated[int, AtLeast(1), AtMost(100)]
_BYTES = 32  # of a number that is kept of a step while a policy adapts, in both precisions


@dataclass(frozen=True, eq=False)
class Policy:
    """A policy, as it is after what it has learned of an environment. It is immutable, and threads can share it."""

    network: TrainedNetwork
    state: Any = field(repr=False)  # of the algorithm, on the device of the network
    adapted_to: int = 0  # the trajectories that it has learned from

    @property
    def algorithm(self) -> PolicyLearner:
        algorithm = self.network.algorithm
        assert isinstance(algorithm, PolicyLearner)
        return algorithm

    @property
    def spaces(self) -> Spaces:
        """What is observed in its environments, and what can be done."""
        return spaces_of(self.network.origin)

    @property
    def has_memory(self) -> bool:
        """Whether it adapts by remembering what came of its actions, rather than by gradient steps."""
        return self.algorithm.adapts_by == "trials"

    def act(self, observation: Any, sample: bool = False, seed: Randomness = None) -> Any:
        """Choose an action.

        Args:
            observation: An observation of the environment, or several of them [B, ...].
            sample: Whether to draw the action from the policy; otherwise it is the most likely one.
            seed: A number, for the same action each time, or a `numpy.random.Generator`, which goes on.

        Returns:
            An action of the environment's space: an int, or an array of 32-bit floats within its bounds; for several
            observations an array of several [B, ...]. A policy with a memory chooses as at the beginning of a trajectory:
            use `acting` to let it remember.

        Raises:
            BadInput: The observation is not of the environment's space.
        """
        return self.acting(seed).act(observation, sample)

    def acting(self, seed: Randomness = None) -> "Acting":
        """Begin to act in a trajectory: what a policy with a memory sees there is remembered.

        Args:
            seed: As in `act`.
        """
        return Acting(self, _generator(seed))

    def play(
        self,
        environment: Any,
        trajectories: int = 1,
        seed: Randomness = None,
        sample: bool = True,
        horizon: int | None = None,
    ) -> list[Trajectory]:
        """Play trajectories in an environment, from which the policy learns nothing that would last.

        Args:
            environment: An environment with the interface of `gymnasium.Env` and the spaces of the training.
            trajectories: How many; each begins with what the policy knows now.
            seed: As in `act`. The environment is seeded with it as well.
            sample: As in `act`.
            horizon: The most steps of a trajectory; None for as many as in training.

        Raises:
            BadInput: An argument cannot be used, or the environment fails.
        """
        world = self._world(environment)
        _check(trajectories, Images, "trajectories")
        played = Playing(world, _generator(seed), seed is not None, self._horizon(horizon))
        return [played.trajectory(self, sample)[1] for _ in range(trajectories)]

    def fit(
        self,
        environment_or_trajectories: Any,
        trajectories: int | None = None,
        updates: int | None = None,
        horizon: int | None = None,
        seed: Randomness = None,
    ) -> "Policy":
        """Adapt further. The arguments are those of `PolicyLearner.fit`."""
        given, algorithm = environment_or_trajectories, self.algorithm
        if updates is not None:
            _check(updates, _Updates, "updates")
            if self.has_memory and updates != 1:
                raise BadValue(
                    f"updates={updates} cannot be used: this {self.network.name} remembers trajectories instead of taking "
                    "gradient steps; give trajectories"
                )
        if not (hasattr(given, "step") or hasattr(given, "reset")):
            return self._fitted_to_recorded(given, trajectories, updates, horizon)
        world, steps = self._world(given), self._horizon(horizon)
        if trajectories is None:
            trajectories = algorithm.trajectories_to_try(self.network.config["data"]["shots"])
        _check(trajectories, Images, "trajectories")
        self._refuse_more_than_memory(trajectories, steps)
        played = Playing(world, _generator(seed), seed is not None, steps)
        policy = self
        if self.has_memory:
            for _ in range(trajectories):
                policy = policy._after([played.trajectory(policy, sample=True)[0]])
            return policy
        rounds = algorithm.last if updates is None else updates
        if not rounds:
            raise BadValue(
                f"this {self.network.name} was trained with algo.test_inner_steps=0: give updates, as in updates=1"
            )
        for _ in range(rounds):
            policy = policy._after([played.trajectory(policy, sample=True)[0] for _ in range(trajectories)])
        return policy

    def _fitted_to_recorded(self, given: Any, trajectories: Any, updates: int | None, horizon: Any) -> "Policy":
        for name, value in (("trajectories", trajectories), ("horizon", horizon)):
            if value is not None:
                raise BadValue(f"{name}={shown(value)} is for environments, and trajectories were given: leave it out")
        if updates not in (None, 1):
            raise BadValue(
                f"updates={updates} cannot be used: recorded trajectories give one update, since the policy gradient is "
                "that of the policy that acted; record others with the policy that fit returns, and call its fit"
            )
        dtype = self.network.dtype
        steps = recorded(given, self.spaces, dtype)
        self._refuse_more_than_memory(len(steps), max(len(one.rewards) for one in steps))
        return self._after(steps)

    def _after(self, steps: list[Steps]) -> "Policy":
        """The policy that has learned from trajectories."""
        network = self.network
        with network.held(f"adapting to {len(steps):,} trajectories") as algorithm:
            assert isinstance(algorithm, PolicyLearner)
            state = algorithm.adapted(self.state, together(steps, network.device))
        if not all(part.isfinite().all() for part in _tensors(state)):
            raise self._has_diverged("updates")
        return replace(self, state=state, adapted_to=self.adapted_to + len(steps))

    def _has_diverged(self, what: str) -> BadInput:
        return BadValue(
            f"this {self.network.name} gives non-finite {what}: the training of its checkpoint has diverged, or the "
            "observations or rewards are far from those of its training"
        )

    def _world(self, given: Any) -> Environment:
        world = Environment(given)
        try:
            refuse_other_spaces(world.spaces, self.network.origin, world.name)
        except BadInput as error:
            raise BadValue(str(error)) from None
        return world

    def _horizon(self, given: int | None) -> int:
        horizon = self.network.origin["horizon"] if given is None else given
        _check(horizon, Horizon, "horizon")
        return int(horizon)

    def _refuse_more_than_memory(self, trajectories: int, horizon: int) -> None:
        """Refuse before a trajectory is played what could not be kept."""
        needed = trajectories * horizon * (self.spaces.observations.size + 1) * _BYTES
        if needed > all_memory():
            raise BadValue(
                f"{trajectories:,} trajectories of {horizon:,} steps need {needed / 1e9:,.0f} GB at once, and there are "
                f"{all_memory() / 1e9:,.0f} GB of memory: give fewer trajectories, or a smaller horizon"
            )

    def __repr__(self) -> str:
        network = self.network
        learned = f"adapted to {self.adapted_to} trajectories" if self.adapted_to else "not adapted yet"
        return f"<Policy: {network.name} trained on {network.trained_on}, {learned}>"


class Acting:
    """A policy in one trajectory of an environment, or in several at once; for one thread. `Policy.acting` makes it.

    Args:
        policy: The policy.
        random: What actions are drawn with.
    """

    def __init__(self, policy: Policy, random: np.random.Generator) -> None:
        self.policy = policy
        self.spaces = policy.spaces
        self.random = random
        self._actor: Player | None = None  # who remembers
        self._count = 0  # of the trajectories in which it acts
        self._drawn: Tensor | None = None
        self.last: Tensor | None = None  # the last actions [1, N] or [1, N, size], as the policy chose them

    def act(self, observation: Any, sample: bool = False, reward: Any = None, ended: Any = False) -> Any:
        """Choose the next action.

        Args:
            observation: As in `Policy.act`.
            sample: As in `Policy.act`.
            reward: What the last action was paid; a policy without a memory needs none.
            ended: Whether the last action ended a trajectory, and the observation begins another one.
        """
        if not isinstance(sample, bool | np.bool_):
            raise BadValue(f"sample={shown(sample)} cannot be used; allowed: True or False")
        try:
            seen = observations_of(observation, self.spaces.observations, "act was given observations")
            shape = shape_of(self.spaces.observations)
            single = seen.ndim == len(shape)
            batch = seen[None] if single else seen
            if batch.ndim != 1 + len(shape) or not len(batch):
                raise BadInput(
                    f"act was given observations of the shape {list(seen.shape)}; allowed: one, or several in rows"
                )
            x = finite_inputs(batch, self.spaces, self.policy.network.dtype, "act was given observations")
        except BadInput as error:
            raise BadValue(str(error)) from error
        if reward is not None:
            self.saw(reward, ended)
        chosen = self.chosen(x, bool(sample))
        self._drawn = chosen[0] if single else chosen
        moves = moves_of(chosen, self.spaces)
        return _one(moves[0]) if single else moves

    @property
    def drawn(self) -> NDArray[np.float64]:
        """The last actions as the policy drew them, before they were clipped to bounds: [size], or [N, size] of several."""
        if self._drawn is None:
            raise BadValue("no action was chosen yet: call act(observation) first")
        found: NDArray[np.float64] = self._drawn.double().numpy()
        return found

    def saw(self, reward: Any, ended: Any = False) -> None:
        """Remember what came of the last action, where the policy has a memory.

        Args:
            reward: What it was paid; one for each of several.
            ended: Whether it has ended its trajectory.
        """
        if self.last is None:
            raise BadValue("a reward is what came of an action, and none was chosen yet: call act(observation) first")
        network, count, actor = self.policy.network, self._count, self._actor
        assert actor is not None
        try:
            paid = finite(torch.as_tensor(np.asarray(reward, dtype=np.float64)).to(network.dtype), "rewards")
            ends = torch.as_tensor(np.asarray(ended, dtype=bool))
            paid, ends = paid.reshape(-1).expand(count), ends.reshape(-1).expand(count)
        except (TypeError, ValueError, RuntimeError, BadInput) as error:
            raise BadValue(
                f"reward={shown(reward)}, ended={shown(ended)} cannot be used; allowed: finite numbers, and True or False, "
                f"one for each of {count} actions"
            ) from error
        with network.held():
            actor.saw(self.last, paid[None].to(network.device), ends[None].to(network.device))
        self.last = None

    def chosen(self, x: Tensor, sample: bool) -> Tensor:
        """Actions [N] or [N, size] of the policy for inputs [N, inputs]."""
        network, problem = self.policy.network, self.policy.algorithm.problem
        shape, discrete = (1, len(x), problem.action_size), problem.actions == "discrete"
        draw = self.random.random if discrete else self.random.standard_normal
        noise = torch.from_numpy(draw(shape)).to(network.device, network.dtype) if sample else None
        if self._actor is not None and len(x) != self._count and self.policy.has_memory:
            raise BadValue(
                f"act was given {len(x)} observations after {self._count}: a policy with a memory goes on with as many; "
                "call acting() to begin again"
            )
        with network.held():
            if self._actor is None or len(x) != self._count:
                self._actor, self._count = self.policy.algorithm.actor(self.policy.state, len(x)), len(x)
            self._actor.begin()  # nothing has ended, since an observation is there
            found = self._actor.act(x[None].to(network.device), noise)
        if not are_usable(found).all():
            raise self.policy._has_diverged("actions")
        self.last = found
        return found[0].cpu()


@dataclass
class Playing:
    """Plays trajectories one after the other in an environment."""

    world: Environment
    random: np.random.Generator
    seeded: bool  # whether the environment is seeded, too
    horizon: int
    played: int = 0

    def trajectory(self, policy: Policy, sample: bool) -> tuple[Steps, Trajectory]:
        """Play the next one: what was chosen, and what was done."""
        # The environment goes on with its own random numbers after the first reset, as gymnasium expects.
        seed = int(self.random.integers(2**31)) if self.seeded and not self.played else None
        self.played += 1
        acting, spaces = policy.acting(self.random), policy.spaces
        found = self.world.start(seed, self.played)
        seen, inputs, chosen, done, paid = [], [], [], [], []
        for step in range(1, self.horizon + 1):
            place = f"{self.world.name}: step {step} of trajectory {self.played} has an observation with numbers"
            x = finite_inputs(found[None], spaces, policy.network.dtype, place)
            action = acting.chosen(x, sample)
            move = moves_of(action, spaces)[0]
            seen.append(np.array(found))
            inputs.append(x[0])
            chosen.append(action[0])
            done.append(np.array(move))
            found, reward, ended = self.world.step(_one(move), step)
            paid.append(reward)
            if policy.has_memory:
                acting.saw(reward, ended or step == self.horizon)
            if ended:
                break
        rewards = torch.tensor(paid, dtype=torch.float64).to(policy.network.dtype)
        steps = Steps(torch.stack(inputs), torch.stack(chosen), rewards)
        drawn = None if steps.actions.dim() == 1 else steps.actions.double().numpy()
        return steps, Trajectory(np.stack(seen), np.stack(done), np.array(paid), drawn)


def moves_of(chosen: Tensor, spaces: Spaces) -> NDArray[Any]:
    """What an environment takes for actions [B] or [B, size] of a policy, within its bounds in 32 bits, too."""
    moves: NDArray[Any] = spaces.moves(chosen).numpy()
    space = spaces.actions
    if not isinstance(space, Box):
        return moves.astype(np.int64)
    low, high = (np.array(bound).reshape(space.shape) for bound in (space.low, space.high))
    return np.clip(moves, _inside(low, np.inf), _inside(high, -np.inf)).astype(np.float32)


def _inside(bounds: NDArray[np.float64], towards: float) -> NDArray[np.float32]:
    """Bounds in 32 bits, where rounding does not reach beyond them."""
    rounded = bounds.astype(np.float32)
    beyond = rounded < bounds if towards > 0 else rounded > bounds
    found: NDArray[np.float32] = np.where(beyond, np.nextafter(rounded, np.float32(towards)), rounded)
    return found


def _one(move: Any) -> Any:
    """A single action: whole numbers as Python's own."""
    return int(move) if np.issubdtype(np.asarray(move).dtype, np.integer) else np.array(move)


def _generator(seed: Randomness) -> np.random.Generator:
    if isinstance(seed, np.random.Generator):
        return seed
    if seed is not None:
        _check(seed, Seed, "seed")
    return np.random.default_rng(seed)


def _check(value: Any, hint: Any, name: str) -> None:
    plain = int(value) if isinstance(value, np.integer) else value
    try:
        check_value(plain, hint, name)
    except BadInput as error:
        raise BadValue(str(error)) from None


def _tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state] if state.is_floating_point() else []
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]
