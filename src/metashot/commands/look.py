"""python -m metashot.data: shows the facts of a data set, and draws one of its episodes as a contact sheet."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console

from metashot import configuration
from metashot.bad_input import BadInput
from metashot.data.class_episodes import ClassEpisodes
from metashot.data.module import EpisodicDataModule
from metashot.episodes import Episode
from metashot.evaluation.pictures.episodes import contact_sheet, curves_sheet
from metashot.files.outputs import named_file, refuse_to_replace
from metashot.sources.building import build_notes, read_manifest
from metashot.sources.getting.files import printable
from metashot.sources.source import PIXELS
from metashot.sources.splitting import Split

_NAMED = 10  # the most files that are listed


def look_at_data(composed: DictConfig) -> None:
    """Print the facts of a data set, and draw one of its episodes.

    Args:
        composed: the composed configuration.

    Raises:
        BadInput: if the data cannot be used, or the split has no episodes.
    """
    config = configuration.plain(composed)
    split: Split = config["split"]
    out = named_file(config["out"], "out", "episode.png")
    refuse_to_replace(out, "out", "picture")
    data: EpisodicDataModule = configuration.build(config["data"], seed=config["seed"])
    data.seeds[split] = config["seed"]
    console = Console(soft_wrap=True, highlight=False, markup=False)
    _print(console, _facts(data))
    if split == "train" and data.shuffled:
        raise BadInput("data.train.batch trains on shuffled images, and these have no episodes to look at: leave it out")
    data.refuse_undrawable((split,))  # as `data.setup()` does, which would also check the splits that do not matter here
    numbers, device = np.array([config["number"]]), torch.device("cpu")
    (episode,) = data.training_batch(numbers, device) if split == "train" else data.batch(split, numbers, device)
    _print(console, [("episode", f"{split} {config['number']}, {data.shape_of(split)}"), *_classes(data, split, episode)])
    drawn = _draw(data, split, episode, out)
    _print(console, [("sheet", str(out) if drawn else "none: these items have no picture")])


def _print(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    console.print("\n".join(f"{name:<9} {value}".rstrip() for name, value in rows))


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
