"""Drawings: Omniglot's characters, and letters of glyphs as further training classes."""

from pathlib import Path

import numpy as np
import pytest

from metashot.sources.images.drawings import Drawings
from metashot.sources.images.glyphs import Glyphs
from metashot.sources.images.omniglot import Omniglot
from tests.real_data import REAL_DATA

DISTORTIONS = (0.18, 0.2, 0.18, 0.065, 0.025)
needs_omniglot = pytest.mark.skipif(not (REAL_DATA / "omniglot").is_dir(), reason=f"no Omniglot in {REAL_DATA}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Drawings:
    source = Drawings("lake", 1, ["train"], 28, 6, *DISTORTIONS)
    source.prepare(REAL_DATA, tmp_path_factory.mktemp("scratch"))
    return source


@needs_omniglot
def test_letters_are_training_classes_and_no_others(whole: Drawings, tmp_path: Path) -> None:
    handwritten = Omniglot("lake", 1, ["train"], 28)
    handwritten.prepare(REAL_DATA, tmp_path)
    letters = Glyphs(28, 6, *DISTORTIONS)
    splits = whole.splits()
    for split in ("val", "test"):
        assert splits[split] == handwritten.splits()[split]
        assert whole.counts(split) == handwritten.counts(split)
    own = len(handwritten.splits()["train"])
    assert splits["train"][:own] == handwritten.splits()["train"]
    assert splits["train"][own:] == [f"glyphs:{name}" for name in letters.splits()["train"]]
    assert whole.counts("train") == [20] * own + [6] * len(letters.splits()["train"])
    assert len(set(splits["train"])) == len(splits["train"])
    for label, source, other in ((own - 1, handwritten, own - 1), (own, letters, 0), (own + 9, letters, 9)):
        np.testing.assert_array_equal(whole.draw("train", label, 1, 4).items, source.draw("train", other, 1, 4).items)
    np.testing.assert_array_equal(whole.draw("test", 7, 0, 3).items, handwritten.draw("test", 7, 0, 3).items)


@needs_omniglot
def test_classes_are_known_by_the_names_of_their_data_sets(whole: Drawings) -> None:
    """A learner of drawings has seen the training classes of both, whatever they are called elsewhere."""
    splits = whole.splits()
    turned = next(name for name in splits["train"] if "@90" in name)
    assert whole.known_as(turned, REAL_DATA) == f"omniglot/{turned.partition('@')[0]}"
    assert whole.known_as(splits["test"][0], REAL_DATA) == f"omniglot/{splits['test'][0]}"
    letter = splits["train"][-1]
    assert whole.known_as(letter, REAL_DATA) == f"glyphs/{letter.removeprefix('glyphs:')}"


@needs_omniglot
def test_validation_alphabets_have_no_letters_of_glyphs(whole: Drawings) -> None:
    scripts = ("latin", "cyrillic", "greek", "arabic", "coptic")
    alphabets = {name.partition("/")[0].lower() for name in whole.splits()["val"]}
    assert len(alphabets) == 5
    assert not [alphabet for alphabet in alphabets if any(script in alphabet for script in scripts)]


@needs_omniglot
def test_its_identity_tells_the_settings_of_both(whole: Drawings) -> None:
    """Each identity has a bank of its own."""
    same = Drawings("lake", 1, ["train"], 28, 6, *DISTORTIONS).identity(REAL_DATA)
    assert whole.identity(REAL_DATA) == same
    assert Drawings("lake", 2, ["train"], 28, 6, *DISTORTIONS).identity(REAL_DATA) != same
    assert Drawings("lake", 1, ["train"], 28, 6, 0.1, *DISTORTIONS[1:]).identity(REAL_DATA) != same
