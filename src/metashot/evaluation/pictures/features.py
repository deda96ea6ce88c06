"""Picture of an episode's features in two dimensions, before and after adaptation to its support set."""

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from metashot.evaluation.pictures.drawing import names_in_a_line, new_figure, say, wrapped_names, write_picture

_SHAPES = "os^vDPX*<>"  # markers that are easy to distinguish; more classes are marked by their numbers
_LEGEND_ROWS = 21
_LETTER = 0.075  # inches per letter in the legend
_SHORTEST = len("support set")
_RING: dict[str, Any] = {
    "marker": "o",
    "color": "white",
    "markeredgecolor": "black",
    "markersize": 13,
    "markeredgewidth": 1.5,
}
_NO_SPREAD = 1e-6  # relative to the first singular value: smaller ones are rounding errors of 32 bits


def features_picture(
    before: Tensor, after: Tensor | None, y: Tensor, support: int, names: Sequence[str], path: Path
) -> None:
    """Draw the features of one episode on their first two principal components.

    Args:
        before: Features [N, F] before adaptation, support examples first.
        after: Features [N, F] after adaptation, or None where adaptation does not change them.
        y: Labels [N].
        support: The number of support examples.
        names: The class names.
        path: The file to write.
    """
    y = y.detach().cpu()
    panels = {"features": before} if after is None else {"before adaptation": before, "after adaptation": after}
    ways = len(names)
    columns = -(-ways // _LEGEND_ROWS)
    legend_names = wrapped_names(names, range(ways)) if ways <= len(_SHAPES) else names_in_a_line(names)
    longest = max(len(line) for name in legend_names for line in name.split("\n"))
    figure = new_figure(4.2 * len(panels) + (0.6 + _LETTER * max(longest, _SHORTEST)) * columns, 4.2)
    for axes, (title, features) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.set_title(title, fontsize=9)
        _show_features(axes, features.detach().cpu(), y, support, ways)
    figure.legend(handles=_legend(legend_names), loc="outside right upper", fontsize=8, ncols=columns, frameon=False)
    write_picture(figure, path)


def principal_components(features: Tensor) -> tuple[Tensor, Tensor]:
    """Project features [N, F] on their first two principal components.

    Returns:
        The projections [N, 2], and each component's share of the variance [2]. Values and share of a missing component
        are 0.
    """
    centred = features.double() - features.double().mean(0)
    largest = centred.abs().max()
    if largest > 0:  # squares of large or small features would overflow or underflow
        centred = centred / largest
    u, values, v = torch.linalg.svd(centred, full_matrices=False)
    values = values.where(values > _NO_SPREAD * values[:1], torch.zeros_like(values))
    # The sign of a component is arbitrary: its largest weight is made positive, so that all machines agree.
    signs = v.gather(1, v.abs().argmax(1, keepdim=True))[:, 0].sign()
    projected = (u * values * signs)[:, :2] * largest  # [N, at most 2]
    total = values.square().sum()
    shares = values.square()[:2] / total if total > 0 else torch.zeros_like(values[:2])
    missing = 2 - projected.shape[1]
    return torch.nn.functional.pad(projected, (0, missing)), torch.nn.functional.pad(shares, (0, missing))


def _show_features(axes: Axes, features: Tensor, y: Tensor, support: int, ways: int) -> None:
    known = features.isfinite().all(1)
    if not known.any():
        say(axes, "No image has features that are numbers.")
        return
    projected, shares = principal_components(features[known])
    learned = torch.arange(len(features))[known] < support
    labels = y[known]
    for of_support in (False, True):  # support examples are drawn last, so that no query hides them
        for label in range(ways):
            x = projected[(labels == label) & (learned == of_support)]
            for style in _markers(label, ways, of_support):
                axes.plot(x[:, 0], x[:, 1], linestyle="none", **style)
    axes.set_xlabel(f"first component ({shares[0]:.0%} of the variance)", fontsize=9)
    axes.set_ylabel(f"second component ({shares[1]:.0%})", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.margins(0.08)
    if not known.all():
        axes.set_title(f"{axes.get_title()} ({int((~known).sum())} images with non-finite features left out)", fontsize=9)


def _markers(label: int, ways: int, of_support: bool) -> list[dict[str, Any]]:
    """The styles of an example's markers, which are drawn on top of each other."""
    colour = colorsys.hls_to_rgb(label / ways, 0.4, 0.75)
    if ways <= len(_SHAPES):
        edge = {"markersize": 11, "markeredgecolor": "black", "markeredgewidth": 1.3}
        return [
            {"marker": _SHAPES[label], "color": colour} | (edge if of_support else {"markersize": 5, "markeredgewidth": 0})
        ]
    width = 5 if label < 10 else 8  # one digit, or two of the same height
    number = {"marker": f"${label}$", "color": colour, "markersize": width, "markeredgewidth": 0.3}
    return [_RING | {"markeredgecolor": colour}, number] if of_support else [number]


def _legend(names: Sequence[str]) -> list[Line2D]:
    ways = len(names)
    shapes = ways <= len(_SHAPES)
    of_support = {"markersize": 11, "markeredgewidth": 1.3} if shapes else _RING
    entries = [Line2D([], [], linestyle="none", label="support set", **(_RING | of_support))]
    for label, name in enumerate(names):
        style = _markers(label, ways, False)[0] | {"markersize": 7 if shapes else 8}
        entries.append(Line2D([], [], linestyle="none", label=name, **style))
    return entries
