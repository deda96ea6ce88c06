"""The picture of an episode: a readable file for every shape of episode, and nothing beside it."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from metashot.episodes import Episode, Examples
from metashot.evaluation.pictures.drawing import numbered_names
from metashot.evaluation.pictures.episodes import bands_picture, contact_sheet, curves_picture, episode_picture
from tests.evaluation.pictures.files import words_of

NAMES = ["alpha", "字"]
RIGHT, WRONG = (0x1A, 0x7F, 0x37), (0xCF, 0x22, 0x2E)


def episode(ways: int, shots: int, channels: int, queries: int = 3) -> Episode:
    generator = torch.Generator().manual_seed(0)

    def examples(each: int) -> Examples:
        x = torch.rand(2, ways * each, channels, 12, 12, generator=generator)
        return Examples(x, torch.arange(ways).repeat_interleave(each).expand(2, -1))

    return Episode(examples(shots), examples(queries), torch.arange(2), torch.arange(ways).expand(2, -1))


def sure_of(answers: torch.Tensor, ways: int) -> torch.Tensor:
    return 10 * torch.nn.functional.one_hot(answers, ways).float()


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        found = image.convert("RGB").getcolors(2**24)
    assert found is not None
    return {colour for _, colour in found if isinstance(colour, tuple)}


@pytest.mark.parametrize(("ways", "shots", "channels"), [(2, 1, 1), (2, 5, 3), (5, 1, 3), (5, 5, 1), (20, 1, 1), (20, 5, 3)])
def test_a_picture_is_written_whatever_the_episode(tmp_path: Path, ways: int, shots: int, channels: int) -> None:
    shown, path = episode(ways, shots, channels), tmp_path / "new" / "episode.png"
    episode_picture(shown, torch.zeros(2, ways * 3, ways), [f"class_with_a_long_name_{n}" for n in range(ways)], path)
    assert [file.name for file in path.parent.iterdir()] == ["episode.png"]
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        # At least 40 pixels for each image, and not so large that no viewer opens it.
        assert 40 * (shots + 3) < image.width < 3000
        assert 40 * ways < image.height < 4000
    assert len(colours(path)) > 50


def test_rows_are_called_by_the_names_of_their_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = episode(2, 1, 1)
    pictures = {
        "episode": lambda path: episode_picture(shown, torch.zeros(2, 6, 2), ["alpha", "Käse"], path),
        "sheet": lambda path: contact_sheet(shown, ["alpha", "Käse"], path),
    }
    for name, draw in pictures.items():
        words = {word.rpartition(": ")[2] for word in words_of(monkeypatch, draw, tmp_path / f"{name}.png")}
        assert {"alpha", "Käse"} <= words, name


def test_right_and_wrong_answers_are_framed_differently(tmp_path: Path) -> None:
    shown, path = episode(2, 1, 1), tmp_path / "episode.png"
    y = shown.query.y
    episode_picture(shown, sure_of(y, 2), NAMES, path)
    assert RIGHT in colours(path)
    assert WRONG not in colours(path)
    episode_picture(shown, sure_of(1 - y, 2), NAMES, path)
    assert WRONG in colours(path)
    assert RIGHT not in colours(path)


def test_more_queries_than_fit_are_left_out(tmp_path: Path) -> None:
    widths = []
    for queries in (8, 30):
        shown, path = episode(2, 1, 1, queries), tmp_path / f"{queries}.png"
        episode_picture(shown, torch.zeros(2, 2 * queries, 2), NAMES, path)
        with Image.open(path) as image:
            widths.append(image.width)
    assert widths[0] == widths[1]


def test_rows_have_the_names_of_their_classes_and_the_numbers_that_answers_are_told_by() -> None:
    assert numbered_names(["alpha", "字", "alpha"]) == ["0: alpha", "class 1", "2: alpha"]


def functions(tasks: int, points: int = 40) -> Episode:
    x = torch.rand(tasks, points, 1, generator=torch.Generator().manual_seed(0)) * 4 - 2
    support = Examples(x[:, :5], x[:, :5].sin())
    return Episode(support, Examples(x, x.sin()), torch.arange(tasks), torch.empty(tasks, 0, dtype=torch.int64))


@pytest.mark.parametrize("tasks", [1, 6])
def test_a_band_is_drawn_around_the_mean_where_answers_have_deviations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: int
) -> None:
    shown = functions(tasks)
    sure, unsure = (torch.cat([shown.query.y, torch.full_like(shown.query.y, level)], dim=2) for level in (-9.0, -1.0))
    words = words_of(monkeypatch, lambda path: bands_picture(shown, unsure, [], path), tmp_path / "unsure.png")
    assert {"95 % band", "mean", "truth", "support set"} <= set(words)
    bands_picture(shown, sure, [], tmp_path / "sure.png")
    curves_picture(shown, shown.query.y, [], tmp_path / "without.png")
    grey = []
    for name in ("unsure", "sure", "without"):
        with Image.open(tmp_path / f"{name}.png") as image:
            grey.append(image.convert("L").histogram()[round(0.85 * 255)])
    assert grey[0] > 20 * max(grey[1], 1) > 0
    assert grey[2] <= grey[1]
