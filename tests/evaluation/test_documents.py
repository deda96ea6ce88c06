"""What an evaluation leaves behind says what was measured, for machines and for people."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from metashot.data.seen_classes import SeenClasses
from metashot.evaluation.acting import ActingReport, RegretCurve
from metashot.evaluation.answers import Answers, ClassAccuracy
from metashot.evaluation.documents import write_for_people, write_numbers
from metashot.evaluation.protocol import EpisodeResults
from metashot.evaluation.report import AfterSteps, Measure, Report
from metashot.evaluation.testing import Evaluation
from metashot.evaluation.timing import SecondsOfATask
from metashot.problems import Classification, Problem, Regression, Returns

NAMES = ("one, with a comma", "two | three", "four")


def report(problem: Problem, classes: list[ClassAccuracy]) -> Report:
    return Report(
        metric=problem.metric,
        score=0.75,
        ci95=0.1,
        loss=0.5,
        episodes=2,
        shots=1,
        queries=(2, 4),
        ways=2 if classes else None,
        unequal_support=None,
        sampling="sorted",
        unequal_queries=1.5,
        transductive=True,
        external_data="ImageNet-1k" if classes else None,
        seen_classes=SeenClasses(1, 3, True) if classes else None,
        algo="maml",
        data="pets",
        split="val",
        episode_seed=3,
        training_seed=7,
        checkpoint="best.ckpt",
        step=9,
        seconds=1.0,
        version="1",
        worst_episodes=0.5,
        calibration_error=float("nan") if classes else None,
        seconds_of_a_task=SecondsOfATask(0.25, 0.001, 0.125),
        strangers=None,
        inner_steps=[AfterSteps(0, 0.2, 0.05, 2), AfterSteps(1, 0.75, 0.1, 2)],
        classes=classes,
    )


def classification() -> Evaluation:
    answers = Answers(*np.array([[5, 8], [0, 2], [0, 1]]), np.array([0.9, 0.8]), {5: (0, 1), 8: (2, 1)})
    results = EpisodeResults(Classification(2), [1.0, 0.5], [0.25, 0.75], [5, 8])
    classes = [ClassAccuracy(NAMES[0], 4, 1.0), ClassAccuracy(NAMES[1], 4, 0.25)]
    return Evaluation(report(results.problem, classes), results, answers, NAMES)


def regression() -> Evaluation:
    results = EpisodeResults(Regression(1), [1.0, 0.5], [0.25, 0.75], [0, 1])
    return Evaluation(report(results.problem, []), results, None, ())


def acting() -> Evaluation:
    """Of a policy in two worlds."""
    results = EpisodeResults(Returns(2, "discrete"), [1.0, 0.5], [-1.0, -0.5], [0, 1], measures={"regret": [0.5, 0.25]})
    whole = replace(
        report(results.problem, []),
        acting=ActingReport("updates", 1234, 56789, "bandits"),
        measures={"regret": Measure(0.375, 0.1)},
        seconds_of_a_task=None,
        unequal_queries=None,
        queries=4,
    )
    return Evaluation(whole, results, None, (), regret=RegretCurve([0.25, 0.375], [0.05, 0.1]))


def test_of_a_policy_machines_get_its_steps_and_its_regret(tmp_path: Path) -> None:
    write_numbers(acting(), tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    expected = {
        "adapts_by": "updates",
        "environment_steps": 1234,
        "environment_steps_in_training": 56789,
        "family": "bandits",
    }
    assert content["acting"] == expected
    assert (content["regret"], content["regret_ci95"]) == (0.375, 0.1)
    assert (tmp_path / "regret.csv").read_text() == "step,regret,ci95\n1,0.25,0.05\n2,0.375,0.1\n"
    write_numbers(regression(), tmp_path / "other")
    assert "acting" not in json.loads((tmp_path / "other" / "report.json").read_text())  # as in older reports
    assert not (tmp_path / "other" / "regret.csv").exists()


def test_machines_get_every_number_under_its_name(tmp_path: Path) -> None:
    write_numbers(classification(), tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert next(iter(content)) == "accuracy"
    assert content["worst_class"] == {"name": "two | three", "queries": 4, "accuracy": 0.25}
    assert content["calibration_error"] is None  # what is not a number has no word in JSON
    assert content["seconds_of_a_task"] == {"adapting": 0.25, "answering": 0.001, "in_the_test": 0.125}
    assert content["inner_steps"][1] == {"steps": 1, "score": 0.75, "ci95": 0.1, "episodes": 2}
    assert [of_class["name"] for of_class in content["classes"]] == list(NAMES[:2])
    assert content["seen_classes"] == {"seen": 1, "of": 3, "complete": True}
    assert (content["episode_seed"], content["training_seed"]) == (3, 7)
    assert content["few_episodes"] is True


def test_every_episode_has_a_row_with_its_classes_in_the_order_of_their_labels(tmp_path: Path) -> None:
    write_numbers(classification(), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "episodes.csv").read_text())))
    assert rows == [
        {"number": "5", "accuracy": "1.0", "loss": "0.25", "classes": "one, with a comma; two | three"},
        {"number": "8", "accuracy": "0.5", "loss": "0.75", "classes": "four; two | three"},
    ]


def test_people_get_tables_that_are_whole_and_the_pictures(tmp_path: Path) -> None:
    write_for_people(classification(), tmp_path, [tmp_path / "episode.png"])
    text = (tmp_path / "report.md").read_text()
    assert "**accuracy 75.00 % ± 10.00 (95 % interval over episodes)**" in text
    assert "| transductive | true |" in text
    assert "| external data | ImageNet-1k, which may have the classes of the val split |" in text
    assert "| queries | 2-4 per class |" in text
    assert "| seeds | 3 of the episodes, 7 of the training |" in text
    assert "| seen classes | 1 of 3 |" in text
    assert "| episodes | 2 (fewer than 30: too few for the interval to be trusted) |" in text
    assert "| 1 | 75.00 % ± 10.00 |" in text
    assert "![episode](episode.png)" in text
    hardest = next(line for line in text.splitlines() if line.startswith("| two"))
    assert hardest == "| two \\| three | 25.00 % | 4 |"
    assert text.index(hardest) < text.index("| one, with a comma |")


def test_regression_has_no_classes(tmp_path: Path) -> None:
    write_numbers(regression(), tmp_path)
    write_for_people(regression(), tmp_path, [])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "episodes.csv").read_text())))
    assert [list(row) for row in rows] == [["number", "mse", "loss"]] * 2
    content = json.loads((tmp_path / "report.json").read_text())
    assert (content["mse"], content["worst_class"], content["calibration_error"]) == (0.75, None, None)
    assert content["seen_classes"] is None
    assert "class" not in (tmp_path / "report.md").read_text()


def test_further_measures_stand_beside_the_score(tmp_path: Path) -> None:
    measures = {"log_likelihood": [-1.0, 0.5], "coverage": [1.0, 0.9]}
    results = EpisodeResults(Regression(1).with_deviations(), [1.0, 0.5], [1.0, -0.5], [0, 1], measures=measures)
    whole = replace(
        report(results.problem, []), measures={"log_likelihood": Measure(-0.25, 0.1), "coverage": Measure(0.95, None)}
    )
    evaluation = Evaluation(whole, results, None, ())
    write_numbers(evaluation, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert [content[name] for name in ("log_likelihood", "log_likelihood_ci95", "coverage")] == [-0.25, 0.1, 0.95]
    assert content["coverage_ci95"] is None
    assert "measures" not in content
    rows = list(csv.reader((tmp_path / "episodes.csv").read_text().splitlines()))
    assert rows == [
        ["number", "mse", "loss", "log_likelihood", "coverage"],
        ["0", "1.0", "1.0", "-1.0", "1.0"],
        ["1", "0.5", "-0.5", "0.5", "0.9"],
    ]
    assert whole.rows()["log likelihood"] == "-0.2500 ± 0.1000 (95 % interval)"
    assert whole.rows()["coverage"].startswith("95.00 %")
    assert whole.metrics()["test/coverage"] == 0.95
    write_for_people(evaluation, tmp_path, [])
    assert "| log likelihood | -0.2500" in (tmp_path / "report.md").read_text()
