"""The contact sheet keeps names apart, marks uncertain answers, and says that metashot drew it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from metashot.applied.sheet import sheet, shortened, uncertain
from metashot.files.outputs import refuse_to_replace

WIDTH = 12.0  # letters
NONE = np.array([False])  # of the queries is unknown


def short(*names: str) -> list[str]:
    found = shortened(names, WIDTH, len)
    assert all(len(name) <= WIDTH for name in found), found
    return found


@pytest.mark.parametrize(
    "names",
    [
        ["holiday_in_rome_2024_0001.png", "holiday_in_rome_2024_0002.png", "holiday_in_rome_2024_0113.png"],
        ["a_0001_in_full_resolution.png", "a_0002_in_full_resolution.png"],
        ["left_of_the_old_house.jpg", "right_of_the_old_house.jpg", "a.png"],
        ["x" * 40 + "1" + "y" * 40, "x" * 40 + "2" + "y" * 40],
        ["1" + "y" * 40, "2" + "y" * 40, "3" + "y" * 40],
        ["a" * 30, "a" * 31, "b.png"],
        ["ab" * 20 + "1" + "ab" * 20, "ab" * 20 + "2" + "ab" * 20, "completely_otherwise_named.png"],
    ],
)
def test_names_that_differ_look_different(names: list[str]) -> None:
    assert len(set(short(*names))) == len(names)


def test_names_that_fit_stay_and_the_end_of_others_is_kept() -> None:
    assert short("a.png", "b.png") == ["a.png", "b.png"]
    assert short("holiday_in_rome_2024_0001.png", "holiday_in_rome_2024_0002.png") == ["…0001.png", "…0002.png"]
    assert short("one_very_long_name_of_a_file.png")[0].endswith(".png")
    assert short("the_same_long_name.png", "the_same_long_name.png")[0].startswith("the")  # of two folders


def test_uncertain_answers_are_those_with_little_probability_or_little_lead() -> None:
    found = uncertain(np.array([[0.51, 0.49, 0.0], [0.7, 0.3, 0.0], [0.45, 0.05, 0.5], [0.49, 0.26, 0.25]]))
    assert found.tolist() == [True, False, True, True]
    assert uncertain(np.array([[0.59, 0.41], [0.61, 0.39]])).tolist() == [True, False]


def drawn(probability: float) -> Image.Image:
    images = np.full((3, 1, 28, 28), 255, np.uint8)
    probabilities = np.array([[probability, 1 - probability]])
    content = sheet(["a", "b"], images[:2], np.array([0, 1]), images[2:], ["q.png"], probabilities, NONE, False)
    return Image.open(io.BytesIO(content)).convert("L")


def test_uncertain_answer_is_marked_without_colour(tmp_path: Path) -> None:
    sure, unsure = np.asarray(drawn(0.9)), np.asarray(drawn(0.55))
    assert unsure.shape[0] == sure.shape[0]
    width = min(sure.shape[1], unsure.shape[1])
    frame = (unsure[:, :width] < 60).sum() - (sure[:, :width] < 60).sum()
    assert frame > 100  # black dashes, and the legend that explains them


def test_sheet_is_known_to_be_ours(tmp_path: Path) -> None:
    images = np.zeros((2, 3, 32, 32), np.uint8)
    content = sheet(["a", "b"], images, np.array([0, 1]), images[:1], ["q"], np.array([[0.9, 0.1]]), NONE, False)
    (tmp_path / "a.png").write_bytes(content)
    refuse_to_replace(tmp_path / "a.png", "out")


def words_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written on the sheets that are drawn from now on."""
    words: list[str] = []
    write = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, place, text, *ink: (words.append(text), write(self, place, text, *ink))
    )
    return words


def test_unknown_queries_are_called_so_and_framed(monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of(monkeypatch)
    images = np.full((3, 1, 28, 28), 255, np.uint8)
    files, probabilities = ["q.png", "r.png"], np.array([[0.9, 0.1], [0.55, 0.45]])
    strange = [np.array([False, False]), np.array([True, True])]
    usual, framed = (
        np.asarray(
            Image.open(
                io.BytesIO(sheet(["cup", "pen"], images[:2], np.arange(2), images[1:], files, probabilities, each, False))
            )
        )
        for each in strange
    )
    asked = next(place for place, word in reversed(list(enumerate(words))) if word.startswith("asked"))
    assert "unknown, and below it the likeliest class" in words[asked]
    assert "dashed" not in words[asked]  # an unknown query is not uncertain as well
    assert [word for word in words[asked + 1 :] if word not in ("q", "r", *files)] == [
        "unknown",
        "cup 90 %",
        "unknown",
        "cup 55 %",
    ]
    assert "unknown" not in "".join(words[:asked])
    height = min(len(usual), len(framed))
    dark = [(page[:height, : usual.shape[1]].max(-1) < 60).sum() for page in (usual, framed)]
    assert dark[1] > dark[0] + 200


def test_captions_keep_both_ends_of_a_name_and_numbers_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of(monkeypatch)
    images, probabilities = np.zeros((4, 1, 28, 28), np.uint8), np.tile([0.9, 0.1], (4, 1))

    def legend_and_captions(*files: str) -> tuple[str, list[str]]:
        words.clear()
        strange = np.zeros(4, dtype=np.bool_)
        sheet(["a", "b"], images[:2], np.arange(2), images, files, probabilities, strange, False)
        legend = next(place for place, word in enumerate(words) if word.startswith("asked"))
        return words[legend], words[legend + 1 :: 3]

    dated = (f"query/Apfelbaum_vor_dem_Haus_2024-05-{day}.png" for day in (11, 12, 13, 14))
    legend, captions = legend_and_captions(*dated)
    assert [caption[-3:] for caption in captions] == ["-11", "-12", "-13", "-14"]
    assert "rows of the table" not in legend
    legend, captions = legend_and_captions("a.png", "a.jpg", "b/c.png", "d.png")
    assert captions == ["a.png", "a.jpg", "c", "d"]
    long = [f"{'ab' * 20}{place}{'ab' * 20}.png" for place in (1, 2)]
    legend, captions = legend_and_captions(*long, "completely_otherwise_named.png", "c.png")
    assert [caption[:3] for caption in captions[:2]] == ["1: ", "2: "]
    assert legend.endswith("; numbers before names: rows of the table")


@pytest.mark.parametrize("bright_ink", [False, True])
def test_sheet_says_how_the_learner_sees_drawings(monkeypatch: pytest.MonkeyPatch, bright_ink: bool) -> None:
    words = words_of(monkeypatch)
    images = np.zeros((2, 1, 28, 28), np.uint8)
    names, files = ["Käse", "שלום"], ["字.png"]
    sheet(names, images, np.array([0, 1]), images[:1], files, np.array([[0.9, 0.1]]), NONE, bright_ink)
    inverted = "learned from (drawings are shown dark on light; the learner sees them light on dark)"
    assert words[0] == (inverted if bright_ink else "learned from")
    assert {"Käse", "class 1", "image 0"} <= set(words)
