"""What W&B is shown of an evaluation; the checkpoint becomes an artifact of a run that is online, and of no other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import wandb
from pytorch_lightning.loggers import WandbLogger

from metashot.evaluation.pictures.texts import ROWS, text_rows, texts_page
from metashot.tracking.evaluations import log_evaluation
from tests.evaluation.pictures.test_texts import EPISODE
from tests.evaluation.test_documents import acting, classification, regression


class Online:
    """Stands for a run at a server, which tests have none of."""

    id = "run00001"

    def __init__(self, offline: bool) -> None:
        self.offline = offline
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.artifacts: list[tuple[wandb.Artifact, list[str]]] = []

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def log_artifact(self, artifact: wandb.Artifact, aliases: list[str]) -> None:
        self.artifacts.append((artifact, aliases))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "histogram.png"
    matplotlib.image.imsave(path, np.zeros((4, 4)))
    return path


def shown_in(run: Online) -> WandbLogger:
    logger = WandbLogger.__new__(WandbLogger)
    logger._experiment = run  # type: ignore[assignment]
    return logger


@pytest.mark.parametrize("offline", [False, True])
def test_run_shows_episodes_pictures_and_numbers_and_online_the_checkpoint(
    tmp_path: Path, picture: Path, offline: bool
) -> None:
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"weights")
    run = Online(offline)
    log_evaluation(classification(), [picture], [shown_in(run)], checkpoint)
    (row,) = run.logged
    assert set(row) == {"test/histogram"}
    assert run.summary["test/episodes_table"].data == [
        [5, 1.0, 0.25, "one, with a comma; two | three"],
        [8, 0.5, 0.75, "four; two | three"],
    ]
    assert run.summary["test/accuracy"] == 0.75
    assert run.summary["test/worst_class"] == 0.25
    assert run.summary["test/seconds_adapting"] == 0.25
    assert len(run.artifacts) == (0 if offline else 1)
    for artifact, aliases in run.artifacts:
        assert (artifact.type, aliases) == ("model", ["best"])
        assert [Path(name).name for name in artifact.manifest.entries] == ["best.ckpt"]
        assert artifact.metadata == {"step": 9}


def test_regression_has_no_classes_to_show(picture: Path) -> None:
    run = Online(offline=True)
    log_evaluation(regression(), [picture], [shown_in(run)])
    assert run.summary["test/episodes_table"].columns == ["number", "mse", "loss"]
    assert "test/worst_class" not in run.summary


def test_an_episode_of_texts_is_a_page_and_a_table(tmp_path: Path, picture: Path) -> None:
    run, page = Online(offline=True), tmp_path / "episode.html"
    texts_page(EPISODE, page)
    log_evaluation(replace(classification(), texts=EPISODE), [page, picture], [shown_in(run)])
    (row,) = run.logged
    assert set(row) == {"test/episode", "test/histogram"}
    assert isinstance(row["test/episode"], wandb.Html)
    table = run.summary["test/texts_table"]
    assert (table.columns, table.data) == (list(ROWS), text_rows(EPISODE))
    assert "test/texts_table" not in shown_without_texts(picture)


def test_a_policy_has_its_returns_steps_and_regret_in_the_summary(picture: Path) -> None:
    run = Online(offline=True)
    worlds = picture.with_name("worlds.png")
    worlds.write_bytes(picture.read_bytes())
    log_evaluation(acting(), [worlds], [shown_in(run)])
    assert [set(row) for row in run.logged] == [{"test/worlds"}]
    assert run.summary["test/episodes_table"].columns == ["number", "return", "loss", "regret"]
    expected = {
        "test/return": 0.75,
        "test/return_before": 0.2,
        "test/regret": 0.375,
        "test/environment_steps": 1234,
        "test/environment_steps_in_training": 56789,
    }
    assert {name: run.summary[name] for name in expected} == expected
    assert "test/seconds_adapting" not in run.summary


def shown_without_texts(picture: Path) -> dict[str, Any]:
    run = Online(offline=True)
    log_evaluation(classification(), [picture], [shown_in(run)])
    return run.summary
