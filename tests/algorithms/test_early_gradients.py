"""A training step whose engine computes a few tasks at once frees their graph before it computes the next ones."""

import gc
from typing import Any
from weakref import finalize

import pytest
import torch
from torch import Tensor

from metashot.algorithms.gradient.learner import GradientLearner
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.algorithms.optimization import Optimization
from metashot.backbones.conv4 import Conv4
from metashot.backbones.normalisation import Protocol
from metashot.engines.batched import Batched
from metashot.engines.inner import Engine
from metashot.engines.learn2learn import Learn2Learn
from metashot.episodes import Batch, Episode, Examples
from metashot.problems import Classification
from tests.algorithms.gradient_learners import ALGORITHMS, learner, random_episode

WAYS, SHAPE = 3, (1, 16, 16)
AT_ONCE = Batched(chunk=None, compile=False, cuda_graph=False)
IN_PARTS: dict[str, Engine] = {
    "learn2learn": Learn2Learn(),
    "batched": Batched(chunk=2, compile=False, cuda_graph=False),
}
# As of episodes whose shape is drawn: five tasks of one shape, two of another.
BATCH = [random_episode(5, SHAPE, WAYS, shots=2, queries=3), random_episode(2, SHAPE, WAYS, shots=1, queries=2, seed=4)]
Gradients = dict[str, Tensor]


def of(algorithm: str, engine: Engine, protocol: Protocol = "transductive", **settings: Any) -> GradientLearner:
    torch.manual_seed(0)
    if algorithm == "mamlpp":
        settings["averages_per_step"] = protocol == "running"
    if "inner_batch" in ALGORITHMS[algorithm][1]:
        settings["inner_batch"] = 2
    return learner(algorithm, Conv4(SHAPE, 4, "pool", protocol), Classification(WAYS), engine, steps=2, **settings).train()


def trained(algorithm: GradientLearner, batch: Batch, scale: float = 1.0) -> tuple[dict[str, Tensor], Gradients]:
    """What a training step returns, and the gradients after its backward pass."""
    step = algorithm.training_step(batch, 0)
    (step["loss"] * scale).backward()
    gradients = {name: own.grad for name, own in algorithm.named_parameters() if own.grad is not None}
    return step, gradients


@pytest.mark.parametrize("protocol", ["transductive", "running"])
@pytest.mark.parametrize("engine", IN_PARTS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_step_in_parts_is_that_of_all_tasks_at_once(algorithm: str, engine: str, protocol: Protocol) -> None:
    whole, parts = of(algorithm, AT_ONCE, protocol), of(algorithm, IN_PARTS[engine], protocol)
    expected, wanted = trained(whole, BATCH)
    found, gradients = trained(parts, BATCH)
    torch.testing.assert_close(found["loss"].detach(), expected["loss"].detach(), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found["score"], expected["score"], rtol=0, atol=1e-12)
    assert gradients.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-7, atol=1e-11)
    for name, buffer in whole.named_buffers():
        torch.testing.assert_close(parts.get_buffer(name), buffer, rtol=1e-9, atol=1e-12)
    assert torch.cat([losses.numbers for losses in parts.task_losses]).tolist() == [0, 1, 2, 3, 4, 0, 1]
    for of_parts, of_whole in zip(zip(*parts.task_losses, strict=True), zip(*whole.task_losses, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(of_parts), torch.cat(of_whole), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("engine", IN_PARTS)
def test_gradients_of_parts_are_computed_outside_of_mixed_precision(
    engine: str, recompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the backward pass of a whole step is, which Lightning begins after its autocast has ended."""
    found: list[Gradients] = []
    for at_once in (True, False):
        algorithm = of("maml", IN_PARTS[engine], checkpoint_inner_steps=recompute).float()
        if at_once:
            monkeypatch.setattr(type(algorithm), "tasks_at_once", lambda self, episode: len(episode))
        batch = [in_single(episode) for episode in BATCH]
        with torch.autocast("cpu", torch.bfloat16):
            loss = algorithm.training_step(batch, 0)["loss"]
        monkeypatch.undo()
        loss.backward()
        found.append({name: own.grad for name, own in algorithm.named_parameters() if own.grad is not None})
    whole, parts = found
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def in_single(episode: Episode) -> Episode:
    support, query = (Examples(part.x.float(), part.y) for part in (episode.support, episode.query))
    return Episode(support, query, episode.number, episode.classes)


def test_a_scaled_loss_scales_the_gradients() -> None:
    _, once = trained(of("maml", Learn2Learn()), BATCH)
    _, tenfold = trained(of("maml", Learn2Learn()), BATCH, scale=10.0)
    for name, gradient in once.items():
        torch.testing.assert_close(tenfold[name], 10 * gradient, rtol=1e-12, atol=0)


def test_parameters_that_no_loss_depends_on_have_no_gradient() -> None:
    algorithm = of("maml", Learn2Learn())
    algorithm.spare = torch.nn.Parameter(torch.zeros(3))
    trained(algorithm, BATCH)
    assert algorithm.spare.grad is None


class Saved:
    """Counts the numbers that graphs keep for their backward passes."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> "Saved":
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda box: box[0])
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.hooks.__exit__(*error)

    def pack(self, tensor: Tensor) -> Any:
        box = _Box([tensor])
        self.now += tensor.numel()
        self.most = max(self.most, self.now)
        finalize(box, self.free, tensor.numel())
        return box

    def free(self, numbers: int) -> None:
        self.now -= numbers


class _Box(list[Tensor]):
    """A list that can be watched."""

    __hash__ = object.__hash__


def most_saved(engine: Engine, tasks: int, **settings: Any) -> int:
    algorithm = of("maml", engine, **settings)
    gc.collect()
    with Saved() as saved:
        trained(algorithm, [random_episode(tasks, SHAPE, WAYS, shots=2, queries=3)])
    return saved.most


def test_memory_does_not_grow_with_the_number_of_tasks() -> None:
    parameters = sum(own.numel() for own in of("maml", Learn2Learn()).parameters())
    one, eight = (most_saved(Learn2Learn(), tasks) for tasks in (1, 8))
    assert one > 10 * parameters
    assert eight < one + 2 * parameters  # the gradients of the parts before
    assert most_saved(Learn2Learn(), 8, checkpoint_inner_steps=True) < eight


def test_what_has_no_inner_loop_is_not_divided() -> None:
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    made = ProtoNet(Conv4(SHAPE, 4, "pool", "transductive"), Classification(WAYS), "euclidean", 1.0, False, optimizer)
    assert made.tasks_at_once(BATCH[0]) == 5


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_parts_of_an_episode_are_its_tasks(size: int) -> None:
    episode = BATCH[0]
    parts: list[Episode] = list(episode.parts(size))
    assert [len(part) for part in parts] == {1: [1] * 5, 2: [2, 2, 1], 5: [5], 9: [5]}[size]
    for values in ("support.x", "support.y", "query.x", "query.y", "number", "classes"):
        whole, joined = (torch.cat([_get(one, values) for one in some]) for some in ([episode], parts))
        assert torch.equal(whole, joined), values


def _get(episode: Episode, name: str) -> Tensor:
    value: Any = episode
    for part in name.split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)
    return value
