"""The ready-made learners from the shell and in Python: named, picked by looking, scored, started from."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import metashot
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from tests.applied.learners import drawings
from tests.applied.test_picking import coloured, support

from .conftest import Command
from .processes import contents
from .test_bad_input import refused
from .test_predict import PREDICT, table, written


@pytest.fixture
def folder(command: Command) -> Path:
    written(command.folder)
    return command.folder


def test_without_a_checkpoint_the_learner_of_drawings_is_picked_and_named(command: Command, folder: Path) -> None:
    outcome = command.run(PREDICT, "support=support", "query=query")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert outcome.out.startswith("ckpt=drawings: ")
    assert "learner   protonet, trained on drawings, 28x28 grey" in outcome.out
    named = command.run(PREDICT, "ckpt=drawings", "support=support", "query=query", "out=named.csv")
    assert named.code == 0, named
    assert table(folder / "predictions.csv") == table(folder / "named.csv")
    assert "support images look like" not in named.out


def test_photographs_are_for_the_learner_of_photographs(command: Command) -> None:
    pytest.importorskip("timm")
    images = coloured(10)
    support(command.folder / "support", {"a": images[:3], "b": images[3:6]})
    support(command.folder / "query", {"any": images[6:]})
    outcome = command.run(PREDICT, "support=support", "query=query", "save=it.fewshot")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert outcome.out.startswith("ckpt=photos: 6 of 6 support images look like photographs")
    files = [path for name in "ab" for path in sorted((command.folder / "support" / name).iterdir())]
    learner = metashot.load("photos").fit(files, [path.parent.name for path in files])
    found = table(command.folder / "predictions.csv")
    queries = [command.folder / row["file"] for row in found]
    expected = learner.predict_proba(queries)
    assert [float(row["p(a)"]) for row in found] == pytest.approx(expected[:, 0].tolist(), abs=2e-5)
    kept = metashot.load_fitted(command.folder / "it.fewshot").predict_proba(queries)
    np.testing.assert_allclose(kept, expected, atol=2e-5)


def test_without_the_extra_the_learner_of_photographs_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "timm" else find(name, *a))
    with pytest.raises(BadInput, match=r"timm, which is not installed: pip install 'metashot\[photos\]'"):
        metashot.load("photos")


def test_several_calls_in_one_need_a_checkpoint(command: Command, folder: Path) -> None:
    outcome = command.run(PREDICT, "-m", "support=support", "query=query", "out=a.csv,b.csv")
    assert outcome.code == 0, outcome
    outcome = command.run(PREDICT, "-m", "support=support,support", "query=query")
    assert outcome.code == 2, outcome
    assert "missing key ckpt: several calls need one, as in ckpt=photos" in outcome.err


def test_a_ready_made_learner_is_scored_and_the_package_is_left_alone(command: Command) -> None:
    from metashot.checkpoints.ready_made import FOLDER

    before = contents(FOLDER)
    outcome = command.evaluate(
        "ckpt=drawings", "data=glyphs", f"data.banks={command.banks}", "data.queries=3", "episodes=20", "data.shots=5"
    )
    assert outcome.code == 0, outcome
    assert contents(FOLDER) == before
    (found,) = command.folder.glob("runs/drawings/evaluations/*/report.json")
    scored = json.loads(found.read_text())
    assert scored["accuracy"] > 0.9
    assert scored["seen_classes"]["seen"] == 0


def test_training_starts_from_a_ready_made_learner(command: Command) -> None:
    outcome = command.train(
        "init_from=drawings",
        "backbone.channels=64",
        "backbone.downsampling=pool",
        "trainer.max_steps=2",
        "folder=run",
        "data.shots=1",
        "allow_seen_classes=true",
    )
    assert outcome.code == 0, outcome
    assert "init_from: the backbone of" in outcome.out
    assert "external data   drawings" in outcome.out
    assert json.loads((command.folder / "run" / "report.json").read_text())["external_data"] == "drawings"
    scored = command.evaluate("ckpt=run", "episodes=4", "allow_seen_classes=true", "out=scored")
    assert scored.code == 0, scored
    assert json.loads((command.folder / "scored" / "report.json").read_text())["external_data"] == "drawings"
    refused(command.train("resume=drawings"), ["resume=drawings is a ready-made learner", "init_from=drawings"])


def test_in_python_a_name_is_a_learner() -> None:
    learner = metashot.load("drawings")
    images, labels = [255 - pixels for pixels in drawings(6, seed=1)], list("aabbcc")
    assert learner.fit(images, labels).score(images, labels) > 0.5
    assert "drawings" in repr(learner)


def test_a_shape_of_the_test_is_given_for_other_data_alone(command: Command) -> None:
    """`data.shots` of the stored configuration is another than that of `data=glyphs`, which nobody gave."""
    few = ("data=glyphs", f"data.banks={command.banks}", "data.queries=2", "episodes=4")
    outcome = command.evaluate("ckpt=drawings", *few, "data.test.shots=1", "out=one")
    assert outcome.code == 0, outcome
    assert json.loads((command.folder / "one" / "report.json").read_text())["shots"] == 1
    refused(
        command.evaluate("ckpt=drawings", *few, "data.shots=2", "data.test.shots=1"),
        ["data.shots=2 has no effect, because data.test.shots=1"],
    )


def test_options_that_would_do_nothing_are_refused(command: Command, folder: Path) -> None:
    outcome = command.run(PREDICT, "ckpt=drawings", "support=support", "query=query", "together=true")
    refused(outcome, ["together=true", "unknown=0.05"])
    refused(command.evaluate("ckpt=drawings", "strangers=2", "grid.shots=[1,2]"), ["strangers=2", "leave grid out"])
    learner = metashot.load("drawings").fit(drawings(4), list("aabb"))
    with pytest.raises(BadInput, match=r"together=True is for queries that may be unknown"):
        learner.predict(drawings(2), together=True)
    with pytest.raises(BadInput, match=r"unknown='0.05' cannot be used; allowed: a rate of false alarms such as 0.05"):
        learner.predict(drawings(2), unknown="0.05")


def test_other_splits_may_have_fewer_classes_than_episodes_take(command: Command) -> None:
    """Glyphs has 108 validation classes and 481 test classes."""
    outcome = command.evaluate(
        "ckpt=drawings",
        "data=glyphs",
        f"data.banks={command.banks}",
        "data.ways=200",
        "data.shots=1",
        "data.queries=1",
        "episodes=2",
    )
    assert outcome.code == 0, outcome


def test_photos_do_not_favour_the_class_with_most_examples() -> None:
    """Class means of normalised features are shorter the more examples they have: squared distances would tell."""
    pytest.importorskip("timm")
    learner = metashot.load("photos", device="cpu")
    random = torch.Generator().manual_seed(0)
    centre = learner.algorithm.normalised.mean
    means = torch.randn(3, 1, len(centre), generator=random)
    noise = torch.randn(3, 60, len(centre), generator=random)
    features = centre + 0.3 * centre.norm() / len(centre) ** 0.5 * (means + 2.0 * noise)
    support = torch.cat([features[0, :12], features[1, :1], features[2, :1]])[None]
    y = torch.tensor([[0] * 12 + [1, 2]])
    summary = learner.algorithm.summary(Examples(support, y))
    answers = learner.algorithm.answer(summary, features[:, 20:].flatten(0, 1)[None])[0].argmax(-1)
    assert float((answers == torch.arange(3).repeat_interleave(40)).double().mean()) > 0.8
