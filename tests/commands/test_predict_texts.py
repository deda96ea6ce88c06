"""python -m metashot.predict for learners of texts: from tables and folders to a table and a page."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from rich.cells import cell_len

import metashot
from metashot.applied.text_files import Keys, query_texts
from metashot.bad_input import BadInput
from metashot.checkpoints.recipes import PREDICTION
from metashot.commands.predict import predict_files
from metashot.commands.predict_texts import interval
from metashot.configuration.composing import composed
from metashot.evaluation.pages import LONGEST
from tests.applied.text_learners import LABELS, QUERIES, TEXTS, checkpoint, knowing_texts

HOSTILE = [
    "<script>alert('x')</script><img src=x onerror=alert(1)>",
    "\x1b[31mred\x1b[0m \x07bell",
    "nul\x00inside",
    "abc\u202edcba\u202c \u2067\u05d0\u05d1\u2069",
    '=HYPERLINK("http://x","y")',
    "a, b; c\td",
    'she said "yes"\nand left',
    "👩‍👩‍👧‍👦 :smile: [bold]x[/bold]",
    "我的包裹在哪里" * 20,
    "x" * 1_000_000,
]

Predict = Callable[..., str]


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return knowing_texts(checkpoint(tmp_path_factory.mktemp("texts")))


@pytest.fixture
def predict(learner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Predict:
    """Predict in an empty folder with a support file; returns what is printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    write_table(tmp_path / "support.csv", [["text", "label"], *map(list, zip(TEXTS, LABELS, strict=True))])

    def call(**given: Any) -> str:
        config = composed(PREDICTION, [f"ckpt={given.pop('ckpt', learner)}"])
        config |= {"support": "support.csv", "device": "cpu"} | given
        predict_files(OmegaConf.create(config))
        return capsys.readouterr().out

    return call


def write_table(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def table(path: Path) -> list[dict[str, str]]:
    limit = csv.field_size_limit(2**24)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    finally:
        csv.field_size_limit(limit)


def test_a_table_is_answered_as_in_python_and_keeps_its_columns(predict: Predict, learner: Path) -> None:
    write_table(Path("q.csv"), [["id", "text", "p(delivery)"], *([str(n), text, "?"] for n, text in enumerate(QUERIES))])
    out = predict(query="q.csv", unknown=0.05)
    fitted: Any = metashot.load(learner, device="cpu").fit(TEXTS, LABELS)
    expected, answers = fitted.predict_proba(QUERIES), fitted.predict(QUERIES, unknown=0.05)
    rows = table(Path("predictions.csv"))
    assert list(rows[0]) == ["id", "given_p(delivery)", "text", "label", "probability", "p(delivery)", "p(refund)"]
    assert [(row["id"], row["text"], row["given_p(delivery)"]) for row in rows] == [
        (str(n), text, "?") for n, text in enumerate(QUERIES)
    ]
    assert [row["label"] for row in rows] == answers.tolist()
    found = np.array([[float(row["p(delivery)"]), float(row["p(refund)"])] for row in rows])
    assert found == pytest.approx(expected, abs=2e-6)
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected.max(1), abs=2e-6)
    assert f"estimate  {fitted.estimate()} of further queries" in out
    assert "judged by the support texts alone" in out


@pytest.mark.parametrize("form", ["csv with semicolons", "tsv", "jsonl", "folders", "utf-16", "other columns"])
def test_support_sets_in_any_form_teach_the_same(predict: Predict, tmp_path: Path, form: str) -> None:
    Path("q.txt").write_text("\n".join(QUERIES) + "\n\n", encoding="utf-8")
    predict(query="q.txt", out="first.csv")
    support, more = "other.csv", dict[str, str]()
    if form == "folders":
        support = "folders"
        for place, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True)):
            path = tmp_path / support / label / "deeper" / f"{place}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
    elif form == "jsonl":
        support = "other.jsonl"
        lines = (json.dumps({"label": label, "text": text}) for text, label in zip(TEXTS, LABELS, strict=True))
        Path(support).write_text("\n".join(lines))
    else:
        delimiter = {"csv with semicolons": ";", "tsv": "\t"}.get(form, ",")
        support = "other.tsv" if form == "tsv" else support
        head = ["kind", "question"] if form == "other columns" else ["label", "text"]
        more = {"text": "question", "label": "kind"} if form == "other columns" else more
        content = io.StringIO()
        csv.writer(content, delimiter=delimiter).writerows([head, *zip(LABELS, TEXTS, strict=True)])
        Path(support).write_bytes(content.getvalue().encode("utf-16" if form == "utf-16" else "utf-8"))
    predict(query="q.txt", support=support, out="second.csv", **more)
    assert Path("second.csv").read_bytes() == Path("first.csv").read_bytes()
    assert [(row["line"], row["text"]) for row in table(Path("first.csv"))] == [
        (str(n), text) for n, text in enumerate(QUERIES, 1)
    ]


def test_hostile_texts_are_kept_in_the_table_and_harmless_everywhere_else(predict: Predict) -> None:
    Path("q.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in HOSTILE))
    out = predict(query="q.jsonl", explain=True)
    found = {row["text"] for row in table(Path("predictions.csv"))}
    assert found == set(HOSTILE)  # unchanged, formulas and line breaks too
    for line in out.splitlines():
        assert line.isprintable() or "\u200d" in line, repr(line)
    listed = out.split("label  ")[1].split("\n\n")[0].splitlines()
    assert len(listed) == len(HOSTILE) + 1
    assert all(cell_len(line) <= 80 for line in listed[1:]), listed
    assert ":smile:" in out
    assert "[bold]x[/bold]" in out
    for page in ("predictions.html", "predictions_explained.html"):
        content = Path(page).read_text(encoding="utf-8")
        assert "<script" not in content
        assert "<img" not in content
        assert "&lt;" in content
        assert len(content) < 200_000  # of ten texts, of which one has a megabyte
        assert not set("\x00\x07\x1b\u202e") & set(content)
        assert "default-src 'none'" in content
        assert 'dir="auto"' in content
        assert "prefers-color-scheme" in content
        assert "http-equiv" in content
        assert " src=" not in content.replace("img src=x", "")
    assert f"{1_000_000 - LONGEST:,} more characters" in Path("predictions.html").read_text(encoding="utf-8")


def test_queries_with_classes_are_scored(predict: Predict) -> None:
    rows = [[text, label] for text, label in zip(TEXTS, LABELS, strict=True)]
    write_table(Path("q.csv"), [["text", "label"], *rows, ["something", "weather"], ["else", ""]])
    out = predict(query="q.csv")
    right = sum(row["label"] == row["given_label"] for row in table(Path("predictions.csv"))[: len(TEXTS)])
    low, high = interval(right, 6)
    assert f"accuracy  {100 * right / 6:.1f} % of the 6 queries of these classes" in out
    assert f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)" in out
    assert "1 query is of other classes, such as weather" in out
    page = Path("predictions.html").read_text()
    assert page.count("✓ right") == right
    assert page.count("✗ wrong") == 6 - right


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_an_unreadable_query_is_said_marked_and_unknown(predict: Predict) -> None:
    write_table(Path("q.csv"), [["id", "text"], ["1", "where is it"], ["2", ""], ["3", " \u200b "]])
    out = predict(query="q.csv", unknown=0.05)
    assert "2 queries have nothing to read, so that their answers mean nothing: q.csv: line 3; q.csv: line 4" in out
    assert [row["label"] for row in table(Path("predictions.csv"))][1:] == ["unknown"] * 2
    assert Path("predictions.html").read_text().count("nothing to read") == 2


def test_a_fitted_learner_answers_without_support_and_explains(predict: Predict) -> None:
    Path("q.txt").write_text("where is my money\n")
    predict(query="q.txt", save="it.fewshot", out="first.csv")
    out = predict(query="q.txt", ckpt="it.fewshot", support=None, out="second.csv", explain="words.html")
    assert Path("first.csv").read_bytes() == Path("second.csv").read_bytes()
    assert "points that the probability falls without a word" in out
    assert "points that the probability falls without a word" in Path("words.html").read_text()
    assert "Row 1" in Path("words.html").read_text()


def test_outputs_replace_their_own_and_nothing_else(predict: Predict) -> None:
    Path("q.txt").write_text("where is my money\n")
    for _ in range(2):
        predict(query="q.txt", explain=True)
    for name in ("predictions.html", "predictions_explained.html"):
        kept = Path(name).read_bytes()
        Path(name).write_text("<p>mine</p>")
        with pytest.raises(BadInput, match=f"{name} would be replaced, and metashot did not write it"):
            predict(query="q.txt", explain=True)
        assert Path(name).read_text() == "<p>mine</p>"
        Path(name).write_bytes(kept)
    with pytest.raises(BadInput, match=r"would replace predictions\.csv, which is among the files to read"):
        predict(query="predictions.csv")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("texte;label\nx;a\n", "no column 'text'; its header has 'texte, label': name the texts with text="),
        ("text,klasse\nx,a\n", "no column 'label'; its header has 'text, klasse': name the classes with label="),
        ("text,label\nx,a\ny,a\n", "one class, 'a'; at least two"),
        ("text,label\nx,a\n,b\n", "line 3 has an empty text"),
        ("text,label\nx,a\n\u200b,b\n", "line 3 has an empty text"),
        ("text,label\nx,a\ny,\n", "line 3 has nothing as 'label'"),
        ("text,label\nx, y,a\n", "line 2 has 3 values, and its header has 2; texts with commas"),
        ("text,label,text\nx,a,y\n", "2 columns named 'text'"),
        ("text,label\n", "has no texts"),
        ("", "it is empty"),
        (
            b"text,label\ncaf\xc3\xa9 cr\xc3\xa8me,a\ncaf\xe9 noir et un croissant,b\n",
            "mixes encodings: line 2 is UTF-8 and",
        ),
    ],
)
def test_support_files_that_cannot_be_used_are_refused(predict: Predict, content: str | bytes, said: str) -> None:
    Path("bad.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    Path("q.txt").write_text("where\n")
    with pytest.raises(BadInput) as refusal:
        predict(query="q.txt", support="bad.csv")
    assert said in str(refusal.value)
    assert not Path("predictions.csv").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"query": "gone.csv"}, "query=gone.csv does not exist"),
        ({"query": "images"}, "query=images has images, such as a/1.png, and the learner was trained on texts"),
        ({"query": "images/a/1.png"}, "is an image, and the learner was trained on texts"),
        ({"query": ["a.txt", "b.txt"]}, "query=[a.txt,b.txt] is a list, and texts come from one file"),
        ({"query": "q.txt", "support": "images"}, "support=images has images, such as a/1.png"),
        ({"query": "q.txt", "support": "q.txt"}, "support=q.txt has no classes"),
        ({"query": "blank.txt"}, "query=blank.txt has no texts"),
        ({"query": "q.txt", "encoding": "no such"}, "encoding=no such is not an encoding"),
        ({"query": "q.txt", "text": "label"}, "text= and label= are both label"),
        ({"query": "q.txt", "export": "onnx"}, "export=onnx is for learners of images"),
        ({"query": "q.txt", "ink": "dark"}, "ink=dark is for learners of drawings"),
        ({"query": "q.txt", "explain": "words.txt"}, "explain=words.txt cannot be used"),
        ({"query": "q.txt", "out": "answers.html"}, "out=answers.html cannot be used"),
    ],
)
def test_what_a_learner_of_texts_cannot_be_given_is_refused(predict: Predict, given: dict[str, Any], said: str) -> None:
    for name in ("images/a/1.png", "images/b/1.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"\x89PNG")
    Path("q.txt").write_text("where\n")
    Path("blank.txt").write_text("\n \n")
    with pytest.raises(BadInput) as refusal:
        predict(**given)
    assert said in str(refusal.value)
    assert not Path("predictions.csv").exists()


def test_a_learner_of_images_is_given_no_texts(predict: Predict) -> None:
    Path("q.txt").write_text("where\n")
    with pytest.raises(BadInput, match=r"support=support.csv has texts, and this protonet was trained on images"):
        predict(query="q.txt", ckpt="drawings")
    with pytest.raises(BadInput, match=r"explain=True is for learners of texts"):
        predict(query="q.txt", ckpt="drawings", explain=True)


def test_tables_with_a_column_for_each_row_are_refused(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps({"text": "x", f"k{place}": 1}) for place in range(1100)))
    with pytest.raises(BadInput, match="more than 1,000 columns"):
        query_texts(str(tmp_path / "q.jsonl"), Keys("text", "label", None))
