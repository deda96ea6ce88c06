"""Recurrent policies: networks with a memory of what was done in a trial and what came of it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.backbones.base import Backbone
from metashot.problems import Returns


class RecurrentPolicy(nn.Module):
    """A GRU with linear heads for the policy's outputs and for values, which both start at zero.

    Args:
        backbone: The network from observations to features.
        problem: The problem, which knows the outputs of a policy.
        hidden: The units of the memory.
        deviation: The initial standard deviation of actions, of which -1 and 1 are the bounds.
    """

    def __init__(self, backbone: Backbone, problem: Returns, hidden: int, deviation: float) -> None:
        super().__init__()
        self.continuous = problem.actions == "continuous"
        self.choices = problem.outputs // 2 if self.continuous else problem.outputs
        self.fed_back = self.choices + 2  # numbers
        self.backbone = backbone
        self.memory = nn.GRU(backbone.features + self.fed_back, hidden, batch_first=True)
        self.head = nn.Linear(hidden, self.choices)
        self.value = nn.Linear(hidden, 1)
        for layer in (self.head, self.value):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.log_deviation: nn.Parameter | None = None
        if self.continuous:
            self.log_deviation = nn.Parameter(torch.full((self.choices,), math.log(deviation)))

    def feedback(self, actions: Tensor, rewards: Tensor, ended: Tensor) -> Tensor:
        """What the next step is told of this one: [..., fed_back].

        Args:
            actions: [...], or [..., size].
            rewards: [...]
            ended: Whether the episode ended with it, [...].
        """
        done = actions if self.continuous else F.one_hot(actions.long(), self.choices)
        return torch.cat([done.to(rewards), rewards[..., None], ended[..., None].to(rewards)], -1)

    def remember(self, observations: Tensor, feedback: Tensor, memory: Tensor | None = None) -> Tensor:
        """Memories [B, L, hidden] after each of L steps.

        Args:
            observations: [B, L, inputs]
            feedback: What came of the step before each, [B, L, fed_back].
            memory: The memory before them, [B, hidden]; None for an empty one.
        """
        features = self.backbone(observations, support=observations.shape[1])
        found, _ = self.memory(torch.cat([features, feedback], -1), None if memory is None else memory[None])
        assert isinstance(found, Tensor)
        return found

    def outputs(self, memories: Tensor) -> Tensor:
        """[..., outputs]"""
        outputs: Tensor = self.head(memories)
        if self.log_deviation is None:
            return outputs
        return torch.cat([outputs, self.log_deviation.expand_as(outputs)], dim=-1)

    def forward(self, observations: Tensor, feedback: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [B, L, outputs] and values [B, L] of trials that begin with an empty memory."""
        memories = self.remember(observations, feedback)
        return self.outputs(memories), self.value(memories)[..., 0]


class RecurrentPlayer:
    """Plays trials by a recurrent policy.

    Args:
        network: The policy.
        problem: How actions are drawn.
        shape: (T, N), the worlds and the trials in each.
    """

    def __init__(self, network: RecurrentPolicy, problem: Returns, shape: tuple[int, int]) -> None:
        self.network = network
        self.problem = problem
        weight = network.head.weight
        self.memory = weight.new_zeros(*shape, weight.shape[1])
        self.feedback = weight.new_zeros(*shape, network.fed_back)
        self.alive = torch.ones(shape, dtype=torch.bool, device=weight.device)

    def begin(self) -> None:
        self.alive = torch.ones_like(self.alive)

    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        seen, feedback, memory = (values.flatten(0, 1) for values in (observations, self.feedback, self.memory))
        found = self.network.remember(seen[:, None], feedback[:, None], memory)
        # After the end of an episode nothing is seen until the next one begins.
        self.memory = torch.where(self.alive[..., None], found.view_as(self.memory), self.memory)
        return self.problem.sample(self.network.outputs(self.memory), noise)

    def saw(self, actions: Tensor, rewards: Tensor, ended: Tensor) -> None:
        told = self.network.feedback(actions, rewards, ended)
        self.feedback = torch.where(self.alive[..., None], told, self.feedback)
        self.alive = self.alive & ~ended
