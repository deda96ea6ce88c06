"""One bank of images and one trained run of each algorithm for all tests of the scripts, and a launcher for each process
that runs tests."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.accelerator import for_scripts

from .processes import Outcome, Process, Scripts

# What a test counts on is given here, so that better defaults in conf/ change no test.
SMALL = (
    "backbone.channels=8",
    "backbone.downsampling=stride",
    "data.queries=3",
    "data.train.ways=null",
    "data.train.queries=null",
    "data.tasks_per_step=2",
    "data.val.episodes=8",
    "data.test.episodes=60",
    "data.tasks_per_evaluation_step=4",
    "trainer.max_steps=60",
    "trainer.validate_every=25",
    "trainer.checkpoint_every=7",
    "trainer.log_every=5",
    "algo.optimizer.lr=0.01",
    "logger=csv",
    "pictures=none",  # drawing takes longer than such a training: who looks at a picture asks for it
    "curve=100",
)


@dataclass(frozen=True)
class Command:
    """`train.py` with small settings, in a working directory."""

    scripts: Scripts
    banks: Path
    folder: Path

    def start(self, script: str, *arguments: str, fresh: bool = False, **environment: str) -> Process:
        """A script with these arguments and nothing else, on the device that `--device` names."""
        return self.scripts.start(script, [*for_scripts(script, arguments), *arguments], self.folder, fresh, environment)

    def run(self, script: str, *arguments: str, fresh: bool = False, **environment: str) -> Outcome:
        return self.start(script, *arguments, fresh=fresh, **environment).wait()

    def start_small(self, *arguments: str, fresh: bool = False, **environment: str) -> Process:
        """A small training; later arguments win."""
        return self.start("train.py", *self.small(*arguments), fresh=fresh, **environment)

    def train(self, *arguments: str, fresh: bool = False, **environment: str) -> Outcome:
        return self.start_small(*arguments, fresh=fresh, **environment).wait()

    def evaluate(self, *arguments: str, **environment: str) -> Outcome:
        """`evaluate.py` with these arguments, which draws nothing unless it is told to."""
        return self.run("evaluate.py", *without_pictures(arguments), **environment)

    def small(self, *arguments: str) -> list[str]:
        given = {argument.partition("=")[0] for argument in arguments}
        defaults = ["algo=protonet", *SMALL, f"data.banks={self.banks}"]
        return [default for default in defaults if default.partition("=")[0] not in given] + list(arguments)

    def at(self, folder: Path) -> "Command":
        return Command(self.scripts, self.banks, folder)


def without_pictures(arguments: Sequence[str]) -> list[str]:
    """Drawing takes longer than scoring a few episodes."""
    drawn = any(argument.startswith("pictures=") for argument in arguments)
    return [*arguments, *([] if drawn else ["pictures=none"])]


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
    started = Scripts(tmp_path_factory.mktemp("scripts"))
    yield started
    started.close()


@dataclass(frozen=True)
class Trained:
    """A finished run that no test may change."""

    outcome: Outcome
    folder: Path  # the working directory
    run: Path


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes that run tests of this session."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def trained_once(shared: Path, name: str, train: Callable[[Path], Outcome]) -> Trained:
    """What the first process that asks for it has trained, for all of them; the others wait for it."""
    folder, ended = shared / name, shared / f"{name}.json"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ended.exists():
            folder.mkdir(exist_ok=True)  # another process may have failed at it
            outcome = train(folder)
            assert outcome.code == 0, outcome
            ended.write_text(json.dumps(asdict(outcome)))
    outcome = Outcome(**json.loads(ended.read_text()))
    return Trained(outcome, folder, folder / outcome.run)


@pytest.fixture(scope="session")
def first(scripts: Scripts, shared: Path) -> Trained:
    """A prototypical network, trained by a process that also builds the bank."""
    return trained_once(shared, "first", lambda folder: Command(scripts, folder / "banks", folder).train())


@pytest.fixture(scope="session")
def maml(scripts: Scripts, first: Trained, shared: Path) -> Trained:
    banks = first.folder / "banks"
    return trained_once(shared, "maml", lambda folder: Command(scripts, banks, folder).train("algo=maml"))


@pytest.fixture(scope="session")
def anywhere(scripts: Scripts, first: Trained, tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(scripts, first.folder / "banks", tmp_path_factory.mktemp("anywhere"))


@pytest.fixture
def command(anywhere: Command, tmp_path: Path) -> Command:
    """The scripts in an empty working directory of this test's own."""
    return anywhere.at(tmp_path)
