"""`learner.explain()`: which words of a text decide, by leaving out each of them."""

import html.parser
from dataclasses import FrozenInstanceError
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

import metashot
from metashot.applied import network
from metashot.applied.explaining import Explanation, Word
from metashot.applied.texts import TextsCut
from metashot.bad_input import BadInput, BadValue
from metashot.data.tokenizers.words import places_of, words_of
from metashot.episodes import Examples
from metashot.sources.texts.code_points import cleaned
from tests.applied.text_learners import LABELS, LENGTH, TEXTS, WORDS, checkpoint, of_byte_pairs

QUERY = "Where is the parcel,  that was\nrefunded in 2024?"


def fitted(path: Path, labels: Any = LABELS) -> Any:
    return metashot.load(path, device="cpu").fit(TEXTS, labels)


PIECES = {
    "it's late, very-late": ["it's", "late", ",", "very", "-", "late"],
    "我的包裹 abc": ["我", "的", "包", "裹", "abc"],
    "नमस्ते दुनिया": ["नमस्ते", "दुनिया"],
    "אֲנִי רוֹצֶה": ["אֲנִי", "רוֹצֶה"],
    "می‌خواهم": ["می‌خواهم"],
    "👩‍👩‍👧👍🏽 🇩🇪🇫🇷 ❤️abc": ["👩‍👩‍👧", "👍🏽", "🇩🇪", "🇫🇷", "❤️", "abc"],
    "พัสดุ": ["พั", "ส", "ดุ"],
    "": [],
}


@pytest.mark.parametrize("text", PIECES)
def test_what_is_read_as_one_stays_in_one_piece(text: str) -> None:
    assert [text[start:end] for start, end in places_of(text)] == PIECES[text]


@pytest.mark.parametrize("text", [*TEXTS, "a b, c.", "不 abc"])
def test_pieces_are_the_words_that_the_tokenizer_has(text: str) -> None:
    assert [text[start:end].lower() for start, end in places_of(text)] == list(words_of(text))


@pytest.mark.parametrize("kind", ["characters", "words", "byte pairs"])
@pytest.mark.parametrize("of", [None, "delivery", "refund"])
def test_a_weight_is_the_difference_that_leaving_out_a_word_makes(tmp_path: Path, kind: str, of: str | None) -> None:
    if kind == "byte pairs":
        pytest.importorskip("tokenizers")
        path = of_byte_pairs(tmp_path)
    else:
        path = checkpoint(tmp_path, "protonet", *(WORDS if kind == "words" else ()))
    learner = fitted(path)
    found = learner.explain(QUERY) if of is None else learner.explain(QUERY, of=of)
    text = cleaned(QUERY)
    whole = learner.predict_proba([text])[0]
    assert found.text == text
    assert found.label == (learner.predict([text])[0] if of is None else of)
    place = learner.classes_.tolist().index(found.label)
    assert found.probability == pytest.approx(whole[place], abs=1e-6)
    assert [word.word for word in found.words] == [
        "Where",
        "is",
        "the",
        "parcel",
        ",",
        "that",
        "was",
        "refunded",
        "in",
        "2024",
        "?",
    ]
    for word in found.words:
        assert text[word.start : word.end] == word.word
        without = learner.predict_proba([text[: word.start] + text[word.end :]])[0, place]
        assert word.weight == pytest.approx(whole[place] - without, abs=1e-6)
    assert (found.more, found.unread) == (0, 0)


def test_the_two_classes_of_a_task_have_opposite_weights(tmp_path: Path) -> None:
    learner = fitted(checkpoint(tmp_path))
    one, other = (learner.explain(QUERY, of=label) for label in ("delivery", "refund"))
    np.testing.assert_allclose([word.weight for word in one.words], [-word.weight for word in other.words], atol=1e-9)
    assert max(abs(word.weight) for word in one.words) > 1e-3


KEYWORDS = ("send", "refund", "cancel", "exchange", "repair", "order", "return", "track")
FILLERS = ("please", "would", "you", "it", "now", "me", "today", "us", "can", "we", "i", "want", "to", "the", "thing")


def sentences(random: np.random.Generator, keyword: str, count: int) -> list[str]:
    """Sentences of which one word says what they are about."""
    return [" ".join(random.permutation([keyword, *random.permutation(FILLERS)[:5]])) for _ in range(count)]


def test_the_word_that_decides_has_the_largest_weight(tmp_path: Path) -> None:
    """After training, in which fillers are of no use."""
    learner: Any = metashot.load(checkpoint(tmp_path, "protonet", *WORDS, "backbone.widths=[1]"), device="cpu")
    random, reader, algorithm = np.random.default_rng(0), learner.reader, learner.algorithm
    optimizer, y = torch.optim.Adam(algorithm.parameters(), lr=0.02), torch.arange(4).repeat_interleave(3)[None]
    algorithm.train()
    for _ in range(60):
        chosen = random.permutation(KEYWORDS)[:4]
        support, query = (
            reader.inputs(
                reader.read([text for keyword in chosen for text in sentences(random, keyword, 3)])[:], torch.device("cpu")
            )[None]
            for _ in range(2)
        )
        loss = F.cross_entropy(algorithm(Examples(support, y), query)[0], y[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    algorithm.eval()
    chosen = KEYWORDS[:3]
    learner.fit([text for keyword in chosen for text in sentences(random, keyword, 5)], np.repeat(chosen, 5))
    default = learner.predict([" ".join(FILLERS[:5])])[0]  # for which no word is needed
    for keyword in set(chosen) - {default}:
        for text in sentences(random, keyword, 3):
            found = learner.explain(text)
            assert found.label == keyword
            assert max(found.words, key=lambda each: each.weight).word == keyword
            assert f"[++{keyword}]" in str(found)
            assert f'points that the probability falls without a word: "{keyword}" +' in str(found)


@pytest.mark.parametrize("kind", ["characters", "words", "long words"])
def test_of_a_long_text_the_words_that_are_read_are_left_out(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_AT_ONCE", 7)
    learner = fitted(checkpoint(tmp_path, "protonet", *(WORDS if "words" in kind else ())))
    text = " ".join(f"{'long' * 6 if kind == 'long words' else ''}word{place:05}" for place in range(100_000))
    found = learner.explain(text)
    # Of long words, the most characters are read before the most tokens.
    read = {"characters": -(-LENGTH // 10), "words": LENGTH, "long words": -(-20 * LENGTH // 34)}[kind]
    assert (len(found.words), found.more, found.unread) == (read, 100_000 - read, 100_000 - read)
    assert f"the first {read} of 100,000 words were left out" in str(found)
    assert "of the others are not read" in str(found)
    assert len(str(found)) < 3000
    assert len(found.to_html()) < 30_000
    place = learner.classes_.tolist().index(found.label)
    for word in (found.words[0], found.words[-1]):
        with pytest.warns(TextsCut):
            whole, without = learner.predict_proba([text, text[: word.start] + text[word.end :]])
        assert word.weight == pytest.approx(whole[place] - without[place], abs=1e-6)


def test_no_more_words_are_left_out_than_asked(tmp_path: Path) -> None:
    learner = fitted(checkpoint(tmp_path))
    found, whole = learner.explain(QUERY, words=3), learner.explain(QUERY)
    assert [word[:3] for word in found.words] == [word[:3] for word in whole.words[:3]]
    assert (found.more, found.unread) == (8, 0)
    assert "the first 3 of 11 words were left out, one at a time" in str(found)
    for words in (0, -1, 1.5, "all", True, 1001):
        with pytest.raises(BadValue, match=r"words=.* cannot be used; allowed: a whole number from 1 to 1,000"):
            learner.explain(QUERY, words=words)


@pytest.mark.parametrize("label", [None, 3, True, ("a", 1), 2.5])
def test_classes_may_have_any_labels(tmp_path: Path, label: Any) -> None:
    learner = fitted(checkpoint(tmp_path), [label] * 3 + ["other"] * 3)
    assert learner.explain(QUERY, of=label).label == label
    assert {learner.explain(text).label for text in TEXTS} <= {label, "other"}
    with pytest.raises(BadValue, match=r"of='others' is none of the classes; allowed: .*other \(did you mean other\?\)"):
        learner.explain(QUERY, of="others")


@pytest.mark.parametrize("query", [[QUERY], b"text", None, 3, ""])
def test_one_text_is_explained(tmp_path: Path, query: Any) -> None:
    with pytest.raises(BadValue, match=r"one text, since|nothing to read"):
        fitted(checkpoint(tmp_path)).explain(query)


def test_learners_that_answer_queries_together_are_refused(tmp_path: Path) -> None:
    for path in (checkpoint(tmp_path, "tim"), checkpoint(tmp_path, "protonet", protocol="transductive")):
        with pytest.raises(BadInput, match="answers all queries of a call together: use one such as protonet"):
            fitted(path).explain(QUERY)
    with pytest.raises(BadInput, match="call fit"):
        metashot.load(checkpoint(tmp_path)).explain(QUERY)  # type: ignore[attr-defined]


EXPLAINED = Explanation(
    "not <b>bad</b> & cheap",
    "go\u202eod",
    0.75,
    (Word("not", 0, 3, -0.21), Word("bad", 7, 10, 0.3), Word("&", 15, 16, 0.0), Word("cheap", 17, 22, 0.05)),
    0,
    0,
)


def test_an_explanation_can_be_read_without_colours() -> None:
    expected = (
        "go\\u202eod: 75.0 %\n[--not] <b>[++bad]</b> & [+cheap]\n"
        'points that the probability falls without a word: "bad" +30.0, "not" -21.0, "cheap" +5.0'
    )
    assert str(EXPLAINED) == expected
    for colours in (None, "truecolor"):
        file = StringIO()
        console = Console(file=file, width=200, no_color=colours is None, force_terminal=True, color_system="truecolor")
        console.print(EXPLAINED)
        written = file.getvalue()
        assert ("\x1b[1;36m[++bad]" in written) == (colours is not None)
        console = Console(file=StringIO(), width=200)
        console.print(EXPLAINED)
        assert console.file.getvalue() == expected + "\n"  # type: ignore[attr-defined]


TAGS = ("html", "head", "meta", "title", "style", "body", "div", "p", "b", "bdi", "span", "sup", "small", "br")


class Tags(html.parser.HTMLParser):
    """The tags of a page, all of which are closed in their order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_shows_the_words_and_runs_nothing() -> None:
    page = EXPLAINED.to_html()
    found = Tags(page)
    assert page.startswith('<!DOCTYPE html>\n<html lang="">')
    assert "not-21 <b>bad+30</b> & cheap+5" in found.text
    assert {tag for tag, _ in found.seen} <= set(TAGS)
    assert ("p", {"dir": "auto", "style": "overflow-wrap:anywhere"}) in found.seen
    assert EXPLAINED._repr_html_() in page
    colours = [attributes["style"] for tag, attributes in found.seen if tag == "span"]
    assert [style and style.split(";")[0] for style in colours] == [
        f"background:rgba({colour})" for colour in ("214,39,40,0.42", "31,119,180,0.60", "31,119,180,0.10")
    ]


def test_a_script_in_a_text_or_a_label_stays_text(tmp_path: Path) -> None:
    script = "<script>alert(1)</script>"
    learner = fitted(checkpoint(tmp_path), [f'"{script}"'] * 3 + [f"'{script}'\ud800\x1b"] * 3)
    for label in learner.classes_:
        found = learner.explain(f'refund {script} "><img src=x onerror=alert(1)>', of=label)
        page = found.to_html()
        page.encode()
        assert {"script", "img"} & {tag for tag, _ in Tags(page).seen} == set()
        assert "<script" not in page
        assert "<img" not in page
        assert "\x1b" not in page + str(found)
        str(found).encode()


def test_an_explanation_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        EXPLAINED.label = "bad"  # type: ignore[misc]
    assert hash(EXPLAINED) == hash(EXPLAINED)


def test_a_text_whose_words_decide_nothing_says_so(tmp_path: Path) -> None:
    flat = Explanation("a b", "x", 0.5, (Word("a", 0, 1, 1e-5), Word("b", 2, 3, -1e-5)), 0, 0)
    assert str(flat).startswith("x: 50.0 %\na b\nno word changes this by itself")
    assert "<span" not in flat.to_html()
