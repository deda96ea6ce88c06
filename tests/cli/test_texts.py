"""Texts as a user meets them: trained on, shown, looked at, and answered from the shell as in Python."""

import csv
import json
from pathlib import Path

import pytest

import metashot

from .conftest import Command, Trained
from .processes import Scripts
from .test_bad_input import refused

LOOK, PREDICT = "src/metashot/data/__main__.py", "src/metashot/predict.py"
CLASSES = ("猫 <b>", "قطة", "dog", "fish", "bird", "cow", "hen", "bee", "fox")
SMALL = (
    *("data=texts", "data.root=it.csv", "data.banks=banks", "data.ways=2", "data.shots=2", "data.queries=3"),
    *("data.train.ways=null", "data.train.queries=null", "data.source.shares=[1,1,1]"),
)
RUN = (
    *("algo=protonet", "backbone.channels=8", "backbone.length=32", "data.val.episodes=8", "data.test.episodes=20"),
    *("trainer.max_steps=20", "trainer.validate_every=10", "folder=run", "logger=wandb", "logger.mode=offline"),
)


@pytest.fixture
def command(scripts: Scripts, tmp_path: Path) -> Command:
    """The scripts in an empty working directory, for which no bank of images is built."""
    return Command(scripts, tmp_path / "banks", tmp_path)


def texts(folder: Path) -> None:
    with (folder / "it.csv").open("w", newline="", encoding="utf-8") as file:
        rows = ([f"{name} says {name[::-1]} {number} <script>", name] for name in CLASSES for number in range(8))
        csv.writer(file).writerows([["text", "label"], *rows])


@pytest.fixture(scope="module")
def run(scripts: Scripts, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("texts")
    texts(folder)
    outcome = Command(scripts, folder / "banks", folder).run("train.py", *SMALL, *RUN)
    assert outcome.code == 0, outcome
    return Trained(outcome, folder, folder / "run")


def test_a_run_shows_an_episode_as_a_page_and_in_wandb_as_a_table(run: Trained) -> None:
    page = (run.run / "episode.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "of 6 queries right" in page
    assert page.count("✓ right") + page.count("✗ wrong") == 6
    assert not (run.run / "episode.png").exists()
    assert "\n[episode](episode.html)" in (run.run / "report.md").read_text()
    assert {path.stem for path in run.run.glob("*.png")} == {"histogram", "reliability", "confusion", "features"}
    (media,) = run.run.glob("wandb/offline-run-*/files/media")
    (shown,) = media.glob("html/test/episode_*.html")
    assert shown.read_text(encoding="utf-8") == page
    (table,) = media.glob("table/test/texts_table_*.json")
    assert len(json.loads(table.read_text())["data"]) == 2 * (2 + 3)


def test_an_episode_is_looked_at_in_the_terminal_and_on_a_page(command: Command) -> None:
    texts(command.folder)
    outcome = command.run(LOOK, *SMALL, COLUMNS="60")
    assert outcome.code == 0, outcome
    assert sum(line.startswith("support ") for line in outcome.out.splitlines()) == 4
    assert sum(line.startswith("query ") for line in outcome.out.splitlines()) == 6
    assert "page      texts.html" in outcome.out
    assert (command.folder / "texts.html").read_text(encoding="utf-8").count("says") == 10
    refused(command.run(LOOK, *SMALL, "out=it.png"), ["out=it.png", "is written as a page of HTML", "it.html"])


def test_the_shell_answers_as_python_does_and_keeps_apart_images_and_texts(command: Command, run: Trained) -> None:
    with (command.folder / "support.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["text", "label"], ["where is it", "a"], ["it is late", "a"], ["谢谢", "b"], ["不客气", "b"]]
        )
    (command.folder / "q.txt").write_text("is it here\n谢\n", encoding="utf-8")
    given = (f"ckpt={run.run}", "support=support.csv", "query=q.txt")
    outcome = command.run(PREDICT, *given, "out=made/it.csv", "explain=true")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    learner = metashot.load(run.run, device="cpu").fit(["where is it", "it is late", "谢谢", "不客气"], list("aabb"))
    queries = ["is it here", "谢"]
    with (command.folder / "made/it.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == learner.predict(queries).tolist()
    assert [float(row["p(a)"]) for row in rows] == pytest.approx(learner.predict_proba(queries)[:, 0].tolist(), abs=2e-6)
    assert "points that the probability falls without a word" in outcome.out
    assert sorted(path.name for path in (command.folder / "made").iterdir()) == ["it.csv", "it.html", "it_explained.html"]
    (command.folder / "pets" / "cat").mkdir(parents=True)
    (command.folder / "pets" / "cat" / "1.png").write_bytes(b"\x89PNG")
    refused(command.run(PREDICT, *given[:1], "support=pets", "query=q.txt"), ["support=pets has images, such as cat/1.png"])
    picked = command.run(PREDICT, "support=support.csv", "query=q.txt")
    assert picked.out.startswith("ckpt=text, for texts in English: the support set has texts"), picked
