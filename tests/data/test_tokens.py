"""How texts become tokens: each kind of tokenizer, the vocabulary that is trained, and the folder where tokens are kept."""

import json
import multiprocessing
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metashot.bad_input import BadInput
from metashot.checkpoints.stored import refuse_broken_origin
from metashot.data import token_bank as module
from metashot.data.bank import Bank
from metashot.data.presentation.tokens import Tokens
from metashot.data.token_bank import token_bank, train_vocabulary
from metashot.data.tokenizers.characters import Characters
from metashot.data.tokenizers.described import tokenizer_of
from metashot.data.tokenizers.tokenizer import Tokenizer
from metashot.data.tokenizers.vocabulary import BytePairs, Vocabulary
from metashot.data.tokenizers.words import Words
from metashot.sources.texts.code_points import PADDING, code_points
from tests.sources.texts.small_texts import texts_of_class

TEXTS = ["hello world", "", "你好，世界 hello", "👩‍👩‍👧 مرحبا", "a" * 100, "\U0010ffff", "don't"]


def bank_of(texts: list[str], classes: int = 1) -> Bank:
    each = len(texts) // classes
    return Bank(code_points(texts, 1000)[0], [str(label) for label in range(classes)], np.full(classes, each))


def corpus() -> list[str]:
    return [text for label in range(10) for text in texts_of_class(label, 20)]


def trained(size: int = 300) -> BytePairs:
    tokenizer = BytePairs(size)
    tokenizer.fit([corpus()])
    return tokenizer


def tokenizers() -> dict[str, Tokenizer]:
    return {"characters": Characters(), "words": Words(50), "byte pairs": trained()}


@pytest.mark.parametrize("kind", ["characters", "words", "byte pairs"])
@pytest.mark.parametrize("length", [1, 5, 300])
def test_ids_fill_the_length_and_cut_texts_are_counted(kind: str, length: int) -> None:
    tokenizer = tokenizers()[kind]
    ids, cut = tokenizer.encode(TEXTS, length)
    assert (ids.shape, ids.dtype) == ((len(TEXTS), length), np.int32)
    whole = tokenizer.encode(TEXTS, 500).ids
    sizes = (whole != PADDING).sum(1)
    assert cut == (sizes > length).sum()
    np.testing.assert_array_equal(ids[:, : min(length, 300)], whole[:, :length])
    assert sizes[1] == 0
    real = ids != PADDING
    assert (ids[real] > 0).all()
    assert (np.diff(real.astype(int), axis=1) <= 0).all()  # padding follows the tokens


def test_words_are_in_lower_case_and_scripts_without_spaces_have_characters() -> None:
    words = Words(4000)
    one, other, chinese = words.encode(["Hello, World", "hello , WORLD", "你好 hello"], 6).ids
    np.testing.assert_array_equal(one, other)
    assert (one != PADDING).sum() == 3
    assert (chinese != PADDING).sum() == 3
    assert chinese[2] == one[0]
    assert max(words.encode(corpus(), 8).ids.max(), 0) < 4000


def test_byte_pairs_are_trained_the_same_each_time_and_have_ids_for_everything() -> None:
    one, other = trained(), trained()
    assert one.content() == other.content()
    assert one.size == 300
    ids = one.encode(["".join(map(chr, range(1, 0x500))), "\U0010ffff"], 4000).ids
    assert ids.max() < 300
    shorter = one.encode(corpus()[:20], 500).ids
    assert (shorter != PADDING).sum() < sum(len(text.encode()) for text in corpus()[:20])  # pairs were found
    assert trained(400).identity() != one.identity()


def test_a_vocabulary_travels_in_a_checkpoint(tmp_path: Path) -> None:
    tokenizer = trained()
    torch.save({"tokenizer": tokenizer.origin()}, tmp_path / "it.pt")
    again = tokenizer_of(torch.load(tmp_path / "it.pt", weights_only=True)["tokenizer"])
    assert isinstance(again, Vocabulary)
    np.testing.assert_array_equal(again.encode(TEXTS, 40).ids, tokenizer.encode(TEXTS, 40).ids)
    for kind in (Characters(), Words(77)):
        assert tokenizer_of(kind.origin()).identity() == kind.identity()


def origin_with(tokenizer: Any) -> dict[str, Any]:
    return {
        "name": "texts", "input_shape": [2, 16], "problem": "Classification", "outputs": 3, "presentation": "tokens",
        "tokenizer": tokenizer,
    }  # fmt: skip


def packed(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zlib.compress(bytes(2**26 + 1)), "more than 67,108,864 bytes"),
        (b"no zip at all", "cannot be read"),
        (zlib.compress(b"{} and more"), "no tokenizer.json"),
        (zlib.compress(b'{"model": {"type": "BPE"}}'), "no tokenizer.json"),
        (zlib.compress(b"[" * 100_000), "no tokenizer.json"),
        (zlib.compress(b""), "no tokenizer.json"),
    ],
)
def test_a_hostile_vocabulary_is_refused_with_one_message(content: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        tokenizer_of({"kind": "json", "json": packed(content), "marks": False})
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "tokenizer",
    [
        None,
        "words",
        {},
        {"kind": "bytepairs", "vocabulary": 300},
        {"kind": "words"},
        {"kind": "words", "buckets": 0},
        {"kind": "words", "buckets": 2**60},
        {"kind": "json", "marks": False},
        {"kind": "json", "json": b"{}", "marks": False},
        {"kind": "json", "json": torch.zeros(8), "marks": False},
        {"kind": "json", "json": torch.zeros(2, 4, dtype=torch.uint8), "marks": False},
        {"kind": "json", "json": torch.zeros(0, dtype=torch.uint8), "marks": False},
        {"kind": "json", "json": torch.zeros(8, dtype=torch.uint8), "marks": "yes"},
    ],
)
def test_a_broken_description_of_a_tokenizer_is_refused(tokenizer: Any) -> None:
    with pytest.raises(BadInput, match=r"tokenizer"):
        refuse_broken_origin(origin_with(tokenizer))


def test_whole_descriptions_of_tokenizers_are_accepted() -> None:
    for tokenizer in tokenizers().values():
        refuse_broken_origin(origin_with(tokenizer.origin()))


class Counting(Words):
    calls = 0

    def encode(self, texts: Any, length: int) -> Any:
        Counting.calls += 1
        return super().encode(texts, length)


def test_tokens_are_computed_once_and_again_where_they_are_damaged(tmp_path: Path) -> None:
    bank, Counting.calls = bank_of(corpus(), 10), 0

    def tokens(**of: Any) -> module.TokenBank:
        return token_bank(bank, Counting(50), 3, {"items": "it"} | of, tmp_path)

    first = tokens()
    assert (first.bank.items.dtype, first.bank.classes) == (np.int32, bank.classes)
    expected = Words(50).encode(corpus(), 3)
    np.testing.assert_array_equal(first.bank.items, expected.ids)
    assert first.cut == expected.cut > 0
    again = tokens()
    assert (Counting.calls, again.cut) == (1, first.cut)
    (folder,) = tmp_path.glob("tokens-*")
    (folder / "tokens.npy").write_bytes((folder / "tokens.npy").read_bytes()[:-1])
    np.testing.assert_array_equal(tokens().bank.items, expected.ids)
    (folder / "manifest.json").write_text("{")
    tokens()
    (folder / "tokens.npy").unlink()
    (folder / "tokens.npy").symlink_to("/etc/passwd")
    np.testing.assert_array_equal(tokens().bank.items, expected.ids)
    np.save(folder / "tokens.npy", np.zeros((3, 3)))
    np.testing.assert_array_equal(tokens().bank.items, expected.ids)
    assert Counting.calls == 5
    tokens(items="others")
    assert len(list(tmp_path.glob("tokens-*"))) == 2


def test_texts_are_tokenised_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 7)
    bank = bank_of(corpus())
    for tokenizer in tokenizers().values():
        found = token_bank(bank, tokenizer, 40, {}, tmp_path)
        np.testing.assert_array_equal(found.bank.items, tokenizer.encode(corpus(), 40).ids)


def test_a_trained_vocabulary_is_kept_and_trained_again_where_it_is_damaged(tmp_path: Path) -> None:
    bank, made = bank_of(corpus()), []
    for damage in (None, None, b"{}", b"\xff"):
        if damage is not None:
            (folder,) = tmp_path.glob("vocabulary-*")
            (folder / "tokenizer.json").write_bytes(damage)
        tokenizer = BytePairs(300)
        train_vocabulary(tokenizer, bank, {}, tmp_path)
        made.append(tokenizer.content())
    assert made == [trained().content()] * 4


def _tokenise(folder: Path, results: Any) -> None:
    tokenizer = BytePairs(300)
    train_vocabulary(tokenizer, bank_of(corpus()), {}, folder)
    results.put(token_bank(bank_of(corpus()), tokenizer, 8, {}, folder).bank.items.tobytes())


def test_two_processes_make_the_same_tokens_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_tokenise, args=(tmp_path, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert found == [trained().encode(corpus(), 8).ids.tobytes()] * 2
    assert len([path for path in tmp_path.iterdir() if not path.name.startswith(".")]) == 2


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/sys").is_dir(), reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_to_is_one_message() -> None:
    with pytest.raises(BadInput, match=r"tokens of the texts cannot be written to /proc/sys.*data\.banks") as refused:
        token_bank(bank_of(corpus()), Words(50), 3, {}, Path("/proc/sys/banks"))
    assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match=r"data\.banks"):
        train_vocabulary(BytePairs(300), bank_of(corpus()), {}, Path("/proc/sys/banks"))


def test_a_presentation_says_how_many_texts_are_cut(tmp_path: Path) -> None:
    presentation, bank = Tokens(), bank_of(["one two three", "one", "one two"])
    presentation.expect(bank.item_shape)
    wants = {"name": "it", "presentation": "tokens", "input_shape": [2, 2], "tokenizer": {"kind": "words", "buckets": 50}}
    presentation.look_like(wants, "texts")
    banks, line = presentation.prepare({"train": bank}, "it", tmp_path)
    assert line == "1 of 3 texts are longer than 2 tokens, and are cut"
    x = presentation.inputs(torch.from_numpy(np.array(banks["train"].items))[None])
    assert x.tolist()[0][1] == [[Words(50).encode(["one"], 1).ids[0, 0], 0], [1, 0]]


_NOT_SET = ("truncation", "padding", "normalizer", "post_processor", "decoder")
_PLAIN: dict[str, Any] = {"version": "1.0", "added_tokens": [], **dict.fromkeys(_NOT_SET)}
_WORDS = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "[UNK]"}
_SLOW = {"type": "Split", "pattern": {"Regex": r"(a|a)*b\z"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("pre_tokenizer", "text"),
    [({"type": "Whitespace"}, "neither a nor b"), ({"type": "FixedLength", "length": 0}, "a"), (_SLOW, "a" * 40 + "bx")],
    ids=["unknown token", "panic", "slow pattern"],
)
def test_a_vocabulary_that_breaks_when_it_is_used_is_one_message(pre_tokenizer: dict[str, Any], text: str) -> None:
    hostile = Vocabulary(json.dumps({**_PLAIN, "pre_tokenizer": pre_tokenizer, "model": _WORDS}).encode(), marks=False)
    with pytest.raises(BadInput, match="its vocabulary cannot be used on these texts"):
        hostile.encode([text], 1000)


def test_ids_without_a_vector_are_refused() -> None:
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 70}, "unk_token": "a"}
    content = json.dumps({**_PLAIN, "pre_tokenizer": {"type": "Whitespace"}, "model": model}).encode()
    assert Vocabulary(content, marks=False, rows=71).encode(["a b"], 4).ids.tolist() == [[0, 70, PADDING, PADDING]]
    with pytest.raises(BadInput, match="the tokenizer does not fit the vectors: it gives the id 70, and there are 70"):
        Vocabulary(content, marks=False, rows=70).encode(["a b"], 4)


@pytest.mark.parametrize("damage", ["ids", "cut", "pipe"])
def test_tampered_tokens_are_computed_again(tmp_path: Path, damage: str) -> None:
    items = code_points(["one text", "another text"], 20)[0]
    bank = Bank(items, ["a"], np.array([2]))
    expected = np.array(token_bank(bank, Words(50), 3, {}, tmp_path).bank.items)
    (folder,) = tmp_path.glob("tokens-*")
    if damage == "ids":
        tampered = expected.copy()
        tampered[0, 0] = 10**6
        np.save(folder / "tokens.npy", tampered)
    elif damage == "cut":
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"cut": float("inf")}))
    else:
        (folder / "manifest.json").unlink()
        os.mkfifo(folder / "manifest.json")
    again = token_bank(bank, Words(50), 3, {}, tmp_path)
    assert again.cut == 0
    assert np.array_equal(again.bank.items, expected)
