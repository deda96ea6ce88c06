"""train.py: runs an experiment and prints its report."""

from omegaconf import DictConfig
from rich.console import Console

from metashot.checkpoints.run_folder import REPORT
from metashot.checkpoints.stored import BEST
from metashot.commands.sweeping import Score
from metashot.configuration import plain
from metashot.evaluation.report import score_with_interval
from metashot.experiment import Experiment
from metashot.training.processes import Processes, in_all_processes, is_first_process


@in_all_processes
def train_and_test(composed: DictConfig, processes: Processes) -> float:
    """Train, test the best checkpoint, and print the report.

    Args:
        composed: the composed configuration.
        processes: the processes that run the command together.

    Returns:
        The best validation score, for sweeps.
    """
    with Experiment.of(plain(composed), processes) as experiment:
        report = experiment.fit().test()
        if is_first_process():
            paths = {"checkpoint": experiment.folder / "checkpoints" / BEST, "report": experiment.folder / REPORT}
            Console(soft_wrap=True).print(report.lines(paths), highlight=False, markup=False)
        summary = f"test {report.metric} {score_with_interval(report.metric, report.score, report.ci95)}"
        return Score(experiment.best_score, summary, experiment.folder)
