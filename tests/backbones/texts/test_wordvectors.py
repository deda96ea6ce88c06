"""Published vectors of words: which are read, how they are pooled, what a checkpoint holds of them, and what is refused."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metashot import configuration
from metashot.backbones.texts.wordvectors import WordVectors
from metashot.bad_input import BadInput
from metashot.problems import Classification
from tests.backbones.texts.vector_files import DIMENSIONS, WORDS, Files, safetensors, tokenizer_of_words, write
from tests.configuration.test_configuration import composed

needs_wordllama = pytest.mark.skipif(importlib.util.find_spec("wordllama") is None, reason="wordllama is not installed")
COUNTS = torch.tensor([0, 60, 10, 10, 5, 5, 20, 40, 0])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write(tmp_path_factory.mktemp("vectors"))


def built(files: Files, **changed: Any) -> WordVectors:
    settings: dict[str, Any] = {"pooling": "mean", "smoothing": 0.05, "heads": 1, "features": None, "normalisation": "none"}
    torch.manual_seed(0)
    made = WordVectors((2, 8), **files.keys, length=8, **(settings | changed))
    made.bring_back()
    if made.reads_frequencies:
        made.learn_frequencies(COUNTS)
    return made


def inputs(rows: list[list[int]], length: int = 8) -> Tensor:
    """[1, N, 2, length]"""
    x = torch.zeros(1, len(rows), 2, length, dtype=torch.long)
    for place, row in enumerate(rows):
        x[0, place, 0, : len(row)] = torch.tensor(row, dtype=torch.long)
        x[0, place, 1, : len(row)] = 1
    return x


TEXTS = [[1, 2, 4, 6, 7, 8], [3], [0, 5, 5], []]


def test_the_mean_is_that_of_the_vectors_in_the_file(files: Files) -> None:
    found = built(files)(inputs(TEXTS), 0)[0]
    for text, feature in zip(TEXTS, found, strict=True):
        expected = files.vectors[text].mean(0) if text else np.zeros(DIMENSIONS)
        np.testing.assert_allclose(feature.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_frequent_words_count_less(files: Files) -> None:
    found = built(files, pooling="frequency")(inputs(TEXTS), 0)[0]
    shares = COUNTS.double().numpy() / COUNTS.sum().item()
    for text, feature in zip(TEXTS, found, strict=True):
        expected = np.zeros(DIMENSIONS)
        for word in text:  # equation (1) of Arora et al.
            expected += 0.05 / (0.05 + shares[word]) * files.vectors[word] / len(text)
        np.testing.assert_allclose(feature.numpy(), expected, rtol=1e-5, atol=1e-6)


def attention_by_hand(made: WordVectors, files: Files, text: list[int], read: Any) -> Any:
    """Equation (7) of Lin et al., for two heads."""
    assert made.scorer is not None
    first, second = (made.scorer[place] for place in (0, 2))  # type: ignore[index]
    w, b, u = (value.detach().double().numpy() for value in (first.weight, first.bias, second.weight))
    scores = np.tanh(read @ w.T + b) @ u.T  # [L, heads]
    weights = np.exp(scores) / np.exp(scores).sum(0)
    return (weights.T @ files.vectors[text]).reshape(-1)


@pytest.mark.parametrize("pooling", ["attention", "statistics"])
def test_attention_is_the_one_of_the_paper(files: Files, pooling: str) -> None:
    made = built(files, pooling=pooling, heads=2)
    assert made.scorer is not None
    torch.nn.init.normal_(made.scorer[2].weight)  # type: ignore[index, arg-type, union-attr]
    found = made(inputs(TEXTS), 0)[0].detach().numpy()
    shares = COUNTS.double().numpy() / COUNTS.sum().item()
    for text, feature in zip(TEXTS[:3], found, strict=False):
        read = files.vectors[text].astype(np.float64)
        if pooling == "statistics":
            length, place = np.log(np.linalg.norm(read, axis=1)) - 2.5, np.arange(len(text)) / 10
            read = np.stack([0.05 / (0.05 + shares[text]), length, place], axis=1)
        np.testing.assert_allclose(feature, attention_by_hand(made, files, text, read), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found[3], 0)


@pytest.mark.parametrize("pooling", ["attention", "statistics"])
def test_what_is_learned_starts_as_the_mean(files: Files, pooling: str) -> None:
    mean = built(files)(inputs(TEXTS), 0)
    torch.testing.assert_close(built(files, pooling=pooling)(inputs(TEXTS), 0), mean, rtol=0.05, atol=0.05)
    torch.testing.assert_close(built(files, features=4)(inputs(TEXTS), 0), mean[..., :4])


@pytest.mark.parametrize("pooling", ["mean", "frequency", "attention", "statistics"])
def test_more_padding_changes_nothing(files: Files, pooling: str) -> None:
    made = built(files, pooling=pooling)
    torch.testing.assert_close(made(inputs(TEXTS, 8), 0), made(inputs(TEXTS, 13), 0))


@pytest.mark.parametrize(("pooling", "features"), [("attention", None), ("attention", 4), ("statistics", None)])
def test_tasks_can_be_batched_by_vmap_with_second_derivatives(files: Files, pooling: str, features: int | None) -> None:
    made = built(files, pooling=pooling, features=features).double()
    x = torch.stack([inputs(TEXTS)[0], inputs(TEXTS[::-1])[0]])[:, None]
    names = {name: value for name, value in made.named_parameters() if value.requires_grad}

    def curved(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
        def loss(theta: dict[str, Tensor]) -> Tensor:
            found: Tensor = torch.func.functional_call(made, theta, (one, 4))
            return found.pow(2).sum()

        gradients = torch.func.grad(loss)(parameters)
        return sum((value.pow(2).sum() for value in gradients.values()), torch.zeros((), dtype=torch.double))

    together = torch.func.vmap(torch.func.grad(curved), (None, 0))(names, x)
    for place in range(2):
        alone = torch.func.grad(curved)(names, x[place])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][place], value)


def test_nothing_is_trained_without_attention_and_projection(files: Files) -> None:
    for pooling in ("mean", "frequency"):
        assert built(files, pooling=pooling).frozen
    projected = built(files, features=4)
    assert not projected.frozen
    assert [name for name, value in projected.named_parameters() if value.requires_grad] == [
        "projection.weight",
        "normalisation_of_features.bias",
    ]


def learner(files: Files, **changed: Any) -> Any:
    config = composed("train", "algo=protonet")
    return configuration.build_algorithm(config, backbone=built(files, **changed), problem=Classification(3))


@pytest.mark.parametrize("changed", [{}, {"pooling": "frequency"}, {"pooling": "attention", "features": 4}])
def test_a_checkpoint_names_the_vectors_and_holds_what_was_learned(files: Files, changed: dict[str, Any]) -> None:
    trained = learner(files, **changed)
    state = trained.state_dict()
    assert all(value.shape[:1] != (len(WORDS),) or name.endswith("shares") for name, value in state.items())
    assert "backbone.vectors.public_digest" in state
    other = learner(files, **changed)
    for value in [*other.parameters(), *other.buffers()]:
        value.detach().zero_()
    other.load_state_dict(state)
    torch.testing.assert_close(other.backbone(inputs(TEXTS), 0), trained.backbone(inputs(TEXTS), 0), rtol=0, atol=0)
    assert other.backbone.digest() == trained.backbone.digest()


def test_a_checkpoint_on_other_vectors_is_refused(files: Files, tmp_path: Path) -> None:
    other = write(tmp_path, seed=1)
    with pytest.raises(RuntimeError, match=r"its backbone has the published weights .*, and this one has"):
        learner(other).load_state_dict(learner(files).state_dict())
    assert learner(other).backbone.digest() != learner(files).backbone.digest()


@needs_wordllama
def test_wordllama_is_read_without_importing_it() -> None:
    import subprocess
    import sys

    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, torch; from metashot.backbones.texts.wordvectors import WordVectors as W;"
            "made = W((2, 8), 'wordllama', None, 8, 'mean', 1e-3, 1, None, 'running'); made.bring_back();"
            "print(made.features, tuple(made.vectors.network.weight.shape), 'wordllama' in sys.modules);"
            "print(made.vectors.external_data)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith("256 (32000, 256) False\nwordllama's l2_supercat_256")


def test_wordllama_that_is_missing_gets_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wordllama" else find(name))
    with pytest.raises(BadInput, match=r"the package wordllama, which is not installed: pip install 'metashot\[text\]'"):
        WordVectors((2, 8), "wordllama", None, 8, "mean", 1e-3, 1, None, "running")


@pytest.mark.parametrize("package", ["tokenizers", "safetensors"])
def test_a_missing_extra_gets_one_message(files: Files, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(
        BadInput, match=rf"need the package {package}, which is not installed: pip install 'metashot\[text\]'"
    ):
        built(files)


def test_files_that_cannot_be_used_get_one_message_each(files: Files, tmp_path: Path) -> None:
    def refused(message: str, weights: Path | str = files.weights, tokenizer: Path | str | None = files.tokenizer) -> None:
        given = str(weights), tokenizer and str(tokenizer)
        with pytest.raises(BadInput, match=message) as caught:
            WordVectors((2, 8), *given, 8, "mean", 1e-3, 1, None, "running").bring_back()
        assert "\n" not in str(caught.value)

    def table(**tensors: Any) -> Path:
        path = tmp_path / "table.safetensors"
        safetensors.save_file(tensors, path)
        return path

    other = tmp_path / "other.json"
    other.write_text(tokenizer_of_words(WORDS[:-1]))
    refused("does not fit the vectors of .*: it has 8 tokens, and they are 9", tokenizer=other)
    other.write_text("{}")
    refused("is no tokenizer.json that the package tokenizers reads", tokenizer=other)
    other.write_bytes(b"\xff\x00")
    refused("is no tokenizer.json that the package tokenizers reads", tokenizer=other)
    refused("backbone.tokenizer=.* there is no such file", tokenizer=tmp_path / "none.json")
    refused("needs the tokenizer.json that belongs to its vectors", tokenizer=None)
    refused("which has its own: leave it out", weights="wordllama")
    refused("there is no such file; allowed: wordllama, or a .safetensors file", weights=tmp_path / "none.safetensors")
    refused("it is no file", weights=tmp_path)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(files.weights.read_bytes()[:-1])
    refused("is no file of safetensors, or is damaged", weights=broken)
    broken.write_bytes(b"PK\x03\x04 a pickle in an archive")
    refused("is no file of safetensors, or is damaged", weights=broken)
    refused(r"has 2 tensors \(a, b\)", weights=table(a=files.vectors, b=files.vectors))
    refused(r"has a tensor \[9\] of F32", weights=table(a=files.vectors[:, 0].copy()))
    refused("of I64", weights=table(a=files.vectors.astype(np.int64)))
    holed = files.vectors.copy()
    holed[3, 2] = np.nan
    refused("its vectors have numbers that are not finite", weights=table(a=holed))
