"""A run whose folder was moved or deleted says so, and makes no part of it again."""

import shutil

import pytest

from .conftest import Command, Trained


@pytest.mark.parametrize("logger", ["csv", "none"])
@pytest.mark.parametrize("lost", ["deleted", "moved"])
def test_a_run_whose_folder_is_lost_ends_and_writes_nothing(
    command: Command, first: Trained, logger: str, lost: str
) -> None:
    process = command.start_small("folder=run", f"logger={logger}", "trainer.max_steps=100000")
    folder = command.folder / "run"
    assert process.wait_until(lambda: (folder / "checkpoints" / "last.ckpt").is_file()), process.err
    if lost == "moved":
        folder.rename(command.folder / "elsewhere")
    else:
        folder.rename(command.folder / "gone")  # at once: a file may be written while a tree is deleted
        shutil.rmtree(command.folder / "gone")
    outcome = process.wait()
    assert outcome.code == 1, outcome
    assert outcome.err.count("error: ") == 1, outcome
    assert "the folder of this run, run, no longer exists" in outcome.err, outcome
    assert "Traceback" not in outcome.err, outcome
    assert not folder.exists()
