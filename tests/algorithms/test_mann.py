"""MANN against the paper's memory, written out with loops over heads and places, one sequence at a time."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.model.mann import Mann, in_turns
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Classification

WAYS, HEADS, PLACES, WIDTH, UNITS, DECAY, FEATURES = 3, 2, 6, 4, 5, 0.9, 6
Vector = NDArray[np.float64]


class Pixels(Backbone):
    """An image's features are its pixels."""

    def __init__(self) -> None:
        super().__init__((1, 2, 3), "none")
        self.feature_shape = (FEATURES,)

    def forward(self, images: Tensor, support: int) -> Tensor:
        return images.flatten(2)


def mann(controller: str = "lstm", separate_writes: bool = True, **settings: Any) -> Mann:
    """With weights so large that every part of it matters."""
    torch.manual_seed(0)
    sizes = {"units": UNITS, "places": PLACES, "width": WIDTH, "heads": HEADS, "decay": DECAY, "strength": 3.0} | settings
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    kind: Any = controller
    made = (
        Mann(Pixels(), Classification(WAYS), controller=kind, separate_writes=separate_writes, optimizer=optimizer, **sizes)
        .double()
        .eval()
    )
    for buffer in made.buffers():
        buffer.uniform_(0.5, 1.5)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name != "log_strength":
                parameter.uniform_(-0.9, 0.9)
            else:
                parameter.copy_(torch.tensor([[1.0], [1.5]]))
    return made


def random_episode(shots: int = 2, queries: int = 2, tasks: int = 2, seed: int = 1) -> Episode:
    generator = torch.Generator().manual_seed(seed)

    def examples(each: int) -> Examples:
        labels = torch.arange(WAYS).repeat_interleave(each)
        y = torch.stack([labels[torch.randperm(len(labels), generator=generator)] for _ in range(tasks)])
        return Examples(torch.randn(*y.shape, 1, 2, 3, generator=generator, dtype=torch.float64), y)

    number = torch.arange(tasks) + 7
    return Episode(examples(shots), examples(queries), number, torch.arange(WAYS).expand(tasks, -1))


def sigmoid(x: Vector) -> Vector:
    result: Vector = 1 / (1 + np.exp(-x))
    return result


def logits_by_hand(made: Mann, sequence: list[tuple[Vector, int]]) -> list[Vector]:
    """The logits at each presentation of a sequence of features and labels."""
    weights = {name: value.detach().numpy() for name, value in made.named_parameters()}

    def linear(name: str, x: Vector) -> Vector:
        result: Vector = weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]
        return result

    h, c, label = np.zeros(UNITS), np.zeros(UNITS), np.zeros(WAYS)
    memory, usage = np.zeros((PLACES, WIDTH)), np.zeros(PLACES)
    read_weights, read = np.zeros((HEADS, PLACES)), np.zeros(HEADS * WIDTH)
    logits = []
    for x, y in sequence:
        spread = np.sqrt(made.standard.running_var.numpy() + 1e-5)
        x = (x - made.standard.running_mean.numpy()) / spread * weights["standard.weight"] + weights["standard.bias"]
        given = np.concatenate([x, label, read])
        if "controller.weight_ih" in weights:
            gates = weights["controller.weight_ih"] @ given + weights["controller.bias_ih"]
            gates = gates + weights["controller.weight_hh"] @ h + weights["controller.bias_hh"]
            i, f, g, o = gates.reshape(4, UNITS)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            h = np.tanh(linear("controller", given))
        keys = np.tanh(linear("keys", h)).reshape(HEADS, WIDTH)
        adds = np.tanh(linear("writes", h)).reshape(HEADS, WIDTH) if "writes.weight" in weights else keys
        alpha = sigmoid(linear("alpha", h))
        least = sorted(range(PLACES), key=lambda place: usage[place])[:HEADS]  # the first ones among equals
        for place in least:
            memory[place] = 0
        next_usage = DECAY * usage
        for head in range(HEADS):
            for place in range(PLACES):
                to_read, to_unused = alpha[head] * read_weights[head, place], (1 - alpha[head]) * (place == least[head])
                memory[place] += to_read * adds[head] + to_unused * keys[head]
                next_usage[place] += to_read + to_unused
        for head in range(HEADS):
            cosines = []
            for place in range(PLACES):
                lengths = np.sqrt((keys[head] @ keys[head] + 1e-8) * (memory[place] @ memory[place] + 1e-8))
                cosines.append(float(keys[head] @ memory[place] / lengths))
            shares = np.exp(np.exp(weights["log_strength"][head, 0]) * np.array(cosines))
            read_weights[head] = shares / shares.sum()
            read[head * WIDTH : (head + 1) * WIDTH] = sum(
                share * row for share, row in zip(read_weights[head], memory, strict=True)
            )
            next_usage += read_weights[head]
        usage = next_usage
        logits.append(linear("scores", np.concatenate([h, read])))
        label = np.eye(WAYS)[y]
    return logits


def sequence_of(support: Examples, task: int) -> list[tuple[Vector, int]]:
    """The support set as it is shown: the first example of each class by label, then the second ones."""
    x, y = support.x[task].flatten(1).numpy(), support.y[task].tolist()
    seen = [y[:place].count(label) for place, label in enumerate(y)]
    return [(x[place], y[place]) for place in sorted(range(len(y)), key=lambda place: (seen[place], y[place]))]


@pytest.mark.parametrize("separate_writes", [True, False], ids=["own-writes", "keys"])
@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_queries_are_answered_as_the_last_presentation_of_a_sequence_of_their_own(
    controller: str, separate_writes: bool
) -> None:
    made, episode = mann(controller, separate_writes), random_episode()
    with torch.no_grad():
        logits = made(episode.support, episode.query.x)
    for task in range(2):
        for place, query in enumerate(episode.query.x[task].flatten(1).numpy()):
            expected = logits_by_hand(made, [*sequence_of(episode.support, task), (query, 0)])[-1]
            np.testing.assert_allclose(logits[task, place].numpy(), expected, rtol=1e-8, atol=1e-9)
    assert logits.std(1).min() > 1e-4


@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_training_presents_all_examples_in_one_sequence_with_the_label_one_step_late(controller: str) -> None:
    made, episode = mann(controller), random_episode(shots=1, queries=3)
    with torch.no_grad():
        presented, trained = made.presentations(episode), made.training_loss(episode)
    losses = []
    for task in range(2):
        x = torch.cat([episode.support.x[task], episode.query.x[task]]).flatten(1).numpy()
        y = torch.cat([episode.support.y[task], episode.query.y[task]]).tolist()
        order = presented.order[task].tolist()
        assert sorted(order) == list(range(len(y)))
        expected = logits_by_hand(made, [(x[place], y[place]) for place in order])
        np.testing.assert_allclose(presented.logits[task].numpy(), np.stack(expected), rtol=1e-8, atol=1e-9)
        assert presented.y[task].tolist() == [y[place] for place in order]
        for query in range(3 * WAYS):
            answered = trained.answers[task, query].numpy()
            np.testing.assert_allclose(answered, expected[order.index(WAYS + query)], rtol=1e-8, atol=1e-9)
        losses += [
            F.cross_entropy(torch.from_numpy(logits), torch.tensor(y[place])).item()
            for logits, place in zip(expected, order, strict=True)
        ]
    assert trained.loss.item() == pytest.approx(np.mean(losses), rel=1e-9)


def test_a_label_is_seen_by_later_presentations_alone() -> None:
    made, episode = mann(), random_episode(shots=1, queries=3)
    with torch.no_grad():
        before = made.presentations(episode)
        for place in range(4 * WAYS):
            position = int(before.order[0, place])
            part = episode.support if position < WAYS else episode.query
            part.y[0, position if position < WAYS else position - WAYS] += 1
            part.y.remainder_(WAYS)
            after = made.presentations(episode).logits[0]
            assert torch.equal(after[: place + 1], before.logits[0, : place + 1])
            assert place + 1 == len(after) or not torch.equal(after[place + 1], before.logits[0, place + 1])
            before = made.presentations(episode)


def test_the_order_of_a_sequence_depends_on_its_number_alone() -> None:
    made, episode = mann(), random_episode(shots=1, queries=3, tasks=3)
    whole = made.presentations(episode).order
    alone = torch.cat([made.presentations(part).order for part in episode.parts(1)])
    assert torch.equal(whole, alone)
    assert len({tuple(order) for order in whole.tolist()}) == 3


def test_classes_take_turns_whatever_the_order_in_which_they_are_given() -> None:
    y = torch.tensor([[2, 2, 0, 1, 0, 2], [0, 1, 2, 2, 1, 0]])
    assert in_turns(y, WAYS).tolist() == [[2, 3, 0, 4, 1, 5], [0, 1, 2, 5, 4, 3]]
    made, episode = mann(), random_episode()
    order = episode.support.y.argsort(dim=1, stable=True)
    turned = Examples(
        torch.stack([x[places] for x, places in zip(episode.support.x, order, strict=True)]),
        episode.support.y.gather(1, order),
    )
    assert not torch.equal(turned.y, episode.support.y)
    with torch.no_grad():
        expected = made(episode.support, episode.query.x)
        torch.testing.assert_close(made(turned, episode.query.x), expected, rtol=1e-10, atol=0)


def test_queries_do_not_affect_each_other_however_many_are_answered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    made, episode = mann(), random_episode()
    with torch.no_grad():
        whole = made(episode.support, episode.query.x)
        alone = torch.cat([made(episode.support, one) for one in episode.query.x.split(1, dim=1)], dim=1)
        monkeypatch.setattr("metashot.algorithms.model.mann._AT_ONCE", 2 * 2 * PLACES * WIDTH)
        in_parts = made(episode.support, episode.query.x)
    torch.testing.assert_close(alone, whole)
    torch.testing.assert_close(in_parts, whole)


def test_each_head_gets_a_least_used_place_of_its_own_the_first_ones_among_equals() -> None:
    usage = torch.tensor([[0.0] * PLACES, [0.5, 0.1, 0.3, 0.1, 0.0, 0.9]], dtype=torch.float64)
    assert mann().least_used(usage).argmax(-1).tolist() == [[0, 1], [4, 1]]


def test_there_are_places_for_all_heads() -> None:
    with pytest.raises(BadInput, match=r"algo\.places=1 cannot be used with algo\.heads=2"):
        mann(places=1)


def test_labels_are_bound_within_a_few_hundred_steps() -> None:
    """Classes and their labels are drawn anew in every task: only the memory can know them."""
    made = mann("feedforward", units=50, places=20, width=20, strength=10.0).train()
    torch.manual_seed(0)
    for module in made.modules():
        if isinstance(module, torch.nn.Linear):
            module.reset_parameters()
    made.standard.load_state_dict(Normalisation(FEATURES, "running").state_dict())
    made.log_strength.data.fill_(2.3)
    descent = torch.optim.Adam(made.parameters(), 0.005)
    generator = torch.Generator().manual_seed(0)

    def episode(number: int, tasks: int = 16) -> Episode:
        prototypes = torch.randn(tasks, WAYS, FEATURES, generator=generator, dtype=torch.float64)
        labels = [torch.arange(WAYS).repeat_interleave(each).expand(tasks, -1) for each in (1, 3)]
        support, query = (Examples(prototypes[:, y[0]].view(tasks, -1, 1, 2, 3), y) for y in labels)
        return Episode(support, query, torch.arange(tasks) + number, labels[0])

    for step in range(200):
        descent.zero_grad()
        made.training_loss(episode(16 * step)).loss.backward()
        descent.step()
    with torch.no_grad():
        asked = episode(10**6, tasks=50)
        accuracy = (made.eval()(asked.support, asked.query.x).argmax(-1) == asked.query.y).double().mean()
    assert accuracy > 0.8
