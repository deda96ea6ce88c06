"""python -m metashot.data: the facts of a data set, and one of its episodes as a contact sheet or, of texts, as a page."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from rich.cells import cell_len
from rich.console import Console

from metashot import configuration
from metashot.bad_input import BadInput
from metashot.data.class_episodes import ClassEpisodes
from metashot.data.module import EpisodicDataModule
from metashot.episodes import Episode
from metashot.evaluation.pictures.episodes import contact_sheet, curves_sheet
from metashot.evaluation.pictures.texts import TextEpisode, first_texts, texts_page
from metashot.files.outputs import Kind, named_file, refuse_to_replace
from metashot.process.terminal_text import padded_text, shortened_text
from metashot.sources.building import build_notes, read_manifest
from metashot.sources.getting.files import printable
from metashot.sources.source import PIXELS, TOKENS
from metashot.sources.splitting import Split
from metashot.worlds import Worlds

_NAMED = 10  # the most files that are listed
_SHOWN_TEXTS = 25  # of the support set, and of the queries
_NAME_CELLS = 24  # of a terminal, for the name of a class
_LEAST_CELLS = 20  # for a text, however narrow the terminal is


def look_at_data(composed: DictConfig) -> None:
    """Print the facts of a data set, and draw one of its episodes.

    Args:
        composed: the composed configuration.

    Raises:
        BadInput: if the data cannot be used, or the split has no episodes.
    """
    config = configuration.plain(composed)
    split: Split = config["split"]
    data: EpisodicDataModule = configuration.build(config["data"], seed=config["seed"])
    out = _output(config["out"], data)
    data.seeds[split] = config["seed"]
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    _print(console, _facts(data))
    if split == "train" and data.shuffled:
        raise BadInput("data.train.batch trains on shuffled images, and these have no episodes to look at: leave it out")
    data.refuse_undrawable((split,))  # as `data.setup()` does, which would also check the splits that do not matter here
    numbers, device = np.array([config["number"]]), torch.device("cpu")
    (episode,) = data.training_batch(numbers, device) if split == "train" else data.batch(split, numbers, device)
    _print(console, [("episode", f"{split} {config['number']}, {data.shape_of(split)}"), *_classes(data, split, episode)])
    texts = first_texts(data, split, episode, None)
    if texts is not None:
        _print_texts(console, texts)
        texts_page(texts, out, "out")
        _print(console, [("page", printable(out))])
        return
    if isinstance(episode, Worlds):
        _print(console, [("sheet", "none: there is no picture of a world before somebody acts in it")])
        return
    drawn = _draw(data, split, episode, out)
    _print(console, [("sheet", printable(out) if drawn else "none: these items have no picture")])


def _output(given: str | None, data: EpisodicDataModule) -> Path:
    """The file that is written: a page for texts, and a picture for other items."""
    of_texts = isinstance(data, ClassEpisodes) and data.items == TOKENS
    kind: Kind = "page" if of_texts else "picture"
    suffix = ".html" if of_texts else ".png"
    out = named_file(data.name + suffix if given is None else given, "out", f"episode{suffix}")
    if of_texts and out.suffix.lower() not in (".html", ".htm"):
        raise BadInput(
            f"out={printable(out)} cannot be used: an episode of texts is written as a page of HTML; allowed: a name such "
            f"as {printable(out.with_suffix(suffix))}"
        )
    refuse_to_replace(out, "out", kind)
    return out


def _print(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    console.print("\n".join(f"{name:<9} {value}".rstrip() for name, value in rows))


def _print_texts(console: Console, episode: TextEpisode) -> None:
    """Print the texts of an episode, each on a line of its own, behind what set it is in and its class."""
    # The name of a class is cut first, since texts are what is to be seen.
    names = [shortened_text(name, _NAME_CELLS) for name in episode.names]
    widest = max(map(cell_len, names))
    console.print()
    for kind, texts, labels in (
        ("support", episode.support, episode.support_y),
        ("query", episode.query, episode.query_y),
    ):
        for text, label in zip(texts[:_SHOWN_TEXTS], labels.tolist(), strict=False):
            start = f"{kind:<9} {padded_text(names[label], widest)}  "
            console.print(start + shortened_text(text, max(_LEAST_CELLS, console.width - cell_len(start))))
        if len(texts) > _SHOWN_TEXTS:
            console.print(f"{kind:<9} and {len(texts) - _SHOWN_TEXTS:,} more in the page")
    console.print()


def _facts(data: EpisodicDataModule) -> Iterator[tuple[str, str]]:
    official = data.source.official if isinstance(data, ClassEpisodes) else None  # sampled functions have no files
    yield "data", official.title if official else data.name
    if official:
        yield "home", official.home
        yield "licence", official.licence
        for file in official.files:
            size = f", {file.size / 1e6:.1f} MB" if file.size else ""
            yield "official", f"{file.name}{size}, {file.checksum or 'no published checksum'}, {file.address}"
    if isinstance(data, ClassEpisodes):
        data.open_banks()
        yield from _bank_facts(data)
    if data.spaces is not None:
        yield "worlds", data.family
        yield "observed", str(data.spaces.observations)
        yield "done", str(data.spaces.actions)


def _bank_facts(data: ClassEpisodes) -> Iterator[tuple[str, str]]:
    files = [printable(path) for path in data.source.files(data.root)]
    yield from (("found", path) for path in files[:_NAMED])
    if len(files) > _NAMED:
        yield "found", f"and {len(files) - _NAMED:,} more"
    manifest = read_manifest(data.bank_folder)
    total = sum(bank.items.nbytes for bank in data.banks.values())
    items = sum(int(bank.items_per_class.sum()) for bank in data.banks.values())
    noun = data.presentation.noun
    yield noun, f"{items:,} of {_form(data)}"
    for split, bank in data.banks.items():
        counts = bank.items_per_class
        each = f"{counts.min():,}" if counts.min() == counts.max() else f"{counts.min():,} to {counts.max():,}"
        yield split, f"{len(counts):,} classes, {counts.sum():,} {noun}, {each} a class"
    yield "bank", f"{data.bank_folder}, {total / 1e6:.1f} MB, built in {manifest['seconds']} s"
    yield from (("note", line) for line in build_notes(manifest))


def _form(data: ClassEpisodes) -> str:
    """Describe the form of one item."""
    shape = data.presentation.item_shape
    if data.presentation.kind == TOKENS:
        return f"at most {shape[0]:,} characters"
    if data.presentation.kind != PIXELS:
        return f"shape {'x'.join(map(str, shape))}, {data.source.dtype}"
    channels, height, width = shape
    colours = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    return f"{height}x{width}, {colours}"


def _classes(data: EpisodicDataModule, split: Split, episode: Episode) -> Iterator[tuple[str, str]]:
    if isinstance(data, ClassEpisodes):
        for label, number in enumerate(episode.classes[0].tolist()):
            yield f"class {label}", data.banks[split].classes[number]


def _draw(data: EpisodicDataModule, split: Split, episode: Episode, out: Path) -> bool:
    """Draw the episode if its items can be displayed. Returns whether they can."""
    seen = data.for_display(episode)
    if seen is None:
        return False
    if isinstance(data, ClassEpisodes):
        contact_sheet(seen, [data.banks[split].classes[number] for number in episode.classes[0].tolist()], out)
    else:
        curves_sheet(seen, out)
    return True
