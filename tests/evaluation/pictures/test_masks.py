"""The picture of dense labels: masks in the colours of their classes over the images, and the names of the classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from metashot.episodes import Episode, Examples
from metashot.evaluation.pictures.masks import colour_of, coloured, masks_picture
from metashot.problems.dense import IGNORED
from tests.evaluation.pictures.files import NAMES, clear_of_the_edges, words_of, written


def scenes(channels: int, classes: int, support: int = 2, queries: int = 3) -> tuple[Episode, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def examples(count: int) -> Examples:
        y = torch.randint(classes, (2, count, 12, 16), generator=generator)
        y[:, :, 0] = IGNORED
        return Examples(torch.rand(2, count, channels, 12, 16, generator=generator), y)

    episode = Episode(examples(support), examples(queries), torch.arange(2), torch.arange(classes).expand(2, -1))
    return episode, torch.randn(2, queries, classes, 12, 16, generator=generator)


@pytest.mark.parametrize(("channels", "classes", "support", "queries"), [(1, 2, 1, 1), (3, 5, 5, 15), (3, 30, 9, 2)])
def test_a_picture_is_whole_whatever_the_episode(
    tmp_path: Path, channels: int, classes: int, support: int, queries: int
) -> None:
    episode, answers = scenes(channels, classes, support, queries)
    names = NAMES[:classes] if classes <= len(NAMES) else ()
    answers.requires_grad_()  # as an algorithm gives them
    assert clear_of_the_edges(written(tmp_path, lambda path: masks_picture(episode, answers, names, path)))


@pytest.mark.parametrize(("names", "words"), [(["cat", "dog"], {"0: cat", "1: dog"}), ([], {"class 0", "class 1"})])
def test_classes_are_named_where_they_have_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: Sequence[str], words: set[str]
) -> None:
    episode, answers = scenes(3, 2)
    found = words_of(monkeypatch, lambda path: masks_picture(episode, answers, names, path), tmp_path / "episode.png")
    assert {*words, "support set", "queries", "answers"} <= set(found)


def test_a_pixel_has_the_colour_of_its_class_and_an_ignored_one_none() -> None:
    colours = coloured(np.array([[0, 1], [7, IGNORED]]))
    assert [tuple(colour) for colour in colours[..., :3].reshape(-1, 3)[:3]] == [colour_of(label) for label in (0, 1, 7)]
    assert (colours[..., 3] > 0).tolist() == [[True, True], [True, False]]
    assert len({colour_of(label) for label in range(20)}) == 20
