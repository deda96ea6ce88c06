"""What a task minimises on its support set: against torch's losses, and that a name chooses it."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.gradient.inner_loss import loss_named
from metashot.backbones.mlp import MLP
from metashot.bad_input import BadInput
from metashot.episodes import Episode
from metashot.problems import Classification, Problem, Regression
from tests.algorithms.gradient_learners import ENGINES, learner, plain_network, random_curves, random_episode

WAYS = 4
Loss = Callable[[Tensor, Tensor], Tensor]
# Of the answers [N, outputs] to a support set.
OF_CLASSES: dict[str, Loss] = {
    "auto": F.cross_entropy,
    "cross_entropy": F.cross_entropy,
    # torch takes the mean over all classes, one of which is the right one and never counts.
    "hinge": lambda answers, y: F.multi_margin_loss(answers, y) * WAYS / (WAYS - 1),
    "mse": lambda answers, y: F.mse_loss(answers, F.one_hot(y, WAYS).to(answers.dtype)),
}
OF_NUMBERS: dict[str, Loss] = {
    "auto": lambda answers, y: ((answers - y) ** 2).mean(),
    "mse": lambda answers, y: ((answers - y) ** 2).mean(),
    "l1": lambda answers, y: (answers - y).abs().mean(),
    "huber": F.smooth_l1_loss,
}
CASES = [
    *((Classification(WAYS), name, expected) for name, expected in OF_CLASSES.items()),
    *((Regression(1), name, expected) for name, expected in OF_NUMBERS.items()),
]
NAMES = [f"{type(problem).__name__} {name}" for problem, name, _ in CASES]


@pytest.mark.parametrize(("problem", "name", "expected"), CASES, ids=NAMES)
def test_losses_and_their_two_derivatives_are_those_of_torch(problem: Problem, name: str, expected: Loss) -> None:
    generator = torch.Generator().manual_seed(0)
    answers = 2 * torch.randn(3, 8, problem.outputs, generator=generator, dtype=torch.float64)
    answers.requires_grad_()
    if isinstance(problem, Classification):
        y = torch.randint(WAYS, (3, 8), generator=generator)
        flat = y.flatten()
    else:
        y = torch.randn(3, 8, 1, generator=generator, dtype=torch.float64)
        flat = y.flatten(0, 1)
    found, wanted = loss_named(name, problem)(answers, y), expected(answers.flatten(0, 1), flat)
    torch.testing.assert_close(found, wanted)
    of_found, of_wanted = (torch.autograd.grad(loss, answers, create_graph=True)[0] for loss in (found, wanted))
    torch.testing.assert_close(of_found, of_wanted)
    if name in ("auto", "cross_entropy", "mse", "huber"):
        twice = [torch.autograd.grad(gradient.square().sum(), answers)[0] for gradient in (of_found, of_wanted)]
        torch.testing.assert_close(*twice)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("problem", "name", "expected"), CASES, ids=NAMES)
def test_a_step_goes_down_the_loss_that_is_named(problem: Problem, name: str, expected: Loss, engine: str) -> None:
    torch.manual_seed(0)
    classes = isinstance(problem, Classification)
    episode: Episode = random_episode(2, (1, 4, 4), ways=WAYS) if classes else random_curves(2)
    backbone = MLP((1, 4, 4) if classes else (1,), [6], "none")
    made = learner("maml", backbone, problem, ENGINES[engine], inner_loss=name).eval()
    plain, head = plain_network(made.network), made.network.head
    adapted = made.run_inner_loop(episode.support, episode.query.x)
    for task in range(2):
        loss = expected(plain(episode.support.x[task]), episode.support.y[task])
        (gradient,) = torch.autograd.grad(loss, [head.weight])
        torch.testing.assert_close(adapted.losses[task, 0], loss.detach())
        torch.testing.assert_close(adapted.parameters["head.weight"][task], head.weight - 0.3 * gradient)


def test_the_outer_loss_stays_the_problems_own() -> None:
    torch.manual_seed(0)
    made = learner("maml", MLP((1, 4, 4), [6], "none"), Classification(WAYS), inner_loss="hinge").train()
    episode = random_episode(2, (1, 4, 4), ways=WAYS)
    learned = made.training_loss(episode)
    torch.testing.assert_close(learned.loss, F.cross_entropy(learned.answers.flatten(0, 1), episode.query.y.flatten()))


@pytest.mark.parametrize(
    ("problem", "name", "kind", "allowed"),
    [
        (Classification(2), "l1", "classification", "auto, cross_entropy, hinge, mse"),
        (Classification(2), "huber", "classification", "auto, cross_entropy, hinge, mse"),
        (Regression(1), "cross_entropy", "regression", "auto, mse, l1, huber"),
        (Regression(1), "hinge", "regression", "auto, mse, l1, huber"),
    ],
)
def test_a_loss_that_the_problem_does_not_have_is_refused_with_those_it_has(
    problem: Problem, name: str, kind: str, allowed: str
) -> None:
    with pytest.raises(BadInput, match=rf"^algo\.inner_loss={name} .* {kind} problem; allowed: {allowed}$"):
        learner("maml", MLP((1,), [4], "none"), problem, inner_loss=name)
