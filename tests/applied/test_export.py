"""A fitted learner as ONNX answers as in PyTorch, whatever the number of images."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import metashot
from metashot.applied.export import export
from metashot.bad_input import BadInput
from tests.test_docs import ROOT, blocks

from .learners import drawings, tiny

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

MLP = ("backbone=mlp", "backbone.hidden=[8]")  # small, because it is the graph behind the features that matters
WITHOUT_IMAGES = ("matching", "siamese", "snail", "baselinepp")
# Between them they need all that is done to a graph before it can be written; each takes the exporter ten seconds.
LEARNERS = [
    *[
        ("protonet", "running"),
        ("r2d2", "running"),
        ("relation", "support_later"),
        ("siamese", "running"),
        ("snail", "support_later"),
    ],
    *(
        pytest.param(algo, protocol, marks=pytest.mark.long)
        for algo, protocol in [
            *[("protonet", "support"), ("relation", "running"), ("triplet", "running"), ("full context", "support")],
            *[("matching", "support"), ("baseline", "running"), ("baselinepp", "support"), ("metabaseline", "running")],
            *[
                ("r2d2", "support_later"),
                ("svm", "running"),
                ("logistic", "running"),
                ("simpleshot", "running"),
                ("feat", "running"),
                ("leo", "running"),
                ("cnaps", "running"),
            ],
        ]
    ),
]


@pytest.mark.parametrize(("algo", "protocol"), LEARNERS)
def test_graph_answers_any_number_of_images_as_pytorch_does(tmp_path: Path, algo: str, protocol: str) -> None:
    network = MLP if algo in WITHOUT_IMAGES else ()
    learner = metashot.load(tiny(tmp_path, algo, protocol, *network), ink="bright")
    learner.fit(drawings(7), ["b", "ä", "c", "b", "ä", "c", "b"])
    path = export(learner, tmp_path / "it.onnx")
    session = onnxruntime.InferenceSession(path)
    spread = 0.0
    for count in (1, 2, 9):
        images = drawings(count, seed=count)
        (found,) = session.run(None, {"images": images[:, None].astype(np.float32) / 255})
        expected = learner.predict_proba(images)
        spread = max(spread, float(expected.std()))
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert spread > 1e-3
    told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(told["classes"]) == ["b", "c", "ä"]
    assert json.loads(told["input"]) == {"channels": 1, "height": 28, "width": 28, "range": [0, 1]}
    assert (told["algorithm"], told["metashot"]) == (learner.name, metashot.__version__)


@pytest.mark.parametrize("dark_ink", [False, True])
def test_the_documented_snippet_answers_as_metashot_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dark_ink: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    learner = metashot.load(tiny(tmp_path, "protonet", "running")).fit(drawings(4), ["a", "b"] * 2)
    export(learner, Path("pets.onnx"))
    ink = drawings(1, seed=5, side=40)[0]
    ink[[0, -1]] = ink[:, [0, -1]] = 0
    Image.fromarray(255 - ink if dark_ink else ink).save("query.jpg", "PNG")
    (snippet,) = blocks(ROOT / "docs" / "how-to" / "export.md", "python")
    ran: dict[str, Any] = {}
    exec(snippet, ran)
    np.testing.assert_allclose(ran["probabilities"], learner.predict_proba(["query.jpg"]), atol=1e-4)


def refused(learner: Any, path: Path, *words: str) -> None:
    with pytest.raises(BadInput) as caught:
        export(learner, path)
    for word in words:
        assert word in str(caught.value), caught.value
    assert not path.is_file()


def test_learners_that_have_no_such_graph_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.onnx"
    fit = {"images": drawings(4), "labels": [0, 1] * 2}
    refused(metashot.load(tiny(tmp_path, "maml")).fit(**fit), path, "this maml changes its network", "learner.save")
    refused(metashot.load(tiny(tmp_path, "protonet", "transductive")).fit(**fit), path, "transductive", "running")
    refused(metashot.load(tiny(tmp_path, "tim")).fit(**fit), path, "this tim answers all queries together", "protonet")
    refused(metashot.load(tiny(tmp_path, "protonet")), path, "call fit")
    refused(metashot.load(tiny(tmp_path, "mann")).fit(**fit), path, "any number of queries", "learner.save")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else found(name))
    refused(metashot.load(tiny(tmp_path, "protonet")).fit(**fit), path, "needs onnx", "pip install onnx==")


def test_graph_that_answers_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = metashot.load(tiny(tmp_path, "protonet", "running")).fit(drawings(4), [0, 1] * 2)
    monkeypatch.setattr("metashot.applied.export.normalised", lambda x, form: x)
    refused(learner, tmp_path / "it.onnx", "gives other answers than PyTorch")
