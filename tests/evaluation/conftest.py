"""Policies that were trained for a few steps, once for all tests of evaluations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import metashot
import metashot.experiment
from metashot.evaluation.testing import Evaluation


@dataclass(frozen=True)
class TestedPolicy:
    """A run in a few worlds, and what its test measured."""

    __test__ = False  # no test of pytest's

    experiment: metashot.Experiment
    evaluation: Evaluation

    @property
    def folder(self) -> Path:
        return self.experiment.folder


_FEW = (
    *("trainer.max_steps=2", "trainer.validate_every=2", "logger=csv", "data.tasks_per_step=4"),
    *("data.shots=6", "data.queries=5", "data.val.episodes=2", "data.test.episodes=7", "data.tasks_per_evaluation_step=3"),
)


def _tested(folder: Path, *overrides: str) -> TestedPolicy:
    kept: list[Evaluation] = []
    write = metashot.experiment.write_evaluation

    def keep(evaluation: Evaluation, *others: Any) -> list[Path]:
        kept.append(evaluation)
        return write(evaluation, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metashot.experiment, "write_evaluation", keep)
        experiment = metashot.Experiment(*_FEW, *overrides, f"folder={folder}")
        with experiment:
            experiment.fit().test()
    return TestedPolicy(experiment, kept[0])


@pytest.fixture(scope="session")
def navigator(tmp_path_factory: pytest.TempPathFactory) -> TestedPolicy:
    pytest.importorskip("gymnasium")
    folder = tmp_path_factory.mktemp("navigator") / "run"
    return _tested(folder, "experiment=navigation", "algo.test_inner_steps=2", "data.source.horizon=12")


@pytest.fixture(scope="session")
def gambler(tmp_path_factory: pytest.TempPathFactory) -> TestedPolicy:
    pytest.importorskip("gymnasium")
    return _tested(tmp_path_factory.mktemp("gambler") / "run", "algo=maml_rl", "data=bandits", "algo.test_inner_steps=2")


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> TestedPolicy:
    """A policy that is told the probabilities of the arms, and does not adapt."""
    pytest.importorskip("gymnasium")
    return _tested(tmp_path_factory.mktemp("told") / "run", "algo=oracle", "data=bandits")


@pytest.fixture(scope="session")
def rememberer(tmp_path_factory: pytest.TempPathFactory) -> TestedPolicy:
    """Thompson sampling in trials of two episodes, with shots of its own, which do not matter."""
    pytest.importorskip("gymnasium")
    folder = tmp_path_factory.mktemp("rememberer") / "run"
    return _tested(folder, "algo=thompson", "algo.episodes=2", "data.shots=1", "trainer.max_steps=0")
