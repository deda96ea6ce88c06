"""Networks that neural processes share: perceptrons, and answers with standard deviations."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def perceptron(*sizes: int) -> nn.Sequential:
    """Linear layers between these sizes, with ReLU after all but the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def normal_answers(raw: Tensor, least_deviation: float) -> Tensor:
    """Turn outputs into means and logarithms of standard deviations.

    Args:
        raw: Outputs [..., 2 * outputs] of a network: the means, then what determines the deviations.
        least_deviation: The lower limit of the deviations: sigma = least + (1 - least) softplus(raw).

    Returns:
        Answers [..., 2 * outputs].
    """
    mean, deviation = raw.chunk(2, dim=-1)
    log_deviation = (least_deviation + (1 - least_deviation) * F.softplus(deviation)).log()
    return torch.cat([mean, log_deviation], dim=-1)
