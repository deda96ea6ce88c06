"""Learners of texts in a user's hands: which texts are accepted, what becomes of long and empty ones, and saved learners."""

import collections
import copy
import os
import pickle
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metashot
from metashot.applied import network, texts
from metashot.applied.class_learner import ClassLearner, EqualExamples
from metashot.applied.export import refuse_export
from metashot.applied.learner import AskedAlone
from metashot.applied.text_learner import TextLearner
from metashot.applied.texts import EmptyTexts, TextsCut
from metashot.bad_input import BadInput, BadValue
from metashot.checkpoints.reading import read_checkpoint, write_checkpoint
from metashot.checkpoints.stored import OURS
from metashot.episodes import Examples
from tests.applied.learners import drawings, tiny
from tests.applied.text_learners import (
    LABELS,
    LENGTH,
    QUERIES,
    TEXTS,
    WORDS,
    checkpoint,
    knowing_texts,
    of_byte_pairs,
)

pytestmark = [
    pytest.mark.filterwarnings("error::metashot.applied.texts.TextsCut"),
    pytest.mark.filterwarnings("error::metashot.applied.texts.EmptyTexts"),
]
SCRIPTS = {
    "Chinese": "我的包裹在哪里？",
    "Arabic": "أين طردي؟ لم يصل بعد",
    "Hindi": "मेरा पार्सल कहाँ है",
    "Thai": "พัสดุของฉันอยู่ที่ไหน",
    "marks of direction": "\u200fאיפה\u200e החבילה\u202b שלי\u202c",
    "emoji with joiners": "👩‍👩‍👧‍👦 ❤️‍🔥 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩🇪",
    "combining characters": "e\u0301 o\u0308\u0323 " + "a" + "\u0301" * 40,
    "lone surrogates": "a \ud800 b \udfff",
    "paired surrogates": "\ud83d\ude00 fine",
    "control characters": "a\x00b\x07c\x1b[31md",
    "no word": "?!... --- ((",
    "numbers": "0049 30 1234",
}


def fitted(path: Path) -> TextLearner:
    learner = metashot.load(path, device="cpu").fit(TEXTS, LABELS)
    assert isinstance(learner, TextLearner)
    return learner


@pytest.mark.parametrize("algo", ["protonet", "matching", "snail", "baseline", "maml", "anil", "reptile", "tim"])
def test_a_learner_of_texts_answers_as_its_algorithm_does_on_their_tokens(tmp_path: Path, algo: str) -> None:
    learner = metashot.load(checkpoint(tmp_path, algo), device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, that a derivative is slow
        found = learner.fit(TEXTS, LABELS).predict_proba(QUERIES)
    assert learner.predict(QUERIES).tolist() == [learner.classes_[place] for place in found.argmax(1)]

    def inputs(given: list[str]) -> torch.Tensor:
        ids = torch.zeros(len(given), 2, LENGTH, dtype=torch.long)
        for row, text in zip(ids, given, strict=True):
            for place, letter in enumerate(text[:LENGTH]):
                row[:, place] = torch.tensor([ord(letter), 1])
        return ids[None]

    y = torch.tensor([[0, 0, 0, 1, 1, 1]])
    with torch.no_grad():
        answers = learner.algorithm(Examples(inputs(TEXTS), y), inputs(QUERIES))[0]
        expected = learner.algorithm.calibration(answers.double())[:, :2].softmax(-1)
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)


@pytest.mark.parametrize("make", [checkpoint, lambda folder: checkpoint(folder, "protonet", *WORDS), of_byte_pairs])
@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_texts_of_every_script_are_learned_asked_and_kept(tmp_path: Path, make: Callable[[Path], Path], text: str) -> None:
    if make is of_byte_pairs:
        pytest.importorskip("tokenizers")
    warnings.simplefilter("ignore", TextsCut)  # some scripts have many bytes
    path = make(tmp_path)
    learner = metashot.load(path, device="cpu").fit([*TEXTS, text, f"{text} 2"], [*LABELS, "it", "it"])
    before = learner.predict_proba([text, *QUERIES])
    assert np.isfinite(before).all()
    assert learner.predict_proba([f"  {text}\n"])[0] == pytest.approx(before[0], abs=1e-6)
    learner.save(tmp_path / "it.fewshot")
    again = metashot.load_fitted(tmp_path / "it.fewshot", device="cpu")
    assert isinstance(again, TextLearner)
    np.testing.assert_array_equal(again.predict_proba([text, *QUERIES]), before)
    shown = learner.explain(text)  # type: ignore[attr-defined]
    for written in (str(shown), shown.to_html(), *again.texts):
        written.encode()
        assert "\x1b" not in written


def test_the_kept_texts_are_those_that_were_given(tmp_path: Path) -> None:
    learner = fitted(checkpoint(tmp_path)).fit(["b\u00a0 b\n", "e\u0301", "zz"], [2, 1, 2])
    assert learner.texts == ["\u00e9", "b b", "zz"]
    assert learner.examples.x.tolist()[0] == [0xE9, -1, -1]
    assert learner.examples.x.dtype == torch.int32


class Column:
    """As a table's column: it can be counted, has one dimension, and counts its rows from anywhere."""

    shape = (6,)

    def __iter__(self) -> Any:
        return iter(TEXTS)

    def __len__(self) -> int:
        return len(TEXTS)

    def __getitem__(self, place: int) -> str:
        return {place + 7: text for place, text in enumerate(TEXTS)}[place]


@pytest.mark.parametrize(
    "given",
    [tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, object), collections.deque(TEXTS), Column(), map(str, TEXTS)],
    ids=lambda given: type(given).__name__,
)
def test_texts_may_come_in_any_sequence(tmp_path: Path, given: Any) -> None:
    path = checkpoint(tmp_path)
    expected = fitted(path).predict_proba(QUERIES)
    np.testing.assert_array_equal(metashot.load(path, device="cpu").fit(given, LABELS).predict_proba(QUERIES), expected)


def test_a_column_of_pandas_may_be_given(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"text": TEXTS, "label": LABELS}, index=range(7, 13))
    learner = metashot.load(checkpoint(tmp_path)).fit(table["text"], table["label"])
    assert learner.score(table["text"], table["label"]) == learner.score(TEXTS, LABELS)
    with pytest.raises(BadValue, match="are a table with columns"):
        learner.predict(table)
    with pytest.raises(BadValue, match="text 1 is missing"):
        learner.predict(pandas.Series(["a", None, "b"]))


class Table:
    columns = ("text",)

    def __iter__(self) -> Any:
        return iter(self.columns)


REFUSED: dict[str, tuple[Any, str]] = {
    "one text": ("where is it", r"one text was given instead of a list of them: did you mean \['where is it'\]\?"),
    "bytes": (b"where", "texts=b'where' cannot be used; allowed: a list of texts"),
    "bytes in a list": (["a", b"b"], r"text 1 is bytes and not text: decode it first, as in value\.decode"),
    "an array of bytes": (np.array([b"a", b"b"]), "text 0 is bytes"),
    "none": (["a", "b", None], r"text 2 is missing \(None\)"),
    "nan": (["a", float("nan")], r"text 1 is missing \(NaN\)"),
    "a number": (["a", 5], "text 1 is of the type int and not text: 5"),
    "numbers": (np.zeros(3), "text 0 is of the type float64 and not text"),
    "a path": ([Path("a.txt"), "b"], r"text 0 is a path.*read the file first"),
    "a dictionary": ({"a": 1}, "cannot be used; allowed: a list of texts"),
    "a set": ({"a"}, "cannot be used; allowed: a list of texts"),
    "nothing": (None, "texts=None cannot be used"),
    "a table": (Table(), "are a table with columns"),
    "a matrix": (np.array([["a", "b"]]), r"texts of the shape \(1, 2\) cannot be used"),
    "images": (drawings(2), r"texts of the shape \(2, 28, 28\).*images are for another learner"),
    "a list of images": (list(drawings(2)), "text 0 is of the type ndarray"),
    "a list of lists": ([["a"], ["b"]], "text 0 is of the type list"),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_list_of_texts_is_refused_with_its_place(tmp_path: Path, given: Any, words: str) -> None:
    learner = fitted(checkpoint(tmp_path))
    for call in (learner.predict, learner.predict_proba, learner.next_to_label, lambda x: learner.fit(x, ["a", "b"])):
        with pytest.raises(BadValue, match=words):
            call(given)
    assert learner.classes_.tolist() == ["delivery", "refund"]


def test_texts_are_no_images(tmp_path: Path) -> None:
    images = metashot.load(tiny(tmp_path, "protonet"))
    with pytest.raises(BadInput, match="where is my parcel"):
        images.fit(TEXTS, LABELS)
    with pytest.raises(BadInput, match=r"explain\(\) is for learners of texts, and this protonet was trained on glyphs"):
        images.explain("a text")
    with pytest.raises(BadValue, match="has a ClassLearner, and this is a TextLearner"):
        TextLearner(images.checkpoint).fit(TEXTS, LABELS)
    with pytest.raises(BadValue, match="has a TextLearner, and this is a ClassLearner"):
        ClassLearner(checkpoint(tmp_path)).fit(drawings(2), [0, 1])
    with pytest.raises(BadValue, match="ink=dark is for learners of drawings"):
        metashot.load(checkpoint(tmp_path), ink="dark")
    pytest.importorskip("onnx")
    with pytest.raises(BadInput, match="export is for learners of images, and this protonet was trained on texts"):
        refuse_export(metashot.load(checkpoint(tmp_path)))


@pytest.mark.parametrize("text", ["", "  \n", "\x00", "\ud800", "\u200f", "\u200b\u2060"])
def test_an_empty_example_is_refused_and_an_empty_query_means_nothing(tmp_path: Path, text: str) -> None:
    learner = fitted(knowing_texts(checkpoint(tmp_path)))
    with pytest.raises(BadValue, match=r"^text 2 (is empty|has nothing that can be read), so that nothing can be learned"):
        learner.fit(["a", "b", text], [0, 1, 1])
    asked = [TEXTS[0], text, TEXTS[3]]
    with pytest.warns(EmptyTexts, match=r"^1 of 3 texts has nothing to read \(the first: text 1\), so that its answer"):
        labels, found = learner.predict(asked), learner.predict_proba(asked)
    assert labels[1] in learner.classes_
    assert np.isfinite(found).all()
    for together in (False, True):
        with pytest.warns(EmptyTexts):
            answers = learner.predict(asked, unknown=1e-9, together=together)
        assert answers[1] == "unknown"
    with pytest.raises(BadValue, match="nothing to read"):
        learner.explain(text)


def test_no_query_has_no_answer(tmp_path: Path) -> None:
    learner = fitted(checkpoint(tmp_path))
    for call in (learner.predict, learner.predict_proba, learner.next_to_label):
        with pytest.raises(BadValue, match="no text was given"):
            call([])
    with pytest.raises(BadValue, match="no text was given"):
        learner.fit([], [])


@pytest.mark.parametrize("make", [checkpoint, lambda folder: checkpoint(folder, "protonet", *WORDS), of_byte_pairs])
def test_a_text_of_a_megabyte_is_cut_counted_and_kept_small(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    if make is of_byte_pairs:
        pytest.importorskip("tokenizers")
    huge = "where is my parcel " * 55_000
    assert len(huge) > 10**6
    learner = metashot.load(make(tmp_path), device="cpu")
    with pytest.warns(TextsCut, match=rf"^1 of 7 texts is longer .* it reads {LENGTH} tokens of a text, and at most 1,280 "):
        learner.fit([*TEXTS, huge], [*LABELS, "delivery"])
    assert learner.examples.x.shape[1] <= 20 * LENGTH
    with pytest.warns(TextsCut, match=r"^2 of 3 texts are longer") as caught:
        long = learner.predict_proba(["short", huge, huge])
    assert caught[0].filename == __file__
    with pytest.warns(TextsCut):
        np.testing.assert_allclose(learner.predict_proba([huge[:2000]])[0], long[1], atol=1e-6)
    learner.save(tmp_path / "it.fewshot")
    again = metashot.load_fitted(tmp_path / "it.fewshot", device="cpu")
    with pytest.warns(TextsCut):
        np.testing.assert_array_equal(again.predict_proba(["short", huge, huge]), long)


def test_texts_are_counted_as_cut_where_tokens_or_characters_are_left_out(tmp_path: Path) -> None:
    learner = metashot.load(checkpoint(tmp_path, "protonet", *WORDS))
    reader = learner.network.reader  # type: ignore[attr-defined]
    few, many, long = "a " * LENGTH, "a " * (LENGTH + 1), "a" * (20 * LENGTH + 1)
    assert [reader.read([text]).cut for text in (few, many, long)] == [0, 1, 1]
    assert reader.read([few, many, long, many]).cut == 3
    for given, cut in (([few, many], 1), ([few, long], 1), ([long, many], 2)):
        with pytest.warns(TextsCut, match=f"^{cut} of 2 texts"):
            learner.fit(given, [0, 1])
    learner.fit([few, "b"], [0, 1])


def test_a_query_is_read_once_and_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_AT_ONCE", 4)
    monkeypatch.setattr(network, "_AT_ONCE", 3)
    learner = metashot.load(knowing_texts(checkpoint(tmp_path)), device="cpu")
    tokenizer = learner.network.reader._presentation.tokenizer  # type: ignore[attr-defined]
    counts, encode = [], tokenizer.encode

    def counting(given: list[str], length: int) -> Any:
        counts.append(len(given))
        return encode(given, length)

    monkeypatch.setattr(tokenizer, "encode", counting)
    learner.fit(TEXTS, LABELS)
    assert counts == [4, 2]
    counts.clear()
    learner.estimate()  # type: ignore[attr-defined]
    found = learner.predict([*QUERIES, *TEXTS], unknown=0.05)
    assert counts == [4, 4, 3]
    counts.clear()
    read = learner.read([*QUERIES, *TEXTS])  # type: ignore[attr-defined]
    labels = learner.classes_[learner.probabilities(read).argmax(1)].astype(object)  # type: ignore[attr-defined]
    labels[learner.unknown(read, 0.05, False)] = "unknown"  # type: ignore[attr-defined]
    assert counts == [4, 4, 3]
    assert labels.tolist() == found.tolist()


def test_answers_do_not_depend_on_what_is_asked_beside(tmp_path: Path) -> None:
    learner = fitted(checkpoint(tmp_path))
    alone = np.concatenate([learner.predict_proba([query]) for query in QUERIES])
    with pytest.warns(TextsCut):
        beside = learner.predict_proba([*QUERIES, "a long text " * 20])
    np.testing.assert_allclose(beside[:-1], alone, atol=1e-6)


def test_many_queries_take_little_memory(tmp_path: Path) -> None:
    """One long text does not make room for as much beside each of the others."""
    learner = fitted(checkpoint(tmp_path, "protonet", "backbone.length=8192", input_shape=[2, 8192]))
    read = learner.read(["a", "b" * 8192] + ["it has not arrived"] * 20_000)
    assert len(read) == 20_002
    assert read._tokens.nbytes + read._ends.nbytes < 2_000_000
    assert read[1:3].shape == (2, 8192)
    assert read[2:4].tolist() == [[ord(letter) for letter in "it has not arrived"]] * 2


def test_equal_texts_are_told(tmp_path: Path) -> None:
    learner = metashot.load(knowing_texts(checkpoint(tmp_path)), device="cpu")
    learner.fit([*TEXTS, TEXTS[0] + " "], [*LABELS, LABELS[0]])
    with pytest.warns(EqualExamples, match="1 example is a copy of another"):
        learner.estimate()  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore::metashot.applied.labelling.NotBetterThanRandom")
def test_unknown_estimate_and_what_to_label_next_are_as_for_images(tmp_path: Path) -> None:
    learner = fitted(knowing_texts(checkpoint(tmp_path)))
    learner.save(tmp_path / "it.fewshot")
    again: Any = metashot.load_fitted(tmp_path / "it.fewshot", device="cpu")
    assert again.estimate() == learner.estimate()
    assert set(learner.predict([*TEXTS, *QUERIES], unknown=0.5)) > {"unknown"}
    found = learner.next_to_label(QUERIES, n=2)
    assert str(found).startswith("2 texts to label next, ")
    assert again.next_to_label(QUERIES, n=2).indices.tolist() == found.indices.tolist()
    with pytest.raises(BadValue, match="n=9 cannot be used; allowed: a whole number from 1 to the number of texts, 5"):
        learner.next_to_label(QUERIES, n=9)
    maml = metashot.load(checkpoint(tmp_path, "maml"), device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        maml.fit(TEXTS, LABELS)
    with pytest.raises(BadInput, match=r"use one such as protonet, or label any texts|use one such as protonet"):
        maml.next_to_label(QUERIES)
    with pytest.warns(AskedAlone):
        metashot.load(checkpoint(tmp_path, "tim"), device="cpu").fit(TEXTS, LABELS).predict(QUERIES[:1])


def test_messages_speak_of_texts(tmp_path: Path) -> None:
    learner = metashot.load(checkpoint(tmp_path))
    with pytest.raises(BadInput, match=r"call fit\(texts, labels\) first"):
        learner.predict(QUERIES)
    with pytest.raises(BadInput, match="6 texts and 2 labels were given"):
        learner.fit(TEXTS, [0, 1])
    with pytest.raises(BadInput, match="one label for each text"):
        learner.fit(TEXTS, "ab")
    with pytest.raises(BadInput, match="leave such texts out"):
        learner.fit(TEXTS, [float("nan")] * 6)
    assert repr(learner.fit(TEXTS, LABELS)) == "<TextLearner: protonet trained on texts, fitted to 2 classes>"


def test_copied_and_pickled_learners_answer_as_before(tmp_path: Path) -> None:
    paths = [checkpoint(tmp_path, "protonet", *WORDS)]
    if pytest.importorskip("tokenizers"):
        paths.append(of_byte_pairs(tmp_path))
    for path in paths:
        learner = fitted(path)
        path.unlink()
        for other in (copy.deepcopy(learner), copy.copy(learner), pickle.loads(pickle.dumps(learner))):
            np.testing.assert_array_equal(other.predict_proba(QUERIES), learner.predict_proba(QUERIES))
            assert other.texts == learner.texts


def test_threads_that_fit_and_ask_get_answers_of_one_fit(tmp_path: Path) -> None:
    learner, tasks = metashot.load(checkpoint(tmp_path), device="cpu"), [(TEXTS[1:5], LABELS[1:5]), (TEXTS, list("xxyyzz"))]
    expected = {}
    for given, labels in tasks:
        found = learner.fit(given, labels).predict_proba(QUERIES)
        expected[found.shape[1]] = found
    errors: list[BaseException] = []

    def work(ask: bool) -> None:
        try:
            for given, labels in tasks * 20:
                if not ask:
                    learner.fit(given, labels)
                    continue
                found = learner.predict_proba(QUERIES)
                np.testing.assert_allclose(found, expected[found.shape[1]], atol=1e-5)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(place > 1,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_that_is_forked_after_an_answer_can_answer_too(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    torch.set_num_threads(1)
    learner = fitted(of_byte_pairs(tmp_path))
    expected = learner.predict(QUERIES).tolist()
    child = os.fork()
    if child == 0:
        os._exit(0 if learner.predict(QUERIES).tolist() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "of pixels": lambda content: content["origin"].pop("presentation"),
    "of features": lambda content: content["origin"].update(presentation="features"),
    "of nothing": lambda content: content["origin"].update(presentation=5),
    "no tokenizer": lambda content: content["origin"].pop("tokenizer"),
    "another tokenizer": lambda content: content["origin"].update(tokenizer={"kind": "words", "buckets": 512}),
    "a tokenizer of no kind": lambda content: content["origin"].update(tokenizer={"kind": "any"}),
    "a tokenizer that is text": lambda content: content["origin"].update(tokenizer="characters"),
    "a vocabulary of nothing": lambda content: content["origin"].update(
        tokenizer={"kind": "json", "json": torch.zeros(9, dtype=torch.uint8), "marks": False}
    ),
    "a vocabulary of numbers": lambda content: content["origin"].update(
        tokenizer={"kind": "json", "json": torch.zeros(9), "marks": False}
    ),
    "longer than its network reads": lambda content: content["origin"].update(input_shape=[2, 65_536]),
    "of three rows": lambda content: content["origin"].update(input_shape=[3, LENGTH]),
    "surrogates": lambda content: content["x"][0, :1].fill_(0xD800),
    "beyond Unicode": lambda content: content["x"][0, :1].fill_(0x110000),
    "below the padding": lambda content: content["x"][0, :1].fill_(-2),
    "control characters": lambda content: content["x"][0, :1].fill_(0x1B),
    "late control characters": lambda content: content["x"][0, :1].fill_(0x9B),
    "a gap": lambda content: content["x"][0, 1:2].fill_(-1),
    "an empty text": lambda content: content["x"][0].fill_(-1),
    "no characters": lambda content: content.update(x=content["x"][:, :0]),
    "longs": lambda content: content.update(x=content["x"].long()),
    "bytes": lambda content: content.update(x=content["x"].clamp(0, 200).byte()),
    "one dimension": lambda content: content.update(x=content["x"][:, 0].clone()),
    "three dimensions": lambda content: content.update(x=content["x"][..., None]),
    "a text again and again": lambda content: content.update(
        x=content["x"][:1].expand(10**9, -1), y=torch.zeros(1, dtype=torch.int64).expand(10**9)
    ),
    "texts that are too long": lambda content: content.update(x=torch.full((6, 100_001), 97, dtype=torch.int32)),
    "more labels": lambda content: content.update(y=torch.arange(7)),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_fitted_learner_that_is_not_what_it_says_is_refused(tmp_path: Path, change: Any) -> None:
    fitted(checkpoint(tmp_path)).save(tmp_path / "it.fewshot")
    content = copy.deepcopy(torch.load(tmp_path / "it.fewshot", weights_only=True))
    change(content)
    torch.save(content, tmp_path / "it.fewshot")
    with pytest.raises(BadInput, match=r"it\.fewshot"):
        metashot.load_fitted(tmp_path / "it.fewshot")


def test_a_vocabulary_with_ids_beyond_the_vectors_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    assert fitted(of_byte_pairs(tmp_path, size=300, table=301)).is_fitted
    path = of_byte_pairs(tmp_path, size=300, table=290)
    with pytest.raises(BadInput, match=r"cannot be used: .*tokenizer.* does not fit the network"):
        metashot.load(path)
    from tokenizers import Tokenizer, models

    sparse = of_byte_pairs(tmp_path)
    content = read_checkpoint(sparse)
    vocabulary = Tokenizer(models.WordLevel({"where": 5, "is": 10**6}, unk_token="where")).to_str().encode()
    packed = torch.frombuffer(bytearray(zlib.compress(vocabulary)), dtype=torch.uint8)
    content[OURS]["origin"]["tokenizer"]["json"] = packed
    write_checkpoint(content, sparse)
    with pytest.raises(BadInput, match=r"cannot be used: .*tokenizer.* does not fit the network"):
        metashot.load(sparse)


def test_without_the_extra_a_vocabulary_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers")
    path = of_byte_pairs(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BadInput, match=r"needs the package tokenizers, which is not installed: pip install"):
        metashot.load(path)
    assert fitted(checkpoint(tmp_path)).is_fitted
