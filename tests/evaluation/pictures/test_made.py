"""Pictures of made features and drawings, in the files."""

from pathlib import Path

import pytest
import torch

from metashot.episodes import Examples
from metashot.evaluation.pictures.made import made_features_picture, made_sheet

from .files import written

NAMES = ["alpha", "beta"]


def examples(count: int, *shape: int) -> Examples:
    y = torch.arange(2).repeat_interleave(count)
    return Examples(torch.rand(2 * count, *shape, generator=torch.Generator().manual_seed(count)), y)


def test_real_and_made_features_are_drawn(tmp_path: Path) -> None:
    written(tmp_path, lambda path: made_features_picture(examples(1, 6), examples(3, 6), examples(9, 6), NAMES, path))


@pytest.mark.parametrize(("made", "queries"), [(2, 7), (8, 1)])
def test_a_sheet_shows_made_drawings_with_training_images_whatever_the_numbers(
    tmp_path: Path, made: int, queries: int
) -> None:
    drawn, support, query = examples(made, 1, 8, 8), examples(1, 1, 8, 8), examples(queries, 1, 8, 8)
    written(tmp_path, lambda path: made_sheet(support, query, drawn, drawn.x.flip(0), NAMES, path))
