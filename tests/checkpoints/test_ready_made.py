"""The learners that come with the package: small, readable by anyone, free of paths; and the names that stand for them."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from metashot.bad_input import BadInput
from metashot.checkpoints.reading import read_checkpoint
from metashot.checkpoints.ready_made import FOLDER, READY_MADE, is_ready_made
from metashot.checkpoints.stored import BEST, LAST, OURS, configuration_of_learner, find_checkpoint

NAMES = sorted(READY_MADE)


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (*texts(key), *texts(inner))]
    if isinstance(value, list | tuple):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


def test_each_name_has_a_file_and_each_file_a_name() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_ready_made_learner_is_small_and_holds_nothing_of_the_machine_that_made_it(name: str) -> None:
    path = find_checkpoint(name, "ckpt", BEST)
    content = read_checkpoint(path)
    assert set(content) == {"state_dict", "global_step", OURS}
    assert path.stat().st_size <= {"drawings": 600_000, "photos": 1_100_000, "text": 2_500_000}[name]
    assert [text for text in texts(content) if re.match(r"(/|~|[A-Z]:\\)", text)] == []
    assert content[OURS]["config"]["data"]["root"] == "data"
    assert all(value.isfinite().all() for value in content["state_dict"].values() if isinstance(value, torch.Tensor))
    assert is_ready_made(path)


@pytest.mark.parametrize("name", NAMES)
def test_its_experiment_describes_it(name: str) -> None:
    """The command in its card trains this learner."""
    from tests.configuration.test_configuration import composed

    experiment, stored = composed("train", f"experiment={name}"), configuration_of_learner(name, "ckpt")
    for group in ("algo", "backbone", "engine"):
        assert stored[group] == experiment[group]
    for config in (stored, experiment):
        for key in ("root", "banks", "test"):
            del config["data"][key]
    assert stored["data"] == experiment["data"]
    assert stored["trainer"]["max_steps"] in (0, experiment["trainer"]["max_steps"])


def test_a_name_that_nearly_fits_is_suggested() -> None:
    names = ", ".join(NAMES)
    with pytest.raises(BadInput, match=rf"ckpt=photo: there is no such file or folder.*{names} \(did you mean photos\?\)"):
        find_checkpoint("photo", "ckpt", BEST)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.fewshot")
    for path, kind in ((tmp_path / "pipe.fewshot", "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(BadInput, match=f"^ckpt={path}: it is {kind} and not a file; give a checkpoint"):
            find_checkpoint(path, "ckpt", BEST)


@pytest.mark.parametrize("make", ["run", "file"])
def test_a_name_of_two_things_is_refused_and_a_path_is_none(
    make: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "photos"
    if make == "run":
        (own / "checkpoints").mkdir(parents=True)
        (own / "checkpoints" / BEST).write_bytes(b"")
    else:
        own.write_bytes(b"")
    with pytest.raises(BadInput, match=r"ckpt=photos is a ready-made learner, and there is also .*ckpt=\./photos"):
        find_checkpoint("photos", "ckpt", BEST)
    assert not is_ready_made(find_checkpoint("./photos", "ckpt", BEST))
    assert not is_ready_made(find_checkpoint(own, "ckpt", BEST))


def test_a_folder_of_photographs_may_have_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert find_checkpoint("photos", "ckpt", BEST) == FOLDER / "photos.ckpt"


def test_its_training_is_not_resumed() -> None:
    with pytest.raises(BadInput, match=r"resume=drawings is a ready-made learner.*init_from=drawings"):
        find_checkpoint("drawings", "resume", LAST)
