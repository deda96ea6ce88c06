"""The course of an inner loop, the same for every engine: which steps are taken and when queries are answered."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metashot.backbones.normalisation import learning_layers
from metashot.engines.inner import Adapted, InnerLoop, Memory, Parameters
from metashot.engines.recomputation import recomputed
from metashot.episodes import Examples

Statistics = list[Tensor]  # of one pass through the network: for each layer that learns averages [T, 2, channels]


class Stepped(NamedTuple):
    """T tasks after one inner step."""

    theta: Parameters
    memory: Memory
    losses: Tensor  # [T]: before the step
    statistics: Statistics


class Tasks(Protocol):
    """Some tasks, as an engine computes them together. Parameters and memories lead with the tasks."""

    def step(self, theta: Parameters, memory: Memory, examples: Examples, number: int) -> Stepped:
        """One inner step of each task. Before step 0 they all have the same parameters, the network's own."""

    def answer(self, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int) -> tuple[Tensor, Statistics]:
        """Answers [T, Q, ...] by parameters that have taken the steps up to this one."""


class Course(NamedTuple):
    adapted: Adapted
    passes: list[tuple[int, Statistics]]  # through the network, in their order, each with the number of its step


def run(inner: InnerLoop, tasks: Tasks, support: Examples, query_x: Tensor, batches: Tensor | None) -> Course:
    """Take the tasks from the network's own parameters through all steps."""
    parameters: Parameters = dict(inner.network.named_parameters())
    theta = {name: parameters[name].expand(len(query_x), *parameters[name].shape) for name in inner.adapting}
    memory = inner.remember(theta)
    going = torch.ones(len(query_x), dtype=torch.bool, device=query_x.device)  # tasks whose support loss falls
    answers: list[Tensor] = []
    losses: list[Tensor] = []
    passes: list[tuple[int, Statistics]] = []
    before, learning = theta, bool(learning_layers(inner.network))

    def step(number: int) -> Stepped:
        examples = support if batches is None else _chosen(support, batches[:, number])
        # In mixed precision too, adapting is done in the precision of the parameters.
        with torch.autocast(query_x.device.type, enabled=False):
            stepped = _step(inner, tasks, theta, memory, examples, number)
        passes.append((number, stepped.statistics))
        return stepped

    for number in range(inner.steps + 1):
        stepped = None
        if inner.least_fall is not None and (learning or going.any()):  # else nobody takes this step, and no layer sees it
            stepped = step(number)
            loss = stepped.losses.detach()
            if number:
                fell = going & (losses[-1] - loss >= inner.least_fall)
                theta = _where(going & ~fell, before, theta)
                loss, going = torch.where(going, loss, losses[-1]), fell
            losses.append(loss)
        elif inner.least_fall is not None:
            losses.append(losses[-1])
        if number in inner.answered:
            answer, statistics = _answer(inner, tasks, theta, support.x, query_x, max(number - 1, 0))
            answers.append(answer)
            passes.append((max(number - 1, 0), statistics))
        if number == inner.steps:
            break
        if inner.least_fall is None:
            stepped = step(number)
            losses.append(stepped.losses.detach())
            theta, memory = stepped.theta, stepped.memory
        elif stepped is not None:
            before, theta, memory = theta, _where(going, stepped.theta, theta), stepped.memory
    nothing = query_x.new_empty(len(query_x), 0)
    return Course(
        Adapted(
            torch.stack(answers, dim=1) if answers else nothing,
            torch.stack(losses[: inner.steps], dim=1) if inner.steps else nothing,
            theta,
        ),
        passes,
    )


def together(inner: InnerLoop, courses: Sequence[Course]) -> Adapted:
    """All tasks of a step. The averages of layers learn pass by pass from all of them: their order must not matter."""
    layers = learning_layers(inner.network)
    if layers:
        for same_pass in zip(*(of_some.passes for of_some in courses), strict=True):
            number = same_pass[0][0]
            for layer, *statistics in zip(layers, *(of_some for _, of_some in same_pass), strict=True):
                layer.learn_averages(torch.cat(statistics), number)
    adapted = [of_some.adapted for of_some in courses]
    return Adapted(
        torch.cat([of_some.answers for of_some in adapted]),
        torch.cat([of_some.losses for of_some in adapted]),
        {name: torch.cat([of_some.parameters[name] for of_some in adapted]) for name in inner.adapting},
    )


def _chosen(support: Examples, positions: Tensor) -> Examples:
    """Of each task's support set the examples at its positions [T, B]."""
    tasks = torch.arange(len(positions), device=positions.device).unsqueeze(1)
    return Examples(support.x[tasks, positions], support.y[tasks, positions])


def _where(tasks: Tensor, these: Parameters, others: Parameters) -> Parameters:
    """These parameters for some of the tasks [T], the others for the rest."""
    return {
        name: torch.where(tasks.view(-1, *[1] * (value.dim() - 1)), value, others[name]) for name, value in these.items()
    }


def _step(inner: InnerLoop, tasks: Tasks, theta: Parameters, memory: Memory, examples: Examples, number: int) -> Stepped:
    if not inner.recompute or not torch.is_grad_enabled():
        return tasks.step(theta, memory, examples, number)
    names, remembered = list(theta), list(memory)

    def flat(*values: Tensor) -> tuple[Tensor, ...]:
        theta = dict(zip(names, values[: len(names)], strict=True))
        stepped = tasks.step(theta, dict(zip(remembered, values[len(names) :], strict=True)), examples, number)
        changed = [*(stepped.theta[name] for name in names), *(stepped.memory[name] for name in remembered)]
        return *changed, stepped.losses, *stepped.statistics

    values = recomputed(flat, [*theta.values(), *memory.values()], inner.learned)
    end = len(names) + len(remembered)
    return Stepped(
        dict(zip(names, values[: len(names)], strict=True)),
        dict(zip(remembered, values[len(names) : end], strict=True)),
        values[end],
        list(values[end + 1 :]),
    )


def _answer(
    inner: InnerLoop, tasks: Tasks, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int
) -> tuple[Tensor, Statistics]:
    if not inner.recompute or not torch.is_grad_enabled() or len(inner.answered) == 1:
        return tasks.answer(theta, support_x, query_x, number)
    device = query_x.device.type
    mixed, kind = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def flat(*values: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(device, dtype=kind, enabled=mixed):
            answers, statistics = tasks.answer(dict(zip(theta, values, strict=True)), support_x, query_x, number)
        return answers, *statistics

    answers, *statistics = recomputed(flat, list(theta.values()), inner.learned)
    return answers, statistics
