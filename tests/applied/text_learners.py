"""Checkpoints of tiny learners of texts with random weights, vocabularies, and texts to learn from."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

import metashot
from tests.applied.learners import tiny
from tests.applied.test_labelling import knowing

LENGTH, WAYS = 64, 4
ORIGIN: dict[str, Any] = {
    "name": "texts",
    "presentation": "tokens",
    "input_shape": [2, LENGTH],
    "items": "x",
    "tokenizer": {"kind": "characters"},
    "images": None,
    "mean": None,
    "std": None,
}
SETTINGS = (
    *("data=texts", "data.root=x.csv", "backbone=textcnn", f"backbone.length={LENGTH}", "backbone.dimensions=8"),
    *("backbone.buckets=512", "backbone.channels=6"),
)
WORDS = ("backbone.tokens=words",)
TEXTS = [
    *("where is my parcel", "the parcel has not arrived", "when will my order be delivered"),
    *("i want my money back", "please refund the payment", "the refund is too low"),
]
LABELS = ["delivery"] * 3 + ["refund"] * 3
QUERIES = ["it has not arrived", "give me back my money", "我的包裹在哪里", "أين طردي", "📦❓"]


def checkpoint(folder: Path, algo: str = "protonet", *more: str, protocol: str = "running", **origin: Any) -> Path:
    """Of a learner that reads the first `LENGTH` characters of a text, or words."""
    if "backbone.tokens=words" in more:
        origin = {"tokenizer": {"kind": "words", "buckets": 512}} | origin
    return tiny(folder, algo, protocol, *SETTINGS, *more, **ORIGIN | origin)


def of_byte_pairs(folder: Path, size: int = 300, table: int = 512) -> Path:
    """A checkpoint with a vocabulary of byte pairs."""
    from metashot.data.tokenizers.vocabulary import BytePairs

    vocabulary = BytePairs(size)
    vocabulary.fit([[*TEXTS, *QUERIES]])
    more = ("backbone.tokens=bytepairs", f"backbone.buckets={table}")
    return checkpoint(folder, "protonet", *more, tokenizer=vocabulary.origin())


def knowing_texts(path: Path, seed: int = 0) -> Path:
    """The same learner, with validation classes: it tells the unknown, estimates, and says what to label next."""
    learner = metashot.load(path)
    random = np.random.default_rng(seed)
    kinds = ["sun moon star sky", "bread milk cheese egg", "car train bus tram", "cat dog cow hen"]
    texts = [" ".join(random.permutation(kind.split())[:3]) + f" {place}" for kind in kinds for place in range(20)]
    reader = learner.network.reader  # type: ignore[attr-defined]
    inputs = reader.inputs(reader.read(texts)[:], torch.device("cpu"))
    return knowing(path, inputs.view(len(kinds), 20, 2, -1))
