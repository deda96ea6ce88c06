"""Evaluations in W&B: tables of the episodes and of the texts of one, the pictures, the metrics, and the checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from metashot import configuration
from metashot.evaluation.documents import episode_rows
from metashot.evaluation.pictures.texts import ROWS, text_rows
from metashot.evaluation.testing import Evaluation


def open_loggers(logger: dict[str, Any], folder: Path) -> tuple[list[Logger], str]:
    """Open the loggers of the `logger` group.

    Args:
        logger: the configuration of the group.
        folder: the folder in which the loggers write.

    Returns:
        The loggers, and a line that tells the user where to find the results.
    """
    loggers: list[Logger]
    loggers, line = configuration.build(logger).loggers(folder)
    return loggers, line


def log_evaluation(
    evaluation: Evaluation, pictures: Sequence[Path], loggers: Sequence[Logger], checkpoint: Path | None = None
) -> None:
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            show_in_wandb(evaluation, pictures, logger, checkpoint)


def show_in_wandb(evaluation: Evaluation, pictures: Sequence[Path], logger: WandbLogger, checkpoint: Path | None) -> None:
    import wandb

    run = logger.experiment
    columns, rows = episode_rows(evaluation)
    pictures_by_key = {
        f"test/{path.stem}": wandb.Html(path, inject=False) if path.suffix == ".html" else [wandb.Image(str(path))]
        for path in pictures
    }
    if pictures_by_key:
        run.log(pictures_by_key)
    # Logged to the history, the table's row and column counts would appear as curves with one point.
    run.summary["test/episodes_table"] = wandb.Table(columns=columns, data=rows)
    if evaluation.texts is not None:
        run.summary["test/texts_table"] = wandb.Table(columns=list(ROWS), data=text_rows(evaluation.texts))
    seconds = evaluation.report.seconds_of_a_task
    of_a_task = {} if seconds is None else {f"test/seconds_{name}": value for name, value in seconds._asdict().items()}
    for name, value in (evaluation.report.metrics() | of_a_task).items():
        run.summary[name] = value
    if checkpoint is not None and not run.offline:
        artifact = wandb.Artifact(f"{run.id}-best", type="model", metadata={"step": evaluation.report.step})
        artifact.add_file(str(checkpoint))
        run.log_artifact(artifact, aliases=["best"])


def finish(loggers: list[Logger]) -> None:
    """Finish the W&B run, so that the next job of a sweep starts a new one."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()
