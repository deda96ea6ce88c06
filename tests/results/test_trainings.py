"""Cells share a training if their recipes differ in the test alone; a run that was trained otherwise is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from metashot.bad_input import BadInput
from metashot.results.tables import Cell, Table
from metashot.results.trainings import Training, configuration_of, training_differences, training_of

GLYPHS = Table("glyphs", "Glyphs", "Glyphs", "", ("5w1s",), None)
CELL = Cell(GLYPHS, "protonet", "5w1s")


@pytest.fixture(autouse=True, scope="module")
def fast_yaml() -> None:
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # type: ignore[misc]


def variant(*arguments: str) -> Cell:
    return replace(CELL, arguments=arguments)


@pytest.mark.parametrize(
    ("argument", "is_shared"),
    [
        ("data.test.shots=5", True),
        ("data.test.episodes=3000", True),
        ("curve=7", True),
        ("data.root=/elsewhere", True),
        ("data.train.shots=5", False),
        ("data.val.shots=5", False),
        ("data.shots=2", False),
        ("trainer.max_steps=201", False),
        ("seed=3", False),
        ("backbone.channels=8", False),
        ("algo.distance=cosine", False),
    ],
)
def test_cells_share_a_training_that_differs_in_the_test_alone(argument: str, is_shared: bool) -> None:
    other = variant(argument)
    changed = training_differences(configuration_of(CELL), configuration_of(other))
    assert (changed == []) == is_shared
    training = training_of(other, (CELL, other), Path("runs"))
    assert (training.cell == CELL) == is_shared


def test_cells_of_another_row_seed_or_variant_have_a_training_of_their_own() -> None:
    for other in (replace(CELL, seed=1), replace(CELL, variant="long"), replace(CELL, row="pixels")):
        assert training_of(other, (CELL, other), Path("runs")).cell == other


def test_what_is_none_of_the_cells_has_no_training() -> None:
    with pytest.raises(LookupError):
        training_of(CELL, (), Path("runs"))


def a_run(tmp_path: Path, *arguments: str) -> Training:
    """A run whose folder has the configuration of the recipe with these changes."""
    training = training_of(CELL, (CELL,), tmp_path)
    training.folder.mkdir(parents=True)
    (training.folder / "config.yaml").write_text(yaml.safe_dump(configuration_of(variant(*arguments)), sort_keys=False))
    return training


@pytest.mark.parametrize("arguments", [(), ("data.test.shots=5", "data.root=/elsewhere", "folder=x")], ids=str)
def test_a_run_of_the_same_training_is_taken(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    a_run(tmp_path, *arguments).refuse_other()


def test_a_run_that_was_trained_otherwise_is_refused_with_the_key(tmp_path: Path) -> None:
    training = a_run(tmp_path, "trainer.max_steps=7")
    with pytest.raises(BadInput, match=r"was trained with trainer\.max_steps=7, and the recipe .* has .*=200 now: move"):
        training.refuse_other()


def test_a_run_that_starts_from_another_has_the_backbone_of_that(tmp_path: Path) -> None:
    training = replace(a_run(tmp_path, "backbone.channels=8"), start=training_of(CELL, (CELL,), tmp_path))
    training.refuse_other()
