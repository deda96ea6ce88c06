"""The course of an inner loop, the same for every engine: which steps are taken and when queries are answered."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metashot.backbones.normalisation import averaging_layers
from metashot.bad_input import BadInput
from metashot.engines.inner import InnerLoop, InnerLoopResult, OptimizerState, Parameters, Support
from metashot.engines.recomputation import recomputed
from metashot.episodes import Examples

Statistics = list[Tensor]  # of one pass through the network: for each layer that learns averages [T, 2, channels]


class StepResult(NamedTuple):
    """T tasks after one inner step."""

    theta: Parameters
    state: OptimizerState
    losses: Tensor  # [T]: before the step
    statistics: Statistics


class Tasks(Protocol):
    """Some tasks, as an engine computes them together. Parameters and memories lead with the tasks."""

    def step(self, theta: Parameters, state: OptimizerState, examples: Examples, number: int) -> StepResult:
        """One inner step of each task."""

    def answer(self, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int) -> tuple[Tensor, Statistics]:
        """Answers [T, Q, ...] by parameters that have taken the steps up to this one."""


class Course(NamedTuple):
    adapted: InnerLoopResult
    passes: list[tuple[int, Statistics]]  # through the network, in their order, each with the number of its step


def run_in_chunks(
    inner: InnerLoop,
    tasks: Callable[[], Tasks],
    size: int,
    support: Support,
    query_x: Tensor,
    batches: Tensor | None,
    start: Parameters | None,
) -> InnerLoopResult:
    """Take all tasks through the inner loop, `size` of them at a time, each of these chunks by `tasks()`."""
    _refuse_parts_of_collected(inner, support, batches)
    if start is not None:
        start = _fitting(inner, start, len(query_x))
    courses = []
    for first in range(0, len(query_x), size):
        own = slice(first, min(first + size, len(query_x)))
        courses.append(
            _run(
                inner,
                tasks(),
                _part(support, own),
                query_x[own],
                None if batches is None else batches[own],
                None if start is None else {name: value[own] for name, value in start.items()},
            )
        )
    return _together(inner, courses)


def _run(
    inner: InnerLoop,
    tasks: Tasks,
    support: Examples | Callable[[Parameters, int], Examples],
    query_x: Tensor,
    batches: Tensor | None,
    start: Parameters | None,
) -> Course:
    """Take the tasks from their start, or from the network's own parameters, through all steps."""
    parameters: Parameters = dict(inner.network.named_parameters())
    theta = start or {name: parameters[name].expand(len(query_x), *parameters[name].shape) for name in inner.adapted_names}
    state = inner.initial_state(theta)
    going = torch.ones(len(query_x), dtype=torch.bool, device=query_x.device)  # tasks whose support loss falls
    answers: list[Tensor] = []
    losses: list[Tensor] = []
    passes: list[tuple[int, Statistics]] = []
    before, learning = theta, bool(averaging_layers(inner.network))
    collected: dict[int, Examples] = {}  # of the last step that was asked for

    def examples(number: int) -> Examples:
        if isinstance(support, Examples):
            return support
        if number not in collected:  # once, because collecting may be random
            collected.clear()
            with torch.autocast(query_x.device.type, enabled=False):
                collected[number] = support(dict(theta), number)
        return collected[number]

    def step(number: int) -> StepResult:
        chosen = examples(number) if batches is None else _chosen(examples(number), batches[:, number])
        # In mixed precision too, adapting is done in the precision of the parameters.
        with torch.autocast(query_x.device.type, enabled=False):
            stepped = _step(inner, tasks, theta, state, chosen, number)
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
        if number in inner.answer_after:
            support_x = examples(max(number - 1, 0)).x
            answer, statistics = _answer(inner, tasks, theta, support_x, query_x, max(number - 1, 0))
            answers.append(answer)
            passes.append((max(number - 1, 0), statistics))
        if number == inner.steps:
            break
        if inner.least_fall is None:
            stepped = step(number)
            losses.append(stepped.losses.detach())
            theta, state = stepped.theta, stepped.state
        elif stepped is not None:
            before, theta, state = theta, _where(going, stepped.theta, theta), stepped.state
    nothing = query_x.new_empty(len(query_x), 0)
    return Course(
        InnerLoopResult(
            torch.stack(answers, dim=1) if answers else nothing,
            torch.stack(losses[: inner.steps], dim=1) if inner.steps else nothing,
            theta,
        ),
        passes,
    )


def _together(inner: InnerLoop, courses: Sequence[Course]) -> InnerLoopResult:
    """All tasks of a step. The averages of layers learn pass by pass from all of them: their order must not matter."""
    layers = averaging_layers(inner.network)
    if layers:
        for same_pass in zip(*(of_some.passes for of_some in courses), strict=True):
            number = same_pass[0][0]
            for layer, *statistics in zip(layers, *(of_some for _, of_some in same_pass), strict=True):
                layer.update_averages(torch.cat(statistics), number)
    adapted = [of_some.adapted for of_some in courses]
    return InnerLoopResult(
        torch.cat([of_some.answers for of_some in adapted]),
        torch.cat([of_some.losses for of_some in adapted]),
        {name: torch.cat([of_some.parameters[name] for of_some in adapted]) for name in inner.adapted_names},
    )


def _refuse_parts_of_collected(inner: InnerLoop, support: Support, batches: Tensor | None) -> None:
    if isinstance(support, Examples):
        return
    if batches is not None:
        raise ValueError("mini-batches are parts of support sets, and these examples are collected step by step")
    if inner.least_fall is not None:
        raise BadInput(
            f"algo.least_fall={inner.least_fall} compares the losses of the same support set before and after a step, but "
            "this algorithm collects other examples in each inner step: set it to null"
        )


def _fitting(inner: InnerLoop, start: Parameters, tasks: int) -> Parameters:
    """The tasks' own start, in the order and the precision of the parameters that adapt."""
    parameters = dict(inner.network.named_parameters())
    expected = {name: (tasks, *parameters[name].shape) for name in inner.adapted_names}
    found = {name: tuple(value.shape) for name, value in start.items()}
    if found != expected:
        raise ValueError(f"the tasks' own initial parameters have the shapes {found}, and should have {expected}")
    return {name: start[name].to(parameters[name].dtype) for name in inner.adapted_names}


def _part(support: Support, own: slice) -> Examples | Callable[[Parameters, int], Examples]:
    """That of some tasks."""
    if isinstance(support, Examples):
        return Examples(support.x[own], support.y[own])
    return lambda theta, number: support(theta, number, own)


def _chosen(support: Examples, positions: Tensor) -> Examples:
    """Of each task's support set the examples at its positions [T, B]."""
    tasks = torch.arange(len(positions), device=positions.device).unsqueeze(1)
    return Examples(support.x[tasks, positions], support.y[tasks, positions])


def _where(tasks: Tensor, these: Parameters, others: Parameters) -> Parameters:
    """These parameters for some of the tasks [T], the others for the rest."""
    return {
        name: torch.where(tasks.view(-1, *[1] * (value.dim() - 1)), value, others[name]) for name, value in these.items()
    }


def _step(
    inner: InnerLoop, tasks: Tasks, theta: Parameters, state: OptimizerState, examples: Examples, number: int
) -> StepResult:
    if not inner.recompute or not torch.is_grad_enabled():
        return tasks.step(theta, state, examples, number)
    names, state_keys = list(theta), list(state)
    end = len(names) + len(state_keys)

    def flat(*values: Tensor) -> tuple[Tensor, ...]:
        theta = dict(zip(names, values[: len(names)], strict=True))
        state = dict(zip(state_keys, values[len(names) : end], strict=True))
        stepped = tasks.step(theta, state, Examples(*values[end:]), number)
        changed = [*(stepped.theta[name] for name in names), *(stepped.state[name] for name in state_keys)]
        return *changed, stepped.losses, *stepped.statistics

    values = recomputed(flat, [*theta.values(), *state.values(), examples.x, examples.y], inner.outer_parameters)
    return StepResult(
        dict(zip(names, values[: len(names)], strict=True)),
        dict(zip(state_keys, values[len(names) : end], strict=True)),
        values[end],
        list(values[end + 1 :]),
    )


def _answer(
    inner: InnerLoop, tasks: Tasks, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int
) -> tuple[Tensor, Statistics]:
    if not inner.recompute or not torch.is_grad_enabled() or len(inner.answer_after) == 1:
        return tasks.answer(theta, support_x, query_x, number)
    device = query_x.device.type
    mixed, kind = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def flat(support_x: Tensor, query_x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(device, dtype=kind, enabled=mixed):
            answers, statistics = tasks.answer(dict(zip(theta, values, strict=True)), support_x, query_x, number)
        return answers, *statistics

    answers, *statistics = recomputed(flat, [support_x, query_x, *theta.values()], inner.outer_parameters)
    return answers, statistics
