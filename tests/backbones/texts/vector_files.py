"""Small files of vectors with their tokenizer, as users have their own."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

tokenizers = pytest.importorskip("tokenizers")
safetensors = pytest.importorskip("safetensors.numpy")

WORDS = ["<unk>", "the", "cat", "dog", "sat", "ran", "on", "a", "mat"]
DIMENSIONS = 6


class Files(NamedTuple):
    weights: Path
    tokenizer: Path
    vectors: NDArray[np.float32]  # as the file has them

    @property
    def keys(self) -> dict[str, str]:
        return {"weights": str(self.weights), "tokenizer": str(self.tokenizer)}


def tokenizer_of_words(words: list[str]) -> str:
    """The content of a `tokenizer.json` of whole words."""
    model = tokenizers.models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    content: str = made.to_str()
    return content


def write(folder: Path, words: list[str] = WORDS, seed: int = 0) -> Files:
    """Write vectors of 16 bits for these words, and their tokenizer."""
    vectors = np.random.default_rng(seed).normal(size=(len(words), DIMENSIONS)).astype(np.float16)
    files = Files(folder / "vectors.safetensors", folder / "tokenizer.json", vectors.astype(np.float32))
    safetensors.save_file({"vectors": vectors}, files.weights)
    files.tokenizer.write_text(tokenizer_of_words(words))
    return files
