"""Pictures of policies: their trajectories in a few worlds, their returns as they adapt, and their regret."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator
from torch import Tensor

from metashot.evaluation.acting import RegretCurve
from metashot.evaluation.pictures.drawing import new_figure, write_picture
from metashot.evaluation.pictures.scores import labelled_steps
from metashot.worlds import Trajectories, Worlds

SHOWN_WORLDS = 6
_SHOWN_PATHS = 3  # of each stage in a world
_STAGES = ("0.6", "#e69f00", "#0072b2")  # before adapting, then, and in the end; also apart in grey
_STYLES = ((0, (1, 1)), "--", "-")
_ROOM = 1.15  # of the square of goals, and at most of the paths that leave it
_FARTHEST = 1.6
# Colours that remain apart for colour-blind eyes (Okabe and Ito), with line styles and markers for grey prints.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")
_MARKERS = "osD^vP*"
_LINES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
_NARROWEST, _ENTRY = 4.8, 1.55  # inches: of a picture, and of an entry in its legend
_MOST_NAMED = 12  # arms whose probability is written beside them
_BAND = 0.15  # opacity
_APART = 0.035  # between the intervals of level lines, as a share of the axis


class Line(NamedTuple):
    """The mean score of a learner as it adapts; one value for a learner that does not."""

    name: str
    steps: Sequence[int]
    scores: Sequence[float]
    ci95: Sequence[float | None]


def worlds_picture(worlds: Worlds, stages: Mapping[str, Trajectories], path: Path) -> None:
    """Draw what a policy does in the first worlds, as their family says.

    Args:
        worlds: Some worlds.
        stages: Trajectories in these worlds, at most three times, by how far the policy has adapted.
        path: The file to write.
    """
    draw = {"paths": _draw_paths, "arms": _draw_arms, "rewards": _draw_rewards}[worlds.drawn_as]
    write_picture(draw(worlds, stages), path)


def regret_picture(curves: Mapping[str, RegretCurve], steps_are: str, path: Path) -> None:
    """Draw the cumulative regret of each learner against steps, or pulls of arms, with its 95 % band."""
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    for place, (name, curve) in enumerate(curves.items()):
        steps = np.arange(len(curve.means) + 1)
        mean, half = (np.array([0.0, *(_number(value) for value in part)]) for part in curve)
        colour, style = _COLOURS[place % len(_COLOURS)], _LINES[place // len(_COLOURS) % len(_LINES)]
        axes.fill_between(steps, mean - half, mean + half, color=colour, alpha=_BAND, linewidth=0)
        marks: dict[str, Any] = {
            "marker": _MARKERS[place % len(_MARKERS)],
            "markersize": 4,
            "markevery": max(1, len(steps) // 10),
        }
        axes.plot(steps, mean, color=colour, linestyle=style, linewidth=1.4, label=_with_end(name, mean[-1]), **marks)
    axes.set_xlim(0, None)
    axes.set_ylim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(steps_are, fontsize=9)
    axes.set_ylabel("cumulative regret", fontsize=9)
    _finish(figure, axes, "expected loss against the best action: mean over worlds with 95 % intervals", len(curves))
    write_picture(figure, path)


def returns_picture(lines: Sequence[Line], metric: str, counted: str, path: Path) -> None:
    """Draw the score of each learner as it adapts, with its 95 % band; learners that do not adapt are level.

    Args:
        lines: The learners.
        metric: The name of the score.
        counted: What is counted on the horizontal axis.
        path: The file to write.
    """
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    last, level = max(line.steps[-1] for line in lines), 0
    for place, (name, steps, scores, ci95) in enumerate(lines):
        mean, half = (np.array([_number(value) for value in values]) for values in (scores, ci95))
        colour = _COLOURS[place % len(_COLOURS)]
        if len(steps) > 1:
            axes.fill_between(steps, mean - half, mean + half, color=colour, alpha=_BAND, linewidth=0)
            marks: dict[str, Any] = {"marker": _MARKERS[place % len(_MARKERS)], "markersize": 5}
            axes.plot(steps, mean, color=colour, linewidth=1.4, label=_with_end(name, mean[-1]), **marks)
            continue
        # The intervals of level lines stand beside each other behind the last update, where they hide nothing.
        level += 1
        style, end = _LINES[1 + level % (len(_LINES) - 1)], last * (1 + _APART * level)
        axes.plot([0, end], mean.repeat(2), color=colour, linestyle=style, linewidth=1.4, label=f"{name} ({mean[0]:.2f})")
        if np.isfinite(half[0]):
            axes.errorbar(end, mean[0], half[0], color=colour, capsize=3, linewidth=1.4)
    axes.set_xticks(labelled_steps(list(range(last + 1)), False))
    axes.set_xlabel(counted, fontsize=9)
    axes.set_ylabel(metric, fontsize=9)
    _finish(figure, axes, f"{metric}: mean over worlds with 95 % intervals", len(lines))
    write_picture(figure, path)


def _with_end(name: str, end: float) -> str:
    return f"{name} ({end:.2f} at the end)"


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _finish(figure: Figure, axes: Axes, title: str, lines: int) -> None:
    axes.tick_params(labelsize=8)
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=9)
    figure.legend(loc="outside lower center", ncols=min(2, lines), fontsize=8, frameon=False)


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(3, count)
    rows = -(-count // columns)
    figure = new_figure(max(_NARROWEST, width * columns), height * rows + 0.5)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _title(worlds: Worlds, stages: Mapping[str, Trajectories], task: int) -> str:
    returns = " → ".join(f"{float(found.returns[task].mean()):.1f}" for found in stages.values())
    return f"world {int(worlds.number[task])}: return {returns}"


def _shared_legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), int(figure.get_figwidth() / _ENTRY))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)


def _styles(stages: Mapping[str, Trajectories]) -> list[tuple[str, object]]:
    """The colours and line styles of the stages; the last one looks the same however many there are."""
    chosen = {1: (2,), 2: (0, 2), 3: (0, 1, 2)}[len(stages)]
    return [(_STAGES[place], _STYLES[place]) for place in chosen]


def _draw_paths(worlds: Worlds, stages: Mapping[str, Trajectories]) -> Figure:
    count = min(SHOWN_WORLDS, len(worlds))
    figure, panels = _panels(count, 2.7, 2.8)
    maps = {name: worlds.map(found) for name, found in stages.items()}
    side, farthest = next(iter(maps.values())).side, 0.0
    for task, axes in enumerate(panels[:count]):
        for (name, on_map), colour in zip(maps.items(), _styles(stages), strict=True):
            taken = stages[name].taken[task, :_SHOWN_PATHS].cpu()
            paths = on_map.paths[task, :_SHOWN_PATHS].double().cpu().masked_fill(~taken[..., None], math.nan)
            for place, (positions, steps) in enumerate(zip(paths, taken.sum(-1).tolist(), strict=True)):
                label = name if place == 0 else None
                axes.plot(positions[:, 0], positions[:, 1], color=colour[0], linewidth=1, alpha=0.9, label=label)
                axes.plot(
                    *positions[steps - 1], "o", color=colour[0], markersize=3.5, markeredgecolor="white", markeredgewidth=0.5
                )
        farthest = max(farthest, float(paths.nan_to_num(0).abs().max()))  # of the last stage
        goal = on_map.goals[task].double().cpu()
        axes.add_patch(Rectangle((-side / 2, -side / 2), side, side, fill=False, edgecolor="0.75", linewidth=1))
        axes.plot(0, 0, "o", color="black", markersize=4, linestyle="none", label="start")
        star: dict[str, Any] = {"marker": "*", "markersize": 15, "markerfacecolor": "#cf222e", "markeredgecolor": "white"}
        axes.plot(goal[0], goal[1], linestyle="none", zorder=5, label="goal", **star)
        axes.xaxis.set_major_locator(FixedLocator([-side / 2, 0, side / 2]))
        axes.yaxis.set_major_locator(FixedLocator([-side / 2, 0, side / 2]))
        axes.tick_params(labelsize=7)
        axes.set_title(_title(worlds, stages, task), fontsize=8)
    half = min(_ROOM * max(side / 2, farthest), _FARTHEST * side / 2)
    for axes in panels[:count]:
        axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    _hide(panels[count:])
    _shared_legend(figure, panels[0])
    return figure


def _draw_arms(worlds: Worlds, stages: Mapping[str, Trajectories]) -> Figure:
    """The share of trajectories that pull each arm at each step; arms are in the order of their probability."""
    ends = [*stages][:: max(1, len(stages) - 1)]  # the first and the last stage
    shown = min(3 if len(ends) > 1 else SHOWN_WORLDS, len(worlds))
    chances = worlds.descriptions().double().cpu()  # [T, arms]
    arms = chances.shape[1]
    cells = [(name, task) for name in ends for task in range(shown)]
    columns = min(3, shown)
    rows = -(-len(cells) // columns)
    figure = new_figure(2.7 * columns + 0.9, min(4.0, 1.2 + 0.2 * arms) * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes, (name, task) in zip(grid.flat, cells, strict=False):
        order = chances[task].argsort(descending=True)
        pulled = torch.nn.functional.one_hot(stages[name].actions[task].long().cpu(), arms).double()  # [N, H, arms]
        image = axes.imshow(
            pulled.mean(0).T[order], cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
            extent=(0.5, pulled.shape[1] + 0.5, arms - 0.5, -0.5),
        )  # fmt: skip
        if arms <= _MOST_NAMED:
            axes.set_yticks(range(arms), [f"{chance:.2f}" for chance in chances[task][order]])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=3))
        axes.tick_params(labelsize=7)
        title = f"world {int(worlds.number[task])}" + (f", {name}" if len(ends) > 1 else "")
        axes.set_title(f"{title}: return {float(stages[name].returns[task].mean()):.1f}", fontsize=8)
    _hide(list(grid.flat)[len(cells) :])
    for axes in grid[:, 0]:
        axes.set_ylabel("probability of an arm" if arms <= _MOST_NAMED else "arms, the best one above", fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("pull", fontsize=8)
    bar = figure.colorbar(image, ax=grid, shrink=0.8)
    bar.set_label("share of the trajectories", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _draw_rewards(worlds: Worlds, stages: Mapping[str, Trajectories]) -> Figure:
    """The rewards so far: the mean over trajectories, which ends at the return."""
    count = min(SHOWN_WORLDS, len(worlds))
    figure, panels = _panels(count, 2.7, 2.3)
    for task, axes in enumerate(panels[:count]):
        for (name, found), (colour, style) in zip(stages.items(), _styles(stages), strict=True):
            sums = _so_far(found.rewards[task])
            axes.plot(range(len(sums)), sums, color=colour, linestyle=style, linewidth=1.6, label=name)  # type: ignore[arg-type]
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=7)
        axes.grid(color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_title(_title(worlds, stages, task), fontsize=8)
    for axes in panels[max(0, count - 3) : count]:
        axes.set_xlabel("steps", fontsize=8)
    for axes in panels[:count:3]:
        axes.set_ylabel("rewards so far", fontsize=8)
    _hide(panels[count:])
    _shared_legend(figure, panels[0])
    return figure


def _so_far(rewards: Tensor) -> list[float]:
    sums: list[float] = rewards.double().cpu().mean(0).cumsum(0).tolist()
    return [0.0, *sums]


def _hide(panels: Sequence[Axes]) -> None:
    for axes in panels:
        axes.axis("off")
