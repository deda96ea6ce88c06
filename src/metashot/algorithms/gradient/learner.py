"""What the gradient-based algorithms share: a network that adapts to each task, by steps that their own files define."""

from abc import abstractmethod
from fnmatch import fnmatchcase
from typing import Annotated, Any

from torch import Tensor

from metashot.algorithms.base import Algorithm
from metashot.algorithms.gradient.network import Network
from metashot.algorithms.optimization import Optimization
from metashot.arguments import AtLeast, Count, Positive
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.engines.inner import Engine, InnerLoop, Parameters
from metashot.episodes import Examples
from metashot.problems import Classification, Problem, Regression


class GradientLearner(Algorithm):
    """`adapts` are patterns of the names of the parameters that change in the inner loop, such as `head.*`."""

    solves = (Classification, Regression)

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        problem: Problem,
        engine: Engine,
        adapts: list[str],
        inner_lr: Positive,
        inner_steps: Count,
        test_inner_steps: Annotated[int, AtLeast(0)],
        first_order: bool,
        optimizer: Optimization,
    ) -> None:
        super().__init__(optimizer, backbone.transductive, problem)
        self.network = Network(backbone, problem.outputs)
        self.fixed_ways = problem.outputs if isinstance(problem, Classification) else None
        self.engine = engine
        self.adapting = self._matching(adapts)
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.first_order = first_order
        self.alpha = self.step_sizes(inner_lr)

    def step_sizes(self, inner_lr: float) -> Any:
        """What the update calls alpha: a constant, or parameters that begin with it."""
        return inner_lr

    @abstractmethod
    def update(self, theta: Parameters, gradients: Parameters, step: int) -> Parameters:
        """One inner step: theta and the gradient of the support loss at theta give theta'."""

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        steps = self.inner_steps if self.training else self.test_inner_steps
        inner = InnerLoop(self.network, self.adapting, self.problem.loss, self.update, steps, self.first_order)
        return self.engine(inner, support, query_x)

    def _matching(self, patterns: list[str]) -> tuple[str, ...]:
        names = [name for name, _ in self.network.named_parameters()]
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise BadInput(f"algo.adapts={pattern} matches no parameter of the network; it has {', '.join(names)}")
        if not patterns:
            raise BadInput(f"algo.adapts=[] adapts no parameter; the network has {', '.join(names)}")
        return tuple(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))
