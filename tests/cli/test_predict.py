"""python -m metashot.predict: from folders of images to a table and a contact sheet."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import metashot
from tests.applied.learners import drawings

from .conftest import Command, Trained
from .processes import ROOT, contents
from .test_bad_input import refused

PREDICT = "src/metashot/predict.py"
CLASSES = ("circle", "Ж 花", "plus=1")


def written(folder: Path, images: int = 2) -> None:
    """A support folder with dark ink on white, and queries of several kinds."""
    for place, name in enumerate(CLASSES):
        (folder / "support" / name).mkdir(parents=True)
        for number, pixels in enumerate(drawings(images, seed=place, side=40)):
            Image.fromarray(255 - pixels).convert("RGB").save(folder / "support" / name / f"{number}.png")
    (folder / "query" / "deeper").mkdir(parents=True)
    for number, pixels in enumerate(drawings(5, seed=9, side=50)):
        Image.fromarray(255 - pixels).save(folder / "query" / ("deeper" if number % 2 else "") / f"q [{number}].png")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(command: Command) -> Path:
    written(command.folder)
    return command.folder


def test_folders_become_a_table_and_a_sheet_with_the_answers_of_the_python_interface(
    command: Command, first: Trained, folder: Path
) -> None:
    (folder / "query" / "cut.png").write_bytes((folder / "query" / "q [0].png").read_bytes()[:70])
    (folder / "query" / "notes.txt").write_text("hello")
    (folder / "query" / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "query" / "itself.png").symlink_to("itself.png")
    (folder / "support" / "loose.png").write_bytes(b"")
    (folder / "support" / CLASSES[0] / "bad.png").write_text("no image")
    before = contents(first.run)
    outcome = command.run(PREDICT, f"ckpt={first.run}", "support=support", "query=query", "out=made/it.csv")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert contents(first.run) == before
    found = table(folder / "made/it.csv")
    queries = sorted(str(path.relative_to(folder)) for path in (folder / "query").rglob("q*.png"))
    assert sorted(row["file"] for row in found) == queries
    learner = metashot.load(first.run)
    support = [(path, path.parent.name) for path in sorted((folder / "support").glob("*/[01].png"))]
    learner.fit([path for path, _ in support], [name for _, name in support])
    expected = learner.predict_proba([folder / row["file"] for row in found])
    names = learner.classes_.tolist()
    assert sorted(names) == sorted(CLASSES)
    for row, probabilities in zip(found, expected, strict=True):
        assert row["label"] == names[int(probabilities.argmax())]
        assert float(row["probability"]) == pytest.approx(probabilities.max(), abs=2e-6)
        assert [float(row[f"p({name})"]) for name in names] == pytest.approx(probabilities.tolist(), abs=2e-6)
        (line,) = (line for line in outcome.out.splitlines() if line.startswith(row["file"]))
        assert line.endswith(f"{100 * probabilities.max():.1f} %")
        assert row["label"] in line
    with Image.open(folder / "made/it.png") as sheet:
        assert min(sheet.size) > 200
        assert len(sheet.getcolors(1 << 20) or []) > 10
    assert "skipped   4 of 9 queries" in outcome.out
    for name in (
        "cut.png: is cut off",
        "notes.txt: is not an image",
        "gone.png: cannot be read",
        "bad.png: is not an image",
    ):
        assert name in outcome.out
    assert "loose.png" in outcome.out
    assert "5 of 5 queries were inverted (a bright border)" in outcome.out
    (estimated,) = (line for line in outcome.out.splitlines() if line.startswith("estimate"))
    assert (
        estimated
        == f"estimate  {learner.estimate()} of further queries are answered right, judged by the support images alone"
    )
    again = command.run(PREDICT, f"ckpt={first.run}", "support=support", "query=query", "out=made/it.csv")
    assert again.code == 0
    assert table(folder / "made/it.csv") == found


def test_module_runs_as_users_call_it_and_leaves_its_own_files_out(command: Command, first: Trained, folder: Path) -> None:
    arguments = (f"ckpt={first.run}", "support=support", "query=query", "out=query/it.csv")
    assert command.run(PREDICT, *arguments).code == 0
    assert len(table(folder / "query/it.csv")) == 5
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")}
    call = [sys.executable, "-m", "metashot.predict", *arguments]
    ended = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert len(table(folder / "query/it.csv")) == 5
    assert "skipped" not in ended.stdout


def test_what_cannot_be_estimated_is_said(command: Command, first: Trained, maml: Trained, folder: Path) -> None:
    given = ["support=support", "query=query"]
    gradients = command.run(PREDICT, f"ckpt={maml.run}", *given)
    assert "estimate  none: an estimate is for learners that compare features" in gradients.out
    (folder / "support" / CLASSES[1] / "1.png").unlink()
    one = command.run(PREDICT, f"ckpt={first.run}", *given)
    assert one.code == 0, one
    assert (
        f"estimate  none: an estimate leaves out one example at a time, and the class {CLASSES[1]} has only one" in one.out
    )
    assert "estimate" not in command.run(PREDICT, f"ckpt={first.run}", *given, "estimate=false").out
    before = contents(folder)
    asked = command.run(PREDICT, f"ckpt={first.run}", *given, "estimate=true", "out=other.csv")
    refused(asked, ["estimate=true cannot be used", f"the class {CLASSES[1]} has only one"])
    assert contents(folder) == before
    refused(command.run(PREDICT, f"ckpt={first.run}", *given, "estimate=soon"), ["estimate=soon", "auto, true or false"])


def test_a_query_that_is_asked_alone_of_a_transductive_learner_is_warned_of(
    command: Command, maml: Trained, folder: Path
) -> None:
    outcome = command.run(PREDICT, f"ckpt={maml.run}", "support=support", "query=query/q [0].png")
    assert outcome.code == 0, outcome
    assert outcome.out.count("warning: one query was asked alone, and this maml answers queries together.") == 1
    assert "asked alone" not in command.run(PREDICT, f"ckpt={maml.run}", "support=support", "query=query").out


def test_queries_are_files_patterns_and_lists(command: Command, first: Trained, folder: Path) -> None:
    for query, count in (("query/q [0].png", 1), ("query/q*.png", 3), ("[query/deeper,query]", 5)):
        outcome = command.run(PREDICT, f"ckpt={first.run}", "support=support", f"query={query}")
        assert outcome.code == 0, outcome
        assert len(table(folder / "predictions.csv")) == count


def test_head_with_more_outputs_and_queries_that_see_each_other_are_told(
    command: Command, maml: Trained, folder: Path
) -> None:
    outcome = command.run(
        PREDICT, f"ckpt={maml.run}", "support=support", "query=query", "ink=dark", "algo.test_inner_steps=2"
    )
    assert outcome.code == 0, outcome
    assert "the head is for 5 classes: probabilities are shares among the 3 given ones" in outcome.out
    assert "queries are normalised together" in outcome.out
    assert "(ink=dark)" in outcome.out
    for row in table(folder / "predictions.csv"):
        assert sum(float(value) for key, value in row.items() if key.startswith("p(")) == pytest.approx(1, abs=1e-5)


def test_names_of_classes_and_files_do_nothing_to_a_terminal(command: Command, first: Trained, folder: Path) -> None:
    escapes = "\x1b[31m\x9b1m\nerror theirs"
    (folder / "support" / CLASSES[0]).rename(folder / "support" / escapes)
    (folder / "query" / f"{escapes}.png").write_bytes((folder / "query" / "q [0].png").read_bytes())
    (folder / "query" / f"no image {escapes}.png").write_text("")
    outcomes = [command.run(PREDICT, f"ckpt={first.run}", "support=support", "query=query", "out=a.csv")]
    learner = metashot.load(first.run).fit(drawings(4), [escapes, "x"] * 2)  # labels are kept as they were given
    learner.save(folder / "theirs.fewshot")
    outcomes.append(command.run(PREDICT, "ckpt=theirs.fewshot", "query=query", "out=b.csv"))
    (folder / "support" / escapes / "empty").mkdir()
    for path in (folder / "support" / escapes).glob("*.png"):
        path.unlink()
    outcomes.append(command.run(PREDICT, f"ckpt={first.run}", "support=support", "query=query", "out=c.csv"))
    assert [outcome.code for outcome in outcomes] == [0, 0, 2], outcomes
    for outcome in outcomes:
        assert "\\x1b[31m\\x9b1m\\nerror theirs" in outcome.out + outcome.err
        for line in (outcome.out + outcome.err).splitlines():
            assert line.isprintable(), line
            assert not line.startswith("error theirs")


def test_graph_is_written_beside_the_table_or_where_it_is_wanted(command: Command, first: Trained, folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    outcome = command.run(PREDICT, f"ckpt={first.run}", "support=support", "query=query", "out=made/it.csv", "export=onnx")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert (folder / "made/it.onnx").stat().st_size > 1000
    assert outcome.table["onnx"] == "made/it.onnx, checked against PyTorch"


def test_bad_input_is_one_message_and_writes_nothing(command: Command, first: Trained, maml: Trained, folder: Path) -> None:
    (folder / "one" / "class").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "flat").mkdir()
    (folder / "flat" / "a.png").write_bytes(b"")
    (folder / "hollow" / "a").mkdir(parents=True)
    (folder / "hollow" / "b").mkdir(parents=True)
    (folder / "file").write_text("")
    for number in range(6):
        (folder / "many" / str(number)).mkdir(parents=True)
        Image.fromarray(drawings(1)[0]).save(folder / "many" / str(number) / "a.png")
    (folder / "text").mkdir()
    (folder / "text" / "a.txt").write_text("hello")
    ckpt, support, query = f"ckpt={first.run}", "support=support", "query=query"
    fitted = folder / "pets.fewshot"
    metashot.load(first.run).fit(drawings(4), ["a", "b"] * 2).save(fitted)
    (folder / "broken.fewshot").write_bytes(fitted.read_bytes()[:1000])
    (folder / "theirs.csv").write_text("file,label,probability\n")
    (folder / "theirs.onnx").write_text("theirs")
    before = contents(folder)
    wrong = [
        ([], ("missing key query",)),
        ([query], ("missing key support", "pets.fewshot")),
        (["support=empty", query], ("no class folders",)),
        ([ckpt, query], ("missing key support", "pets.fewshot")),
        ([f"ckpt={fitted}", support, query], ("is a fitted learner", "leave support out")),
        ([f"ckpt={fitted}", query, "ink=dark"], ("ink=dark", "fitted with ink=auto")),
        (["ckpt=broken.fewshot", query], ("broken.fewshot", "is damaged")),
        ([ckpt, support, query, "out=theirs.csv"], ("theirs.csv would be replaced", "out=")),
        ([ckpt, support, query, "out=query/q [0].csv"], ("q [0].png would be replaced", "out=")),
        ([ckpt, support, query, "out=support/circle/0.csv"], ("0.png would be replaced", "out=")),
        ([ckpt, support, query, "export=theirs.onnx"], ("theirs.onnx would be replaced", "export=")),
        ([ckpt, support, query, "save=theirs.csv"], ("theirs.csv would be replaced", "save=")),
        ([ckpt, support, query, "out=x.csv", "save=x.csv"], ("x.csv would be written twice",)),
        ([ckpt, support], ("missing key query",)),
        (["ckpt=nowhere", support, query], ("ckpt=nowhere",)),
        ([ckpt, "support=nowhere", query], ("support=nowhere does not exist",)),
        ([ckpt, "support=file", query], ("support=file is not a folder",)),
        ([ckpt, "support=one", query], ("one class, 'class'; at least two classes")),
        ([ckpt, "support=empty", query], ("no class folders",)),
        (
            [ckpt, "support=flat", query],
            ("has no class folders; at least two", "; it has 1 file in no class folder, such as a.png"),
        ),
        ([ckpt, "support=hollow", query], ("the class 'a'", "no image that can be read")),
        ([f"ckpt={maml.run}", "support=many", query], ("6 classes", "at most 5")),
        ([ckpt, support, "query=nowhere"], ("query=nowhere does not exist",)),
        ([ckpt, support, "query=empty"], ("query=empty has no files",)),
        ([ckpt, support, "query=text"], ("no query can be read", "a.txt")),
        ([ckpt, support, query, "out=empty"], ("out=empty is a folder",)),
        ([ckpt, support, query, "out=it.png"], ("out=it.png", "allowed")),
        ([ckpt, support, query, "out=file/it.csv"], ("out=file/it.csv cannot be written",)),
        ([ckpt, support, query, "export=it.pt"], ("export=it.pt", "allowed")),
        ([f"ckpt={maml.run}", support, query, "export=onnx"], ("export is for learners that compare features",)),
        ([ckpt, support, query, "ink=blue"], ("ink=blue", "auto, dark, bright")),
        ([ckpt, support, query, "device=tpu"], ("device=tpu",)),
        ([ckpt, support, query, "data.ways=3"], ("data",)),
        ([ckpt, support, query, "backbone.channels=9"], ("do not fit the network",)),
    ]
    processes = [(command.start(PREDICT, *arguments), words) for arguments, words in wrong]
    for process, words in processes:
        refused(process.wait(), list(words))
    assert contents(folder) == before


def test_many_queries_are_in_the_table_and_the_first_are_printed(command: Command, first: Trained, folder: Path) -> None:
    (folder / "lots").mkdir()
    for number, pixels in enumerate(drawings(130, seed=3)):
        Image.fromarray(pixels).save(folder / "lots" / f"{number:03}.png")
    (folder / "lots" / "050.png").write_bytes(b"broken")
    outcome = command.run(PREDICT, f"ckpt={first.run}", "support=support", "query=lots")
    assert outcome.code == 0, outcome
    assert len(table(folder / "predictions.csv")) == 129
    assert "and 29 more in the table" in outcome.out
    assert "skipped   1 of 130 queries" in outcome.out
    assert np.asarray(Image.open(folder / "predictions.png")).shape[1] > 500


def test_fitted_learner_is_kept_and_answers_without_its_support_folder(
    command: Command, first: Trained, folder: Path
) -> None:
    outcome = command.run(PREDICT, f"ckpt={first.run}", "support=support", "query=query", "save=pets.fewshot")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert outcome.table["fitted"] == "pets.fewshot, for use as ckpt=pets.fewshot"
    (folder / "support").rename(folder / "elsewhere")
    again = command.run(PREDICT, "ckpt=pets.fewshot", "query=query", "out=again.csv")
    assert (again.code, again.err) == (0, ""), again
    assert table(folder / "again.csv") == table(folder / "predictions.csv")
    assert again.table["classes"] == outcome.table["classes"]
    rows = table(folder / "again.csv")
    expected = metashot.load_fitted(folder / "pets.fewshot").predict([folder / row["file"] for row in rows])
    assert [row["label"] for row in rows] == expected.tolist()


def test_contact_sheet_that_is_asked_about_is_not_replaced(command: Command, first: Trained, folder: Path) -> None:
    arguments = (f"ckpt={first.run}", "support=support")
    assert command.run(PREDICT, *arguments, "query=query", "out=sheets/it.csv").code == 0
    (folder / "sheets" / "it.csv").unlink()
    before = contents(folder)
    for query in ("query=sheets", "query=sheets/*.png", "query=sheets/it.png"):
        refused(command.run(PREDICT, *arguments, query, "out=sheets/it.csv"), ["out=", "it.png", "among the files to read"])
    (folder / "support" / CLASSES[0] / "it.png").write_bytes((folder / "sheets" / "it.png").read_bytes())
    before = contents(folder)
    out = f"out=support/{CLASSES[0]}/it.csv"
    refused(command.run(PREDICT, *arguments, "query=query", out), ["out=", "it.png", "among the files to read"])
    assert contents(folder) == before


def test_photographs_are_said_loudly_to_a_learner_of_drawings(command: Command, first: Trained, folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number, coarse in enumerate(random.integers(0, 255, (4, 6, 6, 3), dtype=np.uint8)):
        Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(folder / "photos" / f"{number}.png")
    outcome = command.run(PREDICT, f"ckpt={first.run}", "support=support", "query=photos")
    assert outcome.code == 0, outcome
    told = outcome.out.split("\n\n")[0].splitlines()[-1]  # the last line before the table
    assert told.startswith("warning: 4 of 4 images look like photographs, but this learner was trained on drawings (glyphs)")
    assert "answers are often wrong" in told
    assert "data=cifarfs or data=folder" in told
    assert "warning" not in command.run(PREDICT, f"ckpt={first.run}", "support=support", "query=query", "out=b.csv").out
