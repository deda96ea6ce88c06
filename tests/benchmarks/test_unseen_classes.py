"""The data of a learner that benchmarks ask it about."""

from pathlib import Path
from typing import Any

import pytest

import metashot
from benchmarks import presentations
from benchmarks.enlarged_support import images_of
from benchmarks.unseen_classes import own_data
from metashot.applied.learner import Learner
from metashot.bad_input import BadInput
from tests.applied.learners import tiny
from tests.cli.combinations.conftest import coloured

SHAPE = (3, 28, 28)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coloured(tmp_path_factory.mktemp("pictures"), images=presentations.PRESENTATIONS)


def learner(folder: Path, pictures: Path, *more: str, **origin: Any) -> Learner:
    data = ["data=folder", f"data.root={pictures}", f"data.banks={folder / 'banks'}", "data.ways=2", "data.queries=2"]
    of = {"name": "folder", "input_shape": list(SHAPE), "mean": [0.2] * 3, "std": [0.4] * 3, "outputs": 3}
    return metashot.load(tiny(folder, "logistic", "running", *data, "data.train.ways=null", *more, **of | origin))


def test_images_are_presented_as_in_training(tmp_path: Path, pictures: Path) -> None:
    data = own_data(learner(tmp_path, pictures), ["val"])
    assert data.input_shape == SHAPE
    assert data.sampler("val").spec.shots == 1


def test_support_sets_have_the_shots_that_are_asked_for(tmp_path: Path, pictures: Path) -> None:
    data = images_of(learner(tmp_path, pictures, "data.val.shots=2"), 7, None)
    assert data.sampler("val").spec.shots == 7


def test_files_are_where_the_call_says(tmp_path: Path, pictures: Path) -> None:
    moved = learner(tmp_path, tmp_path / "gone")
    with pytest.raises(BadInput, match="gone"):
        images_of(moved, 1, None)
    assert images_of(moved, 1, str(pictures)).class_names("val")


def test_a_learner_that_has_seen_the_classes_is_refused(tmp_path: Path, pictures: Path) -> None:
    one = own_data(learner(tmp_path, pictures), ["val"]).class_identities("val")[1]
    seen = {"names": [], "digests": [one.digest], "complete": True, "data": ["folder"]}
    made = learner(tmp_path, pictures, classes=seen)
    with pytest.raises(BadInput, match="trained on 1 of the 3 classes of the val split"):
        own_data(made, ["test", "val"])
    assert own_data(made, ["test"]).name == "folder"
