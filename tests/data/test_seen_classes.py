"""A class is known again by its name in data sets that share their images, and by its images everywhere."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from metashot.bad_input import BadInput
from metashot.data.seen_classes import SeenClasses, TrainingClasses
from metashot.sources import building
from metashot.sources.building import build_bank, read_digests, read_manifest
from metashot.sources.images.cifarfs import CifarFS
from metashot.sources.images.fc100 import FC100
from metashot.sources.images.folder import OwnImages
from metashot.sources.images.miniimagenet import MiniImageNet
from metashot.sources.images.omniglot import Omniglot
from metashot.sources.images.tieredimagenet import TieredImageNet
from tests.data.test_module import data_module
from tests.sources.small_source import SmallSource

NOWHERE = Path("nowhere")


def own_images(size: int) -> OwnImages:
    return OwnImages(size, 3, "crop", [0.6, 0.2, 0.2], 0)


def test_data_sets_of_the_same_images_name_their_classes_alike() -> None:
    same = CifarFS("bertinetto", 32).known_as("whale", NOWHERE)
    assert FC100(32).known_as("whale", NOWHERE) == same
    assert MiniImageNet(84).known_as("n01532829", NOWHERE) == TieredImageNet(84).known_as("n01532829", NOWHERE)
    # Numbers and words are each data set's own.
    assert MiniImageNet(84).known_as("5", NOWHERE) != TieredImageNet(84).known_as("5", NOWHERE)
    omniglot = Omniglot("maml", 0, ["train"], 28)
    assert omniglot.known_as("Greek/character01@90", NOWHERE) == omniglot.known_as("Greek/character01", NOWHERE)


def test_own_classes_have_the_names_of_their_folder_and_tell_nothing_of_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = own_images(84).known_as("cat", tmp_path)
    assert own_images(32).known_as("cat", tmp_path / "other" / "..") == one
    assert own_images(84).known_as("cat", tmp_path / "list.csv") == one  # beside the images
    assert own_images(84).known_as("cat", tmp_path / "other") != one
    assert str(tmp_path) not in one


def test_digest_of_a_class_is_of_its_images_in_any_order(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (7, 1, 4, 4), dtype=np.uint8)
    for name, order in (("one", [0, 1, 2, 3, 4, 5, 6]), ("other", [2, 0, 1, 6, 5, 3, 4])):
        np.save(tmp_path / f"{name}.npy", images[order])
    one, other = (building._of_classes(tmp_path / f"{name}.npy", [3, 4]) for name in ("one", "other"))
    assert one == other
    assert len(set(one)) == 2
    np.save(tmp_path / "changed.npy", images + np.uint8(1))
    assert not set(building._of_classes(tmp_path / "changed.npy", [3, 4])) & set(one)
    assert {len(digest) for digest in one} == {16}


def test_a_bank_of_before_is_completed_and_not_built_again(small_root: Path, tmp_path: Path) -> None:
    shutil.copytree(small_root, tmp_path / "banks")
    folder = build_bank(SmallSource(), small_root, tmp_path / "banks")
    digests, stamp = read_digests(folder), (folder / "train.npy").stat().st_mtime_ns
    assert [len(digests[split]) for split in ("train", "val", "test")] == [70, 6, 9]
    manifest = read_manifest(folder)
    assert manifest.pop("digests") == digests
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert read_digests(folder) == digests  # of one that cannot be written to
    assert build_bank(SmallSource(), small_root, tmp_path / "banks") == folder
    assert read_manifest(folder) == manifest | {"digests": digests}
    assert (folder / "train.npy").stat().st_mtime_ns == stamp
    assert not list(folder.glob(".*"))


def test_seen_classes_are_counted_by_name_and_by_images(small_root: Path) -> None:
    data = data_module(small_root)
    data.setup()
    known = TrainingClasses.of(data)
    assert known.counted(data, "test") == SeenClasses(0, 9, True)
    assert known.counted(data, "train") == SeenClasses(70, 70, True)
    by_name = TrainingClasses(names=frozenset({"small/test-3"}))
    by_images = TrainingClasses(digests=frozenset({data.class_identities("test")[5].digest}))
    assert by_name.among(data, "test") == ["test-3"]
    assert by_images.among(data, "test") == ["test-5"]
    both = by_name | by_images | TrainingClasses(complete=False)
    assert both.among(data, "test") == ["test-3", "test-5"]
    assert str(both.counted(data, "test")) == "at least 2 of 9"
    assert "unknown" in str(TrainingClasses(complete=False).counted(data, "test"))
    with pytest.raises(
        BadInput, match="it was trained on 2 of the 9 classes of the test split of data=small: test-3, test-5;"
    ):
        both.refuse_seen(data, "test", "it")
    known.refuse_seen(data, "test", "it")


def test_what_a_checkpoint_notes_is_what_was_known() -> None:
    known = TrainingClasses(frozenset({"a/1", "a/2"}), frozenset({"0" * 16}), False, data=frozenset({"a"}))
    assert TrainingClasses.noted_in({"classes": known.plain()}, "x.ckpt") == known
    assert (
        TrainingClasses.noted_in({}, "x.ckpt") == TrainingClasses.noted_in(None, "x.ckpt") == TrainingClasses(complete=False)
    )


def test_checkpoints_before_data_were_noted_were_trained_on_their_own() -> None:
    noted = TrainingClasses(frozenset({"a/1"})).plain()
    del noted["data"]
    assert TrainingClasses.noted_in({"classes": noted, "name": "a"}, "x.ckpt").data == {"a"}
    assert not TrainingClasses.noted_in({"classes": noted | {"names": []}, "name": "a"}, "x.ckpt").data


def test_of_many_classes_a_checkpoint_holds_digests_by_which_they_are_known_again(small_root: Path) -> None:
    data = data_module(small_root)
    data.setup()
    many = frozenset(f"others/{number} ü" for number in range(20_000))
    digest = data.class_identities("test")[5].digest
    known = TrainingClasses(many | {"small/test-3"}, frozenset({digest, "0" * 16}))
    plain = known.plain()
    assert (plain["names"], plain["digests"]) == ([], [])
    assert plain["packed_names"].shape == (20_001, 8)
    again = TrainingClasses.noted_in({"classes": plain}, "x.ckpt")
    assert again.among(data, "test") == ["test-3", "test-5"]
    assert again.plain().keys() == plain.keys()
    assert torch.equal(again.plain()["packed_names"], plain["packed_names"])
    both = again | TrainingClasses(frozenset({"small/test-7"}))  # of a learner that was trained further
    assert TrainingClasses.noted_in({"classes": both.plain()}, "x.ckpt").among(data, "test") == [
        "test-3",
        "test-5",
        "test-7",
    ]
    named = TrainingClasses.noted_in({"classes": TrainingClasses(many | {"small/test-3"}).plain()}, "x.ckpt")
    assert named.among(data, "test") == ["test-3"]  # of which no digest is known
    listed = TrainingClasses(frozenset(sorted(many)[: 2**14])).plain()
    assert len(listed["names"]) == 2**14


LISTS = {"names": [], "digests": [], "complete": True}


@pytest.mark.parametrize(
    "noted",
    [
        3,
        "text",
        [],
        {},
        {"names": [1], "digests": [], "complete": True},
        LISTS | {"names": torch.tensor([1, 2])},
        LISTS | {"data": "cifarfs"},
        LISTS | {"data": ["\x1b[31mred"]},
        LISTS | {"data": ["e\u202egnp"]},
        LISTS | {"data": [f"x{number}" for number in range(101)]},
        LISTS | {"packed_names": 3},
        LISTS | {"packed_names": "0" * 16},
        LISTS | {"packed_names": torch.zeros(3, 7, dtype=torch.uint8)},
        LISTS | {"packed_digests": torch.zeros(8, dtype=torch.uint8)},
        LISTS | {"packed_digests": torch.zeros(3, 8)},
    ],
)
def test_notes_that_cannot_be_read_are_refused(noted: object) -> None:
    with pytest.raises(BadInput, match=r"x\.ckpt is damaged"):
        TrainingClasses.noted_in({"classes": noted}, "x.ckpt")
