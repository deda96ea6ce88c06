"""Features that are stored: whole or not there, computed by one process, and continued where it was stopped or killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metashot.data import kept_features as stored
from metashot.data.kept_features import Features, kept_features

SHAPE, AT_ONCE = (11, 3), 2
IDENTITY = {"of": 1}
WHOLE = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


class Computation:
    """Yields the rows of `WHOLE` in batches, and stops after some of them."""

    def __init__(self, stops_after: int | None = None, by: type[BaseException] = KeyboardInterrupt) -> None:
        self.stops_after = stops_after
        self.by = by
        self.began_at: list[int] = []

    def __call__(self, first: int) -> Iterator[Features]:
        self.began_at.append(first)
        for count, start in enumerate(range(first, len(WHOLE), AT_ONCE)):
            if count == self.stops_after:
                raise self.by
            yield WHOLE[start : start + AT_ONCE]


def kept(banks: Path, compute: Callable[[int], Any], at_once: int = AT_ONCE, of: int = 1) -> Features:
    return kept_features(banks, {"of": of}, SHAPE, at_once, compute)


def folders(banks: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in banks.iterdir() if path.is_dir())


def stopped(banks: Path, batches: int = 3) -> Path:
    """The partial folder of a computation that was stopped."""
    with pytest.raises(KeyboardInterrupt):
        kept(banks, Computation(stops_after=batches))
    (partial,) = banks.glob(".features-*.partial")
    return partial


def continued_at(banks: Path, **other: Any) -> int:
    """Where the next computation begins; its features are those of one that was never stopped."""
    whole = Computation()
    found = kept(banks, whole, **other)
    np.testing.assert_array_equal(found, WHOLE)
    (first,) = whole.began_at
    return first


def test_features_are_computed_once(tmp_path: Path) -> None:
    banks = tmp_path / "banks"
    assert continued_at(banks) == 0
    again = Computation()
    assert np.array_equal(kept(banks, again), WHOLE)
    assert again.began_at == []
    assert continued_at(banks, of=2) == 0
    assert folders(banks) == ["features", "features"]


def test_a_stopped_computation_is_continued_and_gives_the_same_files(tmp_path: Path) -> None:
    stopped(tmp_path / "banks")
    assert folders(tmp_path / "banks") == [".features"]
    assert continued_at(tmp_path / "banks") == 6
    assert continued_at(tmp_path / "whole") == 0
    (one,), (other,) = ((tmp_path / name).glob("features-*") for name in ("banks", "whole"))
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()
    assert folders(tmp_path / "banks") == ["features"]


def test_a_computation_can_be_stopped_many_times(tmp_path: Path) -> None:
    for already in (0, 2, 4, 6):
        compute = Computation(stops_after=1)
        with pytest.raises(KeyboardInterrupt):
            kept(tmp_path, compute)
        assert compute.began_at == [already]
    assert continued_at(tmp_path) == 8


def test_rows_that_were_all_computed_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stored, "take_the_place_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kept(tmp_path, Computation())
    assert folders(tmp_path) == [".features"]
    assert continued_at(tmp_path) == len(WHOLE)


def test_nothing_is_left_where_nothing_was_computed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path / "banks", Computation(stops_after=0))
    assert not (tmp_path / "banks").exists()


def test_rows_are_kept_after_any_error(tmp_path: Path) -> None:
    with pytest.raises(MemoryError):
        kept(tmp_path, Computation(stops_after=1, by=MemoryError))
    assert continued_at(tmp_path) == 2


def _bytes_changed(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def _of_another(partial: Path) -> None:
    record = json.loads((partial / "progress.json").read_text())
    record["identity"]["of"]["of"] = 2
    (partial / "progress.json").write_text(json.dumps(record))


def _more_rows(partial: Path) -> None:
    record = json.loads((partial / "progress.json").read_text())
    (partial / "progress.json").write_text(json.dumps(record | {"rows": record["rows"] + AT_ONCE}))


def _odd_rows(partial: Path) -> None:
    record = json.loads((partial / "progress.json").read_text())
    (partial / "progress.json").write_text(json.dumps(record | {"rows": True}))


def _a_file(partial: Path) -> None:
    partial.rename(partial.with_name("elsewhere"))
    partial.write_text("theirs")


def _a_link(partial: Path) -> None:
    partial.rename(partial.with_name("elsewhere"))
    partial.symlink_to(partial.with_name("elsewhere"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a finished row": lambda partial: _bytes_changed(partial / "features.npy", 128),
    "the header": lambda partial: _bytes_changed(partial / "features.npy", 1),
    "cut": lambda partial: os.truncate(partial / "features.npy", 150),
    "no features": lambda partial: (partial / "features.npy").unlink(),
    "no record": lambda partial: (partial / "progress.json").unlink(),
    "half a record": lambda partial: os.truncate(partial / "progress.json", 20),
    "a list": lambda partial: (partial / "progress.json").write_text("[]"),
    "of another": _of_another,
    "more rows": _more_rows,
    "odd rows": _odd_rows,
    "a file": _a_file,
    "a link": _a_link,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_partial_folder_that_is_damaged_or_foreign_is_replaced(tmp_path: Path, damage: str) -> None:
    partial = stopped(tmp_path)
    DAMAGES[damage](partial)
    assert continued_at(tmp_path) == 0
    assert not partial.is_symlink()
    assert not partial.exists()


def test_a_change_after_the_finished_rows_does_no_harm(tmp_path: Path) -> None:
    _bytes_changed(stopped(tmp_path) / "features.npy", -1)
    assert continued_at(tmp_path) == 6


def test_other_batches_are_computed_anew(tmp_path: Path) -> None:
    """Rows that were computed in batches of another size may differ in their last bits."""
    stopped(tmp_path)
    assert continued_at(tmp_path, at_once=3) == 0


def test_a_partial_folder_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    partial = stopped(tmp_path)
    partial.rename(partial.with_name(partial.name.removeprefix(".").removesuffix(".partial")))
    assert continued_at(tmp_path) == 0


def test_a_full_disk_is_noticed_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    compute = Computation()
    with pytest.raises(OSError, match="No space"):
        kept(tmp_path / "banks", compute)
    assert compute.began_at == []
    assert not (tmp_path / "banks").exists()


def test_the_space_is_taken_before_anything_is_computed(tmp_path: Path) -> None:
    shape, taken = (1000, 1000), []

    def compute(first: int) -> Iterator[Features]:
        (file,) = tmp_path.glob(".features-*.partial/features.npy")
        taken.append(file.stat().st_blocks * 512)
        yield np.zeros(shape, np.float32)

    kept_features(tmp_path, IDENTITY, shape, 1000, compute)
    assert taken[0] >= 4_000_000


SLOW = """
import sys, time
from pathlib import Path
from tests.data.test_kept_features import Computation, kept
from metashot.data import kept_features as stored

stored._RECORDED_EVERY = 0.0

def slowly(first):
    print("began at", first, flush=True)
    for piece in Computation()(first):
        yield piece
        print("computed", flush=True)
        time.sleep(float(sys.argv[2]))

kept(Path(sys.argv[1]), slowly)
"""


def _process(banks: Path, pause: float) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", SLOW, str(banks), str(pause)], stdout=subprocess.PIPE, text=True)


def test_a_killed_process_is_continued_while_another_waits_for_it(tmp_path: Path) -> None:
    first = _process(tmp_path, 60)
    assert first.stdout is not None
    assert first.stdout.readline() == "began at 0\n"
    assert first.stdout.readline() == "computed\n"
    second = _process(tmp_path, 0)
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob(".features-*.partial/progress.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert second.poll() is None  # it waits, or has not yet begun
    first.send_signal(signal.SIGKILL)
    first.wait()
    out, _ = second.communicate(timeout=60)
    assert out.splitlines()[0] == "began at 2"
    assert second.returncode == 0
    unused = Computation()
    assert np.array_equal(kept(tmp_path, unused), WHOLE)
    assert unused.began_at == []
