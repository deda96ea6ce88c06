"""Published vectors of tokens and the tokenizer that belongs to them: of the package wordllama, or files of one's own.

No package that ships them is imported: their files are read, and cannot run code.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from metashot.backbones.published_network import PublishedNetwork
from metashot.bad_input import BadInput
from metashot.files.paths import given_path, quoted, read_file, reason_of

WORDLLAMA = "wordllama"
_WEIGHTS, _TOKENIZER = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"
_OF_WORDLLAMA = "wordllama's l2_supercat_256 (the token embeddings of Llama 2 70B, trained on unnamed pairs of texts)"
_MOST_BYTES = 2**26  # of a tokenizer
_KINDS = {"F16", "BF16", "F32", "F64"}  # of numbers in a safetensors file
_ADVICE = "pip install 'metashot[text]', or choose backbone=textcnn or backbone=ngrams, which need none"


class VectorFiles(NamedTuple):
    """The files of some vectors, and what their headers say."""

    weights: Path
    what: str  # that messages call the weights
    tensor: str  # the name of the table in the file
    rows: int
    dimensions: int
    tokenizer: bytes  # the content of its `tokenizer.json`
    external_data: str


def vector_files(weights: str, tokenizer: str | None) -> VectorFiles:
    """Find the files of vectors, and check that they fit together. The vectors are not read yet.

    Args:
        weights: `wordllama`, or a .safetensors file with a table [tokens, dimensions].
        tokenizer: the `tokenizer.json` that belongs to that file; None for wordllama.

    Raises:
        BadInput: if a package or a file is missing or broken, or the tokenizer does not fit the vectors.
    """
    for package in ("safetensors", "tokenizers"):
        if importlib.util.find_spec(package) is None:
            raise BadInput(f"vectors of words need the package {package}, which is not installed: {_ADVICE}")
    if weights == WORDLLAMA:
        if tokenizer is not None:
            raise BadInput(
                f"backbone.tokenizer={quoted(tokenizer)} is given with backbone.weights=wordllama, which has its own: leave "
                "it out"
            )
        folder = _wordllama()
        what, of_tokenizer, data = "the package wordllama", "the package wordllama", _OF_WORDLLAMA
        table, content = folder / _WEIGHTS, read_file(folder / _TOKENIZER, _MOST_BYTES)
    else:
        what, of_tokenizer = f"backbone.weights={quoted(weights)}", f"backbone.tokenizer={quoted(str(tokenizer))}"
        table = _file(weights, "backbone.weights", "wordllama, or a .safetensors file")
        if tokenizer is None:
            raise BadInput(f"{what} needs the tokenizer.json that belongs to its vectors: give backbone.tokenizer=FILE.json")
        content, data = _content(tokenizer), f"{weights}"
    name, (rows, dimensions) = _table_of(table, what)
    ids = _ids_of(content, of_tokenizer)
    if ids != rows:
        raise BadInput(f"{of_tokenizer} does not fit the vectors of {what}: it has {ids:,} tokens, and they are {rows:,}")
    return VectorFiles(table, what, name, rows, dimensions, content, data)


class PublicVectors(PublishedNetwork):
    """A frozen table of published vectors: ids [..., L] to vectors [..., L, dimensions].

    Its state holds their digest instead of them.

    Args:
        input_shape: The shape of one text.
        files: The files.
    """

    of_texts = True
    may_adapt = False
    network: nn.Embedding

    def __init__(self, input_shape: tuple[int, ...], files: VectorFiles) -> None:
        super().__init__(input_shape, "none")
        self._files = files
        self.network = nn.Embedding(files.rows, files.dimensions, _weight=torch.zeros(files.rows, files.dimensions))
        self.feature_shape = (files.dimensions,)
        self.external_data = files.external_data
        self.freeze()

    def load_published(self) -> None:
        files = self._files
        with _opened(files.weights, files.what) as opened:
            values = opened.get_tensor(files.tensor)
        if not bool(values.isfinite().all()):
            raise BadInput(f"{files.what} cannot be used: its vectors have numbers that are not finite")
        self.network.weight.copy_(values)

    def forward(self, images: Tensor, support: int = 0) -> Tensor:
        found: Tensor = self.network(images)
        return found


def _wordllama() -> Path:
    """The folder of the package, found without importing it."""
    found = importlib.util.find_spec(WORDLLAMA)
    if found is None or not found.submodule_search_locations:
        raise BadInput(
            "backbone.weights=wordllama needs the package wordllama, which is not installed: pip install 'metashot[text]' "
            "(or pip install --no-deps wordllama where numpy 1 is needed), or give backbone.weights=FILE.safetensors"
        )
    folder = Path(next(iter(found.submodule_search_locations)))
    for part in (_WEIGHTS, _TOKENIZER):
        if not (folder / part).is_file():
            raise BadInput(f"the package wordllama has no {part} in this version: pip install 'wordllama>=0.4,<0.5'")
    return folder


def _file(given: str, key: str, allowed: str) -> Path:
    file = given_path(given, key)
    if not file.is_file():
        reason = "it is no file" if file.exists() else "there is no such file"
        raise BadInput(f"{key}={quoted(given)} cannot be used: {reason}; allowed: {allowed}")
    return file


def _content(given: str) -> bytes:
    file = _file(given, "backbone.tokenizer", "a tokenizer.json")
    try:
        return read_file(file, _MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise BadInput(f"backbone.tokenizer={quoted(given)} cannot be read: {reason}") from error


def _opened(file: Path, what: str) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(str(file), "pt")
    except OSError as error:
        raise BadInput(f"{what} cannot be read: {reason_of(error)}") from error
    except SafetensorError as error:
        raise BadInput(f"{what} is no file of safetensors, or is damaged: {str(error)[:200]}") from error


def _table_of(file: Path, what: str) -> tuple[str, tuple[int, int]]:
    """The name and the shape of the only tensor of a file."""
    with _opened(file, what) as opened:
        names = sorted(opened.keys())
        if len(names) != 1:
            raise BadInput(
                f"{what} has {len(names)} tensors ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}): give a file "
                "with one, the table of vectors"
            )
        found = opened.get_slice(names[0])
        shape, kind = tuple(found.get_shape()), found.get_dtype()
    if len(shape) != 2 or min(shape) < 1 or kind not in _KINDS:
        raise BadInput(f"{what} has a tensor {list(shape)} of {kind}, and vectors are [tokens, dimensions] of F16 or F32")
    return names[0], (shape[0], shape[1])


def _ids_of(content: bytes, what: str) -> int:
    """The number of ids of a tokenizer."""
    import tokenizers

    try:
        json.loads(content)  # the package's own messages do not say what is wrong with other files
        return 1 + max(tokenizers.Tokenizer.from_buffer(content).get_vocab(with_added_tokens=True).values(), default=-1)
    except BaseException as error:  # the package raises plain exceptions, and panics that are no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{what} is no tokenizer.json that the package tokenizers reads: {reason}") from error
