"""Omniglot's splits."""

from pathlib import Path

import pytest

from metashot.sources.images.omniglot import DRAWINGS, Omniglot
from metashot.sources.splitting import SPLITS


@pytest.fixture(scope="module")
def split_of_vinyals(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Omniglot:
    source = Omniglot("vinyals", 0, ["train", "val", "test"], 28)
    source.prepare(real_data / "omniglot", tmp_path_factory.mktemp("scratch"))
    return source


def test_split_of_vinyals_comes_with_the_package_and_divides_the_characters() -> None:
    lists = Omniglot("vinyals", 0, [], 28).lists
    assert lists is not None
    assert {split: len(names) for split, names in lists.items()} == {"train": 1028, "val": 172, "test": 423}
    assert len({name for names in lists.values() for name in names}) == 1623


def test_split_of_vinyals_is_the_published_one(real_data: Path) -> None:
    lists = Omniglot("vinyals", 0, [], 28).lists
    folder = real_data / "omniglot" / "splits"
    assert lists == {split: (folder / f"vinyals_{split}.txt").read_text().split() for split in SPLITS}


def test_rotated_characters_are_classes_in_all_of_its_splits(split_of_vinyals: Omniglot) -> None:
    counts = {split: len(classes) for split, classes in split_of_vinyals.listing.items()}
    assert counts == {"train": 4 * 1028, "val": 4 * 172, "test": 4 * 423}
    assert {len(images) for images in split_of_vinyals.listing["test"].values()} == {DRAWINGS}
