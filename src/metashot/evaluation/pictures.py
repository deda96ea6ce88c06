"""Pictures of what a learner did."""

from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from metashot.episodes import Episode

_SHOWN_QUERIES = 8  # of each class: what fits beside its support examples and is still readable
_RIGHT, _WRONG = "#1a7f37", "#cf222e"


def episode_picture(episode: Episode, scores: Tensor, path: Path) -> None:
    """The first task of a batch: a row a class, its support examples, then queries framed by whether they were right."""
    ways = int(episode.support.y[0].max()) + 1
    probabilities = scores[0].float().softmax(-1).cpu()
    support = [_of_class(episode.support.x[0], episode.support.y[0], label) for label in range(ways)]
    queries = [_of_class(episode.query.x[0], episode.query.y[0], label)[:_SHOWN_QUERIES] for label in range(ways)]
    answers = [_of_class(probabilities, episode.query.y[0].cpu(), label) for label in range(ways)]
    shots, shown = len(support[0][:5]), len(queries[0])
    # A gap as wide as half an image keeps what was learned from apart from what was asked.
    figure = Figure(figsize=(0.9 * (shots + shown + 0.5) + 0.6, 1.12 * ways + 0.7), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(ways, shots + 1 + shown, squeeze=False, width_ratios=[1] * shots + [0.35] + [1] * shown)
    for label in range(ways):
        for column in range(shots + 1 + shown):
            axes = grid[label, column]
            axes.set(xticks=[], yticks=[])
            if column == shots:
                axes.axis("off")
            elif column < shots:
                _show(axes, support[label][column], "0.75", 1.0)
            else:
                _show_answer(axes, queries[label][column - shots - 1], answers[label][column - shots - 1], label)
        grid[label, 0].set_ylabel(f"class {label}", fontsize=9)
    right = int((probabilities.argmax(-1) == episode.query.y[0].cpu()).sum())
    total = len(probabilities)
    figure.suptitle(
        f"left: support set; right: queries with the predicted class and its probability, "
        f"solid if right, dashed if wrong\n{right} of all {total} queries right",
        fontsize=9,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, format="png")
    temporary.replace(path)


def _of_class(values: Tensor, y: Tensor, label: int) -> Tensor:
    return values[y == label].detach().cpu()


def _show(axes, image: Tensor, colour: str, width: float, style: str = "-") -> None:  # type: ignore[no-untyped-def]
    channels = image.shape[0]
    pixels = image[0] if channels == 1 else image.permute(1, 2, 0)
    axes.imshow(torch.as_tensor(pixels).numpy(), cmap="gray_r" if channels == 1 else None, vmin=0, vmax=1)
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=width, linestyle=style)


def _show_answer(axes, image: Tensor, probabilities: Tensor, label: int) -> None:  # type: ignore[no-untyped-def]
    predicted = int(probabilities.argmax())
    right = predicted == label
    # The line's style says in greyscale what its colour says.
    _show(axes, image, _RIGHT if right else _WRONG, 2.0, "-" if right else "--")
    axes.set_xlabel(
        f"{predicted} · {probabilities[predicted]:.0%}", fontsize=7, color=_RIGHT if right else _WRONG, labelpad=2
    )
