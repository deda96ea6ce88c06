"""Trajectories: an actor plays some in each of T worlds at once, with random numbers that depend on the worlds alone."""

from typing import Protocol

import torch
from torch import Tensor

from metashot.bad_input import GaveUp
from metashot.problems import Returns
from metashot.worlds import Discrete, Trajectories, Worlds


class Actor(Protocol):
    """Chooses actions in N trajectories of T worlds."""

    def act(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """Actions for observations.

        Args:
            observations: [T, N, inputs]
            noise: [T, N, size], as `Returns.sample` takes it; None for the most likely actions.

        Returns:
            Choices [T, N], or [T, N, size].
        """

    def saw(self, actions: Tensor, rewards: Tensor, ended: Tensor) -> None:
        """Learn what came of the last actions: rewards [T, N], and whether trajectories have ended [T, N]."""


class Player(Actor, Protocol):
    """An actor with a memory, who plays the episodes of N trials in each of T worlds."""

    def begin(self) -> None:
        """An episode begins. What was seen in earlier ones is still remembered."""


@torch.no_grad()
def play(worlds: Worlds, actor: Actor, problem: Returns, trajectories: int, round: int) -> Trajectories:
    """Play trajectories.

    Args:
        worlds: T worlds.
        actor: Who acts.
        problem: The problem, which knows how actions are drawn.
        trajectories: N, of each world.
        round: The number of the round of trajectories in these worlds; each has random numbers of its own.

    Raises:
        GaveUp: An environment fails or returns rewards or observations that are not finite, or the policy has diverged.
    """
    spaces, dtype, shape = worlds.family.spaces, worlds.dtype, (len(worlds), trajectories)
    draw = worlds.uniform_noise if isinstance(spaces.actions, Discrete) else worlds.normal_noise
    noise = draw(trajectories, round, problem.action_size)
    told = worlds.descriptions()[:, None].expand(*shape, -1) if worlds.tells else None
    environment = worlds.environment(trajectories, round)
    found, _ = environment.reset()
    alive = torch.ones(shape, dtype=torch.bool, device=worlds.number.device)
    observations, actions, rewards, taken = [], [], [], []
    for step in range(worlds.family.horizon):
        seen = spaces.inputs(found, dtype).view(*shape, -1)
        _refuse_non_finite(worlds, "an observation", seen, alive, f"in step {step}" if step else "from its reset")
        seen = seen if told is None else torch.cat([seen, told], -1)
        # What an environment returns after the end means nothing, and may not be finite.
        seen = torch.where(alive[..., None], seen, 0)
        chosen = actor.act(seen, noise[:, :, step])
        chosen = torch.where(alive.view(*shape, *(1,) * (chosen.ndim - 2)), chosen, 0)
        _refuse_diverged(worlds, chosen, step)
        found, reward, terminated, truncated, _ = environment.step(spaces.moves(chosen.flatten(0, 1)))
        reward = torch.where(alive, reward.view(shape), 0)
        _refuse_non_finite(worlds, "the reward", reward[..., None], alive, f"in step {step + 1}")
        ended = (terminated | truncated).view(shape)
        actor.saw(chosen, reward, ended)
        observations.append(seen)
        actions.append(chosen)
        rewards.append(reward)
        taken.append(alive)
        alive = alive & ~ended
        if not alive.any():
            break
    left = worlds.family.horizon - len(rewards)
    seen, chosen, reward, alive = (
        _with_rest(torch.stack(part, dim=2), left) for part in (observations, actions, rewards, taken)
    )
    return Trajectories(seen, chosen, reward, alive, 0 if told is None else told.shape[-1])


def _with_rest(values: Tensor, left: int) -> Tensor:
    """Values [T, N, steps, ...] with zeros for the steps that no trajectory has taken."""
    if not left:
        return values
    return torch.cat([values, values.new_zeros(*values.shape[:2], left, *values.shape[3:])], dim=2)


def are_usable(actions: Tensor) -> Tensor:
    """Which actions, or numbers of them, are those of a policy that has not diverged."""
    return actions.isfinite() if actions.is_floating_point() else actions >= 0


def _refuse_diverged(worlds: Worlds, chosen: Tensor, step: int) -> None:
    usable = are_usable(chosen)
    if not usable.all():
        task = usable.flatten(1).all(1).logical_not().nonzero()[0, 0]
        raise GaveUp(
            f"{worlds.family.name}: the policy chose a non-finite action in step {step + 1} of world "
            f"{int(worlds.number[task])}, because it has diverged: lower algo.inner_lr or the step of training"
        )


def _refuse_non_finite(worlds: Worlds, what: str, values: Tensor, alive: Tensor, when: str) -> None:
    """Raise `GaveUp` where values [T, N, size] of an environment are not finite while its trajectory goes on."""
    broken = alive & ~values.isfinite().all(-1)
    if broken.any():
        task, trajectory = broken.nonzero()[0].tolist()
        value = values[task, trajectory][~values[task, trajectory].isfinite()][0]
        raise GaveUp(
            f"{worlds.family.name}: the environment of world {int(worlds.number[task])} returned {what} {value:g} {when} of "
            f"trajectory {trajectory + 1}"
        )
