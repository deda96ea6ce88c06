"""The static page is a folder that is written whole or not at all, over nothing but an earlier one of ours."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import metashot
from metashot.bad_input import BadInput
from metashot.page import static
from metashot.page.policy import POLICY_OF_FILES
from metashot.page.static import MARKER, refuse_static, write_page
from tests.applied.learners import drawings, tiny

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MLP = ("backbone=mlp", "backbone.hidden=[8]")


def learner_of(folder: Path, algo: str = "protonet", protocol: str = "running", *more: str, **origin: Any) -> Any:
    return metashot.load(tiny(folder, algo, protocol, *more, **origin), "cpu")


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return learner_of(tmp_path_factory.mktemp("checkpoint"), "protonet", "running", *MLP)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the exporter, which takes seconds."""
    monkeypatch.setattr(static, "_backbone_graph", lambda algorithm, learner: b"a graph")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(learner: Any, out: Path, *words: str) -> None:
    with pytest.raises(BadInput) as caught:
        write_page(learner, str(out))
    for word in words:
        assert word in str(caught.value), caught.value


def test_marker_lists_every_file_with_its_digest(learner: Any, tmp_path: Path) -> None:
    assert write_page(learner, str(tmp_path / "sub" / "page")) == tmp_path / "sub" / "page"
    found = contents(tmp_path / "sub" / "page")
    told = json.loads(found.pop(MARKER))
    assert told["written_by"] == f"metashot {metashot.__version__}"
    assert told["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    expected = {"learner.json", "numbers.bin", "examples.bin", "backbone.onnx", "head.bin", "weights.fewshot"}
    assert {name.removeprefix("learner/") for name in found if name.startswith("learner/")} == expected
    assert {"browser/backend.js", "errors.js", "runtime/ort-wasm-simd-threaded.wasm"} <= set(found)
    assert not [name for name in found if name.startswith("server/") or ".py" in name]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["page"]


def test_document_says_where_it_computes_and_carries_the_policy() -> None:
    made = static._static_document('<html lang="en" data-backend="server">\n<head>\n<meta charset="utf-8">\n</head></html>')
    assert 'data-backend="browser"' in made
    assert 'data-backend="server"' not in made
    assert made.index("Content-Security-Policy") < made.index("</head>")
    assert "&#x27;wasm-unsafe-eval&#x27;" in made
    assert "frame-ancestors" not in POLICY_OF_FILES  # which browsers ignore there, with a warning


def test_earlier_page_is_replaced(learner: Any, tmp_path: Path, quick: None) -> None:
    out = tmp_path / "page"
    out.mkdir()
    write_page(learner, str(out))
    before = contents(out)
    write_page(learner.fit(drawings(4), ["a", "b"] * 2), str(out))
    after = contents(out)
    assert len(after["learner/examples.bin"]) == 4 * 28 * 28
    assert before["learner/weights.fewshot"] == after["learner/weights.fewshot"]
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


@pytest.mark.parametrize(
    "change", ["a file", "a folder", "a link", "a changed file", "no marker", "a marker", "a broken marker"]
)
def test_what_is_not_ours_is_never_replaced(learner: Any, tmp_path: Path, quick: None, change: str) -> None:
    out = tmp_path / "page"
    write_page(learner, str(out))
    if change == "a file":
        (out / "learner" / "mine.txt").write_text("mine")
    elif change == "a folder":
        (out / "mine").mkdir()
    elif change == "a link":
        (out / "learner" / "head.bin").unlink()
        (out / "learner" / "head.bin").symlink_to(tmp_path / "elsewhere")
    elif change == "a changed file":
        with (out / "errors.js").open("a") as file:
            file.write("// mine")
    elif change == "no marker":
        (out / MARKER).unlink()
    elif change == "a marker":
        (out / MARKER).write_text('{"written_by": "another", "files": {}}')
    else:
        (out / MARKER).write_text("[" * 100_000)
    before = contents(out)
    refused(learner, out, f"out={out}", "new folder")
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_change_while_the_page_is_made_is_kept(learner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "page"

    def meanwhile(*_: Any) -> bytes:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
        return b"a graph"

    monkeypatch.setattr(static, "_backbone_graph", meanwhile)
    refused(learner, out, "out=", "metashot did not write it")
    assert contents(out) == {"mine.txt": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_places_that_cannot_be_written_are_refused(learner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    refused(learner, tmp_path / "file", "is a file", "out=")
    refused(learner, tmp_path / "file" / "page", "out=")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"out=\. cannot be replaced"):
        write_page(learner, ".")
    with pytest.raises(BadInput, match="out= is empty"):
        write_page(learner, "")
    assert (tmp_path / "file").read_text() == "mine"


def test_full_disk_leaves_nothing(learner: Any, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "weights.fewshot":
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    refused(learner, tmp_path / "page", "out=", "No space left")
    assert not list(tmp_path.iterdir())


_SLOWLY = """
import sys, time
from pathlib import Path
import metashot
from metashot.page import static
write = Path.write_bytes
def slow(path, content):
    time.sleep(0.2)
    print(path, flush=True)
    return write(path, content)
Path.write_bytes = slow
static._backbone_graph = lambda algorithm, learner: b"a graph"
static.write_page(metashot.load(sys.argv[1], "cpu"), sys.argv[2])
"""


@pytest.mark.long
@pytest.mark.parametrize("earlier", [False, True])
def test_kill_leaves_no_half_folder(learner: Any, tmp_path: Path, quick: None, earlier: bool) -> None:
    out = tmp_path / "page"
    if earlier:
        write_page(learner, str(out))
    before = contents(out) if earlier else None
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOWLY, str(learner.checkpoint), str(out)], stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    assert (contents(out) if out.exists() else None) == before
    write_page(learner, str(out))
    assert MARKER in contents(out)


def test_learners_that_a_browser_cannot_compute_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def why(*of: str, **origin: Any) -> str:
        with pytest.raises(BadInput) as caught:
            refuse_static(learner_of(tmp_path, *of, **origin))
        return str(caught.value)

    assert "this maml changes its network" in (message := why("maml", "running"))
    assert "allowed: protonet, matching (without full context) and siamese" in message
    assert "backbone.normalisation=support" in why("protonet", "support")
    assert "backbone.normalisation=transductive" in why("protonet", "transductive")
    assert "this relation is not" in why("relation", "running")
    assert "algo.full_context=true" in why("full context", "running")
    assert "this logistic is not" in why("logistic", "running")
    vectors = {"presentation": "features", "input_shape": [16], "name": "vectors", "items": "x", "mean": None, "std": None}
    assert "trained on vectors" in why("protonet", "running", *MLP, **vectors)
    curves = {"problem": "Regression", "outputs": 1, "input_shape": [1], "name": "curves"}
    assert "trained on curves" in why("maml", "running", *MLP, **curves)
    for algo in ("protonet", "simpleshot", "matching", "siamese", "triplet"):
        refuse_static(learner_of(tmp_path, algo, "running"))
    found = static.refuse_without_onnx
    monkeypatch.setattr("metashot.applied.export.NEEDED", {"no_such_package": "1"})
    assert "pip install no_such_package" in why("protonet", "running")
    assert found is static.refuse_without_onnx


def test_graph_with_other_features_is_not_written(learner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def run(self, _: Any, given: Any) -> list[Any]:
            return [0.1 + given["images"].reshape(len(given["images"]), -1)[:, :8]]

    monkeypatch.setattr(static, "session_of", lambda content: Other())
    refused(learner, tmp_path / "page", "gives other features than PyTorch")
    assert not list(tmp_path.iterdir())
