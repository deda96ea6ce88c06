"""Which classes a learner was trained on, and how many of them are in a split: scores are meant for unseen classes.

A class is recognised by its name, if data sets share names (CIFAR-FS and FC100, another split of the same folder, another
image size), and by a digest of its images, independent of their location and names. A class is not recognised if both its
name and its digest differ: another image size of a folder that was moved, a copy with some images added, miniImageNet in
tieredImageNet if one of them has no WordNet identifiers, or birds of CUB among ImageNet's.

A checkpoint lists the names and digests of its classes. Of more than `_LISTED` classes it holds digests of the names,
all of them in one tensor, since a file from a stranger may not hold as many values.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.data.module import EpisodicDataModule
from metashot.sources.getting.files import printable
from metashot.sources.splitting import Split

_NAMED = 5  # classes listed in a message
_LISTED = 2**14  # classes listed in a checkpoint
_BYTES = 8  # of a digest
_MOST_DATA, _NAME_OF_DATA = 100, re.compile(r"[\w .=-]{1,100}")  # data sets of a record, whose names reports print
_NONE = torch.empty(0, _BYTES, dtype=torch.uint8)


class SeenClasses(NamedTuple):
    """How many classes of a split a learner has seen in training."""

    seen: int | None  # None if unknown
    of: int  # classes of the split
    complete: bool  # whether all of its training classes are known

    def __str__(self) -> str:
        if self.seen is None:
            return "unknown, because the checkpoint does not say which classes it was trained on"
        return f"{'' if self.complete else 'at least '}{self.seen} of {self.of}"


@dataclass(frozen=True)
class TrainingClasses:
    """The classes that a learner was trained on, including training before `init_from`."""

    names: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()
    complete: bool = True  # false for checkpoints older than the record of classes
    hashed_names: frozenset[str] = frozenset()  # digests of names that are not known themselves
    data: frozenset[str] = frozenset()  # the names of the data sets that they are from

    @classmethod
    def of(cls, data: EpisodicDataModule) -> "TrainingClasses":
        """The classes of the training split of `data`."""
        identities = data.class_identities("train")
        return cls(
            frozenset(one.known_as for one in identities),
            frozenset(one.digest for one in identities),
            data=frozenset({data.name}),
        )

    @classmethod
    def noted_in(cls, origin: Mapping[str, Any] | None, path: object) -> "TrainingClasses":
        """Read the training classes from a checkpoint.

        Args:
            origin: the checkpoint's description of its training data, if it has one.
            path: the checkpoint, for messages.

        Returns:
            The classes; an incomplete, empty set if the checkpoint does not record them.

        Raises:
            BadInput: if the record is damaged.
        """
        noted = None if origin is None else origin.get("classes")
        if origin is None or noted is None:
            return cls(complete=False)
        try:
            names, digests, complete = noted["names"], noted["digests"], noted["complete"]
            packed, data = [noted.get(key, _NONE) for key in ("packed_names", "packed_digests")], noted.get("data")
            whole = all(map(_are_texts, (names, digests))) and isinstance(complete, bool)
            whole = whole and all(map(_are_packed, packed)) and (data is None or _are_names(data))
        except (AttributeError, TypeError, KeyError, IndexError):
            whole = False
        if not whole:
            raise BadInput(f"{printable(str(path))} is damaged: its record of training classes cannot be read")
        if data is None:  # an older checkpoint
            data = [str(origin.get("name"))] if names or digests or len(packed[1]) else []
        hashed, others = map(_unpacked, packed)
        return cls(frozenset(names), others.union(digests), complete, hashed, frozenset(data))

    def __or__(self, other: "TrainingClasses") -> "TrainingClasses":
        return TrainingClasses(
            self.names | other.names,
            self.digests | other.digests,
            self.complete and other.complete,
            self.hashed_names | other.hashed_names,
            self.data | other.data,
        )

    def before(self, data: EpisodicDataModule) -> "TrainingClasses":
        """The same, of training before that on `data`: a data set of this name with other classes is called another one."""
        if data.name not in self.data or self.digests <= TrainingClasses.of(data).digests:
            return self
        return replace(self, data=self.data - {data.name} | {f"other images of data={data.name}"})

    def plain(self) -> dict[str, Any]:
        """The classes as plain containers, for a checkpoint."""
        if not self.hashed_names and max(len(self.names), len(self.digests)) <= _LISTED:
            return {"names": sorted(self.names), "digests": sorted(self.digests), **self._plain_rest()}
        return self.packed()

    def packed(self) -> dict[str, Any]:
        """The classes as plain containers in little space: digests stand for names."""
        hashed = self.hashed_names.union(map(_hashed, self.names))
        packed = {"packed_names": _packed(hashed), "packed_digests": _packed(self.digests)}
        return {"names": [], "digests": [], **packed, **self._plain_rest()}

    def _plain_rest(self) -> dict[str, Any]:
        return {"complete": self.complete, "data": sorted(self.data)}

    def among(self, data: EpisodicDataModule, split: Split) -> list[str]:
        """The names of the split's classes that the learner was trained on."""
        return [
            one.name for one in data.class_identities(split) if self._has_name(one.known_as) or one.digest in self.digests
        ]

    def _has_name(self, name: str) -> bool:
        return name in self.names or (bool(self.hashed_names) and _hashed(name) in self.hashed_names)

    def counted(self, data: EpisodicDataModule, split: Split) -> SeenClasses | None:
        """How many of the split's classes the learner was trained on; None if the problem has no classes."""
        of = len(data.class_identities(split))
        if not of:
            return None
        seen = len(self.among(data, split))
        return SeenClasses(seen if seen or self.complete else None, of, self.complete)

    def refuse_seen(self, data: EpisodicDataModule, split: Split, learner: str) -> None:
        """Refuse to score a learner on a split with classes that it was trained on.

        Args:
            data: the data that it would be scored on.
            split: the split of `data`.
            learner: the learner's name, for the message.

        Raises:
            BadInput: if the split has such classes.
        """
        seen = self.among(data, split)
        if not seen:
            return
        named = ", ".join(printable(name) for name in seen[:_NAMED])
        more = f" and {len(seen) - _NAMED} more" if len(seen) > _NAMED else ""
        raise BadInput(
            f"{learner} was trained on {len(seen)} of the {len(data.class_identities(split))} classes of the {split} split "
            f"of data={data.name}: {named}{more}; a score on them is not a score on unseen classes: use the data and the "
            "split that it was trained with, or give allow_seen_classes=true, and the report will say how many it had seen"
        )


def _hashed(name: str) -> str:
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=_BYTES).hexdigest()


def _packed(digests: Collection[str]) -> Tensor:
    """Digests as bytes, [digests, 8]."""
    if not digests:
        return _NONE
    return torch.frombuffer(bytearray.fromhex("".join(sorted(digests))), dtype=torch.uint8).view(-1, _BYTES)


def _unpacked(digests: Tensor) -> frozenset[str]:
    return frozenset(digest.hex() for digest in map(bytes, digests.numpy()))


def _are_packed(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype is torch.uint8 and value.shape[1:] == (_BYTES,)


def _are_names(values: Any) -> bool:
    return _are_texts(values) and len(values) <= _MOST_DATA and all(map(_NAME_OF_DATA.fullmatch, values))


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(one, str) for one in values)
