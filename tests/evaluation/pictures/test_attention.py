"""What queries looked at: which of them and which support examples are shown, and a picture for every episode."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from metashot.episodes import Episode, Examples
from metashot.evaluation.pictures.attention import attention_picture, examples_to_draw, spread_over_classes
from tests.evaluation.pictures.files import NAMES, clear_of_the_edges, words_of, written


def episode(ways: int, shots: int, queries: int, channels: int) -> Episode:
    def examples(each: int) -> Examples:
        x = torch.rand(2, ways * each, channels, 12, 12, generator=torch.Generator().manual_seed(0))
        return Examples(x, torch.arange(ways).repeat_interleave(each).expand(2, -1))

    return Episode(examples(shots), examples(queries), torch.arange(2), torch.arange(ways).expand(2, -1))


def attention_of(given: Episode) -> Tensor:
    """Weights [Q, S]."""
    shape = given.query.y.shape[1], given.support.y.shape[1]
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).softmax(-1)


def test_queries_are_spread_over_the_classes() -> None:
    assert spread_over_classes(torch.arange(20).repeat_interleave(3), 8) == [0, 3, 6, 9, 12, 15, 18, 21]
    assert spread_over_classes(torch.arange(5).repeat_interleave(3), 8) == [0, 1, 3, 4, 6, 7, 9, 12]
    assert spread_over_classes(torch.tensor([2, 0, 2, 0]), 8) == [1, 3, 0, 2]
    assert spread_over_classes(torch.tensor([0, 0, 0, 1]), 3) == [0, 1, 3]


def test_many_support_examples_are_the_largest_weights_and_few_keep_their_order() -> None:
    weights = torch.tensor([0.1, 0.4, 0.0, 0.3, 0.2])
    assert list(examples_to_draw(weights, 5)) == [0, 1, 2, 3, 4]
    assert list(examples_to_draw(weights, 3)) == [1, 3, 4]
    assert list(examples_to_draw(torch.full((4,), 0.25), 2)) == [0, 1]


@pytest.mark.parametrize(("ways", "shots", "queries", "channels"), [(2, 1, 1, 3), (5, 1, 15, 1), (20, 1, 1, 3)])
def test_attention_is_drawn_whatever_the_episode(tmp_path: Path, ways: int, shots: int, queries: int, channels: int) -> None:
    given = episode(ways, shots, queries, channels)
    if ways == 20:  # a few rows take seconds less
        given = replace(given, query=Examples(given.query.x[:, :2], given.query.y[:, :2]))
    pixels = written(
        tmp_path, lambda path: attention_picture(given, attention_of(given).requires_grad_(), NAMES[:ways], path)
    )
    assert clear_of_the_edges(pixels)


def test_weights_that_are_no_numbers_are_drawn_as_none(tmp_path: Path) -> None:
    given = episode(2, 1, 1, 1)
    undefined = written(tmp_path, lambda path: attention_picture(given, torch.full((2, 2), float("nan")), NAMES[:2], path))
    none = written(tmp_path, lambda path: attention_picture(given, torch.zeros(2, 2), NAMES[:2], path))
    assert np.array_equal(undefined, none)


def test_the_frame_of_what_was_examples_to_draw_is_darker_and_wider(tmp_path: Path) -> None:
    given = episode(2, 1, 1, 1)
    given.support.x.zero_()  # white, so that what is dark are frames and words
    given.query.x.zero_()
    one = written(tmp_path, lambda path: attention_picture(given, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), NAMES[:2], path))
    none = written(tmp_path, lambda path: attention_picture(given, torch.zeros(2, 2), NAMES[:2], path))
    assert (one < 50).sum() > (none < 50).sum() + 3000  # two lines around images


def test_classes_are_called_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = episode(2, 1, 1, 1)
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    names = ["Käse", "字"]
    words = words_of(monkeypatch, lambda path: attention_picture(given, weights, names, path), tmp_path / "a.png")
    assert {"Käse\n100% to its own", "class 1\n50% to its own", "✓ Käse\n100%", "✓ class 1\n50%", "Käse\n50%"} <= set(words)
