"""A hypernetwork that makes a learner: Ha, Dai, Le 2017, "HyperNetworks", arXiv:1609.09106, whose input here is the
labelled support set, encoded as in Garnelo et al. 2018, "Conditional neural processes", arXiv:1807.01613; the learner's
steps are MAML's (Finn, Abbeel, Levine 2017, arXiv:1703.03400).

For each output o of the head (a class, or a number) every support example i is encoded by phi from the network's features
f_i and its target t_io, and s_o is the mean over the examples. From s_o a linear layer makes the initial weights and the
bias of the head's row o; from the mean of all s_o another makes a scale 1 + gamma and a shift of each channel of the
backbone's normalisation layers (their own weights are multiplied by the one, and the other is added to their biases). The
order of examples changes nothing, and the order of classes permutes the head's rows. From these initial parameters theta
the task takes the usual gradient steps, theta' = theta - alpha * gradient, through which the query loss is differentiated.
With `inner_steps=0` and `test_inner_steps=0` nothing is left but what the hypernetwork made.

This is no paper's algorithm as a whole. What the generators make is added to the network's own parameters, which training
learns too, and is zero before training: a run begins as MAML does. Only parameters that adapt (`adapts`) are made; a
backbone with `normalisation=none` has shifts but no scales.
"""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.gradient.descent import descended
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.algorithms.gradient.network import Network
from metashot.arguments import AtLeast, AtMost, Units
from metashot.backbones.normalisation import Normalisation
from metashot.bad_input import BadInput
from metashot.engines.inner import Parameters
from metashot.episodes import Examples


class Hyper(GradientLearner):
    """A hypernetwork and its learner.

    Args:
        encoding: The size of phi's layers and of what it encodes.
        inner_steps: The number of inner steps in training; 0 for a pure hypernetwork.

    Raises:
        BadInput: No parameter adapts that could be made.
    """

    network: Network

    def __init__(self, encoding: Units, inner_steps: Annotated[int, AtLeast(0), AtMost(10_000)], **learner: Any) -> None:
        super().__init__(inner_steps=inner_steps, **learner)
        backbone, adapted = self.network.backbone, set(self.adapted_names)
        self.channels: dict[str, int] = {}  # of the parameters that are scaled and shifted
        for name, layer in backbone.named_modules():
            if isinstance(layer, Normalisation):
                parts = {f"backbone.{name}.{part}": values for part, values in layer.named_parameters()}
                self.channels |= {name: len(values) for name, values in parts.items() if name in adapted}
        self.makes_head = {"head.weight", "head.bias"} <= adapted
        if not self.channels and not self.makes_head:
            raise BadInput(
                f"algo.adapts={learner['adapts']} leaves the hypernetwork nothing to make: adapt the head (head.*) or the "
                "backbone's normalisation layers (backbone.*)"
            )
        self.phi = nn.Sequential(
            nn.Linear(backbone.features + 1, encoding),
            nn.ReLU(),
            nn.Linear(encoding, encoding),
            nn.ReLU(),
            nn.Linear(encoding, encoding),
        )
        self.generators = nn.ModuleDict()
        if self.makes_head:
            self.generators["head"] = nn.Linear(encoding, backbone.features + 1)
        if self.channels:
            self.generators["channels"] = nn.Linear(encoding, sum(self.channels.values()))
        for parameter in self.generators.parameters():
            nn.init.zeros_(parameter)

    def initial_parameters(self, support: Examples) -> Parameters:
        """theta of each task: the network's own parameters, changed by what is made of the support set"""
        with torch.autocast(support.x.device.type, enabled=False):
            s = self.encoded(support)  # [T, outputs, encoding]
            own = {name: value for name, value in self.network.named_parameters() if name in self.adapted_names}
            theta = {name: value.expand(len(s), *value.shape) for name, value in own.items()}
            if self.makes_head:
                rows = self.generators["head"](s)  # [T, outputs, features + 1]
                theta["head.weight"] = theta["head.weight"] + rows[..., :-1]
                theta["head.bias"] = theta["head.bias"] + rows[..., -1]
            if self.channels:
                made = self.generators["channels"](s.mean(1)).split(list(self.channels.values()), dim=1)
                for name, change in zip(self.channels, made, strict=True):
                    theta[name] = theta[name] * (1 + change) if name.endswith("weight") else theta[name] + change
        return theta

    def encoded(self, support: Examples) -> Tensor:
        """s [T, outputs, encoding]"""
        f = self.network.backbone(support.x, support=support.x.shape[1]).to(self.dtype)  # [T, S, features]
        outputs = self.problem.outputs
        t = F.one_hot(support.y, outputs).to(f) if self.problem.has_classes else support.y.to(f)  # [T, S, outputs]
        pairs = [f.unsqueeze(2).expand(-1, -1, outputs, -1), t.unsqueeze(-1)]
        s: Tensor = self.phi(torch.cat(pairs, dim=-1)).mean(1)
        return s

    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """theta' = theta - alpha * gradient"""
        return descended(theta, self.alpha, directions)
