"""A signal whose exception Python dropped, as in a callback of a library, ends `predict` before the next file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metashot
from metashot.applied.folders import Images, Outputs
from metashot.commands.predict_images import _write
from metashot.commands.predictions import Answers
from metashot.process.interruption import STOP, Stopped
from tests.applied.learners import drawings, tiny


@pytest.mark.parametrize("during", ["what comes before", "the graph", "the learner"])
def test_no_file_is_written_after_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: str) -> None:
    pixels, files = drawings(2)[:, None], ["a.png", "b.png"]
    learner: Any = metashot.load(tiny(tmp_path, "protonet", "running"), device="cpu").fit(drawings(4), ["a", "b"] * 2)
    place = tmp_path / "made"
    outputs = Outputs(place / "o.csv", place / "o.png", place / "o.onnx", place / "o.fewshot")
    monkeypatch.setattr(STOP, "requested", during == "what comes before")
    written = []

    def file(name: str) -> Any:
        written.append(name)
        STOP.requested = STOP.requested or name == during
        return place

    monkeypatch.setattr("metashot.applied.export.export", lambda *_: file("the graph"))
    monkeypatch.setattr(learner, "save", lambda *_: file("the learner"))
    with pytest.raises(Stopped):
        _write(
            learner,
            outputs,
            Images(pixels, files, [], 0, 0),
            Answers(["a", "b"], np.full((2, 2), 0.5), np.zeros(2, np.bool_)),
        )
    assert written == {"what comes before": [], "the graph": ["the graph"]}.get(during, ["the graph", "the learner"])
    assert not place.exists()
