"""Whatever cannot be used is answered with one message that helps, exit code 2, and nothing left behind."""

import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from PIL import Image

from .conftest import Command, Trained
from .processes import ROOT, Outcome, contents, one_bit_flipped


def refused(outcome: Outcome, words: list[str]) -> None:
    """One message on stderr, in words a user can act on."""
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: "), outcome
    assert outcome.err.count("error:") == 1, outcome
    assert "Traceback" not in outcome.err + outcome.out, outcome
    assert outcome.out == "", outcome
    for word in words:
        assert word in outcome.err, f"{word!r} is missing in: {outcome.err}"


# What is given -> what the message has to say: the key, the value, what is allowed.
OVERRIDES: dict[str, list[str]] = {
    "algo=mamml": ["algo", "mamml", "maml", "protonet"],
    "backbone=conv5": ["backbone", "conv5", "conv4", "mlp"],
    "data=omniglott": ["data", "omniglott", "glyphs"],
    "trainer=tpu": ["trainer", "tpu", "cpu", "ddp", "gpu"],
    "logger=tensorbord": ["logger", "tensorbord", "csv", "none", "wandb"],
    "sead=1": ["unknown key sead", "seed", "did you mean seed?"],
    "data.shotz=1": ["unknown key data.shotz", "shots", "did you mean shots?"],
    "algo.optimizer.learning_rate=1": ["unknown key algo.optimizer.learning_rate", "lr", "momentum"],
    "+data.shotz=1": ["unknown key data.shotz", "did you mean shots?"],
    "data.shots=many": ["data.shots=many", "whole number"],
    "data.shots=1.5": ["data.shots=1.5", "whole number"],
    "data.shots=true": ["data.shots=true", "whole number"],
    "data.source=5": ["data.source"],
    "trainer=5": ["trainer", "5", "cpu", "ddp", "gpu"],
    "algo.optimizer.lr=fast": ["algo.optimizer.lr=fast", "number"],
    "algo.optimizer.lr=nan": ["algo.optimizer.lr=nan", "number"],
    "algo.optimizer.lr=inf": ["algo.optimizer.lr=inf", "number"],
    "trainer.deterministic=1": ["trainer.deterministic=1", "true or false"],
    "data.ways=1": ["data.ways=1", "at least 2"],
    "data.shots=0": ["data.shots=0", "at least 1"],
    "data.queries=0": ["data.queries=0", "at least 1"],
    "data.test.episodes=0": ["data.test.episodes=0", "at least 1"],
    "data.tasks_per_step=0": ["data.tasks_per_step=0", "at least 1"],
    "data.source.examples=0": ["data.source.examples=0", "at least"],
    "data.source.image_size=-3": ["data.source.image_size=-3", "at least"],
    "algo.optimizer.lr=-1": ["algo.optimizer.lr=-1", "above 0"],
    "algo.optimizer.momentum=1.5": ["algo.optimizer.momentum=1.5"],
    "algo.inner_lr=0.1": ["unknown key algo.inner_lr"],
    "algo.optimizer.name=adamm": ["algo.optimizer.name=adamm", "adam", "sgd"],
    "trainer.max_steps=-1": ["trainer.max_steps=-1", "at least 0"],
    "trainer.stop_after_non_finite=0": ["trainer.stop_after_non_finite=0", "at least 1"],
    "trainer.precision=foo": ["trainer.precision=foo", "32-true", "bf16-mixed"],
    "trainer.devices=0": ["trainer.devices=0", "at least 1"],
    "backbone.normalisation=foo": ["backbone.normalisation=foo", "running", "support", "transductive"],
    "backbone.channels=0": ["backbone.channels=0", "at least 1"],
    "seed=-1": ["seed=-1", "at least 0"],
    "seed=abc": ["seed=abc", "whole number"],
    "seed=null": ["seed=null", "whole number"],
    "seed=4294967296": ["seed=4294967296", "at most 4294967295"],
    "data.shots=[": ["data.shots=["],
    "data.banks=null": ["data.banks=null", "text"],
    "folder=null": ["folder", "null"],
    "folder=[5]": ["folder=[5]", "text"],
    "data.ways=5000": ["5000", "data.", "ways"],
    "data.val.ways=1000": ["1000", "val", "ways"],
    "data.shots=18": ["18", "data.shots", "20"],
    "data.test.queries=20": ["20 queries", "20 examples", "test", "data.queries"],
    "trainer=gpu": ["trainer.accelerator=gpu", "trainer=cpu"],
    "trainer.precision=16-mixed": ["trainer.precision=16-mixed", "32-true", "bf16-mixed"],
    "algo._target_=os.system": ["algo._target_=os.system", "metashot"],
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_value_that_cannot_be_used_is_refused_in_one_message(command: Command, override: str) -> None:
    key = override.lstrip("+").partition("=")[0]
    kept = [argument for argument in command.small() if argument.partition("=")[0] != key]
    if "." not in key:  # a choice of a whole group
        kept = [argument for argument in kept if not argument.startswith(f"{key}.")]
    outcome = command.run("train.py", *kept, override)
    refused(outcome, OVERRIDES[override])
    assert contents(command.folder) == {}


def test_tasks_that_devices_cannot_share_evenly_are_refused(command: Command) -> None:
    outcome = command.train("trainer=ddp", "data.tasks_per_step=3")
    refused(outcome, ["data.tasks_per_step=3", "2 devices", "multiple of 2", "trainer.devices"])
    assert contents(command.folder) == {}


def test_more_ways_in_validation_than_a_head_has_are_refused_before_training(command: Command) -> None:
    outcome = command.train("algo=maml", "data.val.ways=7")
    refused(outcome, ["7 ways", "val", "5", "data.val.ways=5", "data.ways=7"])
    assert contents(command.folder) == {}


def test_images_too_small_for_a_backbone_are_refused(command: Command) -> None:
    for split, label, number in product(("train", "val", "test"), range(5), range(4)):
        folder = command.folder / "pictures" / split / f"{split} {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 50 * label + number).save(folder / f"{number}.png")
    small = ["data=folder", "data.root=pictures", "data.banks=banks", "data.source.image_size=8"]
    outcome = command.train(*small, "backbone.downsampling=pool")
    refused(outcome, ["8x8", "backbone=conv4", "larger images"])
    assert {path.name for path in command.folder.iterdir()} == {"pictures", "banks"}


def test_resume_and_repeat_together_are_refused(command: Command, first: Trained) -> None:
    refused(command.run("train.py", f"resume={first.run}", f"repeat={first.run}"), ["resume", "repeat"])
    assert contents(command.folder) == {}


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_words_that_are_no_override_are_refused(command: Command, script: str) -> None:
    outcome = command.run(script, "nonsense")
    refused(outcome, ["nonsense", "key=value"])
    assert contents(command.folder) == {}


def test_full_error_shows_the_traceback(command: Command) -> None:
    outcome = command.train("data.shots=0", HYDRA_FULL_ERROR="1")
    assert outcome.code != 0, outcome
    assert "Traceback" in outcome.err, outcome
    assert "data.shots=0" in outcome.err, outcome


def test_full_error_shows_the_traceback_of_an_unknown_key(command: Command) -> None:
    outcome = command.train("data.shotz=0", HYDRA_FULL_ERROR="1")
    assert outcome.code != 0, outcome
    assert "Traceback" in outcome.err, outcome


def no_such_path(folder: Path, run: Path) -> Path:
    return folder / "nowhere"


def empty_folder(folder: Path, run: Path) -> Path:
    (folder / "given").mkdir()
    return folder / "given"


def text_file(folder: Path, run: Path) -> Path:
    (folder / "given").write_text("weights\n")
    return folder / "given"


def empty_file(folder: Path, run: Path) -> Path:
    (folder / "given").write_text("")
    return folder / "given"


def truncated(folder: Path, run: Path) -> Path:
    whole = (run / "checkpoints" / "best.ckpt").read_bytes()
    (folder / "given").write_bytes(whole[: len(whole) // 2])
    return folder / "given"


def flipped(folder: Path, run: Path) -> Path:
    (folder / "given").write_bytes(one_bit_flipped((run / "checkpoints" / "best.ckpt").read_bytes()))
    return folder / "given"


def of_another_program(folder: Path, run: Path) -> Path:
    torch.save({"a": 1}, folder / "given")
    return folder / "given"


def not_even_a_dictionary(folder: Path, run: Path) -> Path:
    torch.save([1, 2], folder / "given")
    return folder / "given"


def of_lightning_alone(folder: Path, run: Path) -> Path:
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    del checkpoint["metashot"]
    torch.save(checkpoint, folder / "given")
    return folder / "given"


class Trap:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def that_runs_code(folder: Path, run: Path) -> Path:
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    torch.save(checkpoint | {"trap": Trap(folder / "sprung")}, folder / "given")
    return folder / "given"


def with_a_foreign_target(folder: Path, run: Path) -> Path:
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    checkpoint["metashot"]["config"]["backbone"] = {"_target_": "os.mkdir", "path": str(folder / "sprung")}
    torch.save(checkpoint, folder / "given")
    return folder / "given"


def without_a_group(folder: Path, run: Path) -> Path:
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    del checkpoint["metashot"]["config"]["data"]
    torch.save(checkpoint, folder / "given")
    return folder / "given"


NOT_CHECKPOINTS: dict[Callable[[Path, Path], Path], list[str]] = {
    no_such_path: ["no such file or folder"],
    empty_folder: ["checkpoints/"],
    text_file: ["is damaged"],
    empty_file: ["is damaged"],
    truncated: ["is damaged"],
    flipped: ["does not match its checksum"],
    of_another_program: ["not a checkpoint of metashot"],
    not_even_a_dictionary: ["not a checkpoint of metashot"],
    of_lightning_alone: ["not a checkpoint of metashot"],
    that_runs_code: ["more than plain containers and tensors"],
    with_a_foreign_target: ["backbone._target_=os.mkdir", "metashot"],
    without_a_group: ["data"],
}


@pytest.mark.parametrize("key", ["ckpt", "resume", "repeat"])
@pytest.mark.parametrize("make", NOT_CHECKPOINTS, ids=lambda make: make.__name__)
def test_what_is_not_a_whole_checkpoint_of_ours_is_refused(
    command: Command, first: Trained, make: Callable[[Path, Path], Path], key: str
) -> None:
    given = make(command.folder, first.run)
    before = contents(command.folder)
    outcome = command.run("evaluate.py" if key == "ckpt" else "train.py", f"{key}={given}")
    refused(outcome, [*([] if make is with_a_foreign_target else [str(given)]), *NOT_CHECKPOINTS[make]])
    assert contents(command.folder) == before


def test_damaged_checkpoint_in_a_run_names_the_whole_one_beside_it(command: Command, first: Trained) -> None:
    run = command.folder / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_bytes((first.run / "config.yaml").read_bytes())
    whole = (first.run / "checkpoints" / "best.ckpt").read_bytes()
    (run / "checkpoints" / "best.ckpt").write_bytes(whole[:-1000])
    (run / "checkpoints" / "last.ckpt").write_bytes(whole)
    before = contents(command.folder)
    refused(command.run("evaluate.py", f"ckpt={run}"), ["best.ckpt", "last.ckpt"])
    assert contents(command.folder) == before


EVALUATIONS: dict[str, list[str]] = {
    "backbone.channels=16": ["do not fit", "backbone"],
    "backbone=mlp": ["do not fit", "backbone"],
    "split=foo": ["split=foo", "train", "val", "test"],
    "episodes=0": ["episodes=0", "at least 1"],
    "episodes=many": ["episodes=many", "whole number"],
    "data.ways=5000": ["5000", "ways"],
    "data.shots=30": ["30", "data.shots", "20"],
    "seed=-1": ["seed=-1", "at least 0"],
    "out=[5]": ["out=[5]", "text"],
    "out=/proc/x": ["/proc/x"],
    "logger=tensorboard": ["logger", "tensorboard", "wandb"],
    "algo=mamml": ["algo", "mamml", "maml"],
    "episode=5": ["unknown key episode", "did you mean episodes?"],
}


@pytest.mark.parametrize("override", EVALUATIONS)
def test_evaluation_that_cannot_be_done_is_refused(command: Command, first: Trained, override: str) -> None:
    before = contents(first.run)
    refused(command.run("evaluate.py", f"ckpt={first.run}", "episodes=4", override), EVALUATIONS[override])
    assert contents(command.folder) == {}
    assert contents(first.run) == before


def test_evaluation_without_a_checkpoint_says_which_key_is_missing(command: Command) -> None:
    refused(command.run("evaluate.py"), ["ckpt", "ckpt=runs/"])
    assert contents(command.folder) == {}


# Of gradient-based algorithms.
INNER_LOOPS: dict[str, list[str]] = {
    "algo.inner_lr=-0.1": ["algo.inner_lr=-0.1", "above 0"],
    "algo.inner_lr=0": ["algo.inner_lr=0", "above 0"],
    "algo.inner_steps=0": ["algo.inner_steps=0", "at least 1"],
    "algo.test_inner_steps=-1": ["algo.test_inner_steps=-1", "at least 0"],
    "algo.inner_batch=0": ["algo.inner_batch=0", "at least 1", "or null"],
    "algo.adapts=[heads.*]": ["algo.adapts=heads.*", "matches no parameter", "head.weight"],
    "algo.adapts=[]": ["algo.adapts=[]", "adapts no parameter", "head.weight"],
    "algo.adapts=head": ["algo.adapts=head", "a list"],
    "algo.inner_loss=l1": ["algo.inner_loss=l1", "classification", "cross_entropy, hinge, mse"],
    "algo.inner_loss=foo": ["algo.inner_loss=foo", "hinge"],
    "algo.inner_optimizer.name=rmsprop": ["algo.inner_optimizer.name=rmsprop", "sgd, momentum, adam"],
    "algo.inner_optimizer.momentum=1": ["algo.inner_optimizer.momentum=1", "below 1"],
    "algo.least_fall=-1": ["algo.least_fall=-1", "at least 0"],
    "algo.least_fall=0.1 algo.inner_batch=2": ["algo.least_fall=0.1", "algo.inner_batch=2", "null"],
    "algo.checkpoint_inner_steps=yes": ["algo.checkpoint_inner_steps"],
    "algo.gamma=0.5": ["unknown key algo.gamma"],
    "engine=bached": ["engine", "bached", "auto", "batched", "learn2learn"],
    "engine.chunk=2": ["unknown key engine.chunk"],
    "engine=batched engine.chunk=0": ["engine.chunk=0", "at least 1"],
    "algo=mamlpp algo.averages_per_step=true": ["algo.averages_per_step=true", "needs backbone.normalisation=running"],
    "algo=mamlpp algo.multi_step_loss=foo": ["algo.multi_step_loss=foo", "annealed, discounted"],
    "algo=mamlpp algo.gamma=1.5": ["algo.gamma=1.5", "at most 1"],
    "algo=reptile algo.test_inner_batch=0": ["algo.test_inner_batch=0", "at least 1"],
    "algo=protonet engine=batched": ["algo=protonet has no inner loop", "engine=batched"],
    "algo=protonet engine=learn2learn": ["algo=protonet has no inner loop", "engine=learn2learn"],
}


@pytest.mark.parametrize("overrides", INNER_LOOPS)
def test_inner_loop_that_cannot_be_run_is_refused(command: Command, overrides: str) -> None:
    refused(command.train("algo=maml", *overrides.split()), INNER_LOOPS[overrides])
    assert contents(command.folder) == {}


def test_ways_that_a_head_does_not_have_are_refused(command: Command, maml: Trained) -> None:
    refused(command.run("evaluate.py", f"ckpt={maml.run}", "data.ways=20"), ["20 ways", "5", "data.test.ways=5"])
    assert contents(command.folder) == {}


def test_folder_that_cannot_be_made_is_refused(command: Command) -> None:
    (command.folder / "file").write_text("in the way")
    for folder in ("/proc/x", "file/run"):
        refused(command.train(f"folder={folder}"), [f"folder={folder}", "choose another folder="])
    assert set(contents(command.folder)) == {"file"}


def test_banks_that_cannot_be_written_are_refused(command: Command) -> None:
    (command.folder / "file").write_text("in the way")
    for banks in ("/proc/x", "file/banks", "file"):
        refused(command.train(f"data.banks={banks}"), [banks, "data.banks"])
    assert set(contents(command.folder)) == {"file"}


def test_bad_value_for_a_stored_run_is_refused(command: Command, first: Trained) -> None:
    before = contents(first.run)
    refused(command.run("train.py", f"repeat={first.run}", "data.shots=0"), ["data.shots=0", "at least 1"])
    refused(command.run("train.py", f"repeat={first.run}", "data.shotz=1"), ["data.shotz", "did you mean shots?"])
    refused(command.run("train.py", "resume=[1,2]"), ["resume"])
    assert contents(command.folder) == {}
    assert contents(first.run) == before


def test_what_hydra_refuses_is_told_in_one_line(command: Command) -> None:
    for given, said in (
        ("hydra/launcher=nonexist", "hydra/launcher=nonexist cannot be used; allowed: basic"),
        ("hydra.mode=x", "hydra.mode=x cannot be used: Invalid value 'x', expected one of [RUN, MULTIRUN]"),
        ("data.source=glyphs", "data.source=glyphs cannot be used; allowed: keys below it"),
        (
            "algo.foo=1",
            "unknown key algo.foo; allowed under algo: distance, learned_temperature, name, normalise, optimizer, "
            "temperature",
        ),
        ("data.foo=1", "unknown key data.foo; allowed under data: banks, name, presentation, "),
    ):
        outcome = command.run("train.py", "algo=protonet", given)
        refused(outcome, [said])
        assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_too_little_memory_to_load_torch_is_said(command: Command, first: Trained, script: str) -> None:
    arguments = ["logger=none", f"data.banks={first.folder / 'banks'}"] if script == "train.py" else [f"ckpt={first.run}"]
    limited = ["bash", "-c", 'ulimit -v 600000 && exec "$@"', "limited", sys.executable, str(ROOT / script), *arguments]
    ended = subprocess.run(limited, cwd=command.folder, capture_output=True, text=True, check=False)
    refused(Outcome(ended.returncode, ended.stdout, ended.stderr), ["too little memory to load PyTorch", "ulimit -v"])
