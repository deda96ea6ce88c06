"""Distributional signatures: Bao, Wu, Chang, Barzilay 2020, "Few-shot text classification with distributional signatures",
arXiv:1908.06039.

The feature of a text is a weighted sum of published word vectors. The weights are a softmax over its words, from a
bidirectional LSTM that reads two numbers of each word x, and never the word itself, so that it transfers to other classes:

    s(x) = eps / (eps + P(x))       how rare the word is in the source pool
    t(x) = 1 / H(P(y | x))          how much it says about the classes of the support set

P(y | x) is a regularised linear classifier of word vectors, in closed form as in the authors' code (get_w_target_rr): ridge
regression from the means of the support texts' vectors onto their labels, then a softmax. Like there, no gradient flows
through s and t.

Only `algo=signatures` hands the labels of the support set over; with other algorithms t is 0 for every word.

Where this departs from the paper: P(x) counts the whole training split, where the paper leaves the classes of a training
episode out of the source pool; tokens are those of the vectors' tokenizer instead of words. From the authors' code: eps is
1e-3 instead of 1e-5, padding is not counted in P(x), and entropies are at least 1e-3.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.arguments import AtLeast, Below, Positive, TokensOfText, Units
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Protocol
from metashot.backbones.texts.public_vectors import PublicVectors, vector_files
from metashot.backbones.texts.tokens import Frequencies, ids_and_mask

_LEAST_ENTROPY = 1e-3  # nats; a word that says all about the class would have an infinite t


class Signatures(Backbone):
    """Maps texts [T, N, 2, L] to features [T, N, dimensions of the vectors].

    Args:
        weights: `wordllama`, or a .safetensors file with vectors [tokens, dimensions].
        tokenizer: The `tokenizer.json` that belongs to that file; None for wordllama.
        length: The most tokens that are read of a text.
        smoothing: eps of s.
        regularisation: Lambda of the classifier behind t.
        hidden: The units of the LSTM in each direction.
        dropout: The share of the LSTM's outputs that are dropped in training.
        normalisation: Not used, since there is nothing to normalise.
    """

    starts_trained = True
    of_texts = True
    reads_labels = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        weights: str,
        tokenizer: str | None,
        length: TokensOfText,
        smoothing: Positive,
        regularisation: Positive,
        hidden: Units,
        dropout: Annotated[float, AtLeast(0), Below(1)],
        normalisation: Protocol,
    ) -> None:
        files = vector_files(weights, tokenizer)
        super().__init__(input_shape, "none")
        described = {"kind": "json", "json": files.tokenizer, "marks": False, "rows": files.rows}
        self.wants: Mapping[str, Any] = {"input_shape": [2, length], "tokenizer": described}
        self.smoothing = smoothing
        self.regularisation = regularisation
        self.dropout = dropout
        self.draws = dropout > 0
        self.vectors = PublicVectors(input_shape, files)
        self.frequencies = Frequencies(files.rows)
        self.lstm = BidirectionalLSTM(2, hidden)
        self.score = nn.Linear(2 * hidden, 1)
        self.feature_shape = (files.dimensions,)

    @property
    def is_published(self) -> bool:
        return True

    def bring_back(self) -> None:
        self.vectors.bring_back()

    @property
    def reads_frequencies(self) -> bool:
        return True

    def learn_frequencies(self, counts: Tensor) -> None:
        self.frequencies.learn(counts)

    def learn_labels(self, support: Tensor, memberships: Tensor) -> Tensor:
        """The classifier of word vectors behind t: [T, dimensions, ways].

        Args:
            support: The texts of the support sets, [T, S, 2, L].
            memberships: Their one-hot labels [T, S, ways].
        """
        ids, mask = ids_and_mask(support)
        with torch.no_grad(), torch.autocast(support.device.type, enabled=False):
            x = _mean(self.vectors(ids), mask).view(*support.shape[:2], -1).double()  # [T, S, dimensions]
            identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            dual = torch.linalg.solve_ex(x @ x.mT + self.regularisation * identity, memberships.to(x)).result
            found: Tensor = (x.mT @ dual).to(self.frequencies.shares.dtype)
        return found

    def forward(self, images: Tensor, support: int, labels: Tensor | None = None) -> Tensor:
        """Embed texts.

        Args:
            images: [T, N, 2, L].
            support: Not used.
            labels: What `learn_labels` returned for the support sets of these tasks; None if labels are not known.
        """
        tasks, count = images.shape[:2]
        ids, mask = ids_and_mask(images)  # [T * N, L]
        vectors = self.vectors(ids)  # [T * N, L, dimensions]
        weights = self._attention(ids, mask, vectors, tasks, labels)
        found: Tensor = (weights.unsqueeze(1) @ vectors).view(tasks, count, self.features)
        return found

    def _attention(self, ids: Tensor, mask: Tensor, vectors: Tensor, tasks: int, labels: Tensor | None) -> Tensor:
        """The weight of each word in its text: [T * N, L]."""
        s = self.frequencies.rarity(ids, self.smoothing)
        t = torch.zeros_like(s) if labels is None else self._task_importance(vectors, tasks, labels)
        hidden = self.lstm(torch.stack([s, t], dim=-1), mask)  # [T * N, L, 2 * hidden]
        hidden = F.dropout(hidden, self.dropout, self.training and self.dropout > 0)
        scores: Tensor = self.score(hidden).squeeze(-1)
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
        return weights * mask  # zeros for a text without words

    def _task_importance(self, vectors: Tensor, tasks: int, labels: Tensor) -> Tensor:
        """t: [T * N, L]"""
        with torch.no_grad(), torch.autocast(vectors.device.type, enabled=False):
            logits = vectors.reshape(tasks, -1, vectors.shape[-1]) @ labels  # [T, N * L, ways]
            log_p = logits.log_softmax(-1)
            entropy = -(log_p.exp() * log_p).sum(-1)
            return entropy.clamp(min=_LEAST_ENTROPY).reciprocal().view(vectors.shape[:2])


class BidirectionalLSTM(nn.Module):
    """One layer of an LSTM in both directions, which takes second derivatives and `torch.func.vmap`, as torch's does not.

    Args:
        inputs: The numbers at each place.
        hidden: The units in each direction.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        # The gates are in torch's order: input, forget, cell, output.
        self.of_inputs = nn.Parameter(torch.empty(2, inputs, 4 * hidden).uniform_(-bound, bound))
        self.of_hidden = nn.Parameter(torch.empty(2, hidden, 4 * hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(2, 1, 4 * hidden).uniform_(-bound, bound))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [M, L, 2 * hidden] of sequences x [M, L, inputs], whose places are those where the mask is true."""
        both = torch.stack([x, x.flip(1)])  # [2, M, L, inputs]
        # Padding resets the state, so that the way back starts at the last place of each sequence.
        is_there = torch.stack([mask, mask.flip(1)]).to(x.dtype).unsqueeze(-1)  # [2, M, L, 1]
        gates_of_x = both.flatten(1, 2) @ self.of_inputs + self.bias  # [2, M * L, 4 * hidden]
        gates_of_x = gates_of_x.view(*both.shape[:3], -1)
        size = self.of_hidden.shape[1]
        hidden = cell = torch.zeros_like(gates_of_x[:, :, 0, :size])
        found = []
        for place in range(x.shape[1]):
            gates = gates_of_x[:, :, place] + hidden @ self.of_hidden
            i, f, g, o = gates.chunk(4, dim=-1)
            there = is_there[:, :, place]
            cell = (f.sigmoid() * cell + i.sigmoid() * g.tanh()) * there
            hidden = o.sigmoid() * cell.tanh()
            found.append(hidden)
        states = torch.stack(found, dim=2)  # [2, M, L, hidden]
        return torch.cat([states[0], states[1].flip(1)], dim=-1)


def _mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """The mean vector of each text: [M, dimensions]."""
    weights = mask.to(vectors.dtype)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
    return (weights.unsqueeze(1) @ vectors).squeeze(1)
