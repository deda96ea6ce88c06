"""All heads are measured by the commands of a user; what is missing or failed stands in the table."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.heads import command, rows
from benchmarks.heads.rows import HEADS, TRAINING, measurements
from benchmarks.heads.table import failures, tables
from benchmarks.measuring import Measurement, measure, noted, report_of
from metashot.bad_input import BadInput

from .scripts import replaced

PROTONET, TIM = (next(head for head in HEADS if head.name == name) for name in ("protonet", "tim"))
# Writes the reports that the real scripts write, or does as its arguments ask.
SCRIPT = """
import json, os, pathlib, sys, time
given = dict(argument.split("=", 1) for argument in sys.argv[1:])
if given.get("algo") == "tim":
    sys.exit("error: no tim here")
folder = pathlib.Path(given.get("folder") or given.get("out") or given["resume"])
(folder / "checkpoints").mkdir(parents=True, exist_ok=True)
if "data.sleep" in given:
    (folder / "process").write_text(str(os.getpid()))
    (folder / "checkpoints" / "last.ckpt").touch()
    time.sleep(60)
(folder / "arguments").write_text(" ".join(sys.argv))
report = dict(
    accuracy=0.5, ci95=0.0125, transductive=False, external_data=None, data="cifarfs", episodes=1000, ways=5, queries=15,
    episode_seed=0, seen_classes={"seen": 0, "of": 20}, seconds_of_a_task={"in_the_test": 0.002},
)
if given.get("backbone") == "pretrained":
    report["external_data"] = "ImageNet-1k"
(folder / "report.json").write_text(json.dumps(report))
"""


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for reports, and scripts that train nothing."""
    replaced(SCRIPT, tmp_path, monkeypatch)
    return tmp_path / "heads"


def planned(folder: Path, backbone: str = "conv4", own: tuple[str, ...] = ("data.root=/private",)) -> list[Measurement]:
    return measurements(backbone, [PROTONET, TIM], [5], 1000, folder, own)


def test_every_head_is_measured_with_each_shot_and_with_unequal_queries() -> None:
    for backbone, training in TRAINING.items():
        found = measurements(backbone, HEADS, rows.SHOTS, 1000, Path("runs"), ())
        assert len(found) == 4 * len(HEADS) + (training is not None)
        assert len({measurement.folder for measurement in found}) == len(found)
        unequal = [one for one in found if "data.test.unequal_queries=2" in one.command]
        assert len(unequal) == 2 * len(HEADS)
        done: set[Path] = set()
        for measurement in found:
            assert set(measurement.needs) <= done
            done.add(measurement.folder)


def test_what_has_a_report_is_not_measured_again(scripts: Path) -> None:
    said: list[str] = []
    assert measure(planned(scripts), 60, said.append) == []
    assert [("FAILED" in line, "left out" in line) for line in said] == [(False, False)] * 3 + [(True, False), (False, True)]
    before = {path: path.stat().st_mtime_ns for path in scripts.rglob("report.json")}
    assert len(before) == 3
    said.clear()
    assert measure(planned(scripts), 60, said.append) == []
    assert len(said) == 2  # the failed command again, and what needs it
    assert {path: path.stat().st_mtime_ns for path in scripts.rglob("report.json")} == before


def test_reports_of_other_commands_are_refused(scripts: Path) -> None:
    measure(planned(scripts), 60, print)
    with pytest.raises(BadInput, match="was measured by another command"):
        measure(planned(scripts, own=("data.root=/other",)), 60, print)


def test_a_command_that_takes_too_long_is_stopped_and_resumed(scripts: Path) -> None:
    slow = planned(scripts, "pretrained", ("data.sleep=yes",))[:1]
    assert measure(slow, 0.0, print) == slow
    assert not slow[0].folder.exists()
    assert measure(slow, 2.0, print) == slow
    assert noted(slow[0]) is None
    assert measure(slow, 60.0, print) == []
    assert f"resume={slow[0].folder}" in (slow[0].folder / "arguments").read_text()


def test_an_interrupted_call_stops_its_command_which_the_next_call_resumes(scripts: Path) -> None:
    slow = planned(scripts, "pretrained", ("data.sleep=yes",))[:1]

    def interrupt() -> None:
        while not (slow[0].folder / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    # Tests that a shell runs in the background ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            measure(slow, 30, print)
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int((slow[0].folder / "process").read_text()), 0)
    assert noted(slow[0]) is None
    assert measure(slow, 60.0, print) == []
    assert f"resume={slow[0].folder}" in (slow[0].folder / "arguments").read_text()


def test_missing_and_failed_rows_stand_in_the_tables(scripts: Path) -> None:
    measure(planned(scripts), 60, print)
    measure(planned(scripts, "pretrained")[:1], 60, print)
    text = tables(scripts)
    lite, conv4, resnet = text.split("## ")[1:]
    accuracy = "50.00 % ± 1.25"
    missing = "not measured"
    assert f"| `protonet` | {missing} | {missing} | {accuracy} | {accuracy} | false | none | – / 2.0 s |" in conv4
    assert f"| `tim` | {missing} | {missing} | **failed** | {missing} | – | – | – / – |" in conv4
    assert f"| {accuracy} | {missing} | false | ImageNet-1k, which shares classes |" in lite
    assert resnet.count(missing) == 4 * len(HEADS)
    assert [line for line in conv4.splitlines() if line.startswith("python")] == [
        "python train.py algo=logistic data.shots=5 backbone=conv4 trainer.max_steps=4000 trainer.validate_every=1000 "
        "data=cifarfs data.root=FOLDER data.test.episodes=1000 logger=none pictures=none",
        "python train.py algo=protonet CONV",
        "python train.py algo=tim CONV",
        "python evaluate.py ckpt=RUN data.test.unequal_queries=2 episodes=1000 pictures=none",
    ]
    assert str(scripts) not in text
    assert "/private" not in text
    assert failures(scripts) == [f"{scripts / 'conv4' / '5-shot' / 'tim'}: error: no tim here"]


@pytest.mark.parametrize(
    "given", [[], ["backbone=other"], ["backbone=conv4", "backbone=conv4"], ["--heads", "x", "backbone=conv4"]]
)
def test_what_cannot_be_measured_is_refused(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(given)
    assert ended.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.long
def test_real_commands_measure_a_head_on_a_backbone_that_they_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in range(5):
            (tmp_path / "images" / split / f"{split} {label}").mkdir(parents=True)
            for number in range(8):
                pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / f"{split} {label}" / f"{number}.png")
    tiny = (
        "algo=logistic",
        "data.shots=5",
        "backbone=conv4",
        "trainer.max_steps=2",
        "data.train.batch=8",
    )
    monkeypatch.setitem(TRAINING, "conv4", tiny)
    data = ["data=folder", f"data.root={tmp_path / 'images'}", f"data.banks={tmp_path / 'banks'}"]
    small = [
        "backbone.channels=4",
        "data.source.image_size=16",
        "data.queries=2",
        "data.train.ways=null",
        "data.train.queries=null",
        "data.val.episodes=2",
        "trainer.validate_every=2",
    ]
    monkeypatch.chdir(tmp_path)
    options = ["--folder", "heads", "--heads", "protonet", "--shots", "5", "--episodes", "40"]
    with pytest.raises(SystemExit) as ended:
        command.run([*options, "backbone=conv4", *data, *small])
    assert ended.value.code == 0, [path.read_text() for path in Path("heads").rglob("*.log")]
    start, run, unequal = (report_of(one) for one in measurements("conv4", [PROTONET], [5], 40, Path("heads"), ()))
    assert start
    assert run
    assert unequal
    assert start["step"] == 2
    assert (run["episodes"], run["shots"], run["unequal_queries"]) == (40, 5, None)
    assert (unequal["episodes"], unequal["shots"], unequal["unequal_queries"]) == (40, 5, 2.0)
    page = Path("page.md")
    page.write_text(f"{command.BEGIN}\n{command.END}\n")
    command.run(["table", "--folder", "heads", "--markdown", str(page)])
    assert f"± {100 * run['ci95']:.2f}" in page.read_text()
    assert f"± {100 * unequal['ci95']:.2f}" in page.read_text()
    assert json.loads(Path("heads/conv4/backbone.json").read_text())["code"] == 0
