"""Shared by all pictures: writing files completely or not at all, framed images, and names that the font can draw."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from metashot.evaluation.pictures.letters import shown_letters
from metashot.files.outputs import SOFTWARE, write_output

RIGHT, WRONG = "#1a7f37", "#cf222e"
_WRAPPED_LENGTH, _WRAPPED_LINES = 20, 3  # letters in a line, and lines, of a wrapped name


def new_figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def write_picture(figure: Figure, path: Path, key: str | None = None) -> None:
    """Write a picture completely or not at all, with metashot named in its metadata; error messages name `key`."""
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata=SOFTWARE)
    write_output(path, content.getvalue(), key, "picture")


def say(axes: Axes, text: str) -> None:
    """Show a text where there is nothing to draw."""
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, wrap=True, transform=axes.transAxes)


def show_image(axes: Axes, image: Tensor, colour: str, width: float, style: str = "-") -> None:
    channels = image.shape[0]
    pixels = image[0] if channels == 1 else image.permute(1, 2, 0)
    axes.imshow(torch.as_tensor(pixels).numpy(), cmap="gray_r" if channels == 1 else None, vmin=0, vmax=1)
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=width, linestyle=style)


def wrapped_names(names: Sequence[str], labels: Sequence[int], length: int = _WRAPPED_LENGTH) -> list[str]:
    """Wrap names and keep them distinct, even where only their ends differ.

    Lines have at most `length` letters. Longer names lose their middle, and names that still look the same get their label
    as a prefix.
    """
    readable = [shown_letters(name) for name in names]
    wrapped = [
        f"class {label}" if name is None else _wrapped(name, length) for name, label in zip(readable, labels, strict=True)
    ]
    return [f"{label}: {text}" if wrapped.count(text) > 1 else text for text, label in zip(wrapped, labels, strict=True)]


def numbered_names(names: Sequence[str]) -> list[str]:
    """Wrapped names with their label as a prefix, which identifies predicted classes in pictures."""
    readable = [shown_letters(name) for name in names]
    return [f"class {label}" if name is None else f"{label}: {_wrapped(name)}" for label, name in enumerate(readable)]


def names_in_a_line(names: Sequence[str]) -> list[str]:
    """Names on one line with their label as a prefix, short enough for long lists."""
    readable = [shown_letters(name) for name in names]
    return [f"class {label}" if name is None else f"{label}: {_in_a_line(name)}" for label, name in enumerate(readable)]


def _wrapped(name: str, length: int = _WRAPPED_LENGTH) -> str:
    lines = [""]
    for part in re.split(r"(?<=[_/ -])", name):
        if len(lines[-1]) + len(part) > length and lines[-1]:
            lines.append("")
        lines[-1] += part
    if len(lines) > _WRAPPED_LINES:
        lines = [lines[0], "...", lines[-1]]
    return "\n".join(_in_a_line(line, length) for line in lines)


def _in_a_line(text: str, length: int = _WRAPPED_LENGTH) -> str:
    half = length // 2 - 1
    return (text if len(text) <= length else f"{text[:half]}...{text[-half:]}").replace("$", r"\$")
