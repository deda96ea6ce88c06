"""Pictures of dense labels: images overlaid with their true and predicted masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from metashot.episodes import Episode
from metashot.evaluation.pictures.drawing import names_in_a_line, new_figure, show_image, write_picture
from metashot.problems.dense import IGNORED

_COLUMNS = 6  # the most support examples, and the most queries
_OPACITY = 0.55  # opacity of a mask: the image stays visible below it
_MOST_NAMES = 12  # the most names in the legend


def masks_picture(episode: Episode, answers: Tensor, names: Sequence[str], path: Path) -> None:
    """Draw the first task of a batch: support examples and queries with their labels, and the predictions below.

    Args:
        episode: Images [T, N, channels, height, width] with labels [T, N, height, width].
        answers: Logits [T, Q, classes, height, width].
        names: The names of the task's classes in the order of their labels, if they have names.
        path: The file to write.
    """
    predicted = answers[0].float().argmax(1).cpu()  # [Q, height, width]
    support = [(episode.support.x[0, n], episode.support.y[0, n]) for n in range(min(_COLUMNS, episode.support.x.shape[1]))]
    places = range(min(_COLUMNS, len(predicted)))
    true = [(episode.query.x[0, n], episode.query.y[0, n]) for n in places]
    answered = [(episode.query.x[0, n], predicted[n]) for n in places]
    rows = {"support set": support, "queries": true, "answers": answered}
    columns = max(map(len, rows.values()))
    figure = new_figure(max(4.8, 1.2 * columns + 0.8), 1.25 * len(rows) + 1.0)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for of_row, (title, images) in zip(grid, rows.items(), strict=True):
        for place, axes in enumerate(of_row):
            axes.set(xticks=[], yticks=[])
            if place < len(images):
                _show_mask(axes, *images[place])
            else:
                axes.axis("off")
        of_row[0].set_ylabel(title, fontsize=8)
    classes = range(answers.shape[2])
    named = names_in_a_line(names) if len(names) == len(classes) else [f"class {label}" for label in classes]
    keys = [Patch(color=colour_of(label), label=named[label]) for label in classes[:_MOST_NAMES]]
    figure.legend(handles=keys, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    figure.suptitle("the classes of pixels; ignored pixels have no colour", fontsize=9)
    write_picture(figure, path)


def colour_of(label: int) -> tuple[float, float, float]:
    red, green, blue, _ = colormaps["tab20"](label % 20)
    return red, green, blue


def coloured(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Labels [height, width] as RGBA colours [height, width, 4]; ignored pixels are transparent."""
    colours = np.zeros((*labels.shape, 4))
    for label in np.unique(labels[labels != IGNORED]):
        colours[labels == label] = (*colour_of(int(label)), _OPACITY)
    return colours


def _show_mask(axes: Axes, image: Tensor, labels: Tensor) -> None:
    show_image(axes, image.detach().cpu(), "0.75", 1.0)
    axes.imshow(coloured(labels.cpu().numpy()), interpolation="nearest")
