"""Many small runs that are each sent a signal at a random moment, and what must be true of every one of them."""

import os
import random
import re
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .conftest import Command
from .killed_runs import same_run
from .processes import Outcome, Process

# Everything that a run does, in as little time as it can be done.
TINY = (
    "experiment=sinusoid",
    "algo=reptile",
    "data.tasks_per_step=2",
    "data.tasks_per_evaluation_step=4",
    "data.val.episodes=8",
    "data.test.episodes=16",
    "trainer.max_steps=12",
    "trainer.validate_every=4",
    "trainer.checkpoint_every=3",
    "trainer.log_every=1",
    "logger=csv",
    "pictures=episode",
    "curve=4",
)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GO_ON = re.compile(r"stopped; go on with: python train\.py resume=(\S+)")


@dataclass(frozen=True)
class Reference:
    """The run that no signal was sent to, and the seconds it took from catching signals to its end."""

    run: Path
    seconds: float


def catches(process: Process, number: signal.Signals) -> bool:
    """Whether the process has a handler for that signal, by what the kernel knows of it."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (number - 1) & 1)


def reference(command: Command) -> Reference:
    process = command.start("train.py", *TINY, "folder=reference")
    assert process.wait_until(lambda: catches(process, signal.SIGTERM)), process.wait()
    begin = time.monotonic()
    outcome = process.wait()
    assert outcome.code == 0, outcome
    return Reference(command.folder / "reference", time.monotonic() - begin)


def storm(command: Command, whole: Reference, number: signal.Signals, signals: int, seed: int) -> Counter[str]:
    """How the runs ended, of which each was sent one signal; the moments are spread over the whole of a run."""
    drawn = random.Random(seed)
    moments = [drawn.uniform(0, whole.seconds) for _ in range(signals)]
    with ThreadPoolExecutor(2) as pool:
        return Counter(pool.map(lambda place: struck(command, whole, number, place, moments[place]), range(signals)))


def struck(command: Command, whole: Reference, number: signal.Signals, place: int, moment: float) -> str:
    run = command.folder / f"{number.name}-{place}"
    process = command.start("train.py", *TINY, f"folder={run.name}")
    assert process.wait_until(lambda: catches(process, number)), process.wait()
    time.sleep(moment)
    if process.code is None:
        os.kill(process.pid, number)
    outcome = process.wait()
    how = judged(outcome, run)
    if how == "stopped in its folder":
        resumed = command.run("train.py", f"resume={run.name}")
        assert resumed.code == 0, (outcome, resumed)
    if how != "stopped before its folder":
        assert set(os.listdir(run)) == set(os.listdir(whole.run)), outcome
        same_run(whole.run, run)
    return how


def judged(outcome: Outcome, run: Path) -> str:
    """Exit code 0 with a complete report, or 130 with how to go on, or 130 and nothing was begun; never anything else."""
    assert "Traceback" not in outcome.err, outcome
    assert "Exception ignored" not in outcome.err, outcome
    assert not [path for path in run.rglob(".*") if path.name != ".lock"], outcome
    if outcome.code == 0:
        assert (run / "report.md").is_file(), outcome
        return "finished"
    assert outcome.code == 130, outcome
    last = outcome.err.splitlines()[-1]
    if not run.exists():
        assert last == "stopped", outcome
        return "stopped before its folder"
    named = GO_ON.fullmatch(last)
    assert named is not None, outcome
    assert named[1] == run.name, outcome
    return "stopped in its folder"
