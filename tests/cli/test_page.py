"""`python -m metashot.page` as users call it: what it says, how it ends, and what it refuses."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

import metashot
from tests.applied.learners import drawings, tiny
from tests.page.served import Page, accepted, png

from .conftest import Command, Trained
from .processes import ROOT, Outcome, Process, Scripts, free_port

pytestmark = pytest.mark.skipif(importlib.util.find_spec("uvicorn") is None, reason="the extra page is not installed")

PAGE = "src/metashot/page/__main__.py"


def started(process: Process) -> Page:
    """The page that a process serves, once it says where."""
    assert process.wait_until(lambda: "page: http://127.0.0.1:" in process.out), (process.out, process.err)
    address = process.out.partition("page: ")[2].split()[0]
    return Page(int(address.rstrip("/").rpartition(":")[2]))


def refused(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.err.count("error: ") == 1, outcome
    assert len(outcome.err.splitlines()) == 1
    assert "page: " not in outcome.out
    for part in parts:
        assert part in outcome.err, outcome


@pytest.fixture(scope="module")
def tiny_learners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def test_without_an_argument_the_learner_for_drawings_is_served_until_ctrl_c(command: Command, tmp_path: Path) -> None:
    process = command.start(PAGE, "browser=false", "port=0")
    page = started(process)
    assert "Ctrl-C stops it" in process.out
    facts = page.facts()
    assert (facts["trained_on"], facts["checkpoint"], facts["of_drawings"]) == ("drawings", "drawings", True)
    images = drawings(5, seed=3)
    items = page.items(images)
    fit = page.fit([{"name": "b", "items": items[:2]}, {"name": "a", "items": items[2:4]}])
    (answer,) = page.answer(fit, items[4:], unknown=0.05)
    expected = metashot.load("drawings").fit(list(images[:4]), ["b", "b", "a", "a"]).predict_proba([images[4]])
    np.testing.assert_allclose(answer["probabilities"], expected[0, ::-1], atol=1e-5)
    begun = time.monotonic()
    process.send(signal.SIGINT)
    outcome = process.wait()
    assert time.monotonic() - begun < 3
    assert (outcome.code, outcome.err) == (130, "stopped\n")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_a_run_is_served_with_settings_of_its_own(command: Command, maml: Trained) -> None:
    process = command.start(PAGE, f"ckpt={maml.run}", "browser=false", "port=0", "algo.test_inner_steps=3")
    facts = started(process).facts()
    assert (facts["algorithm"], facts["steps"], facts["checkpoint"]) == ("maml", [0, 1, 2, 3], str(maml.run))
    process.send(signal.SIGTERM)
    outcome = process.wait()
    assert (outcome.code, outcome.err) == (130, "stopped\n")


def test_a_fitted_learner_is_served_with_its_classes(command: Command, tmp_path: Path) -> None:
    metashot.load("drawings").fit(list(drawings(4)), [1, 2, 1, 2]).save(tmp_path / "pets.fewshot")
    process = command.start(PAGE, "ckpt=pets.fewshot", "browser=false", "port=0")
    classes = started(process).facts()["classes"]
    assert [(one["name"], one["label"], len(one["items"])) for one in classes] == [("1", "1", 2), ("2", "2", 2)]
    process.send(signal.SIGHUP)
    assert process.wait().code == 130


def test_a_signal_ends_a_page_whose_learner_fits(command: Command, tiny_learners: Path) -> None:
    slow = tiny(tiny_learners, "maml", "support", "algo.test_inner_steps=10000")
    process = command.start(PAGE, f"ckpt={slow}", "browser=false", "port=0")
    page = started(process)
    items = page.items(drawings(4))
    answers: list[object] = []

    def fit() -> None:
        try:
            answers.append(page.post("fit", {"learner": "own", "tab": "a", "classes": [
                {"name": "a", "items": items[:2]}, {"name": "b", "items": items[2:]}]}).status_code)  # fmt: skip
        except httpx.HTTPError as error:
            answers.append(error)

    thread = threading.Thread(target=fit)
    thread.start()
    time.sleep(0.5)
    assert not answers
    begun = time.monotonic()
    process.send(signal.SIGTERM)
    outcome = process.wait()
    assert time.monotonic() - begun < 4
    assert (outcome.code, outcome.err) == (130, "stopped\n")
    thread.join(5)
    assert answers != [200]


def test_a_page_that_is_stopped_and_started_again_has_the_same_port(command: Command) -> None:
    port = free_port()
    for _ in range(2):
        process = command.start(PAGE, f"port={port}", "browser=false")
        page = started(process)
        assert page.port == port
        page.facts()  # a connection that is left in the state in which its port waits
        process.send(signal.SIGINT)
        assert process.wait().code == 130


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
    started = Scripts(tmp_path_factory.mktemp("without torch"), "tests.cli.launcher_without_torch")
    yield started
    started.close()


@pytest.fixture
def early(without_torch: Scripts, command: Command) -> Command:
    """A command that cannot import torch, which takes long: a message that comes all the same did not need it."""
    return Command(without_torch, command.banks, command.folder)


def test_a_port_that_is_taken_is_refused_at_once(early: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(early.run(PAGE, f"port={port}", "browser=false"), f"port={port} is taken", "give another port")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["port=-1"], ["port=-1", "at least 0"]),
        (["port=65536"], ["port=65536", "at most 65535"]),
        (["port=a"], ["port=a"]),
        (["port=true"], ["port=true"]),
        (["port=null"], ["port=null"]),
        (["browser=perhaps"], ["browser=perhaps", "true or false"]),
        (["export=onnx"], ["export=onnx", "page, or null"]),
        (["export=page"], ["missing key out", "out=FOLDER"]),
        (["out=folder"], ["out=folder", "export=page"]),
        (["ckpt=nowhere"], ["ckpt=nowhere", "no such file or folder"]),
        (["ckpt=[drawings,photos]"], ["ckpt=[drawings,photos]", "one checkpoint"]),
        (["ckpt=null"], ["ckpt=null"]),
        (["ink=red"], ["ink=red", "auto, dark"]),
        (["prot=8000"], ["prot", "port"]),
    ],
)
def test_what_gives_no_page_is_refused_before_torch_is_imported(
    early: Command, arguments: list[str], parts: list[str]
) -> None:
    refused(early.run(PAGE, *arguments), *parts)
    assert list(early.folder.iterdir()) == []


def test_learners_of_other_things_are_refused(command: Command, tiny_learners: Path, tmp_path: Path) -> None:
    numbers = tiny(
        tiny_learners, "maml", "support", "data=sinusoid", "backbone=mlp", problem="Regression", outputs=1, input_shape=[1],
        name="sinusoid", mean=None, std=None,
    )  # fmt: skip
    refused(command.run(PAGE, f"ckpt={numbers}", "port=0", "browser=false"), "is a learner of numbers", "classes of images")
    refused(command.run(PAGE, "ckpt=text", "port=0", "browser=false"), "is a learner of texts", "metashot.predict")
    (tmp_path / "text.ckpt").write_text("epoch 3\n")
    refused(command.run(PAGE, "ckpt=text.ckpt", "port=0"), "text.ckpt cannot be used")
    refused(command.run(PAGE, "device=cuda:99", "port=0"), "device=cuda:99 cannot be used")


@pytest.mark.parametrize("given", [("port=0", "--cfg", "job"), ("--cfg", "job", "port=0"), ("--cfg", "job")], ids=" ".join)
def test_options_may_stand_before_and_behind_the_keys(early: Command, given: tuple[str, ...]) -> None:
    outcome = early.run(PAGE, *given)
    assert outcome.code == 0, outcome
    assert "ckpt: drawings" in outcome.out


def test_a_missing_extra_is_named(command: Command, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The names that the extra installs are not found, as in an environment without it."""
    folder = tmp_path_factory.mktemp("blocked")
    (folder / "sitecustomize.py").write_text(
        "import importlib.util, os\n"
        "found = importlib.util.find_spec\n"
        "gone = os.environ['GONE'].split()\n"
        "importlib.util.find_spec = lambda name, *more: None if name in gone else found(name, *more)\n"
    )
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    for gone, arguments, parts in [
        ("uvicorn", [], ["the page needs uvicorn", "pip install 'metashot[page]'"]),
        ("uvicorn starlette", [], ["starlette and uvicorn"]),
        ("onnx", ["export=page", "out=it"], ["export=page needs onnx", "pip install 'metashot[onnx]'"]),
    ]:
        outcome = command.run(PAGE, *arguments, "browser=false", fresh=True, PYTHONPATH=path, GONE=gone)
        refused(outcome, *parts)
    assert list(command.folder.iterdir()) == []


def test_the_command_of_an_installed_metashot_serves_the_page_too(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")}
    call = [sys.executable, "-m", "metashot", "page", "port=0", "browser=false"]
    with subprocess.Popen(
        call, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as it:
        assert it.stdout is not None
        line = it.stdout.readline()
        assert line.startswith("page: http://127.0.0.1:"), line
        try:
            page = Page(int(line.split("/")[2].rpartition(":")[2]))
            accepted(page.send_file(png(drawings(1)[0])))
            it.terminate()  # a shell that runs tests in the background has them ignore Ctrl-C
            _, errors = it.communicate(timeout=60)
        finally:
            it.kill()
    assert (it.returncode, errors) == (130, "stopped\n")
