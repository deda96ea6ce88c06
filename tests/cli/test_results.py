"""`python -m metashot.results`: its queue can be stopped anywhere, continues exactly, and writes what its reports give."""

import fcntl
import json
import math
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from metashot.bad_input import BadInput
from metashot.results.budget import Budget
from metashot.results.commands import Conditions, Ended, Used
from metashot.results.machine import machine
from metashot.results.plan_files import read_plan
from metashot.results.queue import Queue
from metashot.results.storage import Cost, Record, Result, read_cost, read_record, read_result, write_cost
from metashot.results.tables import Cell, Plan, Table

from .conftest import Command, Trained
from .processes import ROOT, Outcome, Process, Scripts, contents, step_of

RESULTS = "src/metashot/results/__main__.py"
MAIN = "src/metashot/__main__.py"
OMNIGLOT = Table("omniglot", "Tiny", "Tiny", "Tiny recipes.", ("5w1s", "20w1s"), None)
TINY = (
    *("data=glyphs", "backbone.channels=8", "backbone.downsampling=stride", "data.train.ways=5", "data.train.queries=3"),
    *("data.tasks_per_step=2", "data.val.episodes=4", "data.test.episodes=40", "trainer.validate_every=10"),
    *("trainer.max_steps=20", "trainer.checkpoint_every=5", "trainer.log_every=5", "curve=0", "pictures=none"),
)
NO_END = Budget(math.inf, 1e9)


def tiny(banks: Path, *more: str) -> list[Cell]:
    """Two cells that share a training."""
    return [Cell(OMNIGLOT, "protonet", column, 0, (*TINY, f"data.banks={banks}", *more)) for column in ("20w1s", "5w1s")]


def plan_of(cells: Sequence[Cell]) -> Plan:
    return Plan({OMNIGLOT.name: OMNIGLOT}, cells, [cells[0].recipe], {})


ONE_THREAD = Conditions(None, "cpu", 1)


class Forked:
    """Runs the queue's commands in processes forked from one that has imported torch, and may stop one in the middle.

    Args:
        scripts: Where processes are started.
        folder: Their working directory.
    """

    def __init__(self, scripts: Scripts, folder: Path) -> None:
        self.scripts, self.folder = scripts, folder
        self.called: list[tuple[str, ...]] = []
        self.stop_at: int | None = None  # the step at which the time of the next training is over

    def replace(self, patch: pytest.MonkeyPatch) -> None:
        """Run trainings, tests and pilots."""
        for module in ("queue", "costs"):
            patch.setattr(f"metashot.results.{module}.run_command", self)

    def __call__(
        self, command: str, arguments: Sequence[str], threads: int, log: Path, seconds: float, lock: int, note: object = None
    ) -> Ended:
        self.called.append((command, *arguments))
        process = self.scripts.start(MAIN, [command, *arguments], self.folder)
        at, self.stop_at = self.stop_at, None
        if at is not None:
            run = Path(next(given for given in arguments if given.startswith("folder=")).removeprefix("folder="))
            assert process.wait_until(lambda: step_of(run) >= at), process.wait()
            process.send(signal.SIGTERM)
        outcome = process.wait()
        if callable(note):
            note(Used(1.0, 1.0, 2**20))
        said = outcome.err.strip().splitlines()
        return Ended(None if at is not None else outcome.code, said[-1] if said else "")


@pytest.fixture
def forked(scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Forked:
    runner = Forked(scripts, tmp_path)
    runner.replace(monkeypatch)
    return runner


@pytest.fixture(autouse=True, scope="module")
def fast_yaml() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "SafeLoader", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        yield


def queue_of(cells: Sequence[Cell], folder: Path, said: list[str] | None = None) -> Queue:
    """A queue that knows already that its trainings take a second."""
    for cell in cells:
        write_cost(folder / "results", cell.name, Cost(1.0, "this one"))
    lines = said if said is not None else []
    return Queue(plan_of(cells), folder / "results", folder / "runs", ONE_THREAD, lines.append)


def results(folder: Path, cells: Sequence[Cell]) -> list[Result]:
    found = [read_result(folder / "results", cell.name) for cell in cells]
    return [one for one in found if one is not None]


def record(folder: Path, cell: Cell) -> Record:
    found = read_record(folder / "results", cell.name)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def calm(scripts: Scripts, first: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a queue that nobody disturbed. Nobody changes it."""
    folder = tmp_path_factory.mktemp("calm")
    cells = tiny(first.folder / "banks")
    with pytest.MonkeyPatch.context() as patch:
        runner = Forked(scripts, folder)
        runner.replace(patch)
        said: list[str] = []
        assert queue_of(cells, folder, said).measure(cells, NO_END) == [], said
    assert [call[0] for call in runner.called] == ["train", "evaluate"]
    return folder


@pytest.fixture
def cells(first: Trained) -> list[Cell]:
    return tiny(first.folder / "banks")


def test_two_cells_share_a_training_and_its_checkpoint(calm: Path, cells: list[Cell]) -> None:
    one, other = results(calm, cells)
    assert one.training == other.training == cells[0].name
    assert one.checkpoint == other.checkpoint == record(calm, cells[0]).checkpoint
    assert (one.report["ways"], other.report["ways"]) == (20, 5)
    assert len(one.scores) == len(other.scores) == 40
    assert [point[0] for point in record(calm, cells[0]).validation] == [10, 20]


def test_a_queue_whose_time_was_over_continues_exactly(
    calm: Path, cells: list[Cell], forked: Forked, tmp_path: Path
) -> None:
    forked.stop_at = 10
    said: list[str] = []
    queue = queue_of(cells, tmp_path, said)
    assert queue.measure(cells, NO_END) == []
    assert "the time is over" in said[-1]
    assert results(tmp_path, cells) == []
    assert queue.measure(cells, NO_END) == []
    assert forked.called[1] == ("train", f"resume={tmp_path / 'runs' / cells[0].name}")
    again, before = results(tmp_path, cells), results(calm, cells)
    assert [one.scores for one in again] == [one.scores for one in before]
    assert record(tmp_path, cells[0]).validation == record(calm, cells[0]).validation
    assert record(tmp_path, cells[0]).seconds == 2.0  # of both parts
    called = len(forked.called)
    assert queue.measure(cells, NO_END) == []
    assert len(forked.called) == called  # nothing is done twice


def test_a_run_that_was_deleted_is_trained_again_for_what_is_missing(
    calm: Path, cells: list[Cell], forked: Forked, tmp_path: Path
) -> None:
    shutil.copytree(calm / "results", tmp_path / "results")
    (tmp_path / "results" / f"{cells[1].name}.json").unlink()
    assert queue_of(cells, tmp_path).measure(cells, NO_END) == []
    new = results(tmp_path, cells)
    assert [one.scores for one in new] == [one.scores for one in results(calm, cells)]
    assert {one.checkpoint for one in new} == {record(tmp_path, cells[0]).checkpoint}


def test_a_training_that_fails_is_told_and_tried_again_and_others_go_on(
    cells: list[Cell], forked: Forked, tmp_path: Path
) -> None:
    bad = Cell(OMNIGLOT, "relation", "20w1s", 0, (*cells[0].arguments, "trainer.max_steps=-5"))
    later = [replace(bad, row=row, starts_from=bad.recipe) for row in ("siamese", "matching")]
    every = [bad, *later, *cells]
    said: list[str] = []
    queue = queue_of(every, tmp_path, said)
    for _ in range(2):
        forked.called.clear()
        (failed,) = queue.measure(every, NO_END)
        assert "omniglot/relation_20w1s" in failed
        assert "trainer.max_steps=-5" in failed
        assert len([call for call in forked.called if "experiment=omniglot/relation_20w1s" in call]) == 1
    assert [line for line in said if "it starts from omniglot/relation_20w1s, which is not trained" in line]
    assert [one.name for one in results(tmp_path, every)] == [cell.name for cell in cells]


def test_a_training_that_would_take_too_long_is_left_out(cells: list[Cell], forked: Forked, tmp_path: Path) -> None:
    said: list[str] = []
    assert queue_of(cells, tmp_path, said).measure(cells, Budget(math.inf, 0.5)) == []
    assert said == ["left out: omniglot/protonet_20w1s would take about 0 minutes, and training_minutes=0.00833333"]
    assert forked.called == []


def test_a_training_at_which_another_call_is_is_left_to_it(cells: list[Cell], forked: Forked, tmp_path: Path) -> None:
    said: list[str] = []
    queue = queue_of(cells, tmp_path, said)
    lock = tmp_path / "runs" / "omniglot" / ".protonet_20w1s.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert queue.measure(cells, NO_END) == []
    assert set(said) == {"left out: another call is at omniglot/protonet_20w1s"}
    assert forked.called == []


def test_what_a_user_keeps_in_the_place_of_a_run_is_not_deleted(cells: list[Cell], forked: Forked, tmp_path: Path) -> None:
    queue = queue_of(cells, tmp_path)
    theirs = tmp_path / "runs" / cells[0].name
    theirs.mkdir(parents=True)
    (theirs / "thesis.md").write_text("all of it")
    before = contents(theirs)
    (failed,) = queue.measure(cells, NO_END)
    assert "thesis.md" in failed
    assert contents(theirs) == before
    assert forked.called == []


def test_what_a_run_left_that_was_killed_before_its_first_checkpoint_is_replaced(
    calm: Path, cells: list[Cell], forked: Forked, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / cells[0].name
    (run / "checkpoints").mkdir(parents=True)
    for name in (".lock", "config.yaml", "metrics.csv"):
        shutil.copy(calm / "runs" / cells[0].name / name, run / name)
    (run / "checkpoints" / ".last.ckpt.17-0123abcd.writing").write_text("half")
    assert queue_of(cells, tmp_path).measure(cells[:1], NO_END) == []
    assert results(tmp_path, cells)[0].scores == results(calm, cells)[0].scores


@pytest.mark.parametrize("change", ["data.test.episodes=50", "data.test.queries=3"])
def test_a_report_of_another_test_than_the_recipe_has_now_is_refused(
    calm: Path, first: Trained, forked: Forked, tmp_path: Path, change: str
) -> None:
    shutil.copytree(calm / "results", tmp_path / "results")
    cells, key = tiny(first.folder / "banks", change), change.removeprefix("data.test.").partition("=")[0]
    with pytest.raises(
        BadInput, match=rf"protonet_20w1s\.json was tested with {key}=\d+, and the recipe .* has {key}=\d+ now"
    ):
        queue_of(cells, tmp_path).measure(cells, NO_END)
    assert forked.called == []


def test_a_damaged_run_is_said_to_be_damaged(calm: Path, cells: list[Cell], forked: Forked, tmp_path: Path) -> None:
    shutil.copytree(calm / "runs", tmp_path / "runs")
    queue = queue_of(cells, tmp_path)
    run = tmp_path / "runs" / cells[0].name
    for damaged in (run.with_name(f"{run.name}.json"), run / "report.json", run / "checkpoints" / "best.ckpt"):
        content = damaged.read_bytes()
        damaged.unlink() if damaged.suffix == ".ckpt" else damaged.write_text("[half")
        failed = queue.measure(cells, NO_END)
        assert len(failed) == 1, damaged
        assert "cannot be read" in failed[0], damaged
        damaged.write_bytes(content)
    # Values that no report has, long fields, and pipes, which would be waited for.
    metrics, report, note = run / "metrics.csv", run / "report.json", run.with_name(f"{run.name}.json")
    for changed, new in (
        (metrics, b"step,val/accuracy\n" + b"1" * 200_000 + b",1\n"),
        (metrics, b"step,val/accuracy\n1,nan\n"),
        (report, report.read_bytes().replace(b'"transductive"', b'"other"')),
        (note, re.sub(rb'"peak_memory": \d+', b'"peak_memory": Infinity', note.read_bytes())),
        *((pipe, None) for pipe in (metrics, run / "episodes.csv", run / "checkpoints" / "best.ckpt")),
    ):
        content = changed.read_bytes()
        assert new != content
        changed.unlink()
        if new is None:
            os.mkfifo(changed)
        else:
            changed.write_bytes(new)
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        (failed_one,) = queue.measure(cells[:1], NO_END)
        assert "cannot be read" in failed_one, changed
        assert not (tmp_path / "results" / f"{cells[0].name}.json").exists(), changed
        changed.unlink()
        changed.write_bytes(content)
    assert queue.measure(cells[:1], NO_END) == []


def test_costs_are_those_of_a_few_steps_and_nothing_else_is_left(cells: list[Cell], forked: Forked, tmp_path: Path) -> None:
    nothing = replace(cells[0], row="siamese", arguments=(*cells[0].arguments, "trainer.max_steps=0"))
    bad = replace(cells[0], row="relation", arguments=(*cells[0].arguments, "algo.optimizer.lr=-1"))
    said: list[str] = []
    every = [bad, nothing, cells[0]]
    queue = Queue(plan_of(every), tmp_path / "results", tmp_path / "runs", ONE_THREAD, said.append)
    (failed,) = queue.measure_costs(every, NO_END)
    assert "algo.optimizer.lr=-1" in failed
    known = {cell.row: read_cost(tmp_path / "results", cell.name) for cell in every}
    assert known["relation"] is None
    assert known["siamese"] is not None
    assert known["siamese"].seconds == 0
    assert known["protonet"] is not None
    assert known["protonet"].seconds > 0
    # As many tasks as then: nothing is tried again. With another length, the kept cost is that of an earlier recipe.
    told = len(said)
    assert queue.measure_costs([cells[0]], NO_END) == []
    assert len(said) == told
    longer = replace(cells[0], arguments=(*cells[0].arguments, "trainer.max_steps=50"))
    queue = Queue(plan_of([longer]), tmp_path / "results", tmp_path / "runs", ONE_THREAD, said.append)
    assert queue.measure_costs([longer], NO_END) == []
    again = read_cost(tmp_path / "results", longer.name)
    assert again is not None
    assert (known["protonet"].tasks, again.tasks) == (40, 100)
    assert [path for path in (tmp_path / "runs").rglob("*") if path.is_file() and path.suffix != ".lock"] == []


# As the command of a user, with a plan of tiny recipes.
SCRIPT = """
import metashot.results.plan_files as plan_files
from metashot.results.tables import Cell, Plan, Table
TABLE = {table!r}
CELLS = {cells!r}
plan_files.read_plan = lambda: Plan({{TABLE.name: TABLE}}, CELLS, [CELLS[0].recipe], {{}})
plan_files.read_published = dict
from metashot.commands.scripts import results
from metashot.process.invocation import note_script
if __name__ == "__main__":
    note_script()
    results()
"""


def start_queue(command: Command, cells: Sequence[Cell], *arguments: str) -> Process:
    script = command.folder / "results.py"
    script.write_text(SCRIPT.format(table=OMNIGLOT, cells=list(cells)))
    return command.scripts.start(str(script), arguments, command.folder)


def processes_about(folder: Path) -> list[int]:
    """Those whose command line names something in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in place.read_bytes():
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


LONGER = ("trainer.max_steps=100000", "trainer.validate_every=50000", "trainer.checkpoint_every=10")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_stopped_queue_keeps_its_checkpoint_and_leaves_no_process(
    command: Command, first: Trained, number: signal.Signals
) -> None:
    cells = tiny(first.folder / "banks", *LONGER)
    queue_of(cells, command.folder)
    process = start_queue(command, cells, "minutes=60", f"runs={command.folder / 'runs'}")
    run = command.folder / "runs" / cells[0].name
    assert process.wait_until(lambda: step_of(run) >= 10), process.wait()
    os.kill(process.pid, number)
    outcome = process.wait(60)
    assert outcome.code == 130, outcome
    assert "stopped; the same call continues" in outcome.err
    assert "Traceback" not in outcome.err
    assert processes_about(run) == []
    assert step_of(run) >= 10
    assert json.loads(run.with_name(f"{run.name}.json").read_text())["processor_seconds"] > 0
    assert not list(command.folder.rglob("*.writing"))


@pytest.mark.long
def test_a_killed_queue_takes_its_training_with_it_which_is_resumed(command: Command, first: Trained) -> None:
    cells = tiny(first.folder / "banks", *LONGER)
    queue_of(cells, command.folder)
    process = start_queue(command, cells, "minutes=60", f"runs={command.folder / 'runs'}")
    run = command.folder / "runs" / cells[0].name
    assert process.wait_until(lambda: step_of(run) >= 10), process.wait()
    os.kill(process.pid, signal.SIGKILL)
    end = time.monotonic() + 60
    while processes_about(run) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_about(run) == []
    step = step_of(run)
    assert step >= 10
    process = start_queue(command, cells, "minutes=60", f"runs={command.folder / 'runs'}")
    assert process.wait_until(lambda: step_of(run) > step), process.wait()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60).code == 130


@pytest.mark.long
def test_two_calls_at_once_share_the_work(command: Command, first: Trained, calm: Path) -> None:
    banks = first.folder / "banks"
    cells = [*tiny(banks), *(replace(cell, row="matching") for cell in tiny(banks))]
    queue_of(cells, command.folder)
    both = [start_queue(command, cells, "minutes=10", f"runs={command.folder / 'runs'}") for _ in range(2)]
    ended = [process.wait(300) for process in both]
    assert [outcome.code for outcome in ended] == [0, 0], ended
    assert len(results(command.folder, cells)) == 4
    said = "\n".join(outcome.out for outcome in ended)
    for cell in cells:
        assert said.count(f"{cell.name}: accuracy") == 1
    assert said.count("trained omniglot/") == 2
    assert [one.scores for one in results(command.folder, cells[:2])] == [one.scores for one in results(calm, cells[:2])]


def test_a_failed_training_gives_exit_code_1_and_the_page_is_written(command: Command, first: Trained) -> None:
    cells = tiny(first.folder / "banks", "trainer.max_steps=-5")
    queue_of(cells, command.folder)
    outcome = start_queue(command, cells, "minutes=5").wait()
    assert outcome.code == 1, outcome
    assert outcome.err.startswith("error: 1 training failed: omniglot/protonet_20w1s (runs/results/omniglot/")
    assert len(outcome.err.splitlines()) == 1
    assert (command.folder / "RESULTS.md").is_file()


def refused(outcome: Outcome, message: str) -> None:
    assert outcome.code == 2, outcome
    assert message in outcome.err, outcome
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) == 1


def test_the_page_is_written_from_reports_again_and_again(command: Command, calm: Path, cells: list[Cell]) -> None:
    shutil.copytree(calm / "results", command.folder / "results")
    readme = command.folder / "README.md"
    readme.write_text("# Mine\n<!-- results -->\n<!-- end of results -->\nmore\n")
    outcome = start_queue(command, cells, "readme=README.md").wait()
    assert outcome.code == 0, outcome
    lines = ["readme: README.md (lines: 1)", "page: RESULTS.md (2 of 2 cells are measured)"]
    assert outcome.out.splitlines() == lines
    written = contents(command.folder)
    assert "| `python train.py experiment=omniglot/protonet_20w1s` |" in readme.read_text()
    assert start_queue(command, cells, "readme=README.md").wait().code == 0
    assert contents(command.folder) == written


def test_what_is_not_ours_is_neither_read_nor_replaced(command: Command, calm: Path, cells: list[Cell]) -> None:
    (command.folder / "RESULTS.md").write_text("my results\n")
    (command.folder / "README.md").write_text("no lines\n")
    report = command.folder / "results" / f"{cells[0].name}.json"
    report.parent.mkdir(parents=True)
    report.write_text("{}")
    (command.folder / "results.py").touch()
    start_queue(command, cells, "--version").wait()
    before = contents(command.folder)
    refused(start_queue(command, cells).wait(), "RESULTS.md would be replaced, and metashot did not write it")
    refused(start_queue(command, cells, "page=new.md", "readme=README.md").wait(), "readme=README.md does not have one line")
    refused(start_queue(command, cells, "page=new.md").wait(), "cannot be read as a report of results: metashot did not")
    refused(start_queue(command, cells, "page=new.md", "cells=omniglot/*_7w*").wait(), "cells=omniglot/*_7w* fits no cell")
    assert contents(command.folder) == before


@pytest.mark.parametrize("name", ["pixels", pytest.param("protonet", marks=pytest.mark.long)])
def test_a_short_recipe_gives_the_number_that_is_kept(command: Command, first: Trained, name: str) -> None:
    """`pixels` on any machine; a training as exactly where the machine and the versions are the same."""
    (cell,) = (one for one in read_plan().cells if one.recipe == f"glyphs/{name}_5w1s")
    kept, trained = read_result(ROOT / "results", cell.name), read_record(ROOT / "results", cell.name)
    assert kept is not None
    assert trained is not None
    shutil.copytree(ROOT / "results/glyphs/costs", command.folder / "results/glyphs/costs")  # which take as long again
    (command.folder / "data").mkdir()
    (command.folder / "data/banks").symlink_to(first.folder / "banks")
    outcome = command.start(RESULTS, f"cells={cell.name}", "minutes=10").wait(300)
    assert outcome.code == 0, outcome
    again = read_result(command.folder / "results", cell.name)
    assert again is not None
    assert again.episodes == kept.episodes
    if name == "pixels" or trained.machine == machine(1, "cpu"):
        assert again.scores == kept.scores
    else:
        assert kept.ci95 is not None
        assert again.score == pytest.approx(kept.score, abs=3 * kept.ci95)
