"""One bank of images, one launcher and one trained run of each algorithm for all tests of the scripts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .processes import Outcome, Process, Scripts

# What a test counts on is given here, so that better defaults in conf/ change no test.
SMALL = (
    "backbone.channels=8",
    "backbone.downsampling=stride",
    "data.queries=3",
    "data.train.ways=null",
    "data.train.queries=null",
    "data.tasks_per_step=4",
    "data.val.episodes=8",
    "data.test.episodes=60",
    "data.tasks_per_evaluation_step=4",
    "trainer.max_steps=60",
    "trainer.validate_every=25",
    "trainer.checkpoint_every=7",
    "trainer.log_every=5",
    "algo.optimizer.lr=0.01",
    "logger=csv",
    "pictures=episode",
    "curve=100",
)


@dataclass(frozen=True)
class Command:
    """`train.py` with small settings, in a working directory."""

    scripts: Scripts
    banks: Path
    folder: Path

    def start(self, script: str, *arguments: str, fresh: bool = False, **environment: str) -> Process:
        """A script with these arguments and nothing else."""
        return self.scripts.start(script, arguments, self.folder, fresh, environment)

    def run(self, script: str, *arguments: str, fresh: bool = False, **environment: str) -> Outcome:
        return self.start(script, *arguments, fresh=fresh, **environment).wait()

    def start_small(self, *arguments: str, fresh: bool = False, **environment: str) -> Process:
        """A small training; later arguments win."""
        return self.start("train.py", *self.small(*arguments), fresh=fresh, **environment)

    def train(self, *arguments: str, fresh: bool = False, **environment: str) -> Outcome:
        return self.start_small(*arguments, fresh=fresh, **environment).wait()

    def small(self, *arguments: str) -> list[str]:
        given = {argument.partition("=")[0] for argument in arguments}
        defaults = ["algo=protonet", *SMALL, f"data.banks={self.banks}"]
        return [default for default in defaults if default.partition("=")[0] not in given] + list(arguments)

    def at(self, folder: Path) -> "Command":
        return Command(self.scripts, self.banks, folder)


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
def first(scripts: Scripts, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A prototypical network, trained in a fresh process that also builds the bank."""
    folder = tmp_path_factory.mktemp("first")
    outcome = Command(scripts, folder / "banks", folder).train(fresh=True)
    assert outcome.code == 0, outcome
    return Trained(outcome, folder, folder / outcome.run)


@pytest.fixture(scope="session")
def maml(scripts: Scripts, first: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("maml")
    outcome = Command(scripts, first.folder / "banks", folder).train("algo=maml")
    assert outcome.code == 0, outcome
    return Trained(outcome, folder, folder / outcome.run)


@pytest.fixture(scope="session")
def anywhere(scripts: Scripts, first: Trained, tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(scripts, first.folder / "banks", tmp_path_factory.mktemp("anywhere"))


@pytest.fixture
def command(anywhere: Command, tmp_path: Path) -> Command:
    """The scripts in an empty working directory of this test's own."""
    return anywhere.at(tmp_path)
