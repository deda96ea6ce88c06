"""MANN: Santoro, Bartunov, Botvinick, Wierstra, Lillicrap 2016, "One-shot learning with memory-augmented neural networks",
arXiv:1605.06065 (ICML: "Meta-learning with memory-augmented neural networks").

Examples are presented one after the other, each with the label of the one before, so that labels have to be kept in an
external memory until their class comes again. A controller, an LSTM or a feed-forward network, reads the memory by cosine
similarity and writes to the places that were just read or least used (LRUA), and the logits of a presentation are computed
from its output and from what it read. Training minimises the mean loss of all presentations of a sequence.

A task's sequence is its support set, and each query is a further presentation of its own after the last support example, so
queries do not affect each other. Training presents support examples and queries in one sequence, in a random order that the
episode's number decides; with 1 shot and 9 queries this is the paper's sequence of ten presentations of each class. Where
the classes of a support set have several examples, they take turns in the order of their labels: the order of the given
examples' classes does not change the answers.

Where this departs from the paper: the controller reads the backbone's features, standardised by running averages, instead
of pixels; each of the n heads writes to one of the n least used places; the outer optimiser is Adam. The paper trains on
100,000 episodes. So that 16,000 sequences suffice, each head has a learned strength that multiplies its similarities
before the softmax, as in the neural Turing machine (Graves et al. 2014, arXiv:1410.5401), and writes its key to the least
used place but a vector of its own to the places that it read before (`separate_writes`); and the controller is feed-forward
by default, whose keys depend on an example alone from the beginning, so that the label that follows is written to where the
key is. `controller=lstm strength=1 separate_writes=false` is the paper's memory, but for the training of the strength.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.arguments import Positive, Rate, Units
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Problem
from metashot.randomness import key_of, random_words

_AT_ONCE = 2**24  # numbers in the memories of the queries that are answered together
_EPSILON = 1e-8  # added to squared lengths, since places of the memory are zero at first


class State(NamedTuple):
    """What a sequence has left behind, for B sequences."""

    h: Tensor  # [B, units], the controller's output
    c: Tensor  # [B, units], the LSTM's cell
    memory: Tensor  # [B, places, width], M
    w_r: Tensor  # [B, heads, places], the read weights
    w_u: Tensor  # [B, places], the usage weights
    r: Tensor  # [B, heads * width], what was read
    y: Tensor  # [B, ways], the label of the last presentation, zeros before the first


class Presented(NamedTuple):
    """The answers to all presentations of sequences of N examples, in the order in which they were presented."""

    logits: Tensor  # [T, N, ways]
    y: Tensor  # [T, N]
    order: Tensor  # [T, N], the positions of the examples, support examples before queries


class Mann(FeatureLearner):
    """A controller with an external memory.

    Args:
        backbone: Embeds the images.
        problem: The classification problem, which fixes the number of classes.
        controller: The kind of controller.
        units: The size of the controller's output.
        places: The number of places in the memory.
        width: The size of a place.
        heads: The number of heads, each of which reads and writes.
        decay: gamma of the usage weights.
        strength: The initial factor of the similarities; 1 as in the paper, where it is not learned.
        separate_writes: Whether a head writes a vector of its own to the places that it read before; otherwise it writes its
            key there too, as in the paper.
        optimizer: The outer optimiser and its schedule.

    Raises:
        BadInput: There are fewer places than heads.
    """

    answers_in_a_graph = False

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        controller: Literal["lstm", "feedforward"],
        units: Units,
        places: Units,
        width: Units,
        heads: Units,
        decay: Rate,
        strength: Positive,
        separate_writes: bool,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        if places < heads:
            raise BadInput(f"algo.places={places} cannot be used with algo.heads={heads}; allowed: at least as many places")
        self.fixed_ways = problem.outputs
        self.units, self.places, self.width, self.heads, self.decay = units, places, width, heads, decay
        self.standard = Normalisation(backbone.features, "running")
        inputs = backbone.features + problem.outputs + heads * width
        self.controller = nn.LSTMCell(inputs, units) if controller == "lstm" else nn.Linear(inputs, units)
        self.keys = nn.Linear(units, heads * width)
        self.writes = nn.Linear(units, heads * width) if separate_writes else None
        self.alpha = nn.Linear(units, heads)
        self.log_strength = nn.Parameter(torch.full((heads, 1), float(strength)).log())
        self.scores = nn.Linear(units + heads * width, problem.outputs)

    def summary(self, support: Examples) -> State:
        """The state after the support sets [T, S, features]."""
        with torch.autocast(support.x.device.type, enabled=False):
            order = in_turns(support.y, self.problem.outputs)
            return self._presented(*_ordered(support.x, support.y, order))[1]

    def answer(self, support: State, query: Tensor) -> Tensor:
        """Each query is presented once, to a copy of the state."""
        with torch.autocast(query.device.type, enabled=False):  # lower precision would make close logits equal
            size = max(1, _AT_ONCE // (len(query) * self.places * self.width))
            return torch.cat([self._answer(support, part) for part in torch.split(query, size, dim=1)], dim=1)

    def _answer(self, support: State, query: Tensor) -> Tensor:
        tasks, count = query.shape[:2]
        copies = State(*(value.repeat_interleave(count, dim=0) for value in support))
        return self.step(query.flatten(0, 1), copies)[0].view(tasks, count, -1)

    def training_loss(self, episode: Episode) -> TrainingStep:
        """The mean loss of all presentations, as in the paper; the answers are those to the queries among them."""
        presented = self.presentations(episode)
        place = presented.order.argsort(1)[:, episode.support.y.shape[1] :, None]  # [T, Q, 1] in the sequences
        answers = presented.logits.gather(1, place.expand(-1, -1, presented.logits.shape[-1]))
        return TrainingStep(self.problem.loss(presented.logits, presented.y), answers)

    def presentations(self, episode: Episode) -> Presented:
        """Present support examples and queries in one sequence, in a random order that depends on the episode's number."""
        x, y = (torch.cat([getattr(part, name) for part in (episode.support, episode.query)], 1) for name in ("x", "y"))
        features = x if episode.embedded else self.embed(x, support=episode.support.x.shape[1])
        if self.training:
            variances, means = torch.var_mean(features.detach(), dim=1, correction=0)
            self.standard.update_averages(torch.stack([means, variances], dim=1), 0)
        words = random_words(key_of("presentations"), episode.number.cpu().numpy(), 0, y.shape[1])
        order = torch.from_numpy(words.argsort(axis=1, kind="stable")).to(y.device)
        with torch.autocast(x.device.type, enabled=False):
            x, y = _ordered(features, y, order)
            return Presented(self._presented(x, y)[0], y, order)

    def _presented(self, x: Tensor, y: Tensor) -> tuple[Tensor, State]:
        """Present sequences [T, N, features] with labels [T, N]: the logits [T, N, ways], and the state after them."""
        state, logits = self.initial_state(x), []
        labels = F.one_hot(y, self.problem.outputs).to(x.dtype)
        for features, label in zip(x.unbind(1), labels.unbind(1), strict=True):
            answer, state = self.step(features, state)
            logits.append(answer)
            state = state._replace(y=label)  # seen by the next step
        return torch.stack(logits, dim=1), state

    def initial_state(self, x: Tensor) -> State:
        """Before the first presentation of sequences [T, ...]."""
        sizes = (
            *((self.units,), (self.units,), (self.places, self.width), (self.heads, self.places)),
            *((self.places,), (self.heads * self.width,), (self.problem.outputs,)),
        )
        return State(*(x.new_zeros(len(x), *size) for size in sizes))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Present one example [B, features] to each sequence: its logits [B, ways], and the state after it."""
        read_in = torch.cat([self._standardised(x), state.y, state.r], dim=1)
        if isinstance(self.controller, nn.LSTMCell):
            h, c = self.controller(read_in, (state.h, state.c))
        else:
            h, c = self.controller(read_in).tanh(), state.c
        k = self.keys(h).tanh().view(-1, self.heads, self.width)
        v = k if self.writes is None else self.writes(h).tanh().view_as(k)
        # Write to what was read before, and to the least used places, which are erased first.
        w_lu = self.least_used(state.w_u)  # [B, heads, places]
        alpha = self.alpha(h).sigmoid().unsqueeze(2)
        to_read, to_unused = alpha * state.w_r, (1 - alpha) * w_lu
        memory = state.memory * (1 - w_lu.sum(1)).unsqueeze(2)
        memory = memory + to_read.transpose(1, 2) @ v + to_unused.transpose(1, 2) @ k
        # Read.
        similarity = _unit(k) @ _unit(memory).transpose(1, 2)  # [B, heads, places]
        w_r = (self.log_strength.exp() * similarity).softmax(-1)
        r = (w_r @ memory).flatten(1)
        w_u = self.decay * state.w_u + (w_r + to_read + to_unused).sum(1).detach()  # no gradient: it only chooses places
        logits: Tensor = self.scores(torch.cat([h, r], dim=1))
        return logits, State(h, c, memory, w_r, w_u, r, state.y)

    def _standardised(self, x: Tensor) -> Tensor:
        """By the running averages, in training too, where later presentations must not be seen either."""
        layer = self.standard
        # The averages are updated in place before the backward pass, so it must not need them.
        return (x - layer.running_mean) * (layer.running_var + layer.epsilon).rsqrt() * layer.weight + layer.bias

    def least_used(self, w_u: Tensor) -> Tensor:
        """One of the least used places for each head, the first ones among equals: one-hot [B, heads, places]."""
        return F.one_hot(w_u.argsort(dim=1, stable=True)[:, : self.heads], self.places).to(w_u.dtype)


def _unit(x: Tensor) -> Tensor:
    return x * (x.square().sum(-1, keepdim=True) + _EPSILON).rsqrt()


def in_turns(y: Tensor, ways: int) -> Tensor:
    """The order [T, S] in which classes take turns: their first examples by label, then their second ones, and so on."""
    labels = F.one_hot(y, ways)  # [T, S, ways]
    earlier = ((labels.cumsum(1) - 1) * labels).sum(-1)  # [T, S], examples of the same class before it
    return (earlier * ways + y).argsort(dim=1, stable=True)


def _ordered(x: Tensor, y: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    return x.gather(1, order.unsqueeze(-1).expand_as(x)), y.gather(1, order)
