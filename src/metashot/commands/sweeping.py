"""Multirun: every combination is run whatever becomes of the others, and a table at the end says what became of each.

Hydra's own launcher and sweeper end with the first job that fails, and before the first job if one cannot be composed. Those
here take their place under their names, so that other launchers (submitit) and sweepers (Optuna) are chosen as ever.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from omegaconf import open_dict

Plugins.instance()  # executes the modules of plugins anew: what was imported from them before are other classes
from hydra._internal.core_plugins.basic_launcher import BasicLauncher  # noqa: E402
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: E402

log = logging.getLogger(__name__)

Judge = Callable[[Exception], tuple[int, str]]  # what a job failed with -> its exit code and what is said of it


class Score(float):
    """What a script returns to a sweeper: a number, and for the table what it says and where the run is kept."""

    def __new__(cls, value: float, said: str = "", folder: Path | None = None) -> "Score":
        score = super().__new__(cls, value)
        score.said = said
        score.folder = folder
        return score

    said: str
    folder: Path | None


@dataclass
class Member:
    """A job of a multirun, and what became of it."""

    number: int
    overrides: list[str]
    became: str = "not run"
    code: int = 0


class Sweep:
    """All jobs that this process was told to run."""

    members: ClassVar[list[Member]] = []
    running = False
    judge: Judge

    @classmethod
    def code(cls) -> int:
        """1 if a job gave up or crashed, else 2 if one was refused, else 0."""
        codes = {member.code for member in cls.members}
        return 1 if 1 in codes else max(codes, default=0)

    @classmethod
    def table(cls) -> str:
        shared = set.intersection(*(set(member.overrides) for member in cls.members)) if len(cls.members) > 1 else set()
        names = [" ".join(each for each in member.overrides if each not in shared) for member in cls.members]
        width = max(map(len, names))
        return "\n".join(
            f"#{member.number:<3} {name:<{width}}  {member.became}" for member, name in zip(cls.members, names, strict=True)
        )


class OneByOne(BasicLauncher):  # type: ignore[misc]
    """Runs the jobs in this process, each on its own."""

    hands_on_failures = True  # to the sweeper, which then decides

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        log.info(f"Launching {len(job_overrides)} jobs locally")
        new = [Member(initial_job_idx + place, list(overrides)) for place, overrides in enumerate(job_overrides)]
        Sweep.members.extend(new)
        Sweep.running = True
        try:
            returned = [self._run(member) for member in new]
        finally:
            Sweep.running = False
        return [each for each in returned if self.hands_on_failures or each.status is JobStatus.COMPLETED]

    def _run(self, member: Member) -> JobReturn:
        log.info(f"\t#{member.number} : {' '.join(filter_overrides(member.overrides))}")
        try:
            done = self._job(member)
        except SystemExit as end:  # of a process that leaves it to the first one to say why, or of all of them
            member.code = end.code if isinstance(end.code, int) else 1
            member.became = "stopped" if member.code not in (1, 2) else "failed"
            if member.became == "stopped":
                raise
            done = _failed(end)
        except BaseException:
            member.became = "stopped"
            raise
        if done.status is JobStatus.COMPLETED:
            value = done.return_value
            member.became = f"{value.said}  {value.folder}" if isinstance(value, Score) else str(value)
        elif isinstance(done._return_value, Exception):
            member.code, reason = Sweep.judge(done._return_value)
            member.became = f"{'refused' if member.code == 2 else 'failed'}: {reason.splitlines()[0]}"
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return done

    def _job(self, member: Member) -> JobReturn:
        try:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, member.overrides)
        except Exception as error:
            return _failed(error)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = member.number
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
    """Composes each combination when its turn comes, and goes on after those that fail."""

    def setup(self, **named: Any) -> None:
        super().setup(**named)
        if isinstance(self.launcher, OneByOne):
            self.launcher.hands_on_failures = False

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        if not isinstance(self.launcher, OneByOne):
            super().validate_batch_is_legal(batch)


def take_the_place_of_hydras(judge: Judge) -> None:
    """Have Hydra use these two where it would use its own. It builds no class of a package that is not its plugin's."""
    Sweep.judge = staticmethod(judge)
    of_name = Plugins.instance().class_name_to_class
    for own, hydras in ((OneByOne, BasicLauncher), (EveryCombination, BasicSweeper)):
        of_name[f"{hydras.__module__}.{hydras.__name__}"] = own
