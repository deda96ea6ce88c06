"""A score is one of unseen classes, or says that it is not: whatever split, size or folder a learner is tested on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import metashot

from .conftest import Command, Trained
from .processes import Outcome, checkpoint, contents, report
from .test_bad_input import refused

FOLDER = (
    *("data=folder", "data.root=pets", "data.source.image_size=28", "data.source.channels=1", "data.ways=2"),
    *("data.source.shares=[0.5,0.25,0.25]", "data.test.episodes=4", "data.val.episodes=4", "trainer.max_steps=1"),
)
OTHER_SPLIT = "data.source.split_seed=1"  # whose two test classes were in training


@pytest.fixture(scope="module")
def trained(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A run on four of eight classes of pictures, in `run`."""
    command = anywhere.at(tmp_path_factory.mktemp("pets"))
    draw(command.folder / "pets")
    outcome = command.train(*FOLDER, "folder=run")
    assert outcome.code == 0, outcome
    assert outcome.out.count("seen classes    0 of 2") == 1
    return command


def draw(root: Path) -> None:
    random = np.random.default_rng(0)
    for label in range(8):
        (root / f"class{label}").mkdir(parents=True)
        for number in range(6):
            image = Image.fromarray(random.integers(0, 255, (28, 28), dtype=np.uint8))
            image.save(root / f"class{label}" / f"{number}.png")


def evaluated(trained: Command, *given: str) -> Outcome:
    return trained.run("evaluate.py", "ckpt=run", "episodes=4", "pictures=none", *given)


def test_classes_that_were_trained_on_are_refused_and_named(trained: Command) -> None:
    before = contents(trained.folder)
    said = ["run/checkpoints/best.ckpt", "2 of the 2 classes of the test split", "class0, class4", "allow_seen_classes=true"]
    refused(evaluated(trained, OTHER_SPLIT), said)
    # Another size is known by the names of the same folder, a folder elsewhere by its images.
    refused(evaluated(trained, OTHER_SPLIT, "data.source.image_size=20"), said)
    shutil.copytree(trained.folder / "pets", trained.folder / "copy" / "pets")
    for place, folder in enumerate(sorted((trained.folder / "copy" / "pets").iterdir())):
        folder.rename(folder.with_name("abdcfhge"[place]))
    refused(evaluated(trained, "data.root=copy/pets", "data.source.split_seed=2"), ["classes of the test split"])
    shutil.rmtree(trained.folder / "copy")
    assert contents(trained.folder) == before


def test_whoever_allows_them_is_told_how_many_there_are(trained: Command) -> None:
    outcome = evaluated(trained, OTHER_SPLIT, "allow_seen_classes=true", "out=allowed")
    assert outcome.code == 0, outcome
    assert "seen classes    2 of 2" in outcome.out
    assert "| seen classes | 2 of 2 |" in (trained.folder / "allowed" / "report.md").read_text()
    assert report(trained.folder / "allowed")["seen_classes"] == {"seen": 2, "of": 2, "complete": True}


def test_training_split_is_scored_when_it_is_named_and_the_report_says_so(trained: Command) -> None:
    outcome = evaluated(trained, "split=train", "out=training")
    assert outcome.code == 0, outcome
    assert "seen classes    4 of 4" in outcome.out


def test_a_checkpoint_of_before_says_that_it_does_not_know(trained: Command) -> None:
    content = checkpoint(trained.folder / "run", "best.ckpt")
    del content["metashot"]["origin"]["classes"]
    torch.save(content, trained.folder / "old.ckpt")
    outcome = trained.run("evaluate.py", "ckpt=old.ckpt", "episodes=4", "pictures=none", OTHER_SPLIT, "out=old")
    assert outcome.code == 0, outcome
    assert "seen classes    unknown, because" in outcome.out
    assert report(trained.folder / "old")["seen_classes"] == {"seen": None, "of": 2, "complete": False}
    content["metashot"]["origin"]["classes"] = {"names": 3, "digests": [], "complete": True}
    torch.save(content, trained.folder / "broken.ckpt")
    refused(trained.run("evaluate.py", "ckpt=broken.ckpt"), ["broken.ckpt", "training classes cannot be read"])


def test_classes_before_init_from_count_and_are_kept_when_a_run_is_resumed_or_begun_with(trained: Command) -> None:
    given = (*FOLDER, OTHER_SPLIT, "init_from=run")
    refused(trained.train(*given, "folder=refused"), ["init_from=run", "classes of the", "allow_seen_classes=true"])
    assert not (trained.folder / "refused").exists()
    outcome = trained.train(*given, "allow_seen_classes=true", "folder=next")
    assert outcome.code == 0, outcome
    assert "seen classes    2 of 2" in outcome.out
    assert "external data   other images of data=folder" in outcome.out
    resumed = trained.run("train.py", "resume=next", "trainer.max_steps=2")
    assert resumed.code == 0, resumed
    for name in ("best.ckpt", "last.ckpt"):
        known = checkpoint(trained.folder / "next", name)["metashot"]["origin"]["classes"]
        names = {one.partition("/")[2] for one in known["names"]}
        assert names > {one.partition("/")[2] for one in noted(trained.folder / "run")}
        assert len(known["digests"]) == len(names)
    assert checkpoint(trained.folder / "next")["global_step"] == 2
    assert report(trained.folder / "next")["external_data"] == "other images of data=folder"
    again = trained.train(*FOLDER, OTHER_SPLIT, "init_from=next", "allow_seen_classes=true", "folder=third")
    assert "external data   other images of data=folder" in again.out


def noted(run: Path) -> list[str]:
    names: list[str] = checkpoint(run)["metashot"]["origin"]["classes"]["names"]
    return names


def test_a_run_that_trains_nothing_has_seen_nothing(trained: Command) -> None:
    outcome = trained.train(*FOLDER[:-1], "trainer.max_steps=0", "folder=untrained")
    assert outcome.code == 0, outcome
    assert noted(trained.folder / "untrained") == []


def test_a_learner_that_is_saved_keeps_its_training_classes(first: Trained, tmp_path: Path) -> None:
    learner = metashot.load(str(first.run), device="cpu")
    learner.fit([np.zeros((28, 28), np.uint8), np.full((28, 28), 9, np.uint8)], ["a", "b"])
    learner.save(tmp_path / "letters.fewshot")
    assert metashot.load_fitted(tmp_path / "letters.fewshot").origin["classes"]["names"] == noted(first.run)
