"""Lines of progress say what is trained and how far it is, in the words of its problem."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from metashot.evaluation.protocol import EpisodeResults, Scoring
from metashot.problems import Classification, Problem, Returns
from metashot.training.measurements import Measurements
from metashot.training.progress import ProgressBar


def bar(problem: Problem, latest: dict[str, float], best: float | None) -> tuple[ProgressBar, io.StringIO]:
    scoring, printed = Scoring(), io.StringIO()
    scoring.results = EpisodeResults(problem, [-4.0, -6.0], [4.0, 6.0], [0, 1])
    measurements = Measurements(scoring, problem.metric, 4, 1)
    measurements.latest = latest
    saving: Any = SimpleNamespace(best_step=10, best_score=best)
    return ProgressBar(scoring, Console(file=printed, width=200), measurements, saving), printed


def at_step(step: int) -> Any:
    data = SimpleNamespace(episodes={"val": 2})
    return SimpleNamespace(global_step=step, max_steps=50, is_global_zero=True, world_size=1, datamodule=data)


def test_a_policy_shows_its_return_before_and_after_updates_and_worlds_a_second() -> None:
    latest = {"train/return": -4.5, "train/return_before": -9.25, "train/loss": 4.5, "train/tasks_per_second": 2.0}
    progress, printed = bar(Returns(2, "discrete"), latest, None)
    policy: Any = SimpleNamespace(answers_queries=False)
    progress.on_train_start(at_step(0), policy)
    progress.on_validation_start(at_step(20), policy)
    assert [task.fields["measured"] for task in progress.bar.tasks][-1] == "worlds"
    progress.on_validation_end(at_step(20), policy)
    (line,) = printed.getvalue().splitlines()
    assert line.startswith("step 20/50  val return -5.0000 ± ")
    assert line.endswith("best so far  train return -9.250 -> -4.500  2 worlds/s")
    del latest["train/return_before"]  # a policy without updates in training
    assert progress._measured() == "train return -4.500  2 worlds/s"


def test_others_show_the_loss_and_tasks_a_second() -> None:
    latest = {"train/accuracy": 0.5, "train/loss": 1.5, "train/tasks_per_second": 2.0}
    progress, _ = bar(Classification(5), latest, None)
    learner: Any = SimpleNamespace(answers_queries=True)
    progress.on_train_start(at_step(0), learner)
    progress.on_validation_start(at_step(20), learner)
    assert [task.fields["measured"] for task in progress.bar.tasks][-1] == "episodes"
    assert progress._measured() == "loss 1.500  accuracy 0.500  2.0 tasks/s"


@pytest.mark.parametrize(("best", "step", "expected"), [(-5.5, 20, True), (-4.5, 20, False), (-5.0, 10, True)])
def test_the_best_validation_says_so_whether_or_not_it_was_saved_before(best: float, step: int, expected: bool) -> None:
    """Lightning calls what saves after all other callbacks."""
    progress, printed = bar(Returns(2, "discrete"), {}, best)
    progress.on_validation_end(at_step(step), SimpleNamespace(answers_queries=False))  # type: ignore[arg-type]
    assert ("best so far" in printed.getvalue()) is expected
