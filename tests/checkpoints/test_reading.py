"""Checkpoints: whole or not there, and nothing in one can run code."""

import contextlib
import os
import pickle
import resource
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from metashot.bad_input import BadInput
from metashot.checkpoints.reading import metashot_part, read_checkpoint, write_checkpoint
from metashot.checkpoints.stored import OURS, find_checkpoint, newest_intact

CONFIG = {"seed": 1, "algo": {"name": "maml"}}
ORIGIN = {
    "name": "glyphs",
    "problem": "Classification",
    "outputs": 5,
    "input_shape": [1, 28, 28],
    "mean": None,
    "std": None,
    "images": "x",
}


def checkpoint(step: int, size: int = 50) -> dict[str, Any]:
    return {
        "state_dict": {"weight": torch.full((size,), float(step))},
        "global_step": step,
        OURS: metashot_part(CONFIG, ORIGIN),
    }


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """An intact checkpoint with an older whole one beside it."""
    for step, name in enumerate(("older", "whole")):
        write_checkpoint(checkpoint(step), tmp_path / f"{name}.ckpt")
        os.utime(tmp_path / f"{name}.ckpt", (step, step))
    return tmp_path / "whole.ckpt"


def step_of(path: Path) -> int:
    """The step of a checkpoint whose parts all belong together."""
    found = read_checkpoint(path)
    step: int = found["global_step"]
    assert found["state_dict"]["weight"].unique().tolist() == [step]
    return step


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    write_checkpoint(checkpoint(7), path)
    found = read_checkpoint(path)
    assert torch.equal(found.pop("state_dict")["weight"], torch.full((50,), 7.0))
    assert found == {"global_step": 7, OURS: metashot_part(CONFIG, ORIGIN)}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def write_for_ever(path: Path) -> None:
    step = 1
    while True:
        write_checkpoint(checkpoint(step, size=500_000), path)
        step += 1


def test_a_checkpoint_is_whole_at_every_moment_and_after_every_kill(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(checkpoint(0, size=500_000), path)
    seen = set()
    for kill in range(10):
        writer = get_context("fork").Process(target=write_for_ever, args=(path,))
        before = path.stat().st_ino
        writer.start()
        reads = 0
        while reads < 2 + kill or path.stat().st_ino == before:  # killed at ever other moments
            seen.add(step_of(path))
            reads += 1
        assert writer.is_alive()
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        seen.add(step_of(path))
        assert newest_intact(tmp_path) == path
    assert len(seen) > 2


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def flipped_weight(path: Path) -> None:
    flip(path, path.read_bytes().index(torch.full((50,), 1.0).numpy().tobytes()) + 17)


def truncated(to: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(path.stat().st_size * to))


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def trace(path: Path) -> Path:
    """What is there once the code inside a malicious checkpoint has run."""
    return path.parent / "code-was-run"


def malicious_archive(path: Path) -> None:
    torch.save({**checkpoint(1), "callbacks": Malicious(trace(path))}, path)


def malicious_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({**checkpoint(1), "callbacks": Malicious(trace(path))}))


def malicious_old_format(path: Path) -> None:
    torch.save({**checkpoint(1), "callbacks": Malicious(trace(path))}, path, _use_new_zipfile_serialization=False)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a flipped bit of a weight": flipped_weight,
    "no last byte": lambda path: os.truncate(path, path.stat().st_size - 1),
    "half of it": truncated(0.5),
    "nothing in it": truncated(0),
    "a text file": lambda path: path.write_text("epoch 3: accuracy 0.5\n"),
    "a pickle of nothing of ours": lambda path: path.write_bytes(pickle.dumps([1, 2])),
    "an archive that would run code": malicious_archive,
    "a pickle that would run code": malicious_pickle,
    "an old torch file that would run code": malicious_old_format,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_is_no_whole_checkpoint_is_refused_and_the_newest_whole_one_named(
    whole: Path, damage: Callable[[Path], Any]
) -> None:
    older = whole.with_name("older.ckpt")
    damage(whole)
    with pytest.raises(BadInput) as refused:
        read_checkpoint(whole)
    assert not trace(whole).exists()
    assert str(whole) in str(refused.value)
    assert f"newest intact checkpoint beside it is {older}" in str(refused.value)
    assert step_of(older) == 0


@pytest.mark.parametrize("damage", [malicious_archive, malicious_pickle, malicious_old_format])
def test_code_inside_a_checkpoint_is_not_run(whole: Path, damage: Callable[[Path], Any]) -> None:
    damage(whole)
    with pytest.raises(BadInput):
        read_checkpoint(whole)
    assert not trace(whole).exists()


def test_malicious_checkpoints_would_run_their_code_if_they_were_let(whole: Path) -> None:
    malicious_archive(whole)
    torch.load(whole, weights_only=False)
    assert trace(whole).exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        *((content, "it is not a checkpoint of metashot") for content in ({"weight": torch.zeros(3)}, [1, 2], {OURS: 3})),
        (torch.zeros(3), "it is not a checkpoint of metashot"),
        ({OURS: {"config": {}}}, "its state_dict is missing"),
    ],
)
def test_a_torch_file_of_somebody_else_is_refused(tmp_path: Path, content: Any, why: str) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(BadInput, match=rf"other\.ckpt cannot be used: {why}"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_a_damaged_checkpoint_alone_says_so(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_text("text")
    with pytest.raises(BadInput, match="no intact checkpoint lies beside it"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no checkpoint .*last\.ckpt"):
        read_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("bit", [0, 3, 6])
def test_a_flipped_bit_anywhere_is_harmless_or_refused(tmp_path: Path, bit: int) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(checkpoint(1, size=4), path)
    content = path.read_bytes()
    # Also the names, flags and lengths of the archive, where the checksums do not reach.
    first, last = content.index(b"PK\x01\x02"), len(content)
    for place in [*range(0, first, 7), *range(first, last, 3)]:
        path.write_bytes(content)
        flip(path, place, bit)
        with contextlib.suppress(BadInput):
            assert step_of(path) == 1


@pytest.mark.parametrize("place", ["flags", "name"])
def test_damage_of_the_archive_itself_is_refused(whole: Path, place: str) -> None:
    entry = whole.read_bytes().index(b"PK\x01\x02")  # of the central directory
    flip(whole, *((entry + 8, 0) if place == "flags" else (entry + 50, 7)))
    with pytest.raises(BadInput, match=r"older\.ckpt"):
        read_checkpoint(whole)


def test_the_newest_whole_checkpoint_is_found_among_damaged_ones(whole: Path) -> None:
    assert newest_intact(whole.parent) == whole
    (whole.parent / "text.ckpt").write_text("text")
    assert newest_intact(whole.parent) == whole
    flipped_weight(whole)
    assert newest_intact(whole.parent) == whole.with_name("older.ckpt")


def fail_to_write(path: Path, answer: Path) -> None:
    """In another process: files may not grow beyond 100 kB, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        write_checkpoint(checkpoint(5, size=500_000), path)
    except BadInput as error:
        answer.write_text(str(error))


@pytest.mark.parametrize("name", ["whole", "another"])
def test_a_write_that_fails_leaves_the_old_checkpoint_and_nothing_else(whole: Path, tmp_path: Path, name: str) -> None:
    answer = tmp_path / "answer"
    path = whole.with_name(f"{name}.ckpt")
    writer = get_context("fork").Process(target=fail_to_write, args=(path, answer))
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    assert f"{path} cannot be written" in answer.read_text()
    assert f"newest intact checkpoint is {whole}" in answer.read_text()
    assert step_of(whole) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["answer", "older.ckpt", "whole.ckpt"]


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        write_checkpoint(checkpoint(1), tmp_path / "file" / "last.ckpt")


def test_a_run_is_named_by_its_folder_or_by_a_checkpoint(tmp_path: Path) -> None:
    best = tmp_path / "checkpoints" / "best.ckpt"
    write_checkpoint(checkpoint(1), best)
    assert find_checkpoint(str(tmp_path), "ckpt", "best.ckpt") == best
    assert find_checkpoint(str(best), "ckpt", "last.ckpt") == best
    with pytest.raises(BadInput, match=rf"ckpt={tmp_path}: .*checkpoints/last\.ckpt; it has {best}"):
        find_checkpoint(str(tmp_path), "ckpt", "last.ckpt")
    with pytest.raises(BadInput, match=r"resume=nowhere: there is no such file or folder"):
        find_checkpoint("nowhere", "resume", "last.ckpt")
    with pytest.raises(BadInput, match="is it the folder of a run"):
        find_checkpoint(str(best.parent), "resume", "last.ckpt")
