"""The wheel as a newcomer installs it: in a fresh environment without a compiler, beside numpy 2, from an empty folder.

PyTorch is installed for it, which is some gigabytes; the package index is the one that pip is configured for.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from .wheels import build_wheel

pytestmark = pytest.mark.long
PATIENCE = 3600  # seconds, of which a slow network may need most

TINY = (
    "data=glyphs",
    "backbone.downsampling=stride",
    "backbone.channels=8",
    "data.train.ways=5",
    "data.val.episodes=8",
    "data.test.episodes=8",
    "trainer.max_steps=4",
    "trainer.validate_every=2",
    "logger=none",
    "pictures=none",
)


class Environment:
    """A fresh virtual environment with the wheel and what it asks for, and an empty folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder / "empty", folder / "venv" / "bin"
        self.folder.mkdir()
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR", "HOME")}
        kept |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
        none = str(folder / "no_compiler")
        self.variables = kept | {"CC": none, "CXX": none, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.python("-m", "pip", "install", "--quiet", "--prefer-binary", str(build_wheel(folder)), "numpy>=2")

    def python(self, *arguments: str) -> str:
        return self._run("python", *arguments)

    def metashot(self, *arguments: str) -> str:
        return self._run("metashot", *arguments)

    def refused(self, *arguments: str) -> str:
        done = self._done("metashot", *arguments)
        assert done.returncode == 2, done
        return done.stderr

    def _run(self, programme: str, *arguments: str) -> str:
        done = self._done(programme, *arguments)
        assert done.returncode == 0, f"{programme} {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _done(self, programme: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / programme, *arguments],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def run(installed: Environment) -> str:
    out = installed.metashot("train", "algo=protonet", *TINY, "folder=run")
    assert "protonet        on glyphs, test split" in out
    return "run"


def test_numpy_2_is_there_and_learn2learn_is_not(installed: Environment) -> None:
    code = "import importlib.util, numpy; print(numpy.__version__.split('.')[0], importlib.util.find_spec('learn2learn'))"
    assert installed.python("-c", code).split() == ["2", "None"]


def test_help_lists_the_commands_and_the_configuration(installed: Environment) -> None:
    assert "evaluate" in installed.metashot("--help")
    assert "algo: anil, anp, average" in installed.metashot("train", "--help")


def test_the_core_trains_evaluates_and_predicts_from_an_empty_folder(installed: Environment, run: str) -> None:
    folder = installed.folder
    assert (folder / run / "checkpoints" / "best.ckpt").is_file()
    assert (folder / "data" / "banks").is_dir()
    assert "episodes        4 " in installed.metashot("evaluate", f"ckpt={run}", "episodes=4", "pictures=none", "out=scored")
    assert (folder / "scored" / "report.json").is_file()
    for name, shade in (("white", 255), ("grey", 128)):
        (folder / "support" / name).mkdir(parents=True)
        Image.new("L", (28, 28), shade).save(folder / "support" / name / "one.png")
    installed.metashot("predict", f"ckpt={run}", "support=support", "query=support/white/one.png", "out=table.csv")
    assert (folder / "table.csv").read_text().splitlines()[0].startswith("file,label,probability")


def test_gradient_learners_run_without_learn2learn(installed: Environment) -> None:
    out = installed.metashot("train", "algo=maml", "algo.inner_steps=1", *TINY, "folder=maml")
    assert "engine: batched" in out
    refused = installed.refused("train", "algo=maml", "engine=learn2learn", *TINY, "folder=other")
    assert "pip install 'metashot[learn2learn]'" in refused


def test_every_algorithm_and_data_set_can_be_imported(installed: Environment) -> None:
    code = (
        "import importlib; from metashot.configuration.buildable import buildable; "
        "[importlib.import_module(t.rpartition('.')[0]) for ts in buildable().values() for t in ts "
        "if 'worlds' not in t.lower()]; print('all')"
    )
    assert installed.python("-c", code) == "all\n"


def test_the_page_says_which_extra_it_needs(installed: Environment) -> None:
    assert "pip install 'metashot[page]'" in installed.refused("page", "browser=false", "port=0")


def test_worlds_say_which_extra_they_need(installed: Environment) -> None:
    for data in ("navigation", "cartpole", "halfcheetah_direction"):
        assert "pip install 'metashot[rl]'" in installed.refused("train", "algo=maml_rl", f"data={data}", "folder=worlds")
