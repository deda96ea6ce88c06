"""Pictures of episodes: images or curves, with or without answers."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from metashot.episodes import Episode
from metashot.evaluation.pictures.drawing import RIGHT, WRONG, numbered_names, show_image, wrapped_names, write_picture
from metashot.problems.regression import BAND, mean_and_deviation

_SHOWN_SHOTS = 5
_SHOWN_QUERIES = 8  # per class: as many as fit beside its support examples and are still readable
_SHOWN_TASKS = 4  # for functions
_NAME_WIDTH = 1.6  # inches for the name beside a row
_NARROWEST = 4.8  # inches, so that the title fits


def episode_picture(episode: Episode, scores: Tensor, names: Sequence[str], path: Path) -> None:
    """Draw the first task of a batch: one row per class with its label and name, its support examples, and its queries.

    Args:
        episode: The batch of tasks.
        scores: The logits of its queries [T, Q, ways].
        names: The class names of the first task.
        path: The file to write.
    """
    probabilities = scores[0].float().softmax(-1).cpu()
    query_y = episode.query.y[0].cpu()

    def answered(axes: Axes, image: Tensor, label: int, place: int) -> None:
        _show_answer(axes, image, probabilities[query_y == label][place], label)

    right = int((probabilities.argmax(-1) == query_y).sum())
    title = (
        "left: support set; right: queries with the number of\nthe predicted class and its probability, "
        f"solid if right, dashed if wrong\n{right} of all {len(query_y)} queries right"
    )
    write_picture(_grid(episode, numbered_names(names), title, answered), path)


def contact_sheet(episode: Episode, names: Sequence[str], path: Path) -> None:
    """Draw the first task of a batch without answers: one row per class, support examples left, queries right."""

    def plain(axes: Axes, image: Tensor, label: int, place: int) -> None:
        show_image(axes, image, "0.75", 1.0)

    write_picture(
        _grid(
            episode,
            wrapped_names(names, range(len(names))),
            "left: support set; right: queries",
            plain,
        ),
        path,
        "out",
    )


def curves_picture(episode: Episode, answers: Tensor, names: Sequence[str], path: Path) -> None:
    """Draw the first tasks of a batch of functions of one input: support points, true function and answers. `names` is
    unused, since functions have no names."""
    figure, panels = _panels(episode)
    for task, axes in enumerate(panels):
        x, order = _sorted(episode.query.x[task])
        axes.plot(x, episode.query.y[task, order, 0].cpu(), color="0.6", linewidth=3, label="truth")
        axes.plot(x, answers[task, order, 0].float().cpu(), color="black", linewidth=1.2, linestyle="--", label="answers")
        _show_points(axes, episode, task)
    _show_legend(figure, panels[0])
    write_picture(figure, path)


def bands_picture(episode: Episode, answers: Tensor, names: Sequence[str], path: Path) -> None:
    """As `curves_picture`, of answers with standard deviations: the mean and the 95 % band."""
    figure, panels = _panels(episode)
    means, deviations = (part.float().cpu() for part in mean_and_deviation(answers))
    for task, axes in enumerate(panels):
        x, order = _sorted(episode.query.x[task])
        mean, half = means[task, order, 0], BAND * deviations[task, order, 0]
        axes.fill_between(x, mean - half, mean + half, color="0.85", linewidth=0, label="95 % band")
        axes.plot(x, episode.query.y[task, order, 0].cpu(), color="0.6", linewidth=3, label="truth")
        axes.plot(x, mean, color="black", linewidth=1.2, linestyle="--", label="mean")
        _show_points(axes, episode, task)
    _show_legend(figure, panels[0])
    write_picture(figure, path)


def curves_sheet(episode: Episode, path: Path) -> None:
    """Draw the first tasks of a batch of functions of one input, without answers."""
    figure, panels = _panels(episode)
    for task, axes in enumerate(panels):
        x, order = _sorted(episode.query.x[task])
        axes.plot(x, episode.query.y[task, order, 0].cpu(), ".", color="0.6", label="queries")
        _show_points(axes, episode, task)
    _show_legend(figure, panels[0])
    write_picture(figure, path, "out")


def _grid(
    episode: Episode, names: Sequence[str], title: str, show_query: Callable[[Axes, Tensor, int, int], None]
) -> Figure:
    """One row per class: support examples, a gap, queries. A class with fewer examples than others has empty places."""
    ways = len(names)
    support = [_of_class(episode.support.x[0], episode.support.y[0], label)[:_SHOWN_SHOTS] for label in range(ways)]
    queries = [_of_class(episode.query.x[0], episode.query.y[0], label)[:_SHOWN_QUERIES] for label in range(ways)]
    shots, asked = max(map(len, support)), max(map(len, queries))
    # A gap of about half an image separates the support set from the queries.
    width = max(_NARROWEST, 0.9 * (shots + asked + 0.5) + _NAME_WIDTH)
    figure = Figure(figsize=(width, 1.12 * ways + 0.9), dpi=120, layout="constrained")
    grid = figure.subplots(ways, shots + 1 + asked, squeeze=False, width_ratios=[1] * shots + [0.35] + [1] * asked)
    for label in range(ways):
        for column, axes in enumerate(grid[label]):
            axes.set(xticks=[], yticks=[])
            place = column - shots - 1
            if column < len(support[label]):
                show_image(axes, support[label][column], "0.75", 1.0)
            elif 0 <= place < len(queries[label]):
                show_query(axes, queries[label][place], label, place)
            else:
                axes.axis("off")
        grid[label, 0].set_ylabel(names[label], fontsize=8, rotation=0, ha="right", va="center")
    figure.suptitle(title, fontsize=9)
    return figure


def _panels(episode: Episode) -> tuple[Figure, list[Axes]]:
    count = min(_SHOWN_TASKS, len(episode))
    figure = Figure(figsize=(3.6 * count, 3.2), dpi=120, layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, count, squeeze=False)[0])
    for task, axes in enumerate(panels):
        axes.set_title(f"task {int(episode.number[task])}", fontsize=9)
        axes.set_xlabel("x", fontsize=9)
    panels[0].set_ylabel("y", fontsize=9)
    return figure, panels


def _show_legend(figure: Figure, axes: Axes) -> None:
    """Below the panels, where it hides no curve."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)


def _show_points(axes: Axes, episode: Episode, task: int) -> None:
    x, y = episode.support.x[task, :, 0].cpu(), episode.support.y[task, :, 0].cpu()
    axes.plot(x, y, "^", color="black", markersize=6, label="support set")


def _sorted(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[:, 0].cpu().sort()


def _of_class(values: Tensor, y: Tensor, label: int) -> Tensor:
    return values[y == label].detach().cpu()


def _show_answer(axes: Axes, image: Tensor, probabilities: Tensor, label: int) -> None:
    predicted = int(probabilities.argmax())
    right = predicted == label
    # The line style says the same as its colour, for greyscale prints.
    show_image(axes, image, RIGHT if right else WRONG, 2.0, "-" if right else "--")
    axes.set_xlabel(f"{predicted} · {probabilities[predicted]:.0%}", fontsize=7, color=RIGHT if right else WRONG, labelpad=2)
