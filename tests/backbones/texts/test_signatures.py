"""Distributional signatures against a computation in numpy, torch's own LSTM, and as a part of other algorithms."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metashot.backbones.texts.signatures import BidirectionalLSTM, Signatures
from tests.backbones.texts.test_wordvectors import COUNTS, TEXTS, inputs
from tests.backbones.texts.vector_files import DIMENSIONS, Files, write

SUPPORT = [[1, 2, 4], [1, 3, 5], [7, 2], [3, 5, 5, 1]]
Y = [0, 1, 0, 1]
EPS, LAMBDA = 0.05, 0.7


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write(tmp_path_factory.mktemp("vectors"))


def built(files: Files, dropout: float = 0.0) -> Signatures:
    torch.manual_seed(0)
    made = Signatures((2, 8), **files.keys, length=8, smoothing=EPS, regularisation=LAMBDA, hidden=5, dropout=dropout,
                      normalisation="none")  # fmt: skip
    made.bring_back()
    made.learn_frequencies(COUNTS)
    return made.double()


def one_hot() -> Tensor:
    return nn.functional.one_hot(torch.tensor([Y])).double()


def torch_lstm(ours: BidirectionalLSTM) -> nn.LSTM:
    """torch's LSTM with the same weights."""
    inputs, hidden = ours.of_inputs.shape[1], ours.of_hidden.shape[1]
    theirs = nn.LSTM(inputs, hidden, batch_first=True, bidirectional=True).double()
    with torch.no_grad():
        for way, name in enumerate(("l0", "l0_reverse")):
            getattr(theirs, f"weight_ih_{name}").copy_(ours.of_inputs[way].T)
            getattr(theirs, f"weight_hh_{name}").copy_(ours.of_hidden[way].T)
            getattr(theirs, f"bias_ih_{name}").copy_(ours.bias[way, 0])
            getattr(theirs, f"bias_hh_{name}").zero_()
    return theirs


def signatures(files: Files, text: list[int], classifier: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """s and t of each word: [L, 2]."""
    p = COUNTS.double().numpy() / COUNTS.sum().item()
    s = EPS / (EPS + p[text])
    if classifier is None:
        return np.stack([s, np.zeros(len(text))], axis=1)
    logits = files.vectors[text].astype(np.float64) @ classifier
    likelihood = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.stack([s, -1 / (likelihood * np.log(likelihood)).sum(1)], axis=1)


def classifier_of(files: Files) -> NDArray[np.float64]:
    x = np.stack([files.vectors[text].astype(np.float64).mean(0) for text in SUPPORT])
    y = np.eye(2)[Y]
    # The primal solution; the code solves the dual one.
    return np.asarray(np.linalg.solve(x.T @ x + LAMBDA * np.eye(DIMENSIONS), x.T @ y))


def feature(files: Files, made: Signatures, text: list[int], classifier: NDArray[np.float64] | None) -> NDArray[np.float64]:
    if not text:
        return np.zeros(DIMENSIONS)
    read = torch.from_numpy(signatures(files, text, classifier))[None]
    with torch.no_grad():
        hidden = torch_lstm(made.lstm)(read)[0][0].numpy()
    scores = hidden @ made.score.weight.detach().numpy()[0] + made.score.bias.item()
    weights = np.exp(scores) / np.exp(scores).sum()
    return np.asarray(weights @ files.vectors[text].astype(np.float64))


@pytest.mark.parametrize("with_labels", [True, False])
def test_features_are_those_of_the_paper(files: Files, with_labels: bool) -> None:
    made = built(files)
    classifier = classifier_of(files) if with_labels else None
    labels = made.learn_labels(inputs(SUPPORT), one_hot()) if with_labels else None
    if labels is not None:
        np.testing.assert_allclose(labels[0].numpy(), classifier, rtol=1e-6)
    found = made(inputs(TEXTS), 0, labels)[0].detach().numpy()
    for text, one in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(one, feature(files, made, text, classifier), rtol=1e-6, atol=1e-9)


def test_labels_change_features(files: Files) -> None:
    made = built(files)
    labels = made.learn_labels(inputs(SUPPORT), one_hot())
    assert not torch.allclose(made(inputs(TEXTS), 0, labels)[0, 0], made(inputs(TEXTS), 0)[0, 0])


def test_more_padding_changes_nothing(files: Files) -> None:
    made = built(files)
    found = [made(inputs(TEXTS, length), 0, made.learn_labels(inputs(SUPPORT, length), one_hot())) for length in (8, 8 + 5)]
    torch.testing.assert_close(*found)


def test_the_lstm_takes_second_derivatives_in_vmap() -> None:
    torch.manual_seed(0)
    lstm = BidirectionalLSTM(2, 3).double()
    x, mask = torch.randn(4, 2, 5, 2, dtype=torch.double), torch.arange(5) < torch.tensor([[5], [2]])

    def curved(one: Tensor) -> Tensor:
        gradient = torch.func.grad(lambda inner: lstm(inner, mask).pow(3).sum())(one)
        return gradient.pow(2).sum()

    together = torch.func.vmap(torch.func.grad(curved))(x)
    for one, found in zip(x, together, strict=True):
        assert torch.autograd.gradcheck(curved, one.clone().requires_grad_())
        torch.testing.assert_close(found, torch.func.grad(curved)(one))


def test_no_gradient_flows_through_signatures(files: Files) -> None:
    made = built(files)
    names = {name for name, value in made.named_parameters() if value.requires_grad}
    assert names == {"lstm.of_inputs", "lstm.of_hidden", "lstm.bias", "score.weight", "score.bias"}
    assert not made.learn_labels(inputs(SUPPORT), one_hot().requires_grad_()).requires_grad


def test_dropout_is_drawn_in_training_alone(files: Files) -> None:
    made: Any = built(files, dropout=0.5)
    assert made.draws
    made.eval()
    torch.testing.assert_close(made(inputs(TEXTS), 0), made(inputs(TEXTS), 0), rtol=0, atol=0)
    made.train()
    assert not torch.equal(made(inputs(TEXTS), 0), made(inputs(TEXTS), 0))
