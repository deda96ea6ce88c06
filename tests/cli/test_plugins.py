"""A package of others, used from outside the checkout: train, resume, evaluate, predict, load; refused without its name."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from metashot.checkpoints.stored import OURS

from .conftest import Command
from .processes import ROOT, Outcome, Scripts, checkpoint, different

PLUGIN = ROOT / "tests" / "plugin"
NAMED = "plugins=[stripes]"
CHOICES = ("algo=cityblock", "data=stripes")
REFUSAL = "is not a class of metashot, and no enabled plug-in has it there"


@dataclass(frozen=True)
class Elsewhere:
    """The scripts in an empty folder, with the plug-in on Python's path."""

    command: Command

    @property
    def path(self) -> str:
        return ":".join([str(PLUGIN), self.command.scripts.environment().get("PYTHONPATH", "")])

    def run(self, script: str, *arguments: str, fresh: bool = False) -> Outcome:
        return self.command.run(script, *arguments, fresh=fresh, PYTHONPATH=self.path)

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        environment = self.command.scripts.environment() | {"PYTHONPATH": self.path}
        return subprocess.run(
            [sys.executable, "-c", code], cwd=self.command.folder, env=environment, capture_output=True, text=True
        )


@pytest.fixture(scope="module")
def elsewhere(scripts: Scripts, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    """With a finished run in `run`, a fitted learner in `stripes.fewshot`, and images in `support`."""
    folder = tmp_path_factory.mktemp("elsewhere")
    made = Elsewhere(Command(scripts, folder / "banks", folder))
    small = [argument for argument in made.command.small() if not argument.startswith("algo=")]
    outcome = made.run("train.py", NAMED, *CHOICES, *small, "trainer.max_steps=20", "folder=run", fresh=True)
    assert outcome.code == 0, outcome
    for name, box in (("left", (0, 0, 14, 28)), ("top", (0, 0, 28, 14))):
        (folder / "support" / name).mkdir(parents=True)
        image = Image.new("L", (28, 28))
        image.paste(255, box)
        image.save(folder / "support" / name / "one.png")
    outcome = made.run(
        "src/metashot/predict.py", NAMED, "ckpt=run", "support=support", "query=support/left/one.png", "save=stripes.fewshot"
    )
    assert outcome.code == 0, outcome
    return made


def test_a_run_is_trained_evaluated_and_asked_with_its_plugin(elsewhere: Elsewhere) -> None:
    folder = elsewhere.command.folder
    assert (folder / "run" / "report.json").is_file()
    assert (folder / "predictions.csv").read_text().splitlines()[1].split(",")[1] == "left"
    outcome = elsewhere.run("evaluate.py", NAMED, "ckpt=run", "episodes=8", "pictures=none", "out=scored")
    assert outcome.code == 0, outcome
    assert "cityblock" in outcome.out


def test_a_run_with_a_plugin_resumes_exactly(elsewhere: Elsewhere) -> None:
    small = [argument for argument in elsewhere.command.small() if not argument.startswith("algo=")]
    given = (NAMED, *CHOICES, *small, "trainer.max_steps=20", "folder=killed")
    process = elsewhere.command.start("train.py", *given, PYTHONPATH=elsewhere.path)
    last = elsewhere.command.folder / "killed" / "checkpoints" / "last.ckpt"
    assert process.wait_until(last.exists), process.wait()
    process.send(signal.SIGKILL)
    process.wait()
    outcome = elsewhere.run("train.py", NAMED, "resume=killed", fresh=True)  # like the other run
    assert outcome.code == 0, outcome
    runs = (elsewhere.command.folder / name for name in ("killed", "run"))
    assert different(*(checkpoint(run) for run in runs)) == []


def test_no_file_of_a_run_names_its_plugins(elsewhere: Elsewhere) -> None:
    run = elsewhere.command.folder / "run"
    assert "plugins" not in yaml.safe_load((run / "config.yaml").read_text())
    assert "plugins" not in checkpoint(run)[OURS]["config"]


def test_help_and_suggestions_have_the_choices_of_a_plugin(elsewhere: Elsewhere) -> None:
    text = elsewhere.run("train.py", "--help", NAMED, *CHOICES).out
    assert "omniglot, sinusoid, stripes, texts, tieredimagenet," in " ".join(text.split())
    assert "algo.temperature=10.0               logits are divided by this" in text
    assert "did you mean cityblock?" in elsewhere.run("train.py", NAMED, "algo=cityblok").err
    assert "cityblock" not in elsewhere.command.run("train.py", "--help").out


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("train.py", ["resume=run"]),
        ("train.py", ["repeat=run"]),
        ("train.py", ["repeat=run/checkpoints/best.ckpt"]),
        ("train.py", ["init_from=run"]),
        ("evaluate.py", ["ckpt=run"]),
        ("src/metashot/predict.py", ["ckpt=run", "support=support", "query=support/left/one.png"]),
        ("src/metashot/predict.py", ["ckpt=stripes.fewshot", "query=support/left/one.png"]),
    ],
)
def test_a_file_that_needs_a_plugin_is_refused_without_its_name(
    elsewhere: Elsewhere, script: str, arguments: list[str]
) -> None:
    outcome = elsewhere.command.run(script, *arguments)
    assert outcome.code == 2, outcome
    assert REFUSAL in outcome.err
    assert "plugins=[PACKAGE]" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_a_choice_of_a_plugin_is_unknown_without_its_name(elsewhere: Elsewhere) -> None:
    outcome = elsewhere.command.run("train.py", "algo=cityblock")
    assert outcome.code == 2, outcome
    assert "algo=cityblock cannot be used; allowed: anil" in outcome.err


@pytest.mark.long
def test_python_users_name_a_plugin_in_the_call(elsewhere: Elsewhere) -> None:
    code = (
        "import sys, pickle, metashot, numpy\n"
        "learner = metashot.load('run', plugins=['stripes'])\n"
        "fitted = metashot.load_fitted('stripes.fewshot', plugins=['stripes'])\n"
        "print(fitted.predict(['support/top/one.png'])[0], learner.name)\n"
        "open('pickled', 'wb').write(pickle.dumps(fitted))\n"
    )
    assert elsewhere.python(code).stdout == "top cityblock\n"
    code = (
        "import metashot\n"
        "print(metashot.Experiment('algo=cityblock', 'data=stripes', 'data.banks=banks', plugins=['stripes']))\n"
    )
    assert elsewhere.python(code).stdout == "<Experiment: cityblock on stripes, not built yet>\n"
    again = "import pickle; print(pickle.load(open('pickled', 'rb')).predict(['support/left/one.png'])[0])"
    assert elsewhere.python(again).stdout == "left\n"
    for call in ("load('run')", "load_fitted('stripes.fewshot')"):
        done = elsewhere.python(f"import metashot\nmetashot.{call}")
        assert "BadInput" in done.stderr
        assert REFUSAL in done.stderr


@dataclass(frozen=True)
class Theirs:
    """A checkpoint and a run's folder that name a package which lies on Python's path and leaves a trace when imported."""

    run: Path
    path: str
    trace: Path


@pytest.fixture
def theirs(elsewhere: Elsewhere, tmp_path: Path) -> Theirs:
    trace, run = tmp_path / "code-was-run", tmp_path / "theirs"
    evil = tmp_path / "evil_package"
    (evil / "conf" / "algo").mkdir(parents=True)
    (evil / "conf" / "algo" / "evil.yaml").write_text("_target_: evil_package.Evil\n")
    (evil / "__init__.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Evil:\n    pass\n")
    (run / "checkpoints").mkdir(parents=True)
    whole = checkpoint(elsewhere.command.folder / "run", "best.ckpt")
    config = whole[OURS]["config"]
    config["plugins"] = ["evil_package"]
    config["algo"] = {"name": "evil", "_target_": "evil_package.Evil", "plugins": ["evil_package"]}
    for name in ("best.ckpt", "last.ckpt"):
        torch.save(whole, run / "checkpoints" / name)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return Theirs(run, f"{tmp_path}:{elsewhere.path}", trace)


@pytest.mark.parametrize(
    ("script", "key", "given"),
    [
        ("train.py", "resume", []),
        ("train.py", "repeat", [NAMED]),
        ("train.py", "init_from", []),
        ("evaluate.py", "ckpt", [NAMED]),
        ("evaluate.py", "ckpt", []),
    ],
)
def test_a_checkpoint_imports_no_package_that_it_names(
    elsewhere: Elsewhere, theirs: Theirs, script: str, key: str, given: list[str]
) -> None:
    """Alone, and beside a plug-in that the user has named."""
    outcome = elsewhere.command.run(script, *given, f"{key}={theirs.run}", PYTHONPATH=theirs.path)
    assert outcome.code == 2, outcome
    assert REFUSAL in outcome.err
    assert not theirs.trace.exists()


def test_loading_a_checkpoint_imports_no_package_that_it_names(elsewhere: Elsewhere, theirs: Theirs) -> None:
    code = (
        "import metashot\n"
        "for plugins in ([], ['stripes']):\n"
        f"    try: metashot.load({str(theirs.run)!r}, plugins=plugins)\n"
        "    except metashot.bad_input.BadInput as error: print(error)\n"
    )
    environment = elsewhere.command.scripts.environment() | {"PYTHONPATH": theirs.path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.count(REFUSAL) == 2, done
    assert not theirs.trace.exists()
