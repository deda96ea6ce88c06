"""Data sets as a user meets them: a folder of pictures, other data than a learner was trained on, episodes of any shape."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metashot.checkpoints.reading import write_checkpoint
from tests.real_data import REAL_DATA

from .conftest import Command, Trained
from .killed_runs import ATTEMPTS, killed, same_run
from .processes import Outcome, checkpoint, contents, copy, measured, report, step_of
from .test_bad_input import refused
from .test_evaluate import scored

LOOK = "src/metashot/data/__main__.py"
QUICK = ("trainer.max_steps=4", "trainer.validate_every=4", "data.val.episodes=4", "data.test.episodes=6")
needs_omniglot = pytest.mark.skipif(not (REAL_DATA / "omniglot").is_dir(), reason=f"no Omniglot in {REAL_DATA}")


def pictures(root: Path, classes: int = 15, images: int = 4, side: int = 24) -> Path:
    """Class folders of colour images; those of a class are alike, and their names are what people have."""
    random = np.random.default_rng(0)
    for label in range(classes):
        folder = root / (f"花 {label}" if label % 2 else f"plant {label}")
        folder.mkdir(parents=True)
        pattern = random.integers(0, 256, (3, 3, 3))
        for number in range(images):
            pixels = np.clip(pattern + random.integers(-20, 20, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((side, side + 6)).save(folder / f"图 {number}.png")
    return root


def folder_data(root: Path, banks: Path) -> list[str]:
    """A folder of pictures as data."""
    return [
        "data=folder", f"data.root={root}", f"data.banks={banks}", "data.source.image_size=28", "data.source.shares=[1,1,1]",
        "data.queries=3",
    ]  # fmt: skip


def of_folder(command: Command, root: Path, *arguments: str) -> list[str]:
    """A quick training on a folder of pictures."""
    return command.small(*folder_data(root, command.banks), *QUICK, *arguments)


@dataclass(frozen=True)
class Pictures:
    """A folder of colour pictures whose bank is built, and a learner that was trained on it."""

    root: Path
    banks: Path
    run: Path


NORMALISED = ("data.presentation.mean=[0.9,0.5,0.1]", "data.presentation.std=[0.5,0.25,2]")


@pytest.fixture(scope="module")
def colour(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    folder = tmp_path_factory.mktemp("colour")
    root = pictures(folder / "my pictures")
    command = Command(anywhere.scripts, folder / "banks", folder)
    outcome = command.run("train.py", *of_folder(command, root, *NORMALISED, "pictures=episode", "folder=run"))
    assert (outcome.code, outcome.err) == (0, ""), outcome
    return Pictures(root, folder / "banks", folder / "run")


# A folder of a user's own, with all that people have in theirs.


def odd_pictures(root: Path) -> Path:
    """Pictures, and among them a file of each kind that needs a word or is left out."""
    pictures(root)
    shades = np.linspace(0, 65535, 28 * 28).reshape(28, 28)
    colours = np.random.default_rng(1).integers(0, 256, (28, 28, 3)).astype(np.uint8)
    Image.fromarray(colours).save(root / "plant 0" / "cut.jpg", quality=95)
    whole = (root / "plant 0" / "cut.jpg").read_bytes()
    (root / "plant 0" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "花 1" / "text.png").write_text("no image\n")
    frames = [Image.fromarray(colours), Image.fromarray(255 - colours)]
    frames[0].save(root / "plant 2" / "moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(shades.astype(np.uint16)).save(root / "花 3" / "deep.png")
    Image.fromarray(colours).convert("CMYK").save(root / "plant 4" / "printed.jpg")
    Image.fromarray(colours).quantize(16).save(root / "花 5" / "palette.png")
    return root


def test_folder_of_all_kinds_of_files_trains_and_says_once_what_became_of_them(command: Command, tmp_path: Path) -> None:
    root = odd_pictures(tmp_path / "my own pictures")
    command = Command(command.scripts, tmp_path / "banks", tmp_path)
    before = contents(root)
    outcome = command.run("train.py", *of_folder(command, root, "folder=one"))
    assert outcome.code == 0, outcome
    assert sorted(outcome.err.splitlines()) == sorted(
        [
            "16 bits a channel: scaled to 8 (1 image: 花 3/deep.png)",
            "CMYK: converted to RGB (1 image: plant 4/printed.jpg)",
            "animated: its first frame is used (1 image: plant 2/moving.gif)",
            "2 left out: plant 0/cut.jpg: is cut off or damaged; 花 1/text.png: is not an image that can be read",
        ]
    )
    assert report(tmp_path / "one")["data"] == "folder"
    bank = built(tmp_path / "banks")
    again = command.run("train.py", *of_folder(command, root, "folder=two"))
    assert (again.code, again.err) == (0, ""), again
    assert built(tmp_path / "banks") == bank
    assert report(tmp_path / "two") == report(tmp_path / "one")
    assert contents(root) == before


def built(banks: Path) -> dict[Path, tuple[int, int]]:
    """The files of the banks, and which ones they are: a bank that is built again has others."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in banks.glob("*/*")}


def kept(banks: Path) -> tuple[set[Path], dict[Path, tuple[int, int]]]:
    """All there is in the folder of the banks, and which files theirs are."""
    return set(banks.rglob("*")), built(banks)


@pytest.fixture(scope="module")
def untouched(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Banks that only refused scripts are told of: other processes that run tests may add to the shared ones."""
    return Path(shutil.copytree(anywhere.banks, tmp_path_factory.mktemp("untouched") / "banks"))


def test_root_may_have_a_name_that_is_not_english(command: Command) -> None:
    pictures(command.folder / "我的 图片 é")
    given = folder_data(Path("我的 图片 é"), Path("banks"))
    outcome = command.run(LOOK, *given, "out=图.png")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert "我的 图片 é/plant 0" in outcome.out
    assert (command.folder / "图.png").is_file()


def test_bank_of_a_root_is_one_however_the_root_is_written(command: Command) -> None:
    root = pictures(command.folder / "pictures")
    banks = []
    for given in (Path("pictures"), root, root / ".." / "pictures"):
        outcome = command.run(LOOK, *folder_data(given, command.folder / "banks"))
        assert outcome.code == 0, outcome
        banks.append(built(command.folder / "banks"))
    assert banks[0] == banks[1] == banks[2]


def test_changed_picture_builds_the_bank_again(command: Command, tmp_path: Path) -> None:
    root = pictures(tmp_path / "pictures")
    given = of_folder(command, root, f"data.banks={tmp_path}/banks")
    losses = []
    for folder in ("one", "two"):
        outcome = command.run("train.py", *given, f"folder={folder}")
        assert (outcome.code, outcome.err) == (0, ""), outcome
        losses.append(measured(tmp_path / folder, "val/loss"))
        for path in root.rglob("*.png"):
            Image.open(path).rotate(180).save(path)
    assert losses[0] != losses[1]
    assert len(list((tmp_path / "banks").glob("folder-*"))) == 1


# python -m metashot.data


def test_look_in_a_fresh_process_says_all_of_a_folder(command: Command, tmp_path: Path) -> None:
    root = odd_pictures(tmp_path / "pictures")
    process = subprocess.run(
        [sys.executable, "-m", "metashot.data", *folder_data(root, tmp_path / "banks"), "out=sheet.png"],
        cwd=tmp_path,
        env=command.scripts.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process
    lines = process.stdout.splitlines()
    assert lines[0].split() == ["data", "folder"]
    assert f"found     {root}" in process.stdout
    assert "images    64 of 28x28, colour" in lines
    counts = [line for line in lines if line.split()[0] in ("train", "val", "test")]
    assert len(counts) == 3
    assert all("5 classes" in line for line in counts)
    (left_out,) = [line for line in lines if line.startswith("note      2 left out: ")]
    assert "plant 0/cut.jpg" in left_out
    assert "花 1/text.png" in left_out
    assert "class 0" in process.stdout
    assert lines[-1] == "sheet     sheet.png"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert min(sheet.size) > 100


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("glyphs", ["data      glyphs", "episode   test 0, 5-way 1-shot 3 queries", "of 28x28, grey", "20 a class"]),
        ("sinusoid", ["data      sinusoid", "episode   test 0, 10-shot 100 queries"]),
        ("curves", ["data      curves", "episode   test 0, 10-shot 100 queries"]),
    ],
)
def test_look_draws_an_episode(command: Command, data: str, words: list[str]) -> None:
    own = [f"data.banks={command.banks}", "data.queries=3"] if data == "glyphs" else []
    outcome = command.run(LOOK, f"data={data}", *own)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    for word in words:
        assert word in outcome.out, word
    assert outcome.out.splitlines()[-1] == f"sheet     {data}.png"
    assert list(contents(command.folder)) == [f"{data}.png"]
    assert (command.folder / f"{data}.png").read_bytes().startswith(b"\x89PNG")


def test_look_shows_the_same_episode_again_and_another_one_by_its_number(command: Command) -> None:
    given = [f"data.banks={command.banks}", "data.queries=3", "split=train"]
    for out, number in (("one", 3), ("same", 3), ("other", 4)):
        outcome = command.run(LOOK, *given, f"number={number}", f"out={out}.png")
        assert outcome.code == 0, outcome
    one, same, other = (np.asarray(Image.open(command.folder / f"{out}.png")) for out in ("one", "same", "other"))
    assert np.array_equal(one, same)
    assert one.shape != other.shape or not np.array_equal(one, other)


LOOKS: dict[str, list[str]] = {
    "number=-1": ["number=-1", "at least 0"],
    "number=1.5": ["number=1.5", "whole number"],
    "number=99999999999999999999": ["number=99999999999999999999", "at most"],
    "split=tset": ["split=tset", "train", "val", "test"],
    "numbr=1": ["unknown key numbr", "did you mean number?"],
    "data=omniglott": ["data", "omniglott", "omniglot", "folder"],
    "data=null": ["data=null", "omniglot", "folder"],
    "data.shotz=1": ["unknown key data.shotz", "did you mean shots?"],
    "seed=-1": ["seed=-1", "at least 0"],
    "out=/proc/x.png": ["out=/proc/x.png", "cannot be written"],
    "out=.": ["out=.", "is a folder"],
    "out=": ["out=", "is empty"],
}


@pytest.mark.parametrize("given", LOOKS)
def test_look_that_cannot_be_done_is_refused(command: Command, untouched: Path, given: str) -> None:
    before = kept(untouched)
    outcome = command.run(LOOK, f"data.banks={untouched}", "data.queries=3", given)
    refused(Outcome(outcome.code, "", outcome.err), LOOKS[given])  # the facts may stand on stdout already
    assert contents(command.folder) == {}
    assert kept(untouched) == before


def test_shuffled_images_are_no_episode_to_look_at(command: Command) -> None:
    outcome = command.run(LOOK, f"data.banks={command.banks}", "data.train.batch=8", "split=train")
    refused(Outcome(outcome.code, "", outcome.err), ["data.train.batch", "no episodes to look at"])
    assert contents(command.folder) == {}


# Episodes of any shape, changed at random

VARIABLE = (
    "data.train.ways=[2,5]", "data.train.shots=[1,3]", "data.train.unequal_queries=1.0",
    "data.test.ways=[3,5]", "data.test.shots=[1,2]", "data.test.unequal_support=1.0",
    "data.presentation.augmentation.crop_padding=2", "data.presentation.augmentation.flip=0.5",
    "data.presentation.augmentation.brightness=0.3", "data.presentation.augmentation.quarter_turns=class",
)  # fmt: skip


@pytest.fixture(scope="module")
def variable(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose episodes have shapes of their own."""
    folder = tmp_path_factory.mktemp("variable")
    outcome = anywhere.at(folder).train(*VARIABLE, "folder=run")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert "train 2-5-way 1-3-shot 3 queries unequal queries" in outcome.out
    assert outcome.table["ways"] == "3-5"
    return folder / "run"


def test_report_of_ranges_has_both_ends(variable: Path) -> None:
    expected = {"ways": [3, 5], "shots": [1, 2], "queries": 3, "unequal_support": 1.0, "unequal_queries": None}
    written = report(variable)
    assert {name: written[name] for name in expected} == expected
    assert written["accuracy"] > 0.3


def test_each_part_of_the_shape_changes_the_run(command: Command) -> None:
    shapes = VARIABLE[:3] + VARIABLE[6:]
    quick = [*QUICK[1:], "trainer.max_steps=1", "trainer.log_every=1"]
    started = [
        command.start_small(*(given for given in shapes if given != without), *quick, f"folder=run{place}")
        for place, without in enumerate(("", *shapes))
    ]
    assert [process.wait().code for process in started] == [0] * len(started)
    losses = [measured(command.folder / f"run{place}", "train/loss")[0] for place in range(len(started))]
    assert len(set(losses)) == len(losses), losses


@pytest.mark.parametrize("moment", ["between two validations", "right after a validation"])
def test_run_of_variable_episodes_that_is_killed_and_resumed_equals_one_that_was_not(
    command: Command, variable: Path, moment: str
) -> None:
    run = killed(command, "run", moment, *VARIABLE)
    outcome = command.run("train.py", f"resume={run}")
    assert outcome.code == 0, outcome
    same_run(variable, run)


def test_batch_size_changes_nothing_of_episodes_of_many_shapes(command: Command, variable: Path) -> None:
    run = copy(variable, command.folder / "run")
    given = [f"ckpt={run}", "episodes=30", "data.test.unequal_queries=0.5"]
    sizes = {1: "none", 7: "none", 64: "all"}
    started = [
        command.start("evaluate.py", *given, f"data.tasks_per_evaluation_step={size}", f"out=by{size}", f"pictures={drawn}")
        for size, drawn in sizes.items()
    ]
    reports = [scored(process.wait(), command.folder) for process in started]
    assert [report["accuracy"] for report in reports] == [reports[0]["accuracy"]] * len(sizes)
    assert [report["loss"] for report in reports] == pytest.approx([reports[0]["loss"]] * len(sizes), rel=1e-5)
    assert len(list(command.folder.glob("by*"))) == len(sizes)


def test_reports_of_differently_unequal_queries_are_kept_apart(command: Command, variable: Path) -> None:
    run = copy(variable, command.folder / "run")
    for concentration in ("0.5", "2"):
        given = [f"ckpt={run}", "episodes=4", f"data.test.unequal_queries={concentration}"]
        assert command.evaluate(*given).code == 0
    names = sorted(path.name for path in (run / "evaluations").iterdir())
    assert ["_unequal_support-1_unequal_queries-0.5_" in names[0], "_unequal_queries-2_" in names[1]] == [True, True]


def test_head_refuses_a_range_of_ways(command: Command) -> None:
    outcome = command.train("algo=maml", "data.train.ways=[2,5]")
    refused(outcome, ["data.train.ways draws 2-5 ways", "head of this maml", "give one number", "algo=protonet"])
    assert contents(command.folder) == {}


# A learner on other data than its own


def test_learner_of_grey_images_scores_colour_pictures_of_another_size(
    command: Command, first: Trained, colour: Pictures
) -> None:
    run = copy(first.run, command.folder / "run")
    given = [*folder_data(colour.root, colour.banks), "data.source.image_size=32"]
    outcome = command.evaluate(f"ckpt={run}", *given, "episodes=10")
    written = scored(outcome, command.folder)
    assert (written["data"], written["algo"], written["episodes"], written["ways"]) == ("folder", "protonet", 10, 5)
    said = "images of folder are made grey and resized from 32x32 to 28x28, as the learner was trained on glyphs"
    assert outcome.out.splitlines()[0] == said
    assert outcome.out.count("made grey") == 1
    assert "on folder, test split" in outcome.table["protonet"]
    assert written["accuracy"] > 0.4  # the classes are easy to tell apart, so chance would mean that images are mixed up


def test_learner_of_colour_images_scores_grey_ones(command: Command, colour: Pictures, first: Trained) -> None:
    run = copy(colour.run, command.folder / "run")
    outcome = command.run(
        "evaluate.py", f"ckpt={run}", "data=glyphs", f"data.banks={command.banks}", "data.queries=3", "episodes=10"
    )
    assert scored(outcome, command.folder)["data"] == "glyphs"
    said = "images of glyphs are given three equal colour channels, as the learner was trained on folder"
    assert outcome.out.splitlines()[0] == said


def test_learner_normalises_other_data_as_its_own(command: Command, colour: Pictures) -> None:
    """Whatever constants other data have, those of training count; without any, the same weights answer otherwise."""
    other = [*folder_data(pictures(command.folder / "pictures", images=5), command.folder / "banks"), "episodes=10"]
    plain = checkpoint(colour.run, "best.ckpt")
    plain["metashot"]["origin"].update(mean=None, std=None)
    write_checkpoint(plain, command.folder / "plain.ckpt")
    normal = f"ckpt={colour.run}/checkpoints/best.ckpt"

    def loss(*given: str) -> float:
        return float(scored(command.evaluate(*given, *other), command.folder)["loss"])

    expected = loss(normal, "out=one")
    outcome = command.run(
        "evaluate.py", normal, "data.presentation.mean=[0.1,0.1,0.1]", "data.presentation.std=[3,3,3]", *other, "out=two"
    )
    refused(outcome, ["data.presentation.mean=[0.1,0.1,0.1] has no effect", "constants"])
    assert loss("ckpt=plain.ckpt", "out=three") != expected


def test_classifier_cannot_be_scored_on_regression(command: Command, first: Trained) -> None:
    outcome = command.run("evaluate.py", f"ckpt={first.run}", "data=sinusoid", "episodes=4")
    refused(outcome, ["data=sinusoid", "algo=protonet", "a regression problem"])
    assert contents(command.folder) == {}


# Regression

SINUSOID = (
    "experiment=sinusoid", "logger=csv", "algo.inner_lr=0.02", "algo.optimizer.lr=0.01", "data.tasks_per_step=10",
    "data.val.episodes=8", "data.test.episodes=60", "trainer.max_steps=150", "trainer.validate_every=50",
    "trainer.checkpoint_every=7", "trainer.log_every=5",
)  # fmt: skip


@pytest.fixture(scope="module")
def sinusoid(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("sinusoid")
    outcome = anywhere.at(folder).run("train.py", *SINUSOID, "folder=run")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    return Trained(outcome, folder, folder / "run")


def test_report_of_regression_has_an_error_and_no_ways(sinusoid: Trained) -> None:
    written = report(sinusoid.run)
    assert (written["ways"], written["shots"], written["queries"], written["data"]) == (None, 10, 100, "sinusoid")
    assert written["mse"] == pytest.approx(written["loss"])
    assert "accuracy" not in written
    assert "ways" not in sinusoid.outcome.table
    assert sinusoid.outcome.table["mse"].startswith(f"{written['mse']:.4f} ± {written['ci95']:.4f}")
    assert float(measured(sinusoid.run, "test/mse")[0][1]) == written["mse"]
    scores = {int(step): float(score) for step, score in measured(sinusoid.run, "val/mse")}
    assert scores[checkpoint(sinusoid.run, "best.ckpt")["global_step"]] == min(scores.values())
    assert (sinusoid.run / "episode.png").read_bytes().startswith(b"\x89PNG")


def test_error_falls_with_the_inner_step(command: Command, sinusoid: Trained) -> None:
    run = copy(sinusoid.run, command.folder / "run")
    errors = []
    for steps in (0, 1):
        given = [f"ckpt={run}", f"algo.test_inner_steps={steps}", "episodes=200", f"out=after{steps}"]
        errors.append(scored(command.evaluate(*given), command.folder)["mse"])
    assert errors[0] > errors[1]


def test_regression_that_is_killed_and_resumed_equals_one_that_was_not(command: Command, sinusoid: Trained) -> None:
    run = command.folder / "run"
    for _ in range(ATTEMPTS):
        process = command.start("train.py", *SINUSOID, "folder=run")
        process.wait_until(lambda: step_of(run) >= 7)
        process.send(signal.SIGKILL)
        if process.wait().code == -signal.SIGKILL and 7 <= step_of(run) < 150:
            break
        shutil.rmtree(run)
    outcome = command.run("train.py", f"resume={run}")
    assert outcome.code == 0, outcome
    same_run(sinusoid.run, run)


REGRESSIONS: dict[str, tuple[list[str], list[str]]] = {
    "prototypes": (["algo=protonet", "data=sinusoid", "backbone=mlp_sinusoid"], ["protonet", "regression", "maml"]),
    "convolutions": (
        ["algo=maml", "data=sinusoid", "backbone=conv4", "data.tasks_per_step=4"],
        ["backbone=conv4", "images", "backbone=mlp", "experiment=sinusoid"],
    ),
    "no kernel": (["algo=cnp", "data=curves", "data.source.kernels=[]"], ["data.source.kernels=[]", "matern52"]),
    "other kernel": (["algo=cnp", "data=curves", "data.source.kernels=[cubic]"], ["data.source.kernels", "periodic"]),
    "no length": (
        ["algo=cnp", "data=curves", "data.source.length_scale=[0,1]"],
        ["length_scale=[0, 1]", "from 1e-06 to 1e+06"],
    ),
    "no noise": (["algo=cnp", "data=curves", "data.source.noise=1e-9"], ["data.source.noise=1e-09", "at least 0.0001"]),
    "many points": (["algo=cnp", "data=curves", "data.test.queries=5000"], ["test split", "5010 points", "2,000"]),
    "no encoder": (["algo=cnp", "data=curves", "algo.encoder=[]"], ["algo.encoder=[]", "at least one layer"]),
    "seven heads": (["algo=anp", "data=curves", "algo.heads=7"], ["algo.encoder=[128, 128, 128]", "algo.heads=7"]),
    "no deviation": (["algo=anp", "data=curves", "algo.least_deviation=0"], ["algo.least_deviation=0", "above 0"]),
    "classes": (["algo=anp", "data=glyphs"], ["algo=anp", "glyphs", "classification"]),
    "no points": ([*SINUSOID, "data.shots=0"], ["data.shots=0", "at least 1"]),
    "ways": ([*SINUSOID, "data.ways=5"], ["data.ways"]),
    "empty range": ([*SINUSOID, "data.source.x=[5,-5]"], ["data.source.x=[5, -5]", "[least, most]"]),
    "no range": ([*SINUSOID, "data.source.amplitude=[1]"], ["data.source.amplitude=[1]", "[least, most]"]),
    "text": ([*SINUSOID, "data.source.phase=[a,b]"], ["data.source.phase", "number"]),
}


@pytest.mark.parametrize("case", REGRESSIONS)
def test_regression_that_cannot_be_done_is_refused(command: Command, case: str) -> None:
    given, words = REGRESSIONS[case]
    refused(command.run("train.py", *given, "logger=csv", "folder=run"), words)
    assert contents(command.folder) == {}


# Omniglot as it is published


def omniglot(command: Command, banks: Path, *arguments: str) -> list[str]:
    return command.small(
        "data=omniglot", f"data.root={REAL_DATA}", f"data.source.split={REAL_DATA}/omniglot/splits", f"data.banks={banks}",
        "data.source.image_size=8", *QUICK[1:], "trainer.max_steps=2", *arguments,
    )  # fmt: skip


@needs_omniglot
def test_omniglot_is_built_once_by_two_runs_and_never_half(command: Command, tmp_path: Path) -> None:
    """One test, because each build takes seconds."""
    banks = tmp_path / "banks"
    process = command.start("train.py", *omniglot(command, banks, "folder=killed"))
    assert process.wait_until(lambda: bool(list(banks.glob(".*building*/train.npy"))))
    process.send(signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    assert not list(banks.glob("omniglot-*"))
    assert len(list(banks.glob(".*building*"))) == 1
    assert not (tmp_path / "killed").exists()

    one, two = (command.start("train.py", *omniglot(command, banks, f"folder={name}")) for name in ("one", "two"))
    building: set[Path] = set()

    def watched() -> bool:
        building.update(banks.glob(".*building*"))
        return False

    one.wait_until(watched)
    outcomes = [one.wait(), two.wait()]
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert len(building) == 2, "that of the killed run, and one of its own"
    (bank,) = banks.glob("omniglot-*")
    assert not list(banks.glob(".*building*"))
    assert {path.name for path in bank.iterdir()} == {"train.npy", "val.npy", "test.npy", "manifest.json"}
    assert len(np.load(bank / "train.npy", mmap_mode="r")) == 1028 * 4 * 20
    assert report(tmp_path / "one") == report(tmp_path / "two")
    assert report(tmp_path / "one")["data"] == "omniglot"


# Whatever cannot be used


def nothing_there(folder: Path) -> Path:
    return folder / "nowhere"


def a_file(folder: Path) -> Path:
    (folder / "file.txt").write_text("no data\n")
    return folder / "file.txt"


def a_picture(folder: Path) -> Path:
    Image.new("RGB", (8, 8)).save(folder / "picture.png")
    return folder / "picture.png"


def an_empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def folders_without_images(folder: Path) -> Path:
    (folder / "root" / "a class").mkdir(parents=True)
    (folder / "root" / "a class" / "notes.doc").write_text("no image")
    return folder / "root"


def too_few_classes(folder: Path) -> Path:
    return pictures(folder / "root", classes=3)


def too_few_images(folder: Path) -> Path:
    root = pictures(folder / "root")
    (root / "plant 8" / "图 3.png").unlink()
    return root


def a_class_that_cannot_be_read(folder: Path) -> Path:
    root = pictures(folder / "root")
    for path in (root / "plant 8").iterdir():
        path.write_text("no image")
    return root


def a_list_without_a_column(folder: Path) -> Path:
    (folder / "list.csv").write_text("file,kind\na.png,a\n")
    return folder / "list.csv"


def a_list_of_missing_files(folder: Path) -> Path:
    (folder / "list.csv").write_text("file,class\na.png,a\n")
    return folder / "list.csv"


ROOTS: dict[Callable[[Path], Path], list[str]] = {
    nothing_there: ["data.root=", "nowhere", "does not exist"],
    a_file: ["file.txt", "no column file", "has to be a header"],
    a_picture: ["data.root=", "picture.png", "neither a folder nor a .csv file"],
    an_empty_folder: ["data.root=", "is empty", "class/image"],
    folders_without_images: ["data.root=", "no images in class folders", "class/image"],
    too_few_classes: ["data.root=", "3 classes", "at least 6"],
    too_few_images: ["plant 8", "3 examples", "1 shots and 3 queries", "data.queries"],
    a_class_that_cannot_be_read: ["data.ways=5 and the train split has 4"],
    a_list_without_a_column: ["list.csv", "no column class"],
    a_list_of_missing_files: ["list.csv", "a.png", "not there"],
}


@pytest.mark.parametrize("make", ROOTS, ids=lambda make: make.__name__)
def test_root_that_cannot_be_used_is_refused(command: Command, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    root = make(tmp_path)
    before = contents(tmp_path)
    outcome = command.run("train.py", *of_folder(command, root, f"data.banks={tmp_path}/banks", "folder=run"))
    is_built = make in (too_few_images, a_class_that_cannot_be_read)  # the bank is good for other episodes
    said = outcome.err.splitlines()
    if make is a_class_that_cannot_be_read:
        assert said[0].startswith("5 left out: plant 8/图 0.png: is not an image"), outcome
        assert said[0].endswith("class plant 8 of the train split: it has no image that can be read"), outcome
        said = said[1:]
    refused(Outcome(outcome.code, outcome.out, "\n".join(said)), ROOTS[make])
    assert len(said) == 1
    after = contents(tmp_path)
    left = [name for name in after.keys() - before.keys() if not (is_built and name.startswith("banks"))]
    assert [name for name in left if not name.endswith(".lock") and name != "banks"] == []
    assert {name: after[name] for name in before} == before


VALUES: dict[str, list[str]] = {
    "data=omniglot data.source.split=nowhere": ["data.source.split=nowhere", "maml, lake, vinyals", "train.txt"],
    "data=omniglot data.source.split=null": ["data.source.split=null", "text"],
    "data=omniglot data.source.rotations=[trian]": ["data.source.rotations", "trian", "train, val, test"],
    "data=omniglot data.source.rotations=train": ["data.source.rotations=train", "list"],
    "data=folder data.source.shares=[1,2]": ["data.source.shares=[1, 2]", "three"],
    "data=folder data.source.shares=[1,0,1]": ["data.source.shares", "above 0"],
    "data=folder data.source.channels=2": ["data.source.channels=2", "1, 3"],
    "data=folder data.source.fit=stretch": ["data.source.fit=stretch", "squash", "crop", "pad"],
    "data.presentation.mean=[0.5]": ["data.presentation.mean", "data.presentation.std", "both"],
    "data.presentation.std=[0.5]": ["data.presentation.mean", "data.presentation.std", "both"],
    "data.presentation.mean=[0.5,0.5,0.5] data.presentation.std=[1,1,1]": [
        "data.presentation.mean=[0.5, 0.5, 0.5]",
        "3 values",
        "1 channels",
    ],
    "data.presentation.mean=[0.5] data.presentation.std=[1,1]": ["data.presentation.std=[1, 1]", "2 values"],
    "data.presentation.mean=[0.5] data.presentation.std=[0]": ["data.presentation.std", "above 0"],
    "data.presentation.mean=0.5 data.presentation.std=1": ["data.presentation.mean=0.5", "list"],
    "data.train.ways=[20,5]": ["data.train.ways=[20, 5]", "[least, most]"],
    "data.train.ways=[5]": ["data.train.ways=[5]", "[least, most]"],
    "data.train.ways=[2,3,4]": ["data.train.ways=[2, 3, 4]", "[least, most]"],
    "data.train.ways=[1,5]": ["data.train.ways=[1, 5]", "at least 2"],
    "data.ways=five": ["data.ways=five", "whole number"],
    "data.ways=[2,5000]": ["data.ways=5000 and the train split has"],
    "data.shots=[0,3]": ["data.shots=[0, 3]", "at least 1"],
    "data.shots=[1,18]": ["18 shots", "20 examples", "data.shots"],
    "data.unequal_queries=0": ["data.unequal_queries=0", "at least 1e-06"],
    "data.train.unequal_support=much": ["data.train.unequal_support=much", "number"],
    "data.presentation.augmentation.flip=2": ["data.presentation.augmentation.flip=2", "at least 0", "at most 1"],
    "data.presentation.augmentation.hue=0.6": ["data.presentation.augmentation.hue=0.6", "at most 0.5"],
    "data.presentation.augmentation.crop_padding=-1": ["data.presentation.augmentation.crop_padding=-1", "at least 0"],
    "data.presentation.augmentation.quarter_turns=all": [
        "data.presentation.augmentation.quarter_turns=all",
        "none",
        "image",
        "class",
    ],
    "data.presentation.augmentation.flop=1": ["unknown key data.presentation.augmentation.flop", "did you mean flip?"],
}


@pytest.mark.parametrize("given", VALUES)
def test_value_of_data_that_cannot_be_used_is_refused(command: Command, untouched: Path, given: str) -> None:
    arguments = given.split(" ")
    before = kept(untouched)
    refused(command.run("train.py", *command.small(*arguments, f"data.banks={untouched}"), "folder=run"), VALUES[given])
    assert contents(command.folder) == {}
    assert kept(untouched) == before


def test_data_set_that_is_not_there_and_cannot_be_fetched_names_file_and_place(command: Command) -> None:
    (command.folder / "data").mkdir()
    given = command.small("data=miniimagenet", "data.root=data", "data.banks=banks", "folder=run")
    nowhere = "http://127.0.0.1:9"  # a proxy that is not there is as good as no network
    outcome = command.run("train.py", *given, http_proxy=nowhere, https_proxy=nowhere)
    refused(outcome, ["mini-imagenet-cache-train.pkl", "data/mini-imagenet/", "https://"])
    assert outcome.err.count("\n") == 1, outcome
    assert not [name for name in contents(command.folder) if not name.startswith("data") and "bank" not in name]
    assert not [path for path in command.folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]


def test_resumed_run_may_have_its_banks_elsewhere(command: Command, colour: Pictures) -> None:
    run = copy(colour.run, command.folder / "run")
    outcome = command.run("train.py", f"resume={run}", f"data.banks={command.folder}/elsewhere")
    assert outcome.code == 0, outcome
    assert report(run) == report(colour.run)
    assert list((command.folder / "elsewhere").glob("folder-*"))


def test_resumed_run_may_have_its_pictures_elsewhere_but_no_others(command: Command, colour: Pictures) -> None:
    run = copy(colour.run, command.folder / "run")
    moved = shutil.copytree(colour.root, command.folder / "moved")
    banks = command.folder / "banks"
    resumed = [f"resume={run}", "trainer.max_steps=62", f"data.banks={banks}"]
    assert command.run("train.py", *resumed, f"data.root={moved}").code == 0
    before = contents(run)
    others = pictures(command.folder / "others", images=5)
    outcome = command.run("train.py", f"resume={run}", "trainer.max_steps=64", f"data.banks={banks}", f"data.root={others}")
    refused(outcome, ["images of data=folder are not those", "data.root", "repeat="])
    assert contents(run) == before


def test_learner_is_scored_on_other_data_without_the_files_it_was_trained_on(command: Command, first: Trained) -> None:
    """What a learner has to know of its training stands in its checkpoint: here the lists of a split are gone."""
    gone = checkpoint(first.run, "best.ckpt")
    source = {"_target_": "metashot.sources.images.omniglot.Omniglot", "split": "gone", "split_seed": 0, "rotations": []}
    gone["metashot"]["config"]["data"]["source"] = source | {"image_size": 28}
    gone["metashot"]["config"]["data"]["name"] = gone["metashot"]["origin"]["name"] = "omniglot"
    write_checkpoint(gone, command.folder / "gone.ckpt")
    given = ["ckpt=gone.ckpt", "data=glyphs", f"data.banks={command.banks}", "data.queries=3", "episodes=10"]
    assert scored(command.evaluate(*given), command.folder)["data"] == "glyphs"
