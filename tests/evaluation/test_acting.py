"""What an evaluation says of a policy: returns as it adapts, steps in environments and regret, each world once."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metashot.algorithms.reinforcement.maml_rl import MAMLRL
from metashot.checkpoints.run_folder import REGRET_CURVE, REPORT, REPORT_FOR_PEOPLE
from metashot.evaluation.acting import ActingReport, RegretCurve
from metashot.evaluation.comparison import Comparison, Scored
from metashot.evaluation.gallery import refuse_to_replace_evaluation, write_comparison_pictures
from metashot.evaluation.protocol import Scoring
from metashot.evaluation.statistics import mean_and_interval, paired_difference
from metashot.problems import Returns
from metashot.worlds import Worlds

from .conftest import TestedPolicy


def worlds_of(tested: TestedPolicy) -> Worlds:
    data = tested.experiment.data
    (worlds,) = data.batch("test", data.evaluation_numbers("test"), torch.device("cpu"))
    assert isinstance(worlds, Worlds)
    return worlds


def policy(tested: TestedPolicy) -> MAMLRL:
    assert isinstance(tested.experiment.algorithm, MAMLRL)
    return tested.experiment.algorithm.eval()


def rows_of(tested: TestedPolicy, name: str) -> list[dict[str, str]]:
    with (tested.folder / name).open() as lines:
        return list(csv.DictReader(lines))


def test_returns_after_each_update_have_intervals_over_worlds(navigator: TestedPolicy) -> None:
    returns = policy(navigator).acted(worlds_of(navigator)).returns.double().mean(2)  # [T, times]
    report = json.loads((navigator.folder / REPORT).read_text())
    assert [at["steps"] for at in report["inner_steps"]] == [0, 1, 2]
    for at, of_worlds in zip(report["inner_steps"], returns.T.tolist(), strict=True):
        assert (at["score"], at["ci95"]) == pytest.approx(mean_and_interval(of_worlds), rel=1e-5)
        assert at["episodes"] == 7
    assert report["return"] == report["inner_steps"][-1]["score"]


def test_steps_of_a_test_are_those_of_its_worlds_and_of_training_those_of_the_best_checkpoint(
    navigator: TestedPolicy,
) -> None:
    acting = navigator.evaluation.report.acting
    assert acting is not None
    assert acting.environment_steps == int(policy(navigator).acted(worlds_of(navigator)).steps.sum())
    # Two training steps of 4 worlds with 6 + 5 trajectories of at most 12 steps, of which few reach the goal before.
    assert 1000 < acting.environment_steps_in_training <= 2 * 4 * 11 * 12
    assert [row["train/environment_steps"] for row in rows_of(navigator, "metrics.csv") if row["train/return"]][
        -1
    ] == f"{acting.environment_steps_in_training:.1f}"


class Once(SimpleNamespace):
    """A policy of which `Scoring` sees two batches."""

    def calibration(self, answers: Tensor) -> Tensor:
        return answers


def test_worlds_that_devices_repeat_count_once() -> None:
    problem = Returns(2, "discrete")
    module: Any = Once(
        problem=problem, answers_queries=False, watched_episodes=3, watched_steps=(0,), device=torch.device("cpu")
    )
    scoring, trainer = Scoring(), SimpleNamespace()
    scoring.on_test_epoch_start(trainer, module)  # type: ignore[arg-type]
    for numbers in ([0, 2], [1, 2]):
        number = torch.tensor(numbers)
        returns = number[:, None].double().expand(-1, 5)
        statistics = problem.statistics(returns, returns)
        found = {
            "answers": returns,
            "losses": -returns.mean(1),
            "statistics": statistics,
            "after_steps": statistics[:, None],
            "environment_steps": 10 + number,
            "regrets": torch.stack([number, 2 * number], 1),
        }
        batch = [SimpleNamespace(number=number)]
        scoring.on_test_batch_end(trainer, module, {"episodes": [found]}, batch, 0)  # type: ignore[arg-type]
    scoring.on_test_epoch_end(trainer, module)  # type: ignore[arg-type]
    assert scoring.environment_steps == 10 + 11 + 12
    assert scoring.with_regrets is not None
    np.testing.assert_array_equal(scoring.with_regrets, [[0, 0], [1, 2], [2, 4]])
    assert scoring.results is not None
    assert scoring.results.measures == {"regret": [0, 2, 4]}
    scoring.on_test_epoch_start(trainer, module)  # type: ignore[arg-type]
    assert scoring.environment_steps is None


def test_regret_is_what_the_best_arm_would_have_paid_more(gambler: TestedPolicy) -> None:
    worlds, evaluation = worlds_of(gambler), gambler.evaluation
    actions = policy(gambler).shown(worlds)[2].actions
    chances = worlds.descriptions().double()
    lost = torch.stack([(p.max() - p[pulled]).mean(0) for p, pulled in zip(chances, actions, strict=True)])  # [T, H]
    regrets = lost.cumsum(1)
    assert evaluation.results.measures["regret"] == pytest.approx(regrets[:, -1].tolist())
    report = json.loads((gambler.folder / REPORT).read_text())
    assert (report["regret"], report["regret_ci95"]) == pytest.approx(mean_and_interval(regrets[:, -1].tolist()))
    curve = rows_of(gambler, REGRET_CURVE)
    assert [int(row["step"]) for row in curve] == list(range(1, 11))
    for row, of_worlds in zip(curve, regrets.T.tolist(), strict=True):
        assert (float(row["regret"]), float(row["ci95"])) == pytest.approx(mean_and_interval(of_worlds))
    assert list(rows_of(gambler, "episodes.csv")[0]) == ["number", "return", "loss", "regret"]


def test_one_world_has_a_regret_without_interval() -> None:
    assert RegretCurve.of(np.array([[0.5, 1.0]])) == RegretCurve((0.5, 1.0), (None, None))


def test_people_read_of_worlds_and_trajectories(gambler: TestedPolicy, told: TestedPolicy) -> None:
    printed = str(gambler.evaluation.report)
    lines = {line[:15].strip(): line[16:] for line in printed.splitlines()}
    assert lines["seeds"].startswith("0 of the worlds")
    assert lines["family"] == "bandits: 5 arms, 10 pulls"
    assert lines["worlds"].startswith("7 (fewer than 30")
    assert lines["trajectories"] == "6 tried before each update, 5 judged"
    for name in ("return", "after 0 updates", "after 1 update", "after 2 updates", "regret"):
        assert lines[name].endswith("(95 % interval)")
    assert lines["after 2 updates"] == lines["return"]
    assert lines["worst 5 %"].endswith("the mean of those worlds")
    assert "in the environments of this test" in lines["steps"]
    assert "ms on average" in lines["a world takes"]
    for word in ("episode", "shots", "quer", "transductive", "inner step"):
        assert word not in printed
    markdown = (gambler.folder / REPORT_FOR_PEOPLE).read_text()
    assert "(95 % interval over worlds)**" in markdown
    assert "## After updates\n\n| updates | return |" in markdown
    for name in ("worlds", "adaptation", "histogram", "regret"):
        assert f"![{name}]({name}.png)" in markdown
        assert (gambler.folder / f"{name}.png").is_file()
    of_told = str(told.evaluation.report)
    assert "trajectories    5 judged" in of_told
    assert "after 0" not in of_told
    assert not (told.folder / "adaptation.png").exists()


def test_episodes_of_a_trial_are_counted_from_one() -> None:
    trials = ActingReport("trials", 10, 20)
    assert [trials.after(steps) for steps in (0, 4)] == ["in episode 1", "in episode 5"]
    assert trials.place(0) == 1
    assert trials.trajectories("1", "20", True) == "20 trials"
    assert trials.stage(0) == "in episode 1"
    updates = ActingReport("updates", 10, 20)
    assert [updates.stage(steps) for steps in (0, 1)] == ["before adapting", "after 1 update"]


def test_an_evaluation_may_replace_its_own_files(gambler: TestedPolicy) -> None:
    assert (gambler.folder / REGRET_CURVE).is_file()
    refuse_to_replace_evaluation(gambler.folder)


def test_policies_are_compared_in_the_same_worlds(gambler: TestedPolicy, told: TestedPolicy) -> None:
    scored = [Scored(one.folder, one.experiment.config, one.evaluation) for one in (told, gambler)]
    comparison = Comparison.of(scored)
    (pair,) = comparison.pairs
    both = [one.evaluation.results.scores for one in (told, gambler)]
    assert (pair.difference, pair.ci95, pair.p) == paired_difference(*both)
    text = comparison.lines()
    assert text.startswith("bandits: 5 arms, 10 pulls, test split, worlds of seed 0: 7 worlds")
    assert text.splitlines()[0].endswith("5 trajectories judged in each")
    head, *rows = comparison.score_rows()
    assert [row[head.index("tried before")] for row in rows] == ["0", "12"]
    assert "paired by world" in text
    assert "on other worlds" in comparison.content()["of_checkpoints"]["question"]
    head, oracle, maml = comparison.rows_after_updates()
    assert head[2:] == ["0", "1", "2"]
    assert oracle[3:] == ["-", "-"]
    assert all("±" in cell for cell in maml[2:])
    for word in ("episodes of seed", "shot", "transductive", "paired by episode"):
        assert word not in text + comparison.for_people()
    columns = comparison.episodes_csv().splitlines()[0]
    assert columns == "number,return_1,loss_1,regret_1,return_2,loss_2,regret_2"


def test_policies_are_drawn_together(gambler: TestedPolicy, told: TestedPolicy) -> None:
    scored = [Scored(one.folder, one.experiment.config, one.evaluation) for one in (told, gambler)]
    folder = gambler.folder / "together"
    comparison = Comparison.of(scored)
    drawn = write_comparison_pictures(comparison, folder)
    assert [path.name for path in drawn] == ["returns.png", "regret.png"]
    assert all(path.is_file() for path in drawn)
    assert "![returns](returns.png)" in comparison.for_people(drawn)
    # Those that do not adapt have no returns to draw against updates.
    alone = write_comparison_pictures(Comparison.of(scored[:1] * 2), folder / "told")
    assert [path.name for path in alone] == ["regret.png"]


def test_a_policy_plays_again_what_it_was_judged_by(navigator: TestedPolicy) -> None:
    first = next(worlds_of(navigator).parts(2))
    shown = policy(navigator).shown(first)
    assert list(shown) == [0, 1, 2]
    judged = [float(row["return"]) for row in rows_of(navigator, "episodes.csv")[:2]]
    assert shown[2].returns.mean(1).tolist() == pytest.approx(judged, rel=1e-5)


def test_a_trial_is_reported_by_its_episodes_and_as_a_whole(rememberer: TestedPolicy) -> None:
    report = rememberer.evaluation.report
    lines = {line[:15].strip(): line[16:] for line in str(report).splitlines()}
    assert lines["trajectories"] == "5 trials"
    of_episodes = [at.score for at in report.inner_steps]
    assert [at.steps for at in report.inner_steps] == [0, 1]
    assert lines["in episode 1"].startswith(f"{of_episodes[0]:.4f} ± ")
    assert report.measures["trial_return"].mean == pytest.approx(sum(of_episodes))
    assert report.measures["trial_return"].ci95 is not None
    assert report.acting is not None
    assert report.acting.environment_steps == 7 * 5 * 2 * 10
    markdown = (rememberer.folder / REPORT_FOR_PEOPLE).read_text()
    assert "## In the episodes of a trial\n\n| episode | return |\n| --- | --- |\n| 1 |" in markdown


def test_policies_are_compared_whatever_the_shots_of_one_that_tries_nothing_before(
    gambler: TestedPolicy, told: TestedPolicy, rememberer: TestedPolicy, tmp_path: Path
) -> None:
    every = (rememberer, told, gambler)
    given = f"ckpt=[{','.join(str(one.folder) for one in every)}]"
    script = Path(__file__).parents[2] / "evaluate.py"
    done = subprocess.run(
        [sys.executable, str(script), given, "episodes=7", "out=together"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "together" / REPORT).read_text())
    scores = [one.evaluation.report.score for one in every]
    assert [one["return"] for one in content["checkpoints"]] == pytest.approx(scores)
    assert [one["shots"] for one in content["checkpoints"]] == [1, 6, 6]
    written = {path.name for path in (tmp_path / "together").iterdir()}
    files = {"report.json", "report.md", "episodes.csv", "returns.png", "regret.png"}
    assert written == {"1_thompson", "2_oracle", "3_maml_rl"} | files
    assert "![regret](regret.png)" in (tmp_path / "together" / REPORT_FOR_PEOPLE).read_text()
    assert (tmp_path / "together" / "1_thompson" / "worlds.png").is_file()
