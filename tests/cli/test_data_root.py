"""METASHOT_DATA, the default of `data.root`: for scripts and from Python, where it is set, empty and broken."""

import os
from itertools import cycle
from pathlib import Path

import pytest
import yaml

from metashot.bad_input import BadInput
from metashot.experiment import Experiment
from metashot.sources import official
from metashot.sources.getting.download import OfficialFile
from tests.real_data import REAL_DATA
from tests.sources.vectors.tables import npz

from .conftest import Command, Trained
from .processes import Scripts, contents, report
from .test_bad_input import refused
from .test_data import needs_omniglot

VARIABLE = "METASHOT_DATA"
LOOK = "src/metashot/data/__main__.py"
ROWS = (
    *("data=vectors", "algo=protonet", "data.ways=3", "data.shots=2", "data.queries=4", "data.train.ways=null"),
    *("data.train.queries=null", "data.source.shares=[1,1,1]", "data.banks=banks", "data.val.episodes=4"),
    *("data.test.episodes=10", "trainer.max_steps=4", "trainer.validate_every=2", "logger=csv", "pictures=none"),
)
CALLS = (("train.py", "folder=run"), ("evaluate.py", "ckpt=drawings"), (LOOK,))
LONG = 5000
# What METASHOT_DATA may be by mistake -> what the message says beside its name.
BROKEN: dict[str, list[str]] = {
    "nowhere": ["data.root=nowhere", "is not a folder"],
    "file.txt": ["data.root=file.txt", "is not a folder"],
    "~nobody-of-this-name/data": ["has no home folder"],
    "/" + "x" * LONG: [f"({LONG + 1} characters)", "has 5,001 bytes"],
    "/of'\"[brackets]": ["/of'\"[brackets]", "is not a folder"],
    "/of/${seed}": ["/of/${seed}", "rename the folder"],
    "/of/\udcff": [r"/of/\udcff", "is not UTF-8"],
    "/two\nlines": [r"/two\nlines", "is not a folder"],
}


@pytest.fixture
def command(scripts: Scripts, tmp_path: Path) -> Command:
    """The scripts in a working directory with a file and no `data` folder, for which no bank is built."""
    (tmp_path / "file.txt").touch()
    return Command(scripts, tmp_path / "banks", tmp_path)


@pytest.fixture(scope="module")
def run(scripts: Scripts, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained on the rows that METASHOT_DATA named."""
    folder = tmp_path_factory.mktemp("rows")
    npz(folder / "it.npz")
    command = Command(scripts, folder / "banks", folder)
    outcome = command.run("train.py", *ROWS, "folder=run", METASHOT_DATA="it.npz")
    assert outcome.code == 0, outcome
    return Trained(outcome, folder, folder / "run")


def root_of(run: Path) -> str:
    root: str = yaml.safe_load((run / "config.yaml").read_text())["data"]["root"]
    return root


def test_a_run_keeps_the_folder_that_was_named(run: Trained) -> None:
    assert root_of(run.run) == "it.npz"


@pytest.mark.parametrize("value", ["nowhere", "/of/\udcff"])
def test_what_is_stored_is_stored(command: Command, run: Trained, tmp_path: Path, value: str) -> None:
    """For evaluate.py, `repeat` and `resume`."""
    (tmp_path / "it.npz").symlink_to(run.folder / "it.npz")
    outcome = command.evaluate(f"ckpt={run.run}", "episodes=10", "out=again", METASHOT_DATA=value)
    assert outcome.code == 0, outcome
    assert report(tmp_path / "again")["accuracy"] == report(run.run)["accuracy"]
    for key in ("repeat", "resume"):
        given = [f"{key}={run.run / 'checkpoints' / 'last.ckpt'}", f"folder={key}", "trainer.max_steps=6"]
        outcome = command.run("train.py", *given, METASHOT_DATA=value)
        assert outcome.code == 0, outcome
        assert root_of(tmp_path / outcome.run) == "it.npz"


def test_data_that_are_chosen_anew_are_those_of_the_variable(command: Command, run: Trained, tmp_path: Path) -> None:
    """A stored folder is that of the stored data."""
    npz(tmp_path / "other.npz")
    chosen = ("data=vectors", *ROWS[2:5], ROWS[7], "data.banks=banks")
    given = (f"ckpt={run.run}", *chosen, "episodes=10", "out=again", "allow_seen_classes=true")
    outcome = command.evaluate(*given, METASHOT_DATA="other.npz")
    assert outcome.code == 0, outcome
    refused(command.evaluate(*given[:-2], "out=not"), ["data.root=data does not exist"])


def test_the_explicit_folder_wins(command: Command, tmp_path: Path) -> None:
    npz(tmp_path / "it.npz")
    outcome = command.run(LOOK, *ROWS[:1], *ROWS[2:5], *ROWS[7:9], "data.root=it.npz", METASHOT_DATA="/of/\udcff")
    assert outcome.code == 0, outcome
    assert "found     it.npz" in outcome.out


@needs_omniglot
def test_the_folder_of_all_data_sets_is_named(command: Command) -> None:
    small = ("data.source.image_size=8", "data.source.rotations=[]", "data.banks=banks")
    outcome = command.run(LOOK, "data=omniglot", *small, METASHOT_DATA=str(REAL_DATA))
    assert outcome.code == 0, outcome
    assert f"found     {REAL_DATA / 'omniglot' / 'images_background.zip'}" in outcome.out


def test_an_empty_variable_is_none(command: Command) -> None:
    outcome = command.run(LOOK, "data=omniglot", "data.banks=banks", METASHOT_DATA="")
    refused(outcome, ["data.root=data is not a folder"])
    assert VARIABLE not in outcome.err


@pytest.mark.parametrize(("value", "call"), zip(BROKEN, cycle(CALLS), strict=False))
def test_a_broken_variable_is_refused_by_its_name(
    command: Command, value: str, call: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    outcome = command.run(*call, "data=omniglot", "data.banks=banks", METASHOT_DATA=value)
    refused(outcome, [VARIABLE, *BROKEN[value]])
    assert len(outcome.err.splitlines()) == 1
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(BadInput) as error:
        Experiment("data=omniglot", "data.banks=banks")
    assert f"error: {error.value}\n" == outcome.err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("value", BROKEN)
def test_made_data_do_not_mind_a_broken_variable(value: str, first: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    glyphs = Experiment("algo=protonet", "data=glyphs", f"data.banks={first.folder / 'banks'}")
    assert glyphs.config["data"]["root"] == "data"
    assert "root" not in Experiment("experiment=sinusoid").config["data"]


def test_a_download_goes_to_the_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(file: OfficialFile, folder: Path) -> Path:
        asked.append(folder)
        raise BadInput(f"{file.name} is not in {folder}")

    monkeypatch.setattr(official, "download", download)
    monkeypatch.setenv(VARIABLE, os.path.join("~", "sets"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sets").mkdir()
    with pytest.raises(BadInput, match=f"is not in {tmp_path}/sets/cub; METASHOT_DATA names ~/sets$"):
        Experiment("data=cub", f"data.banks={tmp_path / 'banks'}")
    assert asked == [tmp_path / "sets" / "cub"]
