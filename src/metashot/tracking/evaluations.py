"""What W&B is shown of an evaluation: a table of its episodes, its pictures, its numbers, and the checkpoint itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from metashot import configuration
from metashot.evaluation.documents import episode_rows
from metashot.evaluation.testing import Evaluation


def open_loggers(logger: dict[str, Any], folder: Path) -> tuple[list[Logger], str]:
    """Those of the `logger` group, and the line that says how to look at them."""
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
    shown = {f"test/{path.stem}": [wandb.Image(str(path))] for path in pictures}
    if shown:
        run.log(shown)
    # In the history its numbers of rows and columns would be drawn as curves of one point.
    run.summary["test/episodes_table"] = wandb.Table(columns=columns, data=rows)
    seconds = evaluation.report.seconds_of_a_task
    of_a_task = {} if seconds is None else {f"test/seconds_{name}": value for name, value in seconds._asdict().items()}
    for name, value in (evaluation.report.metrics() | of_a_task).items():
        run.summary[name] = value
    if checkpoint is not None and not run.offline:
        artifact = wandb.Artifact(f"{run.id}-best", type="model", metadata={"step": evaluation.report.step})
        artifact.add_file(str(checkpoint))
        run.log_artifact(artifact, aliases=["best"])


def finish(loggers: list[Logger]) -> None:
    """End the W&B run, so that the next job of a sweep begins its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()
