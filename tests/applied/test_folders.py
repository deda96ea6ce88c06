"""The folders that a learner is applied to, and those of a data set: however they are nested and linked, a walk ends."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metashot.applied.folders import Outputs, query_files, support_files
from metashot.bad_input import BadInput
from metashot.sources.getting.files import Folder


def walks(folder: Path) -> dict[str, Callable[[], object]]:
    outputs = Outputs(folder.parent / "out.csv", folder.parent / "out.png", None, None)
    return {
        "a data set": lambda: Folder(folder).names(),
        "support": lambda: support_files(str(folder)),
        "query": lambda: query_files(str(folder), outputs),
        "a pattern": lambda: query_files(f"{folder}/**/*.png", outputs),
    }


def test_folders_deep_in_one_another_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "root"
    (folder / "b").mkdir(parents=True)
    here = os.open(folder, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=here)
        here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    usual = sys.getrecursionlimit()
    for name, walk in walks(folder).items():
        sys.setrecursionlimit(350 if name == "a pattern" else usual)
        with pytest.raises(BadInput, match=r"nested in more than|too many nested folders") as refused:
            walk()
        sys.setrecursionlimit(usual)
        assert len(str(refused.value)) < 500, name


def test_folders_that_all_lead_to_one_another_are_refused(tmp_path: Path) -> None:
    """Through these are more ways than anybody can wait for: as many as orders of twelve."""
    folder = tmp_path / "root"
    for one in range(12):
        (folder / f"c{one}").mkdir(parents=True)
        for other in range(12):
            (folder / f"c{one}" / f"l{other}").symlink_to(f"../c{other}")
    for name, walk in walks(folder).items():
        if name != "a pattern":  # the shell's own, which is the user's
            with pytest.raises(BadInput, match="links lead to this folder in more than 100 ways"):
                walk()


def test_folders_whose_names_are_written_alike_are_not_taken_for_one_class(tmp_path: Path) -> None:
    for name in ("a\nb", "a\\nb"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    with pytest.raises(BadInput, match="two class folders that are both written"):
        support_files(str(tmp_path))


def test_pictures_outside_of_class_folders_come_last_in_the_message(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with pytest.raises(BadInput) as refused:
        support_files(str(tmp_path))
    needed, _, files = str(refused.value).rpartition("; ")
    assert "has no class folders; at least two classes are needed, allowed: a folder with" in needed
    assert files == "it has 12 files in no class folder, such as 0.png"


def test_outputs_at_one_place_are_refused_however_they_are_written(tmp_path: Path) -> None:
    table, other = tmp_path / "p.csv", tmp_path / "q.csv"
    (tmp_path / "sub").mkdir()
    ways = {
        "another path": (table, tmp_path / "sub" / ".." / "p.csv"),
        "a relative path": (table, Path(os.path.relpath(table))),
        "the sheet": (table, tmp_path / "sub" / ".." / "p.png"),
        "a link": (tmp_path / "link.csv", other),
    }
    (tmp_path / "link.csv").symlink_to(other)
    for one, two in ways.values():
        for graph, learner in ((None, two), (two, None)):
            with pytest.raises(
                BadInput, match="would be written twice: give out=, export=, save= and explain= different names"
            ):
                Outputs(one, one.with_suffix(".png"), graph, learner)
        with pytest.raises(BadInput, match=f"^{re.escape(str(two))} is .*, which would be written twice"):
            Outputs(one, one.with_suffix(".png"), None, two)
    with pytest.raises(BadInput, match=rf"^{re.escape(str(table))} would be written twice"):
        Outputs(table, table.with_suffix(".png"), None, table)
    Outputs(table, table.with_suffix(".png"), tmp_path / "p.onnx", tmp_path / "p.fewshot")
