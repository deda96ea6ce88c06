"""Folders of a user's own files: class folders, which may be inside the folders train, val and test."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.splitting import split_called

_NAMED = 5  # files or lines listed in a message about many


def split_folders(root: Path, names: Iterable[str], things: str, allowed: str) -> dict[str, str]:
    """Find the folders that are splits and not classes: all of them have names of splits and contain class folders.

    Args:
        root: the folder that they are in.
        names: the files, as paths below `root`.
        things: what the files are, for messages.
        allowed: the allowed layouts, for messages.

    Returns:
        The split of each folder; empty if there are only classes.

    Raises:
        BadInput: if there are both, or a split twice.
    """
    holds_folders: dict[str, bool] = {}
    for name in names:
        top, is_inside, rest = name.partition("/")
        if is_inside:
            holds_folders[top] = holds_folders.get(top, False) or "/" in rest
    splits: dict[str, str] = {top: split for top in sorted(holds_folders) if (split := split_called(top))}
    others = sorted(holds_folders.keys() - splits.keys())
    flat = [top for top in splits if not holds_folders[top]]
    if not splits or (others and flat):
        return {}  # a class may be called train
    if others:
        raise BadInput(
            f"data.root={printable(root)} has folders of splits ({', '.join(splits)}) and others beside them "
            f"({listed(others)}); move the others away, or rename a class that is called like a split"
        )
    if flat:
        raise BadInput(f"{printable(root / flat[0])} has {things} and no class folders; {allowed}")
    for found, count in Counter(splits.values()).items():
        if count > 1:
            twice = " and ".join(top for top in splits if splits[top] == found)
            raise BadInput(f"data.root={printable(root)} has {twice}, which are the same split; keep one of them")
    return splits


def listed(names: Collection[str]) -> str:
    """The first few names and the number of further ones, for a message."""
    more = f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(printable(name) for name in list(names)[:_NAMED]) + more
