"""Picture of the queries' attention over the support examples of an episode."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor

from metashot.episodes import Episode
from metashot.evaluation.pictures.drawing import new_figure, show_image, wrapped_names, write_picture

_QUERIES = 8
_EXAMPLES = 10
_NAME_LENGTH = 15  # letters in a line of the name below an image


def attention_picture(episode: Episode, weights: Tensor, names: Sequence[str], path: Path) -> None:
    """Draw the first task of a batch: one row per query, with its most attended support examples, framed by their weights.

    Args:
        episode: The batch of tasks.
        weights: The attention weights of the first task [Q, S].
        names: The class names of the first task.
        path: The file to write.
    """
    support, query = episode.support, episode.query
    support_y, query_y = support.y[0].cpu(), query.y[0].cpu()
    weights = weights.detach().float().cpu().nan_to_num()
    count = weights.shape[1]
    queries = spread_over_classes(query_y, _QUERIES)
    drawn = min(_EXAMPLES, count)
    classes = wrapped_names(names, range(len(names)), _NAME_LENGTH)
    lines = 1 + max(name.count("\n") for name in classes)
    figure = new_figure(max(0.95 * (drawn + 1.4) + 0.3, 4.8), (1.13 + 0.12 * lines) * len(queries) + 0.7)
    grid = figure.subplots(len(queries), 2 + drawn, squeeze=False, width_ratios=[1, 0.35] + [1] * drawn)
    for row, place in zip(grid, queries, strict=True):
        label = int(query_y[place])
        of_query = weights[place]  # [S]
        own = float(of_query[support_y == label].sum())
        _show(row[0], query.x[0, place], "0.75", 1.0, f"{classes[label]}\n{own:.0%} to its own", False)
        row[1].axis("off")
        for axes, example in zip(row[2:], examples_to_draw(of_query, drawn), strict=True):
            weight, of_class = float(of_query[example]), int(support_y[example])
            true = of_class == label
            text = f"{'✓ ' if true else ''}{classes[of_class]}\n{weight:.0%}"
            _show(axes, support.x[0, example], f"{0.85 * (1 - weight):.3f}", 0.8 + 4 * weight, text, true)
    which = (
        "the whole support set" if drawn == count else f"the {drawn} of {count} support examples with the largest weights"
    )
    figure.suptitle(
        f"left: queries; right: {which}\npercent: the attention of the query; ✓: of the query's class", fontsize=9
    )
    write_picture(figure, path)


def spread_over_classes(y: Tensor, most: int) -> list[int]:
    """Choose at most `most` queries, the first of each class, then the second, and so on; returned sorted by class."""
    turns: dict[int, int] = {}
    keys = []
    for place, label in enumerate(y.tolist()):
        turns[label] = turns.get(label, -1) + 1
        keys.append((turns[label], label, place))
    return sorted((place for _, _, place in sorted(keys)[:most]), key=lambda place: (int(y[place]), place))


def examples_to_draw(weights: Tensor, most: int) -> Sequence[int]:
    """All support examples in their order, or the `most` with the largest weights, largest first."""
    if len(weights) <= most:
        return range(len(weights))
    places: list[int] = torch.sort(weights, descending=True, stable=True).indices[:most].tolist()
    return places


def _show(axes: Axes, image: Tensor, grey: str, width: float, text: str, bold: bool) -> None:
    axes.set(xticks=[], yticks=[])
    show_image(axes, image.detach().cpu(), grey, width)
    axes.set_xlabel(text, fontsize=7, labelpad=3, weight="bold" if bold else "normal")
