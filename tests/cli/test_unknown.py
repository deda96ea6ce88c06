"""Queries that belong to none of the classes: `evaluate.py strangers=`, `predict(unknown=...)` and its command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import metashot
from metashot.bad_input import BadInput
from tests.applied.learners import drawings

from .conftest import Command, Trained
from .test_bad_input import refused
from .test_predict import PREDICT, table, written

SCORED = ("episodes=20", "pictures=none")


def test_strangers_are_scored_and_leave_the_score_as_it_is(command: Command, first: Trained) -> None:
    found = {}
    for name, more in (("plain", []), ("strangers", ["strangers=3", "unknown=0.1"])):
        outcome = command.run("evaluate.py", f"ckpt={first.run}", *SCORED, *more, f"out={name}")
        assert outcome.code == 0, outcome
        found[name] = json.loads((command.folder / name / "report.json").read_text())
    plain, strangers = found["plain"], found["strangers"]
    assert plain["accuracy"] == strangers["accuracy"]
    assert plain["strangers"] is None
    told = strangers["strangers"]
    assert (told["classes"], told["rate"]) == (3, 0.1)
    for how in ("alone", "together"):
        for name, value in told[how].items():
            assert 0 <= value["mean"] <= 1, (how, name)
        # The measures agree with each other: what is refused and what is accepted belong to thresholds of the same scores.
        assert told[how]["auroc"]["mean"] > 0.5
    assert "AUROC" in outcome.out
    assert "(transductive)" in outcome.out


def test_episodes_do_not_depend_on_how_many_strangers_there_are(command: Command, first: Trained) -> None:
    for count in (1, 4):
        outcome = command.run("evaluate.py", f"ckpt={first.run}", *SCORED, f"strangers={count}", f"out={count}")
        assert outcome.code == 0, outcome
    rows = [(command.folder / str(count) / "episodes.csv").read_text() for count in (1, 4)]
    assert rows[0] == rows[1]


def test_python_and_the_command_line_call_the_same_queries_unknown(command: Command, first: Trained) -> None:
    folder = command.folder
    written(folder)
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (4, 40, 40), np.uint8)):
        Image.fromarray(pixels).save(folder / "query" / f"noise {number}.png")
    learner = metashot.load(first.run)
    images, labels = [], []
    for path in sorted((folder / "support").rglob("*.png")):
        images.append(path)
        labels.append(path.parent.name)
    learner.fit(images, labels)
    files = sorted((folder / "query").rglob("*.png"))
    usual = learner.predict(files)
    for together in (False, True):
        answers = learner.predict(files, unknown=0.3, together=together)
        assert "unknown" in answers
        known = answers != "unknown"
        assert (answers[known] == usual[known]).all()
        more = ["unknown=0.3", f"together={str(together).lower()}", f"out={together}.csv"]
        outcome = command.run(PREDICT, f"ckpt={first.run}", "support=support", "query=query", *more)
        assert outcome.code == 0, outcome
        rows = {row["file"]: row["label"] for row in table(folder / f"{together}.csv")}
        assert [rows[str(path.relative_to(folder))] for path in files] == answers.tolist()
        # On the screen, the probability belongs to the likeliest class, and not to the answer "unknown".
        assert outcome.out.count("unknown (nearest: ") == (~known).sum()
        assert not [
            line for line in outcome.out.splitlines() if "unknown (nearest: " in line and not line.rstrip().endswith(")")
        ]
        assert f"{(~known).sum()} of {len(files)} queries, judged {'together' if together else 'each alone'}" in outcome.out
    assert (learner.predict(files, unknown=True) == learner.predict(files, unknown=0.05)).all()
    # Alone, an answer does not depend on the other queries.
    each = [learner.predict([file], unknown=0.3)[0] for file in files]
    assert each == learner.predict(files, unknown=0.3).tolist()
    saved = folder / "pets.fewshot"
    learner.save(saved)
    restored = metashot.load_fitted(saved)
    assert restored.predict(files, unknown=0.3).tolist() == learner.predict(files, unknown=0.3).tolist()


def test_a_larger_rate_calls_more_queries_unknown(first: Trained) -> None:
    learner = metashot.load(first.run).fit(drawings(10), [0, 1] * 5)
    asked = np.concatenate([drawings(20, seed=4), drawings(20, seed=5)])
    counts = [(learner.predict(asked, unknown=rate) == "unknown").sum() for rate in (0.01, 0.2, 0.6, 0.99)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_bad_input_is_one_message(command: Command, first: Trained, maml: Trained, tmp_path: Path) -> None:
    written(command.folder)
    evaluate, predict = [f"ckpt={first.run}", *SCORED], [f"ckpt={first.run}", "support=support", "query=query"]
    wrong: list[tuple[str, list[str], list[str]]] = [
        ("evaluate.py", [*evaluate, "strangers=-1"], ["strangers=-1", "at least 0"]),
        ("evaluate.py", [*evaluate, "strangers=9999"], ["strangers=9999 cannot be drawn", "at most"]),
        ("evaluate.py", [*evaluate, "strangers=2", "unknown=1.5"], ["unknown=1.5", "below 1"]),
        ("evaluate.py", [f"ckpt={maml.run}", *SCORED, "strangers=2"], ["cannot tell what is unknown", "algo=protonet"]),
        (PREDICT, [*predict, "unknown=0"], ["unknown=0", "above 0"]),
        (PREDICT, [*predict, "unknown=yes"], ["unknown=yes"]),
        (PREDICT, [*predict, "unknown=0.1", "together=2"], ["together=2", "true or false"]),
        (PREDICT, [f"ckpt={maml.run}", *predict[1:], "unknown=0.1"], ["cannot tell what is unknown"]),
    ]
    processes = [(command.start(script, *arguments), words) for script, arguments, words in wrong]
    for process, words in processes:
        refused(process.wait(), words)
    learner = metashot.load(first.run).fit(drawings(4), ["a", "unknown"] * 2)
    with pytest.raises(BadInput, match="a class is called 'unknown' itself"):
        learner.predict(drawings(2), unknown=True)
    for odd in (0.0, 1, -3, "x", None):
        with pytest.raises(BadInput, match=r"a rate of false alarms such as 0\.05"):
            learner.predict(drawings(2), unknown=odd)  # type: ignore[call-arg]
    old = torch.load(first.run / "checkpoints" / "best.ckpt", weights_only=True)
    old["state_dict"] = {name: value for name, value in old["state_dict"].items() if "familiarity" not in name}
    torch.save(old, tmp_path / "old.ckpt")
    learner = metashot.load(tmp_path / "old.ckpt").fit(drawings(4), ["a", "b"] * 2)
    assert len(learner.predict(drawings(2))) == 2
    with pytest.raises(BadInput, match="does not say what looks familiar"):
        learner.predict(drawings(2), unknown=True)
