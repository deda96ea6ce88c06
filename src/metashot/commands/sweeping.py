"""Multirun: every combination runs even if others fail, and a table at the end shows the outcome of each.

Hydra's own launcher and sweeper stop at the first failing job, and run nothing if one job cannot be composed. The classes
here replace them under the same names, so that other launchers (submitit) and sweepers (Optuna) can still be chosen.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from omegaconf import open_dict

Plugins.instance()  # re-executes the plug-in modules, so classes imported before are different objects
from hydra._internal.core_plugins.basic_launcher import BasicLauncher  # noqa: E402
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: E402

log = logging.getLogger(__name__)

Describe = Callable[[Exception], tuple[int, str]]  # the exception of a failed job -> its exit code and message


class Score(float):
    """The score that a script returns to a sweeper, with a summary and the run's folder for the final table.

    Args:
        value: the score.
        summary: the text of the table.
        folder: the folder of the run or the report.
    """

    def __new__(cls, value: float, summary: str = "", folder: Path | None = None) -> "Score":
        score = super().__new__(cls, value)
        score.summary = summary
        score.folder = folder
        return score

    summary: str
    folder: Path | None


@dataclass
class Job:
    """A job of a multirun, and its outcome."""

    number: int
    overrides: list[str]
    outcome: str = "not run"
    code: int = 0


class Sweep:
    """All jobs that this process has to run, and their outcomes."""

    jobs: ClassVar[list[Job]] = []
    running = False
    describe: Describe

    @classmethod
    def code(cls) -> int:
        """The exit code of the sweep: 1 if a job gave up or crashed, else 2 if a job was refused, else 0."""
        codes = {job.code for job in cls.jobs}
        return 1 if 1 in codes else max(codes, default=0)

    @classmethod
    def table(cls) -> str:
        shared = set.intersection(*(set(job.overrides) for job in cls.jobs)) if len(cls.jobs) > 1 else set()
        names = [" ".join(each for each in job.overrides if each not in shared) for job in cls.jobs]
        width = max(map(len, names))
        return "\n".join(
            f"#{job.number:<3} {name:<{width}}  {job.outcome}" for job, name in zip(cls.jobs, names, strict=True)
        )


class OneByOne(BasicLauncher):  # type: ignore[misc]
    """Runs the jobs in this process, one after another and independently."""

    hands_on_failures = True  # whether the sweeper receives failed jobs and decides what to do

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        log.info(f"Launching {len(job_overrides)} jobs locally")
        new = [Job(initial_job_idx + place, list(overrides)) for place, overrides in enumerate(job_overrides)]
        Sweep.jobs.extend(new)
        Sweep.running = True
        try:
            returned = [self._run(job) for job in new]
        finally:
            Sweep.running = False
        return [each for each in returned if self.hands_on_failures or each.status is JobStatus.COMPLETED]

    def _run(self, job: Job) -> JobReturn:
        log.info(f"\t#{job.number} : {' '.join(filter_overrides(job.overrides))}")
        try:
            done = self._job(job)
        except SystemExit as end:  # of a rank that leaves the message to rank 0, or of all ranks
            job.code = end.code if isinstance(end.code, int) else 1
            job.outcome = "stopped" if job.code not in (1, 2) else "failed"
            if job.outcome == "stopped":
                raise
            done = _failed(end)
        except BaseException:
            job.outcome = "stopped"
            raise
        if done.status is JobStatus.COMPLETED:
            value = done.return_value
            job.outcome = f"{value.summary}  {value.folder}" if isinstance(value, Score) else str(value)
        elif isinstance(done._return_value, Exception):
            job.code, reason = Sweep.describe(done._return_value)
            job.outcome = f"{'refused' if job.code == 2 else 'failed'}: {reason.splitlines()[0]}"
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return done

    def _job(self, job: Job) -> JobReturn:
        try:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, job.overrides)
        except Exception as error:
            return _failed(error)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = job.number
        return run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


def _failed(error: BaseException) -> JobReturn:
    done = JobReturn(status=JobStatus.FAILED)
    done.return_value = error
    return done


class EveryCombination(BasicSweeper):  # type: ignore[misc]
    """Composes each combination when its turn comes, and continues after a failure."""

    def setup(self, **named: Any) -> None:
        super().setup(**named)
        if isinstance(self.launcher, OneByOne):
            self.launcher.hands_on_failures = False

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        if not isinstance(self.launcher, OneByOne):
            super().validate_batch_is_legal(batch)


def replace_hydras_own(describe: Describe) -> None:
    """Make Hydra use these two classes instead of its own, in its registry, because it only builds plug-in classes.

    Args:
        describe: returns the exit code and the message of a failed job.
    """
    Sweep.describe = staticmethod(describe)
    of_name = Plugins.instance().class_name_to_class
    for own, hydras in ((OneByOne, BasicLauncher), (EveryCombination, BasicSweeper)):
        of_name[f"{hydras.__module__}.{hydras.__name__}"] = own
