"""Neural processes on Gaussian-process curves, as a user trains, resumes, scores and uses them."""

import csv
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import metashot
from metashot.applied.number_learner import NumberLearner

from .conftest import Command, Trained
from .killed_runs import ATTEMPTS, same_run
from .processes import measured, report, step_of
from .test_bad_input import refused

QUICK = (
    "experiment=curves", "logger=csv", "data.tasks_per_step=4", "data.train.queries=5", "data.val.episodes=8",
    "data.test.episodes=40", "trainer.max_steps=60", "trainer.validate_every=20", "trainer.checkpoint_every=7",
    "trainer.log_every=5",
)  # fmt: skip
SMALL = {
    "cnp": ["algo=cnp", "algo.encoder=[16]", "algo.decoder=[16]"],
    "anp": ["algo.encoder=[16]", "algo.attention=[16]", "algo.latent=4", "algo.samples=2", "algo.decoder=[16]"],
}


@pytest.fixture(scope="module")
def trained(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    found = {}
    for algo, own in SMALL.items():
        folder = tmp_path_factory.mktemp(algo)
        outcome = anywhere.at(folder).run("train.py", *QUICK, *own, "folder=run")
        assert (outcome.code, outcome.err) == (0, ""), outcome
        found[algo] = Trained(outcome, folder, folder / "run")
    return found


@pytest.mark.parametrize("algo", SMALL)
def test_report_has_likelihood_and_coverage_beside_the_squared_error(trained: dict[str, Trained], algo: str) -> None:
    run, printed = trained[algo].run, trained[algo].outcome.out
    written = report(run)
    assert written["log_likelihood"] == pytest.approx(-written["loss"], abs=1e-6)
    assert written["mse"] > 0
    assert 0 < written["coverage"] <= 1
    interval = written["log_likelihood_ci95"]
    assert f"log likelihood  {written['log_likelihood']:.4f} ± {interval:.4f}" in printed
    assert f"coverage        {100 * written['coverage']:.2f} % ± " in printed
    assert float(measured(run, "test/coverage")[0][1]) == written["coverage"]
    assert len(measured(run, "val/log_likelihood")) >= 3
    with (run / "episodes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["number", "mse", "loss", "log_likelihood", "coverage"]
    assert np.mean([float(row["coverage"]) for row in rows]) == pytest.approx(written["coverage"])
    assert (run / "episode.png").read_bytes().startswith(b"\x89PNG")


def test_neural_process_that_is_killed_and_resumed_equals_one_that_was_not(
    command: Command, trained: dict[str, Trained]
) -> None:
    run = command.folder / "run"
    for _ in range(ATTEMPTS):
        process = command.start("train.py", *QUICK, *SMALL["anp"], "folder=run")
        process.wait_until(lambda: step_of(run) >= 7)
        process.send(signal.SIGKILL)
        if process.wait().code == -signal.SIGKILL and 7 <= step_of(run) < 60:
            break
        shutil.rmtree(run)
    outcome = command.run("train.py", f"resume={run}")
    assert outcome.code == 0, outcome
    same_run(trained["anp"].run, run)


def test_scored_again_it_is_the_same_and_beside_learners_of_means(command: Command, trained: dict[str, Trained]) -> None:
    steps = ["trainer.max_steps=2", "trainer.validate_every=2", "data.val.episodes=4", "data.test.episodes=4"]
    means = command.run(
        "train.py", "algo=r2d2", "data=curves", "backbone=mlp_sinusoid", *steps, "logger=none", "folder=r2d2"
    )
    assert means.code == 0, means
    assert not {"log_likelihood", "coverage"} & set(report(command.folder / "r2d2"))
    given = f"ckpt=[{trained['cnp'].run},r2d2]"
    outcome = command.run("evaluate.py", given, "episodes=40", "pictures=none", "out=both")
    assert outcome.code == 0, outcome
    again = report(command.folder / "both" / "1_cnp")
    names = ("mse", "loss", "log_likelihood", "log_likelihood_ci95", "coverage", "coverage_ci95")
    assert {name: again[name] for name in names} == {name: report(trained["cnp"].run)[name] for name in names}


def test_curves_have_any_number_of_points_but_no_ways(command: Command, trained: dict[str, Trained]) -> None:
    own = ("data.train.shots=[2,5]", "data.test.shots=[3,4]", "trainer.max_steps=3", "folder=run")
    outcome = command.run("train.py", *QUICK, *SMALL["cnp"], *own)
    assert outcome.code == 0, outcome
    assert report(command.folder / "run")["shots"] == [3, 4]
    refused(command.evaluate(f"ckpt={trained['cnp'].run}", "grid.ways=[5]"), ["grid.ways", "data=curves", "no classes"])


@pytest.mark.parametrize("algo", SMALL)
def test_learner_predicts_with_deviations(trained: dict[str, Trained], algo: str) -> None:
    learner = metashot.load(trained[algo].run, device="cpu")
    assert isinstance(learner, NumberLearner)
    x = np.linspace(-2, 2, 9)
    mean, deviation = learner.fit(x[::3], np.sin(x[::3])).predict(x, return_std=True)
    assert mean.shape == deviation.shape == (9,)
    assert (deviation > 0).all()


def test_neural_processes_are_not_for_classes(command: Command) -> None:
    for algo in SMALL:
        refused(
            command.run("train.py", f"algo={algo}", "data=glyphs", "folder=run"),
            [f"algo={algo}", "data=glyphs", "algo=maml"],
        )
    assert not Path(command.folder / "run").exists()
