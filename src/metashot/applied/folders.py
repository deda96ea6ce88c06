"""The files on which the command line applies a learner: a support folder with a sub-folder for each class, and queries."""

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

_NAMED = 10  # files that a message about many of them names
_ALLOWED = "allowed: a folder with a sub-folder of images for each class, such as support/cat and support/dog"


@dataclass
class Images:
    """What was read of some files, and what happened on the way."""

    pixels: NDArray[np.uint8]  # [N, channels, height, width]
    files: list[str]  # of the images
    skipped: list[str]  # a line for each file that could not be read
    inverted: int  # images whose bright ground was made dark
    photographic: int  # images that look like photographs, to a learner of drawings
    remarks: list[tuple[str, str]] = field(default_factory=list)  # a file, and what was done with it


@dataclass(frozen=True)
class Outputs:
    """What a call will write: each file with its key and its kind."""

    table: Path
    picture: Path
    graph: Path | None
    learner: Path | None

    def __post_init__(self) -> None:
        for key, path, kind in self._all():
            refuse_to_replace(path, key, kind)
        paths = [path for _, path, _ in self._all()]
        twice = next((path for path in paths if paths.count(path) > 1), None)
        if twice is not None:
            raise BadInput(f"{printable(twice)} would be written twice: give out=, export= and save= different names")

    def of_an_earlier_call(self) -> set[Path]:
        """Those that are there already. Without its table a picture is not a contact sheet of the same call."""
        beside = self.table.exists()
        return {path.resolve() for _, path, _ in self._all() if path.exists() and (path != self.picture or beside)}

    def refuse_to_replace_any(self, files: Iterable[Path]) -> None:
        """Raise where one of these, which are to be read, would be written too."""
        keys = {path.resolve(): key for key, path, _ in self._all()}
        for file in files:
            if key := keys.get(file.resolve()):
                raise BadInput(
                    f"{key}= would replace {printable(file)}, which is among the images to read: choose another name"
                )

    def _all(self) -> Iterator[tuple[str, Path, Kind]]:
        yield "out", self.table, "table"
        yield "out", self.picture, "picture"
        if self.graph is not None:
            yield "export", self.graph, "graph"
        if self.learner is not None:
            yield "save", self.learner, "fitted learner"


def support_files(given: str) -> tuple[dict[str, list[Path]], list[Path]]:
    """The files of each class, and those that lie in no class folder."""
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
        found = f"has one class, {next(iter(classes))}" if classes else "has no class folders"
        aside = f" and {_counted(loose, 'file|files')} outside of one ({named(map(str, loose))})" if loose else ""
        raise BadInput(f"support={printable(given)} {found}{aside}; two classes at least are needed, {_ALLOWED}")
    return classes, loose


def query_files(given: str | Sequence[str], outputs: "Outputs") -> list[Path]:
    """The files of a folder and those below it, of a pattern such as photos/*.jpg, or of a list of all of these, without
    those that an earlier call has written and this one will write again."""
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
    named = {Path(one).expanduser().resolve() for one in ([given] if isinstance(given, str) else given)}
    earlier = outputs.of_an_earlier_call()
    outputs.refuse_to_replace_any(path for path in found if path.resolve() in named or path.resolve() not in earlier)
    found = [path for path in found if path.resolve() not in earlier]
    if not found:
        raise BadInput(f"query={_shown_list(given)} has no files; give a folder with images, or files")
    return list(dict.fromkeys(found))


def read_all(files: Iterable[Path], form: Form) -> Images:
    """Whatever can be read of these files, as a learner takes it."""
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
    """The images of all classes, and the class of each."""
    whole = Images(np.empty((0, *form.shape), np.uint8), [], [], 0, 0)
    labels: list[str] = []
    for name, files in classes.items():
        found = read_all(files, form)
        if not found.files:
            why = f": {named(found.skipped)}" if found.skipped else ", for it is empty"
            raise BadInput(
                f"the class {name} of the support folder has no image that can be read{why}; add one, or remove it"
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
    """Some of them, and how many there are more."""
    every = list(lines)
    more = f"; and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return "; ".join(map(printable, every[:_NAMED])) + more


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
        raise BadInput(
            f"query={printable(pattern)} leads through too many folders in one another: name one of them"
        ) from error


def _below(folder: Path, above: tuple[tuple[int, int], ...], walk: Walk) -> Iterator[Path]:
    """The files of a folder and of those below it, behind links too; a link to a folder that it lies in is not followed."""
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
    """The folders and the files in a folder, by name. A link that leads nowhere is a file that cannot be read."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from error
    entries = [entry for entry in entries if not is_junk(entry.name)]
    folders = [entry for entry in entries if entry.is_dir()]
    return folders, [entry for entry in entries if not entry.is_dir()]


def _unreadable(folder: Path, error: OSError) -> BadInput:
    return BadInput(f"{printable(folder)} cannot be read: {reason_of(error)}; mend it or leave it out")
