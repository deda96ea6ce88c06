"""How classes are assigned to splits: by a seed, or by lists of names in a folder."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from metashot.bad_input import BadInput
from metashot.files.paths import given_path, read_file, reason_of

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

FEWEST_CLASSES = 2  # in a split: an episode needs classes to distinguish
_LARGEST_LIST = 10**7  # bytes
_OTHER_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


def seeded_order(names: Iterable[str], seed: int) -> list[str]:
    """Shuffle names reproducibly on every machine: the sort key of a name depends only on the seed and the name.

    Args:
        names: the names.
        seed: the seed.

    Returns:
        The shuffled names.
    """
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest())


def seeded_splits(names: Iterable[str], sizes: Mapping[str, int], seed: int) -> dict[str, list[str]]:
    """Assign names to splits at random.

    Args:
        names: the names.
        sizes: the number of names in each split.
        seed: the seed.

    Returns:
        The names of each split, in alphabetical order.
    """
    order, first, splits = seeded_order(names, seed), 0, {}
    for split, size in sizes.items():
        splits[split] = sorted(order[first : first + size])
        first += size
    return splits


def sizes_by_shares(count: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Divide a number of classes among splits.

    Args:
        count: the number of classes.
        shares: the proportions of the splits.

    Returns:
        The number of classes in each split, at least `FEWEST_CLASSES`; each further class goes to the split that is
        furthest below its share.
    """
    sizes = dict.fromkeys(shares, FEWEST_CLASSES)
    whole = sum(shares.values())
    for _ in range(count - sum(sizes.values())):
        sizes[max(shares, key=lambda split: shares[split] / whole * count - sizes[split])] += 1
    return sizes


def shares_of_splits(shares: Sequence[float]) -> dict[str, float]:
    """The share of each split, from the list in `data.source.shares`."""
    if len(shares) != len(SPLITS):
        raise BadInput(
            f"data.source.shares={list(shares)} has {len(shares)} values; allowed: three, for train, val and test, such as "
            "[0.64,0.16,0.2]"
        )
    return dict(zip(SPLITS, shares, strict=True))


def take_from_train(
    where: str, given: dict[str, dict[str, Any]], shares: Mapping[str, float], seed: int, is_divided: bool, noted: str = ""
) -> list[str]:
    """Fill missing splits with classes of train.

    Args:
        where: the origin of the classes, for messages.
        given: the classes of the existing splits, by the name of the split; missing splits are added to it.
        shares: the proportions of the splits.
        seed: determines which classes are moved.
        is_divided: whether the data came with splits, so that the user has to be told about the added ones.
        noted: further information for the message if there are too few classes.

    Returns:
        Notes for the user, one per line.

    Raises:
        BadInput: if there is no train split or it has too few classes.
    """
    if "train" not in given:
        raise BadInput(f"{where} has {' and '.join(given)} and nothing for train, which is needed")
    missing = [split for split in SPLITS if split not in given]
    if not missing:
        return []
    takers = ["train", *missing]
    train = given["train"]
    if len(train) < FEWEST_CLASSES * len(takers):
        has = f"{len(train)} class{'' if len(train) == 1 else 'es'}{' in train' if is_divided else ''}"
        raise BadInput(
            f"{where} has {has}; at least {FEWEST_CLASSES * len(takers)} are needed, {FEWEST_CLASSES} for each of "
            f"{', '.join(takers[:-1])} and {takers[-1]}{noted}"
        )
    sizes = sizes_by_shares(len(train), {split: shares[split] for split in takers})
    for split, names in seeded_splits(train, sizes, seed).items():
        given[split] = {name: train[name] for name in names}
    if not is_divided:
        return []
    taken = " and ".join(f"{sizes[split]} of the {len(train)} classes of train are taken for {split}" for split in missing)
    path = where.removeprefix("data.root=")
    return [f"{path} has no {' and no '.join(missing)}: {taken} (data.source.shares, data.source.split_seed)"]


def refuse_shared_classes(where: str, given: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `BadInput` if a class is in two splits; `where` names their origin in the message."""
    for one, other in combinations([split for split in SPLITS if split in given], 2):
        shared = sorted(given[one].keys() & given[other].keys())
        if shared:
            more = f", and {len(shared) - 1} more" if len(shared) > 1 else ""
            raise BadInput(
                f"{where}: the class {shared[0]} is in both {one} and {other}{more}; a class may be in one "
                "split only: leave out the splits, and the classes are divided by data.source.shares"
            )


def refuse_few_classes(where: str, given: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `BadInput` if a split has only one class; `where` names its origin in the message."""
    for split, classes in given.items():
        if len(classes) < FEWEST_CLASSES:
            raise BadInput(
                f"the {split} split of {where} has one class, {next(iter(classes))}; at least {FEWEST_CLASSES} are needed"
            )


def split_called(name: str) -> Split | None:
    """The split that a folder name such as `validation` stands for; None if it stands for none."""
    return next((split for split in SPLITS if name.lower() in _OTHER_NAMES[split]), None)


def listed_splits(given: str, known: Sequence[str]) -> dict[str, list[str]] | None:
    """Read the class lists of a folder: `train.txt`, `val.txt`, `test.txt`, or `..._train.txt` and so on, one name per line.

    Args:
        given: the value of `data.source.split`, a folder or the name of a split that the data set defines.
        known: the names of the splits that the data set defines.

    Returns:
        The class names of each split; None if `given` is one of `known`.

    Raises:
        BadInput: if the folder or its lists cannot be used.
    """
    if given in known:
        return None
    folder = given_path(given, "data.source.split")
    if not folder.is_dir():
        raise BadInput(
            f"data.source.split={given} cannot be used; allowed: {', '.join(known)}, or a folder with train.txt, val.txt "
            "and test.txt"
        )
    splits: dict[str, list[str]] = {split: _names(_list_of(folder, split)) for split in SPLITS}
    check_disjoint(splits, f"data.source.split={folder}")
    return splits


def check_disjoint(splits: Mapping[str, list[str]], where: str) -> None:
    """Raise `BadInput` if two lists share a class; `where` names their origin in the message."""
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        shared = sorted(set(splits[one]) & set(splits[other]))
        if shared:
            raise BadInput(
                f"{where}: {shared[0]} is in the lists of both {one} and {other}, and {len(shared) - 1} more: "
                "a class may be in one split only"
            )


def names_listed(content: bytes, where: str) -> list[str]:
    """Parse a list of names, one per line.

    Args:
        content: the content of the file, as UTF-8.
        where: the file, for messages.

    Returns:
        The names, in the order of the file.

    Raises:
        BadInput: if the list is empty, not UTF-8 or has a name twice.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} cannot be read as a list of names: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise BadInput(f"{where} lists {twice[0]} more than once: each class may be listed once")
    if not names:
        raise BadInput(f"{where} is empty; it has to list the classes of its split, one in a line")
    return names


def _list_of(folder: Path, split: str) -> Path:
    wanted = _OTHER_NAMES[split]
    try:
        lists = [folder / name for name in sorted(os.listdir(folder)) if name.endswith(".txt")]
    except OSError as error:
        raise BadInput(f"data.source.split={folder} cannot be read: {reason_of(error)}") from error
    found = [p for p in lists if p.stem.lower().replace("-", "_").rpartition("_")[2] in wanted]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise BadInput(
            f"data.source.split={folder} needs one list for the {split} split, such as {split}.txt or name_{split}.txt, "
            f"and has {names}"
        )
    return found[0]


def _names(path: Path) -> list[str]:
    try:
        content = read_file(path, _LARGEST_LIST)
    except OSError as error:
        raise BadInput(f"{path} cannot be read as a list of names: {reason_of(error)}") from error
    return names_listed(content, str(path))
