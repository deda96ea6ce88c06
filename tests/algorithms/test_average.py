"""The averaging baseline: every task pulls the meta-parameters with the same force, however far its copy moved."""

import pytest
import torch
from torch import Tensor

from metashot.algorithms.gradient.average import Average
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.algorithms.gradient.minibatches import minibatches
from metashot.algorithms.optimization import Optimization
from metashot.backbones.mlp import MLP
from metashot.episodes import Episode, Examples
from tests.algorithms.gradient_learners import ENGINES, assert_same, learner, outer_gradient, random_episode, trained_plainly

TASKS, STEPS, BATCH = 3, 3, 4


def made_with(engine: str = "learn2learn", epsilon: float = 0.5) -> GradientLearner:
    torch.manual_seed(0)
    optimizer = Optimization("sgd", epsilon, 0.0, 0.0, "constant", 1, 1.0)
    settings = {"inner_batch": BATCH, "inner_lr": 0.1, "steps": STEPS, "optimizer": optimizer}
    return learner("average", MLP((1, 4, 4), [6], "none"), engine=ENGINES[engine], **settings).train()


def episode() -> Episode:
    """Whose second task has larger inputs, so that its copy moves further."""
    drawn = random_episode(TASKS, (1, 4, 4))
    scale = torch.tensor([1.0, 5.0, 1.0], dtype=torch.float64).view(-1, 1, 1, 1, 1)
    support, query = (Examples(examples.x * scale, examples.y) for examples in (drawn.support, drawn.query))
    return Episode(support, query, drawn.number, drawn.classes)


def ways_by_plain_loops(made: GradientLearner, of: Episode) -> list[dict[str, Tensor]]:
    """phi_task - phi of each task."""
    phi = {name: value.detach() for name, value in made.network.named_parameters()}
    ways = []
    for task in range(len(of)):
        x, y = (torch.cat([a[task], b[task]]) for a, b in ((of.support.x, of.query.x), (of.support.y, of.query.y)))
        (batches,) = minibatches(of.number[task : task + 1].numpy(), len(x), BATCH, STEPS)
        led = trained_plainly(
            made.network, lambda parameters: torch.optim.SGD(parameters, 0.1), [(x[batch], y[batch]) for batch in batches]
        )
        ways.append({name: led[name] - phi[name] for name in phi})
    return ways


def length(way: dict[str, Tensor]) -> float:
    return torch.cat([value.flatten() for value in way.values()]).norm().item()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_goes_the_mean_of_ways_of_length_one(engine: str) -> None:
    made = made_with(engine)
    ways = ways_by_plain_loops(made, episode())
    lengths = [length(way) for way in ways]
    assert max(lengths) > 2 * min(lengths)
    expected = {
        name: phi.detach() + 0.5 * torch.stack([way[name] / far for way, far in zip(ways, lengths, strict=True)]).mean(0)
        for name, phi in made.network.named_parameters()
    }
    outer = made.optimization.build(made.parameters(), 10)["optimizer"]
    made.training_loss(episode()).loss.backward()
    outer.step()
    assert_same(dict(made.network.named_parameters()), expected)


def test_one_task_alone_pulls_with_a_force_of_one() -> None:
    given = episode()
    one = Episode(
        *(Examples(examples.x[1:2], examples.y[1:2]) for examples in (given.support, given.query)),
        given.number[1:2],
        given.classes[1:2],
    )
    assert length(outer_gradient(made_with(), one)) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_copy_that_stayed_where_it_was_pulls_nowhere(dtype: torch.dtype) -> None:
    made = made_with()
    assert isinstance(made, Average)
    differences = {"a": torch.tensor([[3.0, 0.0], [0.0, 0.0]], dtype=dtype), "b": torch.tensor([[4.0], [0.0]], dtype=dtype)}
    found = made.outer_gradient(differences)
    assert found["a"].tolist() == pytest.approx([0.3, 0.0])
    assert found["b"].tolist() == pytest.approx([0.4])


@pytest.mark.parametrize("far", [1e-25, 1e-30, 1e-38])
def test_a_copy_that_hardly_moved_pulls_no_harder_than_others(far: float) -> None:
    """Its squares are too small for single precision."""
    made = made_with()
    assert isinstance(made, Average)
    assert made.outer_gradient({"a": torch.tensor([[far]])})["a"].abs().max() <= 1.001
