"""Policies and worlds that are small enough for finite differences, and what a learner computes with them, again: world by
world, with torch's own distributions and its own derivatives."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal, kl_divergence

from metashot.algorithms.optimization import Optimization
from metashot.algorithms.reinforcement.maml_rl import MAMLRL, Tried
from metashot.algorithms.reinforcement.proximal import ProximalPolicy
from metashot.algorithms.reinforcement.trust_region import TrustRegion
from metashot.backbones.mlp import MLP
from metashot.engines.batched import Batched
from metashot.engines.inner import Engine
from metashot.engines.learn2learn import Learn2Learn
from metashot.problems import Returns
from metashot.worlds import Trajectories

Actions = Literal["discrete", "continuous"]
Values = dict[str, Tensor]

ENGINES: dict[str, Engine] = {"learn2learn": Learn2Learn(), "batched": Batched(chunk=None, compile=False, cuda_graph=False)}
IN_CHUNKS = Batched(chunk=2, compile=False, cuda_graph=False)
TASKS, TRAJECTORIES, HORIZON, INPUTS, SIZE = 3, 4, 5, 3, 2
TRPO: dict[str, Any] = {
    "max_divergence": 0.01,
    "conjugate_gradients": 10,
    "damping": 1e-5,
    "backtracks": 15,
    "shrink": 0.8,
    "curvature_every": 1,
}


def learner(actions: Actions = "discrete", engine: Engine = ENGINES["batched"], seed: int = 0, **given: Any) -> MAMLRL:
    """A policy with 4 hidden units; what is given replaces settings of the learner or of its trust region."""
    torch.manual_seed(seed)
    trpo = TrustRegion(**{name: given.pop(name, value) for name, value in TRPO.items()})
    settings: dict[str, Any] = {
        "inner_lr": 0.5 if actions == "discrete" else 0.1,
        "later_inner_lr": 0.2,
        "inner_steps": 1,
        "test_inner_steps": 1,
        "first_order": False,
        "discount": 0.9,
        "trace": 0.8,
        "deviation": 0.7,
        "outer": "trpo",
        "ppo": ProximalPolicy(3, 0.3, 0.01),
        "optimizer": Optimization("adam", 0.01, 0.9, 0.0, "constant", 1, 1.0),
    }
    outputs = given.pop("outputs", SIZE if actions == "discrete" else 2 * SIZE)
    backbone = MLP((given.pop("inputs", INPUTS),), [4], "none")
    made = MAMLRL(backbone, Returns(outputs, actions), engine, trpo=trpo, **settings | given).double()
    with torch.no_grad():
        for value in made.parameters():
            value += 0.3 * torch.randn_like(value)  # zero biases would hide their derivatives
    return made


def trajectories(actions: Actions, seed: int, tasks: int = TASKS) -> Trajectories:
    """Trajectories of which some end early, with random numbers for all that happened in them."""
    draws = torch.Generator().manual_seed(seed)
    shape = (tasks, TRAJECTORIES, HORIZON)
    lengths = torch.randint(1, HORIZON + 1, shape[:2], generator=draws)
    taken = torch.arange(HORIZON) < lengths[..., None]
    observations, done = (torch.randn(*shape, size, generator=draws, dtype=torch.double) for size in (INPUTS, SIZE))
    chosen = torch.randint(0, SIZE, shape, generator=draws) if actions == "discrete" else done
    rewards = torch.randn(shape, generator=draws, dtype=torch.double)
    masked = (value * taken.view(*shape, *(1,) * (value.ndim - 3)) for value in (observations, chosen, rewards))
    return Trajectories(*masked, taken)


def tried(made: MAMLRL, steps: int, tasks: int = TASKS) -> tuple[list[Tried], Tried]:
    """Fixed trajectories of each inner step and of the adapted policies, as if these policies had played them."""
    actions, theta, found = made.problem.actions, made.initial(tasks), []
    for step in range(steps):
        found.append(made.as_tried(trajectories(actions, step, tasks), theta))
        theta = made.updated(theta, found[-1].examples, step)
    return found, made.as_tried(trajectories(actions, 100, tasks), theta)


def values_of(made: MAMLRL) -> Values:
    return {name: value.detach().clone() for name, value in made.network.named_parameters()}


def policy(made: MAMLRL, theta: Values, x: Tensor) -> Distribution:
    """What the policy with these parameters draws actions from."""
    hidden = F.relu(x @ theta["backbone.linears.0.weight"].T + theta["backbone.normalisations.0.bias"])
    outputs = hidden @ theta["head.weight"].T + theta["head.bias"]
    if made.problem.actions == "discrete":
        return Categorical(logits=outputs)
    return Independent(Normal(outputs, theta["log_deviation"].exp().expand_as(outputs)), 1)


class Steps:
    """What was done in one world [steps, ...], without the steps that were not taken."""

    def __init__(self, made: MAMLRL, one: Tried, task: int) -> None:
        taken = one.trajectories.taken[task].flatten()
        self.x = one.trajectories.observations[task].flatten(0, 1)[taken]
        self.actions = one.trajectories.actions[task].flatten(0, 1)[taken]
        size = made.problem.action_size
        self.advantages = one.examples.y[task][taken][:, size]
        outputs = one.outputs[task][taken]
        if made.problem.actions == "discrete":
            self.old: Distribution = Categorical(logits=outputs)
        else:
            mean, log_deviation = outputs.chunk(2, -1)
            self.old = Independent(Normal(mean, log_deviation.exp()), 1)

    def ratios(self, now: Distribution) -> Tensor:
        return (now.log_prob(self.actions) - self.old.log_prob(self.actions)).exp()


def adapted(made: MAMLRL, theta: Values, found: list[Tried], task: int) -> Values:
    """The parameters after the inner steps of one world, which are differentiable."""
    for one in found:
        theta = {name: value if value.requires_grad else value.requires_grad_() for name, value in theta.items()}
        steps = Steps(made, one, task)
        now = policy(made, theta, steps.x)
        estimated = steps.ratios(now) if made.outer == "ppo" else now.log_prob(steps.actions)
        gradients = torch.autograd.grad((estimated * steps.advantages).mean(), list(theta.values()), create_graph=True)
        theta = {
            name: value + made.alpha * gradient for (name, value), gradient in zip(theta.items(), gradients, strict=True)
        }
    return theta


def gain_and_divergence(made: MAMLRL, thetas: list[Values], judged: Tried) -> tuple[Tensor, Tensor]:
    """The gain of adapted policies over those that played, and their divergence from them, by their parameters."""
    gains, divergences = [], []
    for task, theta in enumerate(thetas):
        steps = Steps(made, judged, task)
        now = policy(made, theta, steps.x)
        gains.append((steps.ratios(now) * steps.advantages).mean())
        divergences.append(kl_divergence(steps.old, now).mean())
    return torch.stack(gains).mean(), torch.stack(divergences).mean()


def objective(made: MAMLRL, theta: Values, found: list[Tried], judged: Tried) -> tuple[Tensor, Tensor]:
    """The same of the policies that the initial parameters adapt to."""
    thetas = [adapted(made, dict(theta), found, task) for task in range(len(judged.outputs))]
    return gain_and_divergence(made, thetas, judged)


def moved(theta: Values, by: Tensor) -> Values:
    """Parameters with a vector added to them all."""
    parts = torch.split(by, [value.numel() for value in theta.values()])
    return {name: (value + part.view_as(value)).detach() for (name, value), part in zip(theta.items(), parts, strict=True)}


def flat(values: Any) -> Tensor:
    return torch.cat([value.detach().reshape(-1) for value in values])
