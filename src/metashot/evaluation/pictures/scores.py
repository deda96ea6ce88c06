"""Pictures of scores: by inner step, their histogram over episodes, the reliability diagram, and the confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from metashot.evaluation.answers import Answers, reliability
from metashot.evaluation.pictures.drawing import new_figure, say, wrapped_names, write_picture
from metashot.problems import IN_PERCENT

_BARS = 30  # the most bars of a histogram
_UNEVEN = 0.05  # share of a step: scores that are further from multiples of a step are not counts
_ONE_BAR = 0.01  # share of the score: the width of the only bar where all scores are equal
_APART = 0.04  # share of the axis: the least distance between two labelled steps
_SPREAD = 1000.0  # ratio of maximum to median, or of median to minimum, above which the axis is logarithmic
_LARGE = 1e5  # errors from here on are printed in scientific notation
_DARK = 0.5  # share of the darkest grey, above which numbers are white
_PALEST = 0.15  # opacity of a bin with very few queries
_CLASSES = 10  # the most classes of the confusion matrix
_MOST_BARS = 25  # the most error bars; more are drawn as a band around a line


def adaptation_picture(
    steps: Sequence[int],
    scores: Sequence[float],
    ci95: Sequence[float | None],
    metric: str,
    path: Path,
    counted: str = "inner steps",
    over: str = "episodes",
) -> None:
    """Draw the score after each number of inner steps with its 95 % interval; non-finite scores leave a gap.

    Args:
        steps: The numbers of inner steps.
        scores: The mean score after each.
        ci95: The half-width of its interval.
        metric: The name of the score.
        path: The file to write.
        counted: What steps are.
        over: What the scores are means over.
    """
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    x, y = np.asarray(steps, dtype=np.float64), _axis_values(scores, metric)
    half = _axis_values([np.nan if width is None else width for width in ci95], metric)
    if not np.isfinite(y).any():
        say(axes, f"No {metric} after {_counted(len(steps), 'number')} of {counted} is a number.")
        write_picture(figure, path)
        return
    known = np.isfinite(y) & np.isfinite(half)
    if known.any() and len(y) > _MOST_BARS:
        axes.fill_between(x, y - half, y + half, where=known, color="0.8", label="95 % interval")
    elif known.any():
        axes.errorbar(
            x[known], y[known], half[known], fmt="none", ecolor="0.45", elinewidth=1, capsize=3, label="95 % interval"
        )
    style = "o-" if len(y) <= _MOST_BARS else "-"
    axes.plot(x, y, style, color="black", markersize=4, linewidth=1.2, label=f"mean over {over}")
    uneven = len(x) > 2 and not np.allclose(np.diff(x), x[1] - x[0])
    if uneven:  # the first steps change the score most, and a log axis has no 0
        axes.set_xscale("function", functions=(_signed_root, _signed_square))
    ticks = labelled_steps(steps, uneven)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [str(step) for step in ticks])
    if metric not in IN_PERCENT and _widely_spread(y):
        axes.set_yscale("log")
    axes.set_xlabel(counted + (" (square root)" if uneven else ""), fontsize=9)
    axes.set_ylabel(f"{metric} (%)" if metric in IN_PERCENT else metric, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    missing = int((~np.isfinite(y)).sum())
    left_out = f"\n{missing} of {len(y)} are not a number and left out" if missing else ""
    unit = counted.split()[-1].removesuffix("s")
    after = f"{_amount(metric, scores[0])} after {_counted(steps[0], unit)}"
    after += "" if len(steps) == 1 else f", {_amount(metric, scores[-1])} after {_counted(steps[-1], unit)}"
    axes.set_title(f"adaptation: {metric} {after}{left_out}", fontsize=9)
    axes.legend(fontsize=8)
    write_picture(figure, path)


def histogram_picture(
    scores: Sequence[float], ci95: float | None, worst: float, metric: str, path: Path, over: str = "episodes"
) -> None:
    """Draw a histogram of the scores of all episodes, or worlds, with their mean and the mean of the worst 5 %."""
    figure = new_figure(6.4, 4.0)
    axes = figure.subplots()
    values = np.asarray(scores, dtype=np.float64)
    finite = values[np.isfinite(values)]
    left_out = len(values) - len(finite)
    if len(finite) == 0:
        say(axes, f"The {metric} of no {over.removesuffix('s')} is a number.")
        write_picture(figure, path)
        return
    mean, logarithmic = float(finite.mean()), metric not in IN_PERCENT and _widely_spread(finite)
    edges = histogram_edges(finite, logarithmic)
    scale = 1.0
    if metric in IN_PERCENT:
        scale, edges = 100.0, edges.clip(0, 1)
    counts = np.histogram(finite, edges)[0]
    axes.bar(
        edges[:-1] * scale, counts, np.diff(edges) * scale, align="edge", color="0.75", edgecolor="white", linewidth=0.5
    )
    if len(edges) == 2:  # a single bar would be as wide as the picture
        axes.set_xlim(scale * (edges[0] - 4 * np.ptp(edges)), scale * (edges[1] + 4 * np.ptp(edges)))
    if logarithmic:
        axes.set_xscale("log")
    if metric in IN_PERCENT:
        low, high = axes.get_xlim()
        beyond = 0.02 * (high - low)
        axes.set_xlim(max(low, -beyond), min(high, 100 + beyond))
    label = f"mean {_amount(metric, mean)}"
    if ci95 is not None and np.isfinite(ci95):
        low = min(mean, max(mean - ci95, float(edges[0]))) if logarithmic else mean - ci95
        ends = np.array([[mean - low], [ci95]]) * scale
        axes.errorbar(mean * scale, 1.07 * float(counts.max()), xerr=ends, color="black", capsize=4, linewidth=1.5)
        label += f" ± {_number(metric, ci95)} (95 % interval)"
    axes.set_ylim(0, 1.14 * float(counts.max()))
    axes.axvline(mean * scale, color="black", linewidth=1.5, label=label)
    if np.isfinite(worst):
        label = f"mean of the worst 5 %: {_amount(metric, worst)}"
        axes.axvline(worst * scale, color="black", linewidth=1.5, linestyle="--", label=label)
    one = over.removesuffix("s")
    of_one = f"{metric} of an {one}" if one == "episode" else f"mean {metric} in a {one}"
    axes.set_xlabel(f"{of_one} (%)" if metric in IN_PERCENT else of_one, fontsize=9)
    axes.set_ylabel(over, fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=8)
    note = f" ({left_out} more are non-finite)" if left_out else ""
    figure.suptitle(f"{metric} of {_counted(len(finite), one)}{note}", fontsize=9)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    write_picture(figure, path)


def reliability_picture(answers: Answers, error: float, path: Path) -> None:
    """Draw the accuracy against the confidence of predictions; `error` is the expected calibration error."""
    figure = new_figure(4.8, 5.2)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    bins = reliability(answers)
    total = int(bins.queries.sum())
    if total == 0:
        lower.axis("off")
        say(upper, "All confidences are non-finite.")
        write_picture(figure, path)
        return
    full = bins.queries > 0
    left, width = bins.edges[:-1], np.diff(bins.edges)
    style = {"align": "edge", "color": "0.65", "edgecolor": "white", "linewidth": 0.5}
    bars = upper.bar(left[full], bins.accuracy[full], width[full], label="accuracy of a bin", **style)
    boldness = bin_boldness(bins.queries[full])
    for bar, bold in zip(bars, boldness, strict=True):
        bar.set_alpha(bold)
    x, y = bins.confidence[full], bins.accuracy[full]
    colours = [(0.0, 0.0, 0.0, bold) for bold in boldness]
    dots = [upper.scatter(x, y, s=16 * boldness, c=colours, clip_on=False, zorder=3, label="at its mean confidence")]
    line = upper.plot([0, 1], [0, 1], color="0.45", linestyle="--", linewidth=1, label="perfectly calibrated")
    handles = [bars, *dots, *line]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False, columnspacing=1.2)
    upper.set(xlim=(0, 1), ylim=(0, 1.02))
    upper.set_ylabel("accuracy (%)", fontsize=9)
    upper.yaxis.set_major_formatter(_PERCENT)
    told_error = f"{100 * error:.2f} %" if np.isfinite(error) else "not a number"
    upper.set_title(
        f"expected calibration error {told_error}, {_counted(total, 'query', 'queries')}\nbins with fewer queries are paler",
        fontsize=9,
    )
    lower.bar(left[full], bins.queries[full], width[full], **(style | {"color": "0.55"}))
    lower.set_yscale("log")
    lower.set_ylim(0.5, max(20, 2 * int(bins.queries.max())))
    lower.yaxis.set_major_locator(LogLocator(numticks=4))
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:.0f}"))
    lower.yaxis.set_minor_locator(NullLocator())
    lower.set_ylabel("queries", fontsize=9)
    lower.set_xlabel("confidence: probability of the predicted class (%)", fontsize=9)
    lower.xaxis.set_major_formatter(_PERCENT)
    for axes in (upper, lower):
        axes.tick_params(labelsize=8)
        axes.set_axisbelow(True)
    write_picture(figure, path)


def confusion_picture(answers: Answers, names: Sequence[str], path: Path) -> None:
    """Draw the confusion matrix of the most confused classes, in shares of each row's queries: see `confusion_shares`."""
    chosen = most_confused(answers, _CLASSES)
    wrong = int((~answers.right).sum())
    if not chosen:
        figure = new_figure(4.8, 1.6)
        say(figure.subplots(), f"No class was taken for another in {_counted(len(answers.label), 'query', 'queries')}.")
        write_picture(figure, path)
        return
    shares = confusion_shares(answers, chosen)
    among = int((~answers.right & np.isin(answers.label, chosen) & np.isin(answers.predicted, chosen)).sum())
    size = len(chosen)
    figure = new_figure(0.56 * size + 3.4, 0.56 * size + 2.7)
    axes = figure.subplots()
    others = np.where(np.eye(size, dtype=bool), np.nan, shares)
    darkest = float(np.nanmax(others))
    image = axes.imshow(others, cmap="Greys", vmin=0, vmax=darkest)
    for row, column in np.ndindex(size, size):
        _show_share(axes, row, column, shares[row, column], darkest)
    labels = wrapped_names([names[place] for place in chosen], chosen)
    axes.set_xticks(range(size), labels, rotation=90, fontsize=7)
    axes.set_yticks(range(size), labels, fontsize=7)
    axes.set_xlabel("predicted class", fontsize=9)
    axes.set_ylabel("class of the query", fontsize=9)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, format=_PERCENT)
    bar.set_label("share of the row's queries (%)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(
        "the most confused classes\n"
        f"{among} of {_counted(wrong, 'error')} {'is' if among == 1 else 'are'} between these classes\n"
        "percent of a row's queries in episodes with another of them",
        fontsize=9,
    )
    if np.isnan(shares).any():
        never = Patch(facecolor="white", edgecolor="0.7", hatch="////", label="never in one episode")
        figure.legend(handles=[never], loc="outside lower center", fontsize=8, frameon=False)
    write_picture(figure, path)


def bin_boldness(queries: NDArray[np.int64]) -> NDArray[np.float64]:
    """The opacity of bins with these numbers of queries, 1 for the fullest bin.

    It follows the precision of a bin's accuracy, which grows with the square root of the number, and has a visible minimum.
    """
    boldness: NDArray[np.float64] = np.maximum(_PALEST, np.sqrt(queries / queries.max()))
    return boldness


def labelled_steps(steps: Sequence[int], uneven: bool) -> list[int]:
    """Choose the steps that have room for a label: the first and the last, then round numbers before others."""
    positions = _signed_root(np.asarray(steps, dtype=np.float64)) if uneven else np.asarray(steps, dtype=np.float64)
    least = _APART * float(positions[-1] - positions[0])
    kept = [0, len(steps) - 1]
    round_first = sorted(range(1, len(steps) - 1), key=lambda place: (steps[place] % 10 != 0, steps[place] % 5 != 0, place))
    for place in round_first:
        if np.abs(positions[place] - positions[kept]).min() >= least:
            kept.append(place)
    return [steps[place] for place in sorted(set(kept))]


def histogram_edges(values: NDArray[np.float64], logarithmic: bool) -> NDArray[np.float64]:
    """The edges of a histogram's bins.

    Where scores are counts of right answers, each bin holds the same number of possible scores: other bins would show
    stripes that are an artefact.
    """
    largest = float(np.abs(values).max()) or 1.0
    different = np.unique(np.round(values / largest, 9)) * largest
    if len(different) == 1:
        half = _ONE_BAR * (abs(float(different[0])) or 1.0) / 2
        return np.array([different[0] - half, different[0] + half])
    edges: NDArray[np.float64]
    if logarithmic:
        edges = np.geomspace(values.min(), values.max(), _BARS + 1)
        return edges
    step = float(np.diff(different).min())
    places = (different - different[0]) / step
    if np.abs(places - np.round(places)).max() > _UNEVEN:
        rice = 2 * int(np.ceil(np.cbrt(len(values))))
        edges = np.linspace(values.min(), values.max(), min(_BARS, rice) + 1)
        return edges
    possible = round(float(places[-1])) + 1
    together = -(-possible // _BARS)  # possible scores per bin
    edges = different[0] + step * (np.arange(-(-possible // together) + 1) * together - 0.5)
    return edges


def most_confused(answers: Answers, most: int) -> list[int]:
    """The classes, at most `most`, of the pairs that were confused most often, in either direction."""
    wrong = ~answers.right
    pairs = np.sort(np.stack([answers.label[wrong], answers.predicted[wrong]], axis=1), axis=1)  # [wrong, 2]
    different, counts = np.unique(pairs, axis=0, return_counts=True)
    chosen: list[int] = []
    for pair in different[np.argsort(-counts, kind="stable")].tolist():
        new = [place for place in pair if place not in chosen]
        if len(chosen) + len(new) <= most:
            chosen += new
        if len(chosen) == most:
            break
    return chosen


def confusion_shares(answers: Answers, chosen: Sequence[int]) -> NDArray[np.float64]:
    """The confusion matrix of the chosen classes [classes, classes], in shares of each true class's queries.

    All shares of a row, also the right answers, refer to the same queries: those from episodes with another of the chosen
    classes. A row therefore adds up to at most 1. NaN where no episode had both classes.
    """
    places = {number: place for place, number in enumerate(answers.classes)}
    has = np.array(
        [[place in of_episode for place in chosen] for of_episode in answers.classes.values()]
    )  # [episodes, classes]
    shares = np.empty((len(chosen), len(chosen)))
    for row, place in enumerate(chosen):
        mine = answers.label == place
        had = has[[places[number] for number in answers.number[mine].tolist()]]  # [queries, classes]
        counts = np.delete(had, row, axis=1).any(1)  # [queries]
        called = answers.predicted[mine][counts][:, None] == np.asarray(chosen)  # [queries, classes]
        with np.errstate(invalid="ignore"):
            shares[row] = np.where(had[counts].any(0), called.sum(0) / counts.sum(), np.nan)
    return shares


def _show_share(axes: Axes, row: int, column: int, share: float, darkest: float) -> None:
    corner = (column - 0.5, row - 0.5)
    if np.isnan(share):
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="white", edgecolor="0.7", hatch="////", linewidth=0))
        return
    if row == column:  # right answers stay white: their shares would make all others look pale
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=1, zorder=3))
    else:
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="0.85", linewidth=0.5))
    colour = "0.5" if share == 0 else "white" if row != column and share > _DARK * darkest else "black"
    text = "0" if share == 0 else "<1" if share < 0.005 else f"{100 * share:.0f}"
    weight = "bold" if row == column else "normal"
    axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour, weight=weight)


def _percent(value: float, position: int | None) -> str:
    return f"{100 * value:.3g}"


_PERCENT = FuncFormatter(_percent)


def _axis_values(values: ArrayLike, metric: str) -> NDArray[np.float64]:
    """Values for an axis: shares in percent, non-finite values as NaN."""
    array = np.asarray(values, dtype=np.float64) * (100 if metric in IN_PERCENT else 1)
    return np.where(np.isfinite(array), array, np.nan)


def _widely_spread(values: NDArray[np.float64]) -> bool:
    least, middle, most = np.nanmin(values), np.nanmedian(values), np.nanmax(values)
    return bool(least > 0 and most > _SPREAD * middle) or bool(least > 0 and middle > _SPREAD * least)


def _signed_root(values: NDArray[np.float64]) -> NDArray[np.float64]:
    roots: NDArray[np.float64] = np.sign(values) * np.sqrt(np.abs(values))
    return roots


def _signed_square(values: NDArray[np.float64]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.sign(values) * np.square(values)
    return squares


def _amount(metric: str, value: float) -> str:
    """The value as in the report, or in scientific notation where it is large."""
    if not np.isfinite(value):
        return "not a number"
    return f"{_number(metric, value)} %" if metric in IN_PERCENT else _number(metric, value)


def _number(metric: str, value: float) -> str:
    if metric in IN_PERCENT:
        return f"{100 * value:.2f}"
    return f"{value:.4f}" if abs(value) < _LARGE else f"{value:.3e}"


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
