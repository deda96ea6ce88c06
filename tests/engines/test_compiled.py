"""`engine.compile`: what is compiled computes the same, is compiled once, and what cannot be compiled is refused.

Most of it is tried without the C++ compiler, whose work takes a minute for each case: torch captures, differentiates and
flattens the graphs as it always does, and runs them as they are.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from torch._dynamo.utils import counters

from metashot.algorithms.gradient.learner import GradientLearner
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.bad_input import BadInput
from metashot.engines import compilation
from metashot.engines.batched import Batched
from metashot.engines.inner import InnerLoop
from metashot.engines.learn2learn import Learn2Learn
from metashot.problems import Classification, Regression
from tests.algorithms.gradient_learners import learner, random_curves, random_episode
from tests.engines.test_agreement import SETTINGS, TASKS, WAYS, images, outcome, same

SHAPE = (1, 16, 16)
# The case of each kind that runs always, and the others.
ALWAYS: list[tuple[str, Protocol]] = [
    ("maml", "transductive"),
    ("mamlpp", "running"),
]
OTHERS: list[tuple[str, Protocol]] = [
    ("fomaml", "none"),
    ("metasgd", "none"),
    ("metalstm", "none"),
    ("maml", "none"),
    ("maml", "running"),
    ("maml", "support"),
    ("fomaml", "transductive"),
    ("metasgd", "transductive"),
    ("mamlpp", "none"),
    ("mamlpp", "transductive"),
    ("anil", "transductive"),
    ("reptile", "transductive"),
    ("average", "none"),
]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def graphs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")


def compiled(chunk: int | None = None) -> Batched:
    return Batched(chunk=chunk, compile=True, cuda_graph=False)


def two(algorithm: str, protocol: Protocol, chunk: int | None = None, **settings: Any) -> tuple[GradientLearner, ...]:
    """A learner of the reference, and one that is compiled."""
    torch.manual_seed(0)
    settings = {"steps": 3} | settings
    if algorithm == "mamlpp":
        settings["averages_per_step"] = protocol == "running"
    return tuple(
        learner(algorithm, MLP(SHAPE, [4], protocol), Classification(WAYS), engine, **settings)
        for engine in (Learn2Learn(), compiled(chunk))
    )


@pytest.mark.usefixtures("graphs_only")
@pytest.mark.parametrize(
    ("algorithm", "protocol"), [*ALWAYS, *(pytest.param(*case, marks=pytest.mark.long) for case in OTHERS)]
)
def test_compiled_tasks_agree_with_the_reference(algorithm: str, protocol: Protocol) -> None:
    same(*two(algorithm, protocol), images())
    assert counters["stats"]["unique_graphs"] > 1


@pytest.mark.usefixtures("graphs_only")
@pytest.mark.parametrize(
    "setting",
    [pytest.param(name, marks=[] if name == "recomputed" else pytest.mark.long) for name in SETTINGS],
)
def test_compiled_tasks_agree_on_every_setting_of_the_inner_loop(setting: str) -> None:
    same(*two("maml", "transductive", **SETTINGS[setting]), images())
    assert counters["stats"]["unique_graphs"] > 1


@pytest.mark.long
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "metasgd", "mamlpp"])
@pytest.mark.parametrize("protocol", ["transductive", "none"])
def test_fused_kernels_agree_with_the_reference(algorithm: str, protocol: Protocol) -> None:
    same(*two(algorithm, protocol), images())
    assert counters["stats"]["unique_graphs"] > 1


@pytest.mark.long
def test_fused_kernels_agree_with_the_reference_where_it_convolves() -> None:
    torch.manual_seed(0)
    one, other = (
        learner("maml", Conv4(SHAPE, 4, "stride", "transductive"), Classification(WAYS), engine, steps=2)
        for engine in (Learn2Learn(), compiled())
    )
    same(one, other, images())


@pytest.mark.usefixtures("graphs_only")
def test_a_network_with_blocks_in_c_is_compiled_without_them() -> None:
    torch.manual_seed(0)
    one, other = (
        learner("maml", Conv4(SHAPE, 2, "stride", "transductive", fused=True), Classification(WAYS), engine).float()
        for engine in (Learn2Learn(), compiled())
    )
    other.load_state_dict(one.state_dict())
    episode = images()
    support, query = (replace(part, x=part.x.float()) for part in (episode.support, episode.query))
    episode = replace(episode, support=support, query=query)
    for mine, theirs in zip(outcome(one, episode)[2], outcome(other, episode)[2], strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-5)
    assert counters["stats"]["unique_graphs"] > 1


@pytest.mark.long
def test_fused_kernels_of_one_step_agree_with_the_reference_on_curves() -> None:
    torch.manual_seed(0)
    one, other = (
        learner("maml", MLP((1,), [4], "none"), Regression(1), engine, steps=1, inner_lr=0.1)
        for engine in (Learn2Learn(), compiled())
    )
    same(one, other, random_curves(TASKS))
    assert counters["stats"]["unique_graphs"] > 1


@pytest.mark.usefixtures("graphs_only")
@pytest.mark.parametrize("algorithm", ["maml", pytest.param("mamlpp", marks=pytest.mark.long)])
def test_other_data_are_not_compiled_again(algorithm: str) -> None:
    _, made = two(algorithm, "transductive", chunk=2)  # of three tasks, so that the last chunk is another size
    outcome(made, images())
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 1
    for seed in range(1, 4):
        with torch.no_grad():
            for parameter in made.parameters():
                parameter += 0.01  # as an outer step does
        outcome(made, random_episode(TASKS, SHAPE, WAYS, shots=2, queries=4, seed=seed))
    assert counters["stats"]["unique_graphs"] == graphs


@pytest.mark.usefixtures("graphs_only")
@pytest.mark.long
def test_compiled_tasks_see_what_changes_between_calls() -> None:
    """Training and testing, gradients and none, more steps, and a rate that is another number."""
    one, other = two("maml", "running", steps=2)
    other.load_state_dict(one.state_dict())
    episode = images()
    same(one, other, episode)
    for made in (one, other):
        made.eval()
        made.test_inner_steps = 3
    torch.testing.assert_close(other(episode.support, episode.query.x), one(episode.support, episode.query.x))
    for made in (one, other):
        made.alpha = 0.05
    with torch.no_grad():
        torch.testing.assert_close(other(episode.support, episode.query.x), one(episode.support, episode.query.x))


@pytest.mark.usefixtures("graphs_only")
def test_more_shapes_than_are_worth_compiling_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "VARIANTS", 1)
    _, made = two("fomaml", "none", steps=1)
    outcome(made, images())
    with pytest.raises(
        BadInput, match=r"engine\.compile=true compiles for each shape of episodes.* more than 1: leave it out"
    ):
        outcome(made, random_episode(TASKS, SHAPE, WAYS, shots=4, queries=5, seed=0))


@pytest.mark.usefixtures("graphs_only")
def test_an_inner_loop_that_cannot_be_compiled_is_refused() -> None:
    _, made = two("fomaml", "none", steps=1)
    made.inner_loss = lambda answers, y: answers.sum() * float(os.getpid() > 0 and answers.detach().sum().item() != 0)
    with pytest.raises(BadInput, match=r"engine\.compile=true cannot compile this inner loop \(.+\): leave it out"):
        outcome(made, images())


def test_a_cuda_graph_needs_a_gpu() -> None:
    said = r"engine\.cuda_graph=true needs an NVIDIA GPU, and this runs on cpu: leave it out"
    engine = Batched(chunk=None, compile=False, cuda_graph=True)
    made = learner("maml", MLP(SHAPE, [4], "none"), Classification(WAYS), engine)
    with pytest.raises(BadInput, match=said):
        engine.description("cpu", made.network)
    with pytest.raises(BadInput, match=said):
        outcome(made, images())
    assert engine.description("cuda", made.network).endswith(
        "all tasks of a step at once, compiled and recorded in CUDA graphs"
    )


def test_a_cuda_graph_does_not_go_with_steps_that_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = learner("maml", MLP(SHAPE, [4], "none"), Classification(WAYS))
    described: list[InnerLoop] = []

    class Noting(Learn2Learn):
        def __call__(self, inner: InnerLoop, *of_tasks: Any) -> Any:
            described.append(inner)
            return super().__call__(inner, *of_tasks)

    made.engine = Noting()
    outcome(made, images())
    compiler = compilation.Compiler(cuda_graph=True)
    tasks: Any = None
    with pytest.raises(BadInput, match=r"engine\.cuda_graph=true .* algo\.checkpoint_inner_steps=true"):
        compiler.compiled(replace(described[0], recompute=True), tasks, "cuda", True)


WITHOUT_A_COMPILER = """
import torch
from metashot.bad_input import BadInput
from metashot.engines.batched import Batched
from metashot.backbones.mlp import MLP
from metashot.problems import Regression
from tests.algorithms.gradient_learners import learner, random_curves

made = learner("fomaml", MLP((1,), [4], "none"), Regression(1), Batched(chunk=None, compile=True, cuda_graph=False))
try:
    made.training_loss(random_curves())
except BadInput as error:
    print(error)
"""


@pytest.mark.long
def test_a_missing_compiler_is_said_in_one_message(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("CXX", "CC")}
    environment |= {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_A_COMPILER], env=environment, capture_output=True, text=True
    )
    assert found.stdout == "engine.compile=true needs a C++ compiler such as g++, and found none: leave it out\n", (
        found.stderr
    )
