"""Episodes of texts: as pages, as rows of a table, and from the data that they are drawn from."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from metashot.evaluation import pages
from metashot.evaluation.pictures.texts import ROWS, TextEpisode, text_rows, texts_page
from metashot.files.outputs import NotOurs

NAMES = ("colours & <b>shapes</b>", "动物")
EPISODE = TextEpisode(
    number=7,
    names=NAMES,
    support=["red <script>alert(1)</script>", "熊猫"],
    support_y=np.array([0, 1]),
    query=["blue", "قطة", "cat\u202egod", "z" * 5000],
    query_y=np.array([0, 1, 1, 0]),
    probabilities=np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]),
)


class Reader(HTMLParser):
    """The rows of all tables, and what a page must not have."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._is_in_cell = False
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._is_in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._is_in_cell = self._is_in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._is_in_cell:
            self.rows[-1][-1] += data


def read(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))


def test_a_page_says_of_each_query_its_class_the_predicted_one_and_whether_it_is_right(tmp_path: Path) -> None:
    path = tmp_path / "episode.html"
    texts_page(EPISODE, path)
    found = read(path)
    assert [NAMES[0], EPISODE.support[0]] in found.rows
    assert [NAMES[1], EPISODE.support[1]] in found.rows
    assert ["blue", NAMES[0], NAMES[0], "90 %", "✓ right"] in found.rows
    assert ["قطة", NAMES[1], NAMES[1], "80 %", "✓ right"] in found.rows
    assert ["cat\\u202egod", NAMES[1], NAMES[0], "60 %", "✗ wrong"] in found.rows
    assert "3 of 4 queries right" in path.read_text(encoding="utf-8")


def test_a_page_is_self_contained_runs_nothing_and_names_directions(tmp_path: Path) -> None:
    path = tmp_path / "episode.html"
    texts_page(EPISODE, path)
    found = read(path)
    assert not {"script", "img", "link", "iframe", "b"} & set(found.tags)
    assert not any(name in ("src", "href") or name.startswith("on") for name, _ in found.attributes)
    assert ("dir", "auto") in found.attributes
    content = path.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in content
    assert "url(" not in content
    assert "z" * pages.LONGEST in content
    assert "z" * (pages.LONGEST + 1) not in content
    assert "and 4,000 more characters" in content


def test_a_page_replaces_its_own_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "episode.html"
    texts_page(EPISODE, path)
    texts_page(replace(EPISODE, number=8), path)
    assert "Episode 8" in path.read_text(encoding="utf-8")
    path.write_text("<p>mine</p>")
    with pytest.raises(NotOurs):
        texts_page(EPISODE, path)
    assert path.read_text() == "<p>mine</p>"
    assert [other.name for other in tmp_path.iterdir()] == ["episode.html"]


def test_an_episode_without_answers_lists_its_texts_by_class(tmp_path: Path) -> None:
    path = tmp_path / "episode.html"
    texts_page(replace(EPISODE, probabilities=None), path)
    assert read(path).rows[2] == [NAMES[1], "熊猫", "قطةcat\\u202egod"]


def test_many_texts_of_a_class_are_counted(tmp_path: Path) -> None:
    many = replace(
        EPISODE,
        support=[f"s{place}" for place in range(30)],
        support_y=np.arange(30) % 2,
        query=[f"q{place}" for place in range(100)],
        query_y=np.arange(100) % 2,
        probabilities=np.full((100, 2), 0.5),
    )
    texts_page(many, tmp_path / "episode.html")
    content = (tmp_path / "episode.html").read_text(encoding="utf-8")
    assert content.count("and 5 more") == 2  # of 15 support texts each
    assert len(re.findall(r"and 20 more of", content)) == 2  # of 50 queries each


def test_rows_have_all_texts_and_of_queries_the_answers() -> None:
    rows = text_rows(EPISODE)
    assert [len(row) for row in rows] == [len(ROWS)] * 6
    assert rows[0] == ["support", EPISODE.support[0], NAMES[0], None, None, None]
    assert rows[2] == ["query", "blue", NAMES[0], NAMES[0], 0.9, True]
    assert rows[4][3:] == [NAMES[0], 0.6, False]
    assert rows[5][1] == "z" * pages.LONGEST + "…"
