"""Pictures of what a learner makes: features on a plane with real ones, and drawings beside real and training images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from metashot.episodes import Examples
from metashot.evaluation.pictures.drawing import new_figure, show_image, wrapped_names, write_picture
from metashot.evaluation.pictures.features import principal_components

_SHOWN = 5  # made drawings of a class, and as many of the others
_MOST_CLASSES = 10  # in one picture
_PARTS = ("made", "their nearest\ntraining images", "real")


def made_features_picture(support: Examples, query: Examples, made: Examples, names: Sequence[str], path: Path) -> None:
    """Draw real and made features of one task on the first two principal components of all of them.

    Args:
        support: Support features [S, features] with labels [S].
        query: Query features [Q, features], likewise.
        made: Made features [M, features], likewise.
        names: The class names.
        path: The file to write.
    """
    parts = [Examples(part.x.detach().cpu(), part.y.cpu()) for part in (made, query, support)]
    projected, shares = principal_components(torch.cat([part.x for part in parts]))
    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()
    styles: list[dict[str, Any]] = [
        {"marker": ".", "markersize": 4, "alpha": 0.45},
        {"marker": "o", "markersize": 5, "markeredgecolor": "black", "markeredgewidth": 0.6},
        {"marker": "*", "markersize": 15, "markeredgewidth": 1.5, "fillstyle": "none"},  # what is made may lie behind it
    ]
    first = 0
    for part, style, what in zip(parts, styles, ("made", "query", "support"), strict=True):
        own = projected[first : first + len(part.y)]
        first += len(part.y)
        for label, name in enumerate(wrapped_names(names, range(len(names)))):
            x = own[part.y == label]
            shown = name if what == "query" else None
            axes.plot(x[:, 0], x[:, 1], linestyle="none", color=f"C{label % 10}", label=shown, **style)
    for style, what in zip(styles, ("made", "real", "example"), strict=True):
        axes.plot([], [], linestyle="none", color="0.5", label=what, **style)
    axes.set_xlabel(f"first component ({shares[0]:.0%} of the variance)", fontsize=9)
    axes.set_ylabel(f"second component ({shares[1]:.0%})", fontsize=9)
    axes.tick_params(labelsize=8)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    write_picture(figure, path)


def made_sheet(
    support: Examples, query: Examples, made: Examples, nearest: Tensor, names: Sequence[str], path: Path
) -> None:
    """Draw one row per class: its example, made drawings, the training image nearest to each of them, and real drawings.

    Args:
        support: Support images [S, channels, height, width] with labels [S].
        query: Query images, likewise.
        made: Made images, likewise.
        nearest: The training image that is nearest to each made one, like `made.x`.
        names: The class names.
        path: The file to write.
    """
    rows = min(len(names), _MOST_CLASSES)
    columns = 1 + 3 * (_SHOWN + 1)
    figure = Figure(figsize=(0.62 * columns + 1.6, 0.75 * rows + 0.7), dpi=120, layout="constrained")
    widths = [1.0] + [0.3, *[1.0] * _SHOWN] * 3
    grid = figure.subplots(rows, columns, squeeze=False, width_ratios=widths)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.axis("off")
    for label, name in enumerate(wrapped_names(names, range(len(names)))[:rows]):
        own = made.y == label
        real = query.x[query.y == label]
        shown = [support.x[support.y == label][:1], made.x[own][:_SHOWN], nearest[own][:_SHOWN], real[:_SHOWN]]
        for part, images in enumerate(shown):
            start = 0 if part == 0 else 2 + (part - 1) * (_SHOWN + 1)
            for place, image in enumerate(images.detach().cpu().clamp(0, 1)):
                axes = grid[label, start + place]
                axes.axis("on")
                show_image(axes, image, "0.75", 1.0)
        grid[label, 0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    grid[0, 0].set_title("example", fontsize=8)
    for part, title in enumerate(_PARTS):
        grid[0, 2 + part * (_SHOWN + 1) + _SHOWN // 2].set_title(title, fontsize=8)
    write_picture(figure, path)
