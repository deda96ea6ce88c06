"""What a training would take follows from the files that a few steps leave."""

import json
from pathlib import Path

import pytest

from metashot.results.budget import Budget
from metashot.results.commands import Conditions
from metashot.results.costs import Costs
from metashot.results.not_measured import Failed
from metashot.results.trainings import Training
from tests.results.made import cell

CONFIG = {"trainer": {"max_steps": 100}, "data": {"tasks_per_step": 4}}


def cost(folder: Path, monkeypatch: pytest.MonkeyPatch, metrics: str, step: int) -> float:
    (folder / "metrics.csv").write_text(metrics)
    (folder / "report.json").write_text(json.dumps({"accuracy": 0.5, "step": step}))
    monkeypatch.setattr(Costs, "_pilot", lambda *_: folder)
    costs = Costs(folder / "results", Conditions(None, "cpu", 1), print)
    return costs.of(Training(cell("protonet"), CONFIG, folder, None), Budget(1e9, 1e9), 0).seconds


def test_it_is_the_time_of_all_steps_at_the_last_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = "step,train/tasks_per_second,val/accuracy\n20,10,\n40,20,\n60,,0.5\n"
    assert cost(tmp_path, monkeypatch, metrics, 60) == 100 * 4 / 20


def test_a_learner_with_nothing_to_train_takes_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as word vectors and class means: train.py says so and tests them, whatever steps the recipe has."""
    assert cost(tmp_path, monkeypatch, "step,val/accuracy\n0,0.5\n", 0) == 0


@pytest.mark.parametrize("metrics", ["step,val/accuracy\n60,0.5\n", "step,train/tasks_per_second\n20,inf\n"])
def test_a_speed_that_was_not_measured_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metrics: str) -> None:
    with pytest.raises(Failed, match="their speed was not measured"):
        cost(tmp_path, monkeypatch, metrics, 60)
