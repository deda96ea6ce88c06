"""evaluate.py scores a checkpoint from its path alone, and the same call gives the same number."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from .conftest import Command, Trained, without_pictures
from .processes import Outcome, contents, copy, measured


def scored(outcome: Outcome, folder: Path) -> dict[str, Any]:
    """The report where the last printed line says it is."""
    assert outcome.code == 0, outcome
    path = folder / outcome.table["report"]
    written: dict[str, Any] = json.loads(path.read_text())
    return {name: value for name, value in written.items() if name not in ("seconds", "seconds_of_a_task", "checkpoint")}


def own_report(run: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((run / "report.json").read_text())
    return {name: value for name, value in written.items() if name not in ("seconds", "seconds_of_a_task", "checkpoint")}


@pytest.fixture
def run(command: Command, first: Trained) -> Path:
    """A copy of the run, which evaluations write into."""
    return copy(first.run, command.folder / "run")


def test_checkpoint_alone_gives_the_test_number_of_its_training(command: Command, run: Path) -> None:
    before = contents(run)
    outcome = command.run("evaluate.py", "ckpt=run", "episodes=60")
    assert scored(outcome, command.folder) == own_report(run)
    after = contents(run)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"evaluations"}


def test_maml_checkpoint_alone_gives_the_test_number_of_its_training(command: Command, maml: Trained) -> None:
    run = copy(maml.run, command.folder / "run")
    assert scored(command.evaluate("ckpt=run", "episodes=60"), command.folder) == own_report(run)


def test_file_and_folder_are_the_same_checkpoint(command: Command, run: Path) -> None:
    folder = scored(command.evaluate(f"ckpt={run}", "episodes=12"), command.folder)
    file = scored(command.evaluate(f"ckpt={run}/checkpoints/best.ckpt", "episodes=12"), command.folder)
    last = scored(command.evaluate(f"ckpt={run}/checkpoints/last.ckpt", "episodes=12"), command.folder)
    assert folder == file
    assert folder["step"] <= last["step"] == 60
    assert len(list((run / "evaluations").glob("*/report.json"))) == 2


def test_same_call_gives_the_same_number_on_other_tasks_than_the_run_had(command: Command, run: Path) -> None:
    given = ["ckpt=run", "data.ways=10", "data.shots=5", "data.queries=2", "episodes=12", "seed=7"]
    quiet = without_pictures(given)
    one, two = (command.start("evaluate.py", *quiet, "out=one"), command.start("evaluate.py", *quiet, "out=two"))
    report = scored(one.wait(), command.folder)
    assert scored(two.wait(), command.folder) == report
    expected = {"ways": 10, "shots": 5, "queries": 2, "episodes": 12, "episode_seed": 7, "split": "test", "algo": "protonet"}
    assert {name: report[name] for name in expected} == expected
    assert (command.folder / "one" / "report.json").is_file()
    other = scored(command.evaluate(*given[:-1], "seed=8", "out=three"), command.folder)
    assert other["loss"] != report["loss"]


def test_report_is_where_the_last_line_says_and_agrees_with_the_table(command: Command, run: Path) -> None:
    outcome = command.evaluate("ckpt=run", "episodes=9", "split=val")
    report = scored(outcome, command.folder)
    assert outcome.table["accuracy"].startswith(f"{100 * report['accuracy']:.2f} % ± {100 * report['ci95']:.2f}")
    assert outcome.table["episodes"].startswith("9 (fewer than 30")
    assert outcome.table["seeds"] == "0 of the episodes, 0 of the training"
    assert report["few_episodes"] is True
    assert outcome.table["transductive"] == "false"
    assert "val split" in outcome.table["protonet"]
    assert outcome.table["report"].startswith("run/evaluations/")
    assert (command.folder / outcome.table["checkpoint"]).is_file()


def test_one_episode_has_no_interval(command: Command, run: Path) -> None:
    outcome = command.evaluate("ckpt=run", "episodes=1")
    assert scored(outcome, command.folder)["ci95"] is None
    assert "no interval" in outcome.table["accuracy"]


@pytest.mark.parametrize("algo", ["protonet", "maml"])
def test_batch_size_does_not_change_the_result(command: Command, first: Trained, maml: Trained, algo: str) -> None:
    run = copy((first if algo == "protonet" else maml).run, command.folder / "run")
    sizes, given = (1, 4, 64), without_pictures([f"ckpt={run}", "episodes=30"])
    started = [
        command.start("evaluate.py", *given, f"data.tasks_per_evaluation_step={size}", f"out=by{size}") for size in sizes
    ]
    reports = [scored(process.wait(), command.folder) for process in started]
    assert [report["accuracy"] for report in reports] == [reports[0]["accuracy"]] * len(sizes)
    assert [report["loss"] for report in reports] == pytest.approx([reports[0]["loss"]] * len(sizes), rel=1e-5)


def test_checkpoint_that_was_copied_elsewhere_is_scored_alone(command: Command, first: Trained) -> None:
    shutil.copy(first.run / "checkpoints" / "best.ckpt", command.folder / "mine.ckpt")
    report = scored(command.evaluate("ckpt=mine.ckpt", "episodes=60"), command.folder)
    assert report == own_report(first.run)
    assert {path.name for path in command.folder.iterdir()} == {"mine.ckpt", "evaluations"}


def test_override_that_would_do_nothing_is_refused(command: Command, first: Trained) -> None:
    outcome = command.train("data.test.ways=7", "trainer.max_steps=2", "data.test.episodes=4", "folder=run")
    assert outcome.code == 0, outcome
    run = command.folder / "run"
    before = contents(run)
    outcome = command.evaluate("ckpt=run", "data.ways=6", "episodes=4")
    assert outcome.code == 2, outcome
    for word in ("data.ways=6", "data.test.ways=7", "data.test.ways"):
        assert word in outcome.err, outcome
    assert contents(run) == before
    for allowed in (["data.test.ways=6"], ["data.ways=6", "split=val"]):
        outcome = command.evaluate("ckpt=run", *allowed, "episodes=4")
        assert scored(outcome, command.folder)["ways"] == 6


def test_head_keeps_its_classes_while_shots_and_queries_may_change(command: Command, maml: Trained) -> None:
    run = copy(maml.run, command.folder / "run")
    outcome = command.evaluate(f"ckpt={run}", "data.shots=3", "data.queries=4", "episodes=5")
    report = scored(outcome, command.folder)
    assert (report["ways"], report["shots"], report["queries"], report["transductive"]) == (5, 3, 4, True)


def test_scores_after_inner_steps_are_those_of_the_first_episodes(command: Command, maml: Trained) -> None:
    run = copy(maml.run, command.folder / "run")
    for steps in (1, 4):  # four is not a divisor of the six episodes that are watched
        given = [f"ckpt={run}", "episodes=10", "curve=6", f"data.tasks_per_evaluation_step={steps}", f"out=by{steps}"]
        report = scored(command.evaluate(*given), command.folder)
        with (command.folder / f"by{steps}" / "episodes.csv").open() as lines:
            scores = [float(row["accuracy"]) for row in csv.DictReader(lines)]
        watched = report["inner_steps"]
        assert [at["steps"] for at in watched] == [0, 1, 2, 3, 4, 5]
        assert {at["episodes"] for at in watched} == {6}
        assert watched[-1]["score"] == pytest.approx(sum(scores[:6]) / 6)
        assert watched[0]["score"] < watched[-1]["score"]
    assert scored(command.evaluate(f"ckpt={run}", "episodes=10", "curve=0"), command.folder)["inner_steps"] == []


def without_finite_weights(run: Path, to: Path) -> Path:
    """A copy of the best checkpoint of a run whose weights are not finite."""
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    for name, weights in content["state_dict"].items():
        if "backbone." in name and weights.is_floating_point():
            weights.fill_(math.nan)
    torch.save(content, to)
    return to


def test_answers_that_are_not_finite_are_no_result(command: Command, first: Trained) -> None:
    """Scored as labels they would be right in one of five episodes, without any doubt: 20.00 % ± 0.00."""
    without_finite_weights(first.run, command.folder / "nan.ckpt")
    before = contents(command.folder)
    for given in ("nan.ckpt", f"[{first.run},nan.ckpt]"):
        outcome = command.evaluate(f"ckpt={given}", "episodes=8", "out=found")
        assert outcome.code == 1, outcome
        (line,) = outcome.err.splitlines()
        for said in ("nan.ckpt", "120 of 120 queries", "8 of 8 episodes", "not finite", "nothing was reported"):
            assert said in line, outcome
    assert contents(command.folder) == before


def test_training_without_a_finite_validation_ends_with_one_message(command: Command) -> None:
    given = ("algo.optimizer.lr=1e30", "trainer.max_steps=1", "trainer.validate_every=1", "folder=run")
    outcome = command.train(*given)
    assert outcome.code == 1, outcome
    assert "val accuracy not counted: the answers to 120 of 120 queries, in 8 of 8 episodes, are not finite" in outcome.out
    (line,) = outcome.err.splitlines()
    for said in ("no best checkpoint", "run/checkpoints/last.ckpt", "python evaluate.py ckpt="):
        assert said in line, outcome
    assert {path.name for path in (command.folder / "run" / "checkpoints").iterdir()} == {"last.ckpt"}
    assert not (command.folder / "run" / "report.json").exists()


def test_split_of_validation_has_the_episodes_of_the_training(command: Command, first: Trained) -> None:
    run = copy(first.run, command.folder / "run")
    report = scored(command.evaluate("ckpt=run", "split=val", "episodes=8"), command.folder)
    validated = {int(step): float(score) for step, score in measured(run, "val/accuracy")}
    assert report["accuracy"] == validated[report["step"]]
