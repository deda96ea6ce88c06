"""The files that the command line works on: a support folder with one sub-folder per class, queries, and outputs."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metashot.applied.images import Form, prepared
from metashot.bad_input import BadInput
from metashot.files.outputs import Kind, refuse_to_replace
from metashot.files.paths import Walk, given_path, reason_of
from metashot.sources.getting.files import is_junk, printable
from metashot.sources.images.decoding import Unreadable

_NAMED = 10  # the most files that one message names
_ALLOWED = (
    "allowed: a folder with a sub-folder of images for each class, such as support/cat and support/dog; for texts, a .csv, "
    ".tsv or .jsonl table, or such a folder of .txt files"
)


@dataclass
class Images:
    """The images that were read from some files, and what happened while reading them."""

    pixels: NDArray[np.uint8]  # [N, channels, height, width]
    files: list[str]  # the file of each image
    skipped: list[str]  # a line for each file that could not be read
    inverted: int  # number of images that were inverted, so that their background is dark
    photographic: int  # number of images that look like photographs, counted for learners of drawings
    remarks: list[tuple[str, str]] = field(default_factory=list)  # a file, and what was done with it


@dataclass(frozen=True)
class Outputs:
    """The files that a call will write."""

    table: Path
    picture: Path  # a contact sheet, or a page of HTML
    graph: Path | None
    learner: Path | None
    explanations: Path | None = None

    def __post_init__(self) -> None:
        for key, path, kind in self._all():
            refuse_to_replace(path, key, kind)
        found: dict[Path, Path] = {}
        for _, path, _ in self._all():
            if (other := found.get(_real(path))) is not None:
                both = printable(path) if path == other else f"{printable(path)} is {printable(other)}, which"
                raise BadInput(f"{both} would be written twice: give out=, export=, save= and explain= different names")
            found[_real(path)] = path

    def of_an_earlier_call(self) -> set[Path]:
        """The outputs that exist already; a picture counts only where its table exists, since both come from one call."""
        beside = self.table.exists()
        return {_real(path) for _, path, _ in self._all() if path.exists() and (path != self.picture or beside)}

    def refuse_to_replace_any(self, files: Iterable[Path]) -> None:
        """Raise `BadInput` where one of the input files would be overwritten."""
        keys = {_real(path): key for key, path, _ in self._all()}
        for file in files:
            if key := keys.get(_real(file)):
                raise BadInput(
                    f"{key}= would replace {printable(file)}, which is among the files to read: choose another name"
                )

    def _all(self) -> Iterator[tuple[str, Path, Kind]]:
        yield "out", self.table, "table"
        yield "out", self.picture, "page" if self.picture.suffix.lower() == ".html" else "picture"
        if self.graph is not None:
            yield "export", self.graph, "graph"
        if self.learner is not None:
            yield "save", self.learner, "fitted learner"
        if self.explanations is not None:
            yield "explain", self.explanations, "page"


def support_files(given: str) -> tuple[dict[str, list[Path]], list[Path]]:
    """Find the support images.

    Args:
        given: The support folder, with one sub-folder per class.

    Returns:
        The files of each class, and the files that are in no class folder.

    Raises:
        BadInput: There is no such folder, it has fewer than two classes, or two classes have the same name.
    """
    root = given_path(given, "support")
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise BadInput(f"support={printable(given)} {what}; {_ALLOWED}")
    folders, loose = _inside(root)
    walk = Walk()
    names = [printable(folder.name) for folder in folders]
    if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise BadInput(f"support={printable(given)} has two class folders that are both written {twice}: rename one of them")
    classes = {name: list(_below(folder, (), walk)) for name, folder in zip(names, folders, strict=True)}
    if len(classes) < 2:
        found = f"has one class, '{next(iter(classes))}'" if classes else "has no class folders"
        aside = (
            f"; it has {_counted(loose, 'file|files')} in no class folder, such as {printable(loose[0].name)}"
            if loose
            else ""
        )
        raise BadInput(f"support={printable(given)} {found}; at least two classes are needed, {_ALLOWED}{aside}")
    return classes, loose


def query_files(given: str | Sequence[str], outputs: "Outputs") -> list[Path]:
    """Find the query images.

    Args:
        given: A folder, which is searched recursively, a file, a pattern such as photos/*.jpg, or a list of these.
        outputs: The files that this call will write. An earlier call's outputs are no queries.

    Returns:
        The files, each once.

    Raises:
        BadInput: There are no such files, or one of them would be overwritten.
    """
    found: list[Path] = []
    for one in [given] if isinstance(given, str) else given:
        path = given_path(one, "query")
        if path.is_dir():
            files = list(_below(path, (), Walk()))
        elif os.path.lexists(path):
            files = [path]
        else:
            files = _matching(path)
            if not files:
                raise BadInput(
                    f"query={printable(one)} does not exist; allowed: a folder, a file, a pattern such as photos/*.jpg, or "
                    "a list such as [a.png,b.png]"
                )
        found += files
    named = {_real(Path(one).expanduser()) for one in ([given] if isinstance(given, str) else given)}
    earlier = outputs.of_an_earlier_call()
    outputs.refuse_to_replace_any(path for path in found if _real(path) in named or _real(path) not in earlier)
    found = [path for path in found if _real(path) not in earlier]
    if not found:
        raise BadInput(f"query={_shown_list(given)} has no files; give a folder with images, or files")
    return list(dict.fromkeys(found))


def read_all(files: Iterable[Path], form: Form) -> Images:
    """Read the files that can be read and bring them to the learner's form; the others are listed in `skipped`."""
    images = Images(np.empty((0, *form.shape), np.uint8), [], [], 0, 0)
    pixels = []
    for path in files:
        try:
            image = prepared(path, printable(path), form)
        except Unreadable as error:
            images.skipped.append(str(error))
            continue
        pixels.append(image.pixels)
        images.files.append(printable(path))
        images.inverted += image.was_inverted
        images.photographic += image.is_photographic
        if image.remark:
            images.remarks.append((printable(path), image.remark))
    if pixels:
        images.pixels = np.stack(pixels)
    return images


def read_support(classes: dict[str, list[Path]], form: Form) -> tuple[Images, list[str]]:
    """The images of all classes, and the class name of each image."""
    whole = Images(np.empty((0, *form.shape), np.uint8), [], [], 0, 0)
    labels: list[str] = []
    for name, files in classes.items():
        found = read_all(files, form)
        if not found.files:
            why = f": {named(found.skipped)}" if found.skipped else ": it is empty"
            raise BadInput(
                f"the class '{name}' of the support folder has no image that can be read{why}; add one, or remove it"
            )
        labels += [name] * len(found.files)
        whole = Images(
            np.concatenate([whole.pixels, found.pixels]),
            whole.files + found.files,
            whole.skipped + found.skipped,
            whole.inverted + found.inverted,
            whole.photographic + found.photographic,
            whole.remarks + found.remarks,
        )
    return whole, labels


def named(lines: Iterable[str]) -> str:
    """The first few lines, and how many more there are."""
    every = list(lines)
    more = f"; and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return "; ".join(map(printable, every[:_NAMED])) + more


def _real(path: Path) -> Path:
    """The path without links; of a link to itself, which `Path.resolve` refuses, the link."""
    return Path(os.path.realpath(path))


def _counted(things: Sequence[object], forms: str) -> str:
    one, many = forms.split("|")
    return f"{len(things)} {one if len(things) == 1 else many}"


def _shown_list(given: str | Sequence[str]) -> str:
    return printable(given) if isinstance(given, str) else f"[{','.join(map(printable, given))}]"


def _matching(pattern: Path) -> list[Path]:
    """The files and folders that a pattern matches."""
    try:
        return sorted(map(Path, glob.glob(str(pattern), recursive=True)))
    except RecursionError as error:
        raise BadInput(f"query={printable(pattern)} leads through too many nested folders: name one of them") from error


def _below(folder: Path, above: tuple[tuple[int, int], ...], walk: Walk) -> Iterator[Path]:
    """The files of a folder and its sub-folders. Links are followed, except a link to a folder that contains it."""
    try:
        here = walk.enter(folder, above)
    except OSError as error:
        raise _unreadable(folder, error) from error
    if here is None:
        return
    folders, files = _inside(folder)
    yield from files
    for inner in folders:
        yield from _below(inner, here, walk)


def _inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files in a folder, sorted by name. A broken link counts as a file, which cannot be read."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from error
    entries = [entry for entry in entries if not is_junk(entry.name)]
    folders = [entry for entry in entries if entry.is_dir()]
    return folders, [entry for entry in entries if not entry.is_dir()]


def _unreadable(folder: Path, error: OSError) -> BadInput:
    return BadInput(f"{printable(folder)} cannot be read: {reason_of(error)}; mend it or leave it out")
