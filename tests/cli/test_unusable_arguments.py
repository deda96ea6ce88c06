"""What a user can type by mistake, as a table: every entry point answers with one message, and leaves nothing behind."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from .conftest import Command, Trained
from .forking import UNPRIVILEGED
from .test_bad_input import refused

TRAIN, EVALUATE = "train.py", "evaluate.py"
PREDICT, DATA = "src/metashot/predict.py", "src/metashot/data/__main__.py"
USER = {UNPRIVILEGED: "1"}  # permissions hold, for root too
HUGE, LONG = 10**15, "n" * 300


@dataclass(frozen=True)
class Case:
    """A command line, and words that its message has."""

    script: str
    arguments: str  # separated by spaces; RUN stands for a trained run
    words: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{Path(self.script).stem.strip('_')} {self.arguments[:60]}"


def case(script: str, arguments: str, *words: str, environment: dict[str, str] | None = None) -> Case:
    return Case(script, arguments, words, environment or {})


NO_KEYS = [
    case(TRAIN, "=5", "=5 has no key"),
    case(TRAIN, "~folder", "~folder", "every key has a value"),
    case(TRAIN, "~algo", "~algo", "every key has a value"),
    case(TRAIN, "~data.shots", "~data.shots", "every key has a value"),
    case(EVALUATE, "ckpt=RUN ~data", "~data", "every key has a value"),
    case(EVALUATE, "~ckpt", "~ckpt"),
    case(PREDICT, "~support", "~support"),
    case(DATA, "~data", "~data"),
    case(TRAIN, "+x", "+x cannot be read as key=value: it has no ="),
    case(TRAIN, "+x=1", "unknown key x; allowed at the top: algo, "),
    case(TRAIN, "seed=", "seed= cannot be used", "whole number"),
    case(TRAIN, "folder=", "folder= is empty"),
    case(TRAIN, "data.banks=", "data.banks= is empty"),
    case(EVALUATE, "ckpt=", "ckpt= is empty"),
    case(PREDICT, "ckpt=RUN support= query=q", "support= is empty"),
    case(TRAIN, "--nosuchflag", "unknown option --nosuchflag", "--multirun"),
    case(TRAIN, "--multirum", "unknown option --multirum", "did you mean --multirun?"),
    case(TRAIN, "data.ways=[1", "data.ways=[1 cannot be read as key=value", "quotes"),
    case(TRAIN, "algo.adapts='a", "algo.adapts='a cannot be read as key=value", "quotes"),
    case(TRAIN, "a=b=c", "a=b=c cannot be read as key=value"),
    case(TRAIN, "folder=${nowhere}", "folder=${nowhere} cannot be resolved", "'nowhere' not found"),
    case(TRAIN, "seed=${oc.env:NO_SUCH}", "seed=${oc.env:NO_SUCH} cannot be resolved", "NO_SUCH"),
    case(TRAIN, "hydra.run.dir=${nowhere}", "'nowhere' not found"),
    case(DATA, "out=${nowhere}.png", "out=${nowhere}.png cannot be resolved"),
    case(TRAIN, "data.shots=" + "9" * 5000, "data.shots=", "digits"),
    case(TRAIN, "folder=\udcff", "is not UTF-8 text"),
    case(PREDICT, "ckpt=RUN support=s query=\udcff\udcfe", "is not UTF-8 text"),
]
NO_CHOICES = [
    case(TRAIN, "algo=protonett", "algo=protonett", "did you mean protonet?"),
    case(TRAIN, "-m algo=mamll,protonett", "algo=mamll", "did you mean maml?"),
    case(EVALUATE, "ckpt=RUN data=omniglott", "data=omniglott", "did you mean omniglot?"),
    case(DATA, "data=omniglott", "data=omniglott", "did you mean omniglot?"),
    case(TRAIN, "alg=maml", "unknown key alg;", "did you mean algo?"),
    case(TRAIN, "algo/foo=1", "unknown key algo/foo;", "did you mean algo?"),
    case(DATA, "dta=glyphs", "unknown key dta;", "did you mean data?"),
]
NO_PATHS = [
    *(
        case(script, arguments, path, f"{path.partition('=')[0]}=", "~nosuchuser has no home folder")
        for script, arguments, path in (
            (TRAIN, "folder=~nosuchuser/x", "folder=~nosuchuser/x"),
            (TRAIN, "init_from=~nosuchuser/x", "init_from=~nosuchuser/x"),
            (EVALUATE, "ckpt=~nosuchuser/x", "ckpt=~nosuchuser/x"),
            (PREDICT, "ckpt=RUN support=~nosuchuser/x query=q", "support=~nosuchuser/x"),
            (DATA, "out=~nosuchuser/x", "out=~nosuchuser/x"),
        )
    ),
    case(TRAIN, f"resume={LONG}", f"resume={LONG[:100]}", "(300 characters)", "File name too long"),
    case(TRAIN, f"data=folder data.root={LONG}", "data.root=nnn", "File name too long"),
    case(EVALUATE, f"ckpt=RUN out={LONG}", "out=nnn", "File name too long"),
    case(PREDICT, f"ckpt=RUN support=s query={LONG}", "query=nnn", "File name too long"),
    case(DATA, f"out={LONG}", "out=nnn", "File name too long"),
    *(
        case(script, arguments, path, "Permission denied", environment=USER)
        for script, arguments, path in (
            (TRAIN, "folder=locked/in/x", "locked/in/x"),
            (TRAIN, "folder=read_only/x", "read_only/x"),
            (TRAIN, "data.banks=locked/banks", "locked/banks"),
            (TRAIN, "data.banks=read_only/banks", "read_only/banks"),
            (TRAIN, "resume=locked_run", "locked_run/checkpoints/last.ckpt"),
            (TRAIN, "repeat=locked/in", "locked/in"),
            (TRAIN, "data=folder data.root=locked_class", "locked_class/c0"),
            (TRAIN, "data=omniglot data.source.split=locked", "data.source.split=locked"),
            (EVALUATE, "ckpt=locked_run", "locked_run/checkpoints/best.ckpt"),
            (EVALUATE, "ckpt=RUN out=locked/in/x", "out=locked/in/x"),
            (PREDICT, "ckpt=RUN support=locked_class query=q", "locked_class/c0"),
            (PREDICT, "ckpt=RUN support=s query=locked", "locked cannot be read"),
            (PREDICT, "ckpt=RUN support=s query=q out=read_only/x.csv", "out=read_only/x.csv"),
            (DATA, "out=read_only/x.png", "out=read_only/x.png"),
        )
    ),
]
NO_FILES = [
    case(TRAIN, "data=folder data.root=pipe.csv", "data.root=pipe.csv", "neither a folder nor a file"),
    case(TRAIN, "data=folder data.root=endless.csv", "data.root=endless.csv", "neither a folder nor a file"),
    case(TRAIN, "data=folder data.root=list_with_pipe.csv", "line 2", "pipe"),
    case(TRAIN, "data=omniglot data.source.split=lists", "lists/train.txt", "it is a pipe and not a file"),
    case(TRAIN, "data=omniglot data.root=archives", "images_background.zip", "it is a pipe and not a file"),
    case(EVALUATE, "ckpt=pipe", "ckpt=pipe"),
    case(PREDICT, "ckpt=endless", "ckpt=endless"),
    case(TRAIN, "resume=socket", "resume=socket"),
    case(TRAIN, "repeat=run_of_pipes", "repeat=run_of_pipes"),
    case(PREDICT, "ckpt=RUN support=s query=pipe", "it is a pipe and not a file"),
    case(PREDICT, "ckpt=RUN support=s query=endless", "it is a device and not a file"),
    case(PREDICT, "ckpt=RUN support=s query=socket", "it is a socket and not a file"),
    case(PREDICT, "ckpt=RUN support=s query=sparse.png", "it is larger than 1,000 MB"),
    case(PREDICT, "ckpt=RUN support=pipe query=q", "support=pipe is not a folder"),
    case(PREDICT, "ckpt=RUN support=class_of_a_pipe query=q", "class 'c0'", "it is a pipe and not a file"),
]
# Hydra's own keys and options, which fail before a script begins.
OF_HYDRA = [
    case(TRAIN, "hydra.run.dir=/proc/x", "/proc/x cannot be used: No such file or directory"),
    case(TRAIN, f"hydra.run.dir={LONG}", "nnn... (300 characters) cannot be used: File name too long"),
    case(TRAIN, "hydra.run.dir=null", "hydra.run.dir=null cannot be used: ", "not Optional"),
    case(TRAIN, "hydra.run.dir=pipe.csv/x", "pipe.csv/x cannot be used: Not a directory"),
    case(TRAIN, "--multirun hydra.sweep.dir=/proc/x seed=0", "/proc/x cannot be used: No such file or directory"),
    case(EVALUATE, "ckpt=RUN hydra.run.dir=/proc/x", "/proc/x cannot be used: No such file or directory"),
    case(TRAIN, "hydra.job.chdir=x", "hydra.job.chdir=x cannot be used: Value 'x' is not a valid bool"),
    case(TRAIN, "hydra.job.env_copy=[NOPE]", "Hydra: 'NOPE'"),
    case(TRAIN, "hydra.verbose={a:1}", "Hydra: AssertionError"),
    case(TRAIN, "hydra.job_logging.root.level=NOPE", "Hydra: Unable to configure root logger"),
    case(TRAIN, "hydra/job_logging=nope", "hydra/job_logging=nope cannot be used; allowed: ", "stdout"),
    case(TRAIN, "--multirun hydra/launcher=nope seed=0", "hydra/launcher=nope cannot be used; allowed: basic, "),
    case(TRAIN, "--config-name nope", "--config-name=nope was not found in "),
    case(TRAIN, "--config-path /nope", "--config-path=/nope is not a folder"),
]
# Each size is tested in tests/configuration/test_configuration.py.
BEYOND_MEMORY = [
    case(TRAIN, f"data.tasks_per_step={HUGE}", f"data.tasks_per_step={HUGE}", "at most 100000"),
    case(TRAIN, f"backbone.channels={HUGE}", f"backbone.channels={HUGE}", "at most 2048"),
    case(TRAIN, f"curve={HUGE}", f"curve={HUGE}", "at most 10000000"),
    case(TRAIN, "data.train.unequal_support=1e308", "data.train.unequal_support=1e+308", "at most 1000000 or null"),
    case(
        TRAIN,
        "data.tasks_per_step=100000 data.presentation.augmentation.crop_padding=256",
        *("data.tasks_per_step=100000 cannot be used", "of 291,600 numbers need", "GB of memory"),
    ),
    case(EVALUATE, f"ckpt=RUN episodes={HUGE}", f"episodes={HUGE}", "at most 10000000"),
    case(EVALUATE, f"ckpt=RUN curve={HUGE}", f"curve={HUGE}", "at most 10000000"),
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with pipes, sockets, devices, and folders without permission."""
    folder = tmp_path_factory.mktemp("odd")
    for name in ("s", "q", "locked_class", "class_of_a_pipe", "images"):
        for label in range(8 if name == "images" else 2):
            (folder / name / f"c{label}").mkdir(parents=True)
            for number in range(3):
                Image.new("L", (28, 28), 40 * label + number).save(folder / name / f"c{label}/{number}.png")
    for number in range(3):
        (folder / f"class_of_a_pipe/c0/{number}.png").unlink()
    for inside in ("archives/omniglot", "lists", "run_of_pipes/checkpoints", "locked_run/checkpoints", "read_only"):
        (folder / inside).mkdir(parents=True)
    pipes = ("pipe", "pipe.csv", "lists/train.txt", "class_of_a_pipe/c0/0.png", "run_of_pipes/config.yaml")
    pipes += tuple(f"run_of_pipes/checkpoints/{name}.ckpt" for name in ("best", "last"))
    pipes += tuple(f"archives/omniglot/images_{part}.zip" for part in ("background", "evaluation"))
    for pipe in pipes:
        os.mkfifo(folder / pipe)
    for endless in ("endless", "endless.csv"):
        (folder / endless).symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(folder / "socket"))  # the whole path may be too long for one
    for split in ("val", "test"):
        (folder / "lists" / f"{split}.txt").write_text("a/b\n")
    (folder / "list_with_pipe.csv").write_text("file,class\npipe,a\n")
    with (folder / "sparse.png").open("wb") as file:
        file.truncate(2 * 10**9)
    locked = [folder / "locked", folder / "locked_class/c0", folder / "locked_run/checkpoints"]
    locked[0].mkdir()
    for path in locked:
        path.chmod(0)
    (folder / "read_only").chmod(0o555)
    yield folder
    for path in (*locked, folder / "read_only"):
        path.chmod(0o755)  # so that it can be deleted


def names(folder: Path) -> set[str]:
    """Of all there is, without opening anything."""
    return {os.path.join(above, name) for above, folders, files in os.walk(folder) for name in (*folders, *files)}


@pytest.mark.parametrize("given", [*NO_KEYS, *NO_CHOICES, *NO_PATHS, *NO_FILES, *OF_HYDRA, *BEYOND_MEMORY], ids=str)
def test_argument_that_cannot_be_used_is_refused_and_leaves_nothing_behind(
    command: Command, first: Trained, odd: Path, given: Case
) -> None:
    arguments = [argument.replace("RUN", str(first.run)) for argument in given.arguments.split()]
    if not any(argument.startswith("data.banks=") for argument in arguments) and given.script in (TRAIN, DATA):
        arguments.append("data.banks=new/banks" if "data=" in given.arguments else f"data.banks={command.banks}")
    before, of_run = names(odd), names(first.run)
    outcome = command.at(odd).start(given.script, *arguments, **given.environment).wait(20)
    refused(outcome, list(given.words))
    assert outcome.err.count("\n") == 1, outcome
    assert names(odd) == before
    assert names(first.run) == of_run


def test_no_home_folder_is_known_without_a_home_variable(command: Command, first: Trained) -> None:
    outcome = command.run(TRAIN, "folder=~nosuchuser/x", HOME="")
    refused(outcome, ["~nosuchuser has no home folder"])


def test_folder_with_brackets_is_printed_as_it_is(command: Command, first: Trained) -> None:
    outcome = command.train(
        "folder=a[/b]/[bold]x[", "trainer.max_steps=4", "trainer.validate_every=4", "data.test.episodes=4"
    )
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert outcome.table["report"] == "a[/b]/[bold]x[/report.json"
    evaluated = command.run(EVALUATE, "ckpt=a[/b]/[bold]x[", "episodes=4", "out=[red]/o")
    assert (evaluated.code, evaluated.err) == (0, ""), evaluated
    assert evaluated.table["report"] == "[red]/o/report.json"


def test_pipes_among_images_are_left_out_and_counted(command: Command, first: Trained, odd: Path) -> None:
    images = command.folder / "images"
    os.symlink(odd / "images", images)
    support = command.folder / "support"
    for label in range(2):
        (support / f"c{label}").mkdir(parents=True)
        Image.new("L", (28, 28), 90 * label).save(support / f"c{label}/0.png")
    os.mkfifo(support / "c0" / "pipe.png")
    (support / "c1" / "full.png").symlink_to("/dev/full")
    arguments = [f"ckpt={first.run}", "support=support", "query=support"]
    outcome = command.start(PREDICT, *arguments).wait(20)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert "support/c0/pipe.png: cannot be read: it is a pipe and not a file" in outcome.out
    assert "support/c1/full.png: cannot be read: it is a device and not a file" in outcome.out
    assert "2 of 4 queries" in outcome.out


def test_looking_at_one_split_needs_nothing_of_the_others(command: Command, first: Trained) -> None:
    before = names(command.folder)
    refused_ways = command.run(DATA, f"data.banks={command.banks}", "split=val", "data.val.ways=5000", "out=val.png")
    assert refused_ways.code == 2, refused_ways
    assert "ways=5000 and the" in refused_ways.err
    assert names(command.folder) == before
    outcome = command.run(DATA, f"data.banks={command.banks}", "split=train", "data.val.ways=5000", "out=train.png")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert (command.folder / "train.png").is_file()
