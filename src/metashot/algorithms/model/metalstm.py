"""The LSTM meta-learner: Ravi, Larochelle 2017, "Optimization as a model for few-shot learning", ICLR.

The parameters theta of the learner are the cell state of an LSTM, whose gates decide on every inner step: theta_t = f_t o
theta_{t-1} + i_t o (-gradient_t), where the input gate i is a learning rate and the forget gate f shrinks parameters. Each
coordinate has its own hidden state, and all coordinates share the weights of the gates. The initial cell state theta_0 is
learned together with these weights.

As in the paper, a plain LSTM reads the preprocessed gradient and loss of each coordinate (Andrychowicz et al. 2016,
arXiv:1606.04474, appendix A), and the gates read its output, theta and their own previous value; gradients and losses of the
learner are constants for the outer gradient (`first_order`); the gates start near a small step that forgets nothing. Where
this departs from the paper: on drawings there are five inner steps of about 0.1 instead of 12 of about 0.01, each coordinate
has four hidden units instead of 20, and outer gradients are not clipped, for runs of thousands of episodes; queries are
normalised by the statistics of the support set alone (on drawings in training too, `backbone.normalisation=support`), which
are those of the last parameters, where the paper averages over the inner steps; the gates start at the same values in every
run, where the authors draw their biases from a small range.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from metashot.algorithms.gradient.learner import GradientLearner
from metashot.arguments import Units
from metashot.bad_input import BadInput
from metashot.engines.inner import OptimizerState, Parameters
from metashot.kernels import lstm_cell
from metashot.kernels.compiling import why_not

P = 10.0  # of the preprocessing: numbers below e^-P in size are scaled, larger ones are split into size and sign
_FORGET = 5.0  # the initial bias of the forget gate
_SMALL = 0.01  # the range of the gates' initial weights


class MetaLSTM(GradientLearner):
    """A learner whose inner steps are those of an LSTM.

    Args:
        hidden: The size of the hidden state of each coordinate.
        learner: As for all gradient-based algorithms; `inner_lr` is the initial value of the input gate.

    Raises:
        BadInput: The input gate cannot have this initial value.
    """

    def __init__(self, hidden: Units, **learner: Any) -> None:
        if not learner["inner_lr"] < 1:
            raise BadInput(
                f"algo.inner_lr={learner['inner_lr']} cannot be used by this algorithm, where it is the initial value of an "
                "input gate; allowed: a number between 0 and 1"
            )
        super().__init__(**learner)
        self.cell = Cell(hidden, learner["inner_lr"])

    def description(self, device_type: str) -> list[str]:
        lines = super().description(device_type)
        is_wanted = self.network.backbone.fused and device_type == "cpu" and self.cell.b_I.dtype is torch.float32
        if is_wanted and not lstm_cell.are_available():
            lines.append(f"fused gates: not used, since {why_not()}")
        return lines

    def initial_state(self, theta: Parameters) -> OptimizerState:
        values = next(iter(theta.values()))
        tasks, coordinates = len(values), sum(value[0].numel() for value in theta.values())
        gates = {name: values.new_zeros(tasks, coordinates) for name in ("i", "f")}
        # [tasks, coordinates, hidden], with the coordinates last in memory, as kernels want them.
        hidden = {name: values.new_zeros(tasks, self.cell.hidden, coordinates).transpose(1, 2) for name in ("h", "c")}
        return super().initial_state(theta) | gates | hidden

    def inner_step(
        self, theta: Parameters, gradients: Parameters, state: OptimizerState, step: int, loss: Tensor
    ) -> tuple[Parameters, OptimizerState]:
        """theta' = f o theta - i o gradient, with the gates of each coordinate"""
        directions, optimizer = self.inner_optimizer.directions(gradients, state, step)
        flat = torch.cat([value.flatten() for value in theta.values()])  # [coordinates]
        gradient = torch.cat([directions[name].flatten() for name in theta])
        gates = self.cell(flat, gradient, loss, state, fused=self.network.backbone.fused)
        sizes = [value.numel() for value in theta.values()]
        updated = (gates["f"] * flat - gates["i"] * gradient).split(sizes)
        new = {name: part.view(theta[name].shape) for name, part in zip(theta, updated, strict=True)}
        return new, {name: value for name, value in optimizer.items() if name not in gates} | gates


class Cell(nn.Module):
    """The gates of all coordinates, which share these weights.

    Args:
        hidden: The size of the hidden state of a coordinate.
        inner_lr: The initial value of the input gate.
    """

    def __init__(self, hidden: int, inner_lr: float) -> None:
        super().__init__()
        self.hidden = hidden
        # Inputs: the preprocessed gradient and loss, then h. Outputs: the four gates of the plain LSTM.
        self.lstm = nn.Linear(4 + hidden, 4 * hidden)
        # Inputs: h, theta and the gate's previous value.
        self.W_I, self.W_F = (nn.Parameter(torch.empty(hidden + 2).uniform_(-_SMALL, _SMALL)) for _ in range(2))
        self.b_I = nn.Parameter(torch.tensor(math.log(inner_lr / (1 - inner_lr))))
        self.b_F = nn.Parameter(torch.tensor(_FORGET))

    def forward(
        self, theta: Tensor, gradient: Tensor, loss: Tensor, state: OptimizerState, fused: bool = False
    ) -> OptimizerState:
        """The state after a step: the gates `i` and `f` of each coordinate, and `h` and `c` of the plain LSTM.

        Args:
            theta: The parameters [coordinates] before the step.
            gradient: The gradient [coordinates].
            loss: The support loss, a scalar.
            state: The state after the step before.
            fused: Whether to use a kernel where there is one.
        """
        before = lstm_cell.Gates(*(state[name] for name in lstm_cell.Gates._fields))
        if fused and self._kernel_can_compute(theta, gradient, loss, *before):
            bias = self.lstm.bias + self.lstm.weight[:, 2:4] @ preprocessed(loss)
            return lstm_cell.gates(self._weights, bias, theta, gradient, before, P)._asdict()
        read = torch.cat([preprocessed(gradient), preprocessed(loss).expand(*gradient.shape, 2), state["h"]], dim=-1)
        i, f, g, o = self.lstm(read).chunk(4, dim=-1)  # [coordinates, hidden] each
        c = f.sigmoid() * state["c"] + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return {
            "i": self._gate(self.W_I, self.b_I, h, theta, state["i"]),
            "f": self._gate(self.W_F, self.b_F, h, theta, state["f"]),
            "h": h,
            "c": c,
        }

    @property
    def _weights(self) -> lstm_cell.Weights:
        return lstm_cell.Weights(self.lstm.weight, self.W_I, self.b_I, self.W_F, self.b_F)

    def _kernel_can_compute(self, *numbers: Tensor) -> bool:
        """Whether a kernel can be used for these numbers; it would pass over hooks of the layer inside."""
        hooks = self.lstm._forward_hooks, self.lstm._forward_pre_hooks
        return type(self.lstm) is nn.Linear and not any(hooks) and lstm_cell.are_usable(self._weights, *numbers)

    def _gate(self, weight: Tensor, bias: Tensor, h: Tensor, theta: Tensor, previous: Tensor) -> Tensor:
        """sigmoid(W [h, theta, previous] + b)"""
        return (h @ weight[:-2] + weight[-2] * theta + weight[-1] * previous + bias).sigmoid()


def preprocessed(x: Tensor) -> Tensor:
    """(log|x| / P, sign(x)) where |x| >= e^-P, and (-1, e^P x) elsewhere: [...] to [..., 2]."""
    size = x.abs().clamp_min(math.exp(-P))  # so that the logarithm has a derivative everywhere
    large = x.abs() >= math.exp(-P)
    return torch.stack([size.log() / P, torch.where(large, x.sign(), math.exp(P) * x)], dim=-1)
