"""The control flow of inner loops, shared by all engines: the order of inner steps and answers."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metashot.backbones.normalisation import averaging_layers
from metashot.bad_input import BadInput
from metashot.engines.inner import InnerLoop, InnerLoopResult, OptimizerState, Parameters, Support
from metashot.engines.recomputation import recomputed
from metashot.episodes import Examples

Statistics = list[Tensor]  # of one forward pass: [T, 2, channels] for each layer whose running averages are updated


class StepResult(NamedTuple):
    """The outcome of one inner step for T tasks."""

    theta: Parameters
    state: OptimizerState
    losses: Tensor  # [T], before the step
    statistics: Statistics


class Tasks(Protocol):
    """Tasks that an engine computes together. All parameters and optimiser states have a leading task dimension."""

    def step(self, theta: Parameters, state: OptimizerState, examples: Examples, number: int) -> StepResult:
        """Take inner step `number` of each task."""

    def answer(self, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int) -> tuple[Tensor, Statistics]:
        """Answer queries [T, Q, ...] with the parameters after inner step `number`."""


class ChunkResult(NamedTuple):
    """The outcome of the inner loops of a chunk of tasks."""

    result: InnerLoopResult
    passes: list[tuple[int, Statistics]]  # the forward passes in their order, each with the number of its step


def run_in_chunks(
    inner: InnerLoop,
    tasks: Callable[[], Tasks],
    size: int,
    support: Support,
    query_x: Tensor,
    batches: Tensor | None,
    start: Parameters | None,
) -> InnerLoopResult:
    """Run the inner loops of all tasks in chunks.

    Args:
        inner: The inner loop.
        tasks: Creates the `Tasks` that compute a chunk.
        size: The number of tasks in a chunk.
        support: As for `Engine`.
        query_x: As for `Engine`.
        batches: As for `Engine`.
        start: As for `Engine`.

    Raises:
        BadInput: Examples are collected, but `least_fall` compares losses on a fixed support set.
        ValueError: Examples are collected but `batches` are given, or `start` does not match the adapted parameters.
    """
    _check_collected(inner, support, batches)
    if start is not None:
        start = _checked_start(inner, start, len(query_x))
    results = []
    for first in range(0, len(query_x), size):
        chunk = slice(first, min(first + size, len(query_x)))
        results.append(
            _run(
                inner,
                tasks(),
                _support_of(support, chunk),
                query_x[chunk],
                None if batches is None else batches[chunk],
                None if start is None else {name: value[chunk] for name, value in start.items()},
            )
        )
    return _merge(inner, results)


def _run(
    inner: InnerLoop,
    tasks: Tasks,
    support: Examples | Callable[[Parameters, int], Examples],
    query_x: Tensor,
    batches: Tensor | None,
    start: Parameters | None,
) -> ChunkResult:
    """Run the inner loops of a chunk, from the tasks' own initial parameters or from those of the network."""
    parameters: Parameters = dict(inner.network.named_parameters())
    theta = start or {name: parameters[name].expand(len(query_x), *parameters[name].shape) for name in inner.adapted_names}
    state = inner.initial_state(theta)
    active = torch.ones(len(query_x), dtype=torch.bool, device=query_x.device)  # tasks whose support loss still falls
    answers: list[Tensor] = []
    losses: list[Tensor] = []
    passes: list[tuple[int, Statistics]] = []
    before, has_averages = theta, bool(averaging_layers(inner.network))
    collected: dict[int, Examples] = {}  # of the latest step

    def examples(number: int) -> Examples:
        if isinstance(support, Examples):
            return support
        if number not in collected:  # only once, because collecting may be random
            collected.clear()
            with torch.autocast(query_x.device.type, enabled=False):
                collected[number] = support(dict(theta), number)
        return collected[number]

    def step(number: int) -> StepResult:
        batch = examples(number) if batches is None else _select_examples(examples(number), batches[:, number])
        # Inner steps run in the precision of the parameters, in mixed precision too.
        with torch.autocast(query_x.device.type, enabled=False):
            result = _step(inner, tasks, theta, state, batch, number)
        passes.append((number, result.statistics))
        return result

    for number in range(inner.steps + 1):
        result = None
        # When all tasks have stopped, a further pass matters only to running averages.
        if inner.least_fall is not None and (has_averages or active.any()):
            result = step(number)
            loss = result.losses.detach()
            if number:
                fell = active & (losses[-1] - loss >= inner.least_fall)
                theta = _where(active & ~fell, before, theta)
                loss, active = torch.where(active, loss, losses[-1]), fell
            losses.append(loss)
        elif inner.least_fall is not None:
            losses.append(losses[-1])
        if number in inner.answer_after:
            support_x = examples(max(number - 1, 0)).x
            answered, statistics = _answer(inner, tasks, theta, support_x, query_x, max(number - 1, 0))
            answers.append(answered)
            passes.append((max(number - 1, 0), statistics))
        if number == inner.steps:
            break
        if inner.least_fall is None:
            result = step(number)
            losses.append(result.losses.detach())
            theta, state = result.theta, result.state
        elif result is not None:
            before, theta, state = theta, _where(active, result.theta, theta), result.state
    empty = query_x.new_empty(len(query_x), 0)
    return ChunkResult(
        InnerLoopResult(
            torch.stack(answers, dim=1) if answers else empty,
            torch.stack(losses[: inner.steps], dim=1) if inner.steps else empty,
            theta,
            state,
        ),
        passes,
    )


def _merge(inner: InnerLoop, chunks: Sequence[ChunkResult]) -> InnerLoopResult:
    """Concatenate the chunks. Running averages are updated pass by pass from all tasks, so chunking does not change them."""
    layers = averaging_layers(inner.network)
    if layers:
        for same_pass in zip(*(chunk.passes for chunk in chunks), strict=True):
            number = same_pass[0][0]
            for layer, *statistics in zip(layers, *(by_layer for _, by_layer in same_pass), strict=True):
                layer.update_averages(torch.cat(statistics), number)
    results = [chunk.result for chunk in chunks]
    return InnerLoopResult(
        torch.cat([result.answers for result in results]),
        torch.cat([result.losses for result in results]),
        {name: torch.cat([result.parameters[name] for result in results]) for name in inner.adapted_names},
        {name: torch.cat([result.state[name] for result in results]) for name in results[0].state},
    )


def _check_collected(inner: InnerLoop, support: Support, batches: Tensor | None) -> None:
    if isinstance(support, Examples):
        return
    if batches is not None:
        raise ValueError("mini-batches need fixed support sets, and these examples are collected step by step")
    if inner.least_fall is not None:
        raise BadInput(
            f"algo.least_fall={inner.least_fall} compares the losses of the same support set before and after a step, but "
            "this algorithm collects other examples in each inner step: set it to null"
        )


def _checked_start(inner: InnerLoop, start: Parameters, tasks: int) -> Parameters:
    """The tasks' own initial parameters, in the order and the precision of the adapted ones."""
    parameters = dict(inner.network.named_parameters())
    expected = {name: (tasks, *parameters[name].shape) for name in inner.adapted_names}
    given = {name: tuple(value.shape) for name, value in start.items()}
    if given != expected:
        raise ValueError(f"the tasks' own initial parameters have the shapes {given}, and should have {expected}")
    return {name: start[name].to(parameters[name].dtype) for name in inner.adapted_names}


def _support_of(support: Support, chunk: slice) -> Examples | Callable[[Parameters, int], Examples]:
    """The support sets of a chunk, or the function that collects its examples."""
    if isinstance(support, Examples):
        return Examples(support.x[chunk], support.y[chunk])
    return lambda theta, number: support(theta, number, chunk)


def _select_examples(support: Examples, positions: Tensor) -> Examples:
    """The examples at the positions [T, B] in each task's support set."""
    tasks = torch.arange(len(positions), device=positions.device).unsqueeze(1)
    return Examples(support.x[tasks, positions], support.y[tasks, positions])


def _where(mask: Tensor, if_true: Parameters, if_false: Parameters) -> Parameters:
    """`torch.where` for parameters [T, ...] and a mask [T] of the tasks."""
    return {
        name: torch.where(mask.view(-1, *[1] * (value.dim() - 1)), value, if_false[name]) for name, value in if_true.items()
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
        with torch.autocast(examples.x.device.type, enabled=False):  # wherever the backward pass is
            result = tasks.step(theta, state, Examples(*values[end:]), number)
        updated = [*(result.theta[name] for name in names), *(result.state[name] for name in state_keys)]
        return *updated, result.losses, *result.statistics

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
    mixed, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def flat(support_x: Tensor, query_x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(device, dtype=dtype, enabled=mixed):
            answers, statistics = tasks.answer(dict(zip(theta, values, strict=True)), support_x, query_x, number)
        return answers, *statistics

    answers, *statistics = recomputed(flat, [support_x, query_x, *theta.values()], inner.outer_parameters)
    return answers, statistics
