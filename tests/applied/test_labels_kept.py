"""Labels of a fitted learner are given back as they were given, and saved only if they can be read again."""

from pathlib import Path

import numpy as np
import pytest

import metashot
from metashot.applied.labels import as_array, distinct, labels_of
from metashot.bad_input import BadInput

IMAGES = np.random.default_rng(0).integers(0, 255, (4, 28, 28)).astype(np.uint8)


def test_texts_keep_their_last_characters() -> None:
    assert as_array(["a", "a\0"]).tolist() == ["a", "a\0"]
    learner = metashot.load("drawings", device="cpu").fit(IMAGES, ["a", "a", "a\0", "a\0"])
    assert learner.classes_.tolist() == ["a", "a\0"]


def test_a_learner_that_could_not_be_read_again_is_not_saved_over_one_that_can(tmp_path: Path) -> None:
    file = tmp_path / "it.fewshot"
    learner = metashot.load("drawings", device="cpu").fit(IMAGES, [1, 1, 2, 2])
    learner.save(file)
    before = file.read_bytes()
    learner.fit(IMAGES, [2**2048, 2**2048, 1, 1])
    with pytest.raises(BadInput, match="cannot be saved, since it could not be read again"):
        learner.save(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("unit", ["D", "s", "ns"])
@pytest.mark.parametrize("kind", ["datetime64", "timedelta64"])
def test_times_stay_times_and_no_time_is_no_label(kind: str, unit: str) -> None:
    given = np.array([3, 1, 3], f"{kind}[{unit}]")
    found = labels_of(given)
    assert found == (list(given) if unit == "ns" else given.tolist())
    assert all(not isinstance(label, int) for label in found)
    assert found == labels_of(list(given))
    assert len(distinct(found)) == 2
    missing = given.copy()
    missing[1] = "NaT"
    for labels in (missing, list(missing)):
        with pytest.raises(BadInput, match=r"^label 1 is not a time \(NaT\): leave such images out"):
            labels_of(labels)
