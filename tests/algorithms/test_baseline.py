"""Baseline and Baseline++ against their formulas, written out with loops over tasks, steps and examples."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch.nn.utils.parametrizations import weight_norm

from metashot.algorithms.optimization import Optimization
from metashot.algorithms.transfer.baseline import Baseline
from metashot.algorithms.transfer.baselinepp import BaselinePlusPlus
from metashot.algorithms.transfer.fitting import Fit
from metashot.backbones.base import Backbone
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.episodes import Episode, Examples
from metashot.problems import Classification

Array = NDArray[np.float64]
NAMES = ("baseline", "baselinepp", "normalised")
EVERY = pytest.mark.parametrize("name", NAMES)
TRAINING_CLASSES, WAYS, SCALE = 7, 3, 4.0
STEPS, RATE, MOMENTUM, DECAY, DAMPENING = 6, 0.2, 0.8, 0.05, 0.7
Y = [2, 0, 1, 1, 0, 0]  # of the support examples: classes of different sizes, in no order


class Pixels(Backbone):
    """An image's features are its pixels, times a number that is learned."""

    feature_shape = (5,)

    def __init__(self) -> None:
        super().__init__((1, 1, 5), "running")
        self.factor = torch.nn.Parameter(torch.tensor(1.5))

    def forward(self, images: torch.Tensor, support: int) -> torch.Tensor:
        return images.flatten(2) * self.factor


def learner(name: str, backbone: Backbone | None = None, dampening: float = 0.0) -> Baseline | BaselinePlusPlus:
    """ "normalised" is Baseline++ with weight normalisation."""
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "backbone": backbone or Pixels(),
        "problem": Classification(TRAINING_CLASSES),
        "fit": Fit(STEPS, RATE, MOMENTUM, DECAY, dampening),
        "optimizer": Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0),
    }
    if name == "baseline":
        return Baseline(**given).double()
    made = BaselinePlusPlus(scale=SCALE, weight_normalisation=name == "normalised", **given).double()
    if made.head.length is not None:
        with torch.no_grad():
            made.head.length.uniform_(0.5, 2.0)  # away from where training begins
    return made


def tasks(count: int = 2, queries: int = 4) -> tuple[Examples, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    support_x = torch.randn(count, len(Y), 1, 1, 5, generator=generator, dtype=torch.float64)
    query_x = torch.randn(count, queries, 1, 1, 5, generator=generator, dtype=torch.float64)
    return Examples(support_x, torch.tensor(Y).expand(count, -1)), query_x


def batches(count: int = 2, size: int = 6) -> Episode:
    """What a supervised step gets: images of all training classes, and no support set."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, size, 1, 1, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(TRAINING_CLASSES, (count, size), generator=generator)
    none = Examples(x[:, :0], y[:, :0])
    classes = torch.arange(TRAINING_CLASSES).expand(count, -1)
    return Episode(none, Examples(x, y), torch.arange(count), classes)


def softmax(scores: Array) -> Array:
    shares: Array = np.exp(scores - scores.max())
    return shares / shares.sum()


def unit(vector: Array) -> Array:
    return vector / np.sqrt((vector**2).sum())


def fitted_linear(x: Array) -> tuple[Array, Array]:
    """Gradient descent on the mean cross-entropy of a linear classifier that begins at zero."""
    weight, bias = np.zeros((WAYS, 5)), np.zeros(WAYS)
    weight_velocity, bias_velocity = np.zeros_like(weight), np.zeros_like(bias)
    for _ in range(STEPS):
        weight_gradient, bias_gradient = DECAY * weight, DECAY * bias
        for features, label in zip(x, Y, strict=True):
            error = softmax(weight @ features + bias) - np.eye(WAYS)[label]
            weight_gradient = weight_gradient + np.outer(error, features) / len(Y)
            bias_gradient = bias_gradient + error / len(Y)
        weight_velocity = MOMENTUM * weight_velocity + weight_gradient
        bias_velocity = MOMENTUM * bias_velocity + bias_gradient
        weight, bias = weight - RATE * weight_velocity, bias - RATE * bias_velocity
    return weight, bias


def fitted_cosine(x: Array) -> Array:
    """The same of a cosine classifier that begins at the mean directions of the classes."""
    weight = np.stack([np.mean([unit(f) for f, label in zip(x, Y, strict=True) if label == k], axis=0) for k in range(WAYS)])
    velocity = np.zeros_like(weight)
    for _ in range(STEPS):
        gradient = DECAY * weight
        for features, label in zip(x, Y, strict=True):
            error = softmax(SCALE * np.array([unit(w) @ unit(features) for w in weight])) - np.eye(WAYS)[label]
            for k, w in enumerate(weight):
                length = np.sqrt((w**2).sum())
                of_cosine = (unit(features) - (unit(w) @ unit(features)) * unit(w)) / length
                gradient[k] = gradient[k] + SCALE * error[k] * of_cosine / len(Y)
        velocity = MOMENTUM * velocity + gradient
        weight = weight - RATE * velocity
    return weight


def test_a_linear_classifier_is_fitted_to_each_support_set() -> None:
    support, query_x = tasks()
    answers = learner("baseline").eval()(support, query_x).detach().numpy()
    for task in range(2):
        x, queries = 1.5 * support.x[task].flatten(1).numpy(), 1.5 * query_x[task].flatten(1).numpy()
        weight, bias = fitted_linear(x)
        np.testing.assert_allclose(answers[task], queries @ weight.T + bias, atol=1e-10)


def test_a_cosine_classifier_is_fitted_to_each_support_set() -> None:
    support, query_x = tasks()
    answers = learner("baselinepp").eval()(support, query_x).detach().numpy()
    for task in range(2):
        x, queries = 1.5 * support.x[task].flatten(1).numpy(), 1.5 * query_x[task].flatten(1).numpy()
        weight = fitted_cosine(x)
        expected = [[SCALE * unit(w) @ unit(features) for w in weight] for features in queries]
        np.testing.assert_allclose(answers[task], expected, atol=1e-10)


@EVERY
@pytest.mark.parametrize("dampening", [0.0, DAMPENING])
def test_a_classifier_is_fitted_as_by_the_layers_and_the_optimiser_of_the_authors(name: str, dampening: float) -> None:
    """`torch.optim.SGD` with dampening, and torch's own weight normalisation of a linear layer."""
    support, query_x = tasks()
    made = learner(name, dampening=dampening).eval()
    answers = made(support, query_x).detach()
    for task in range(2):
        x, queries = 1.5 * support.x[task].flatten(1), 1.5 * query_x[task].flatten(1)
        layer = torch.nn.Linear(5, WAYS, bias=name == "baseline", dtype=torch.float64)
        if name == "baseline":
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        else:
            x, queries = F.normalize(x, dim=-1), F.normalize(queries, dim=-1)
            with torch.no_grad():
                layer.weight.copy_(torch.stack([x[torch.tensor(Y) == k].mean(0) for k in range(WAYS)]))
        if name == "normalised":
            layer = weight_norm(layer, dim=0)

        def scores(inputs: torch.Tensor, layer: torch.nn.Linear = layer) -> torch.Tensor:
            if name == "baseline":
                return layer(inputs)
            return SCALE * (layer(inputs) if name == "normalised" else F.linear(inputs, F.normalize(layer.weight, dim=-1)))

        descent = torch.optim.SGD(layer.parameters(), RATE, MOMENTUM, dampening, DECAY)
        for _ in range(STEPS):
            descent.zero_grad()
            F.cross_entropy(scores(x), torch.tensor(Y)).backward()
            descent.step()
        torch.testing.assert_close(answers[task], scores(queries).detach(), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("classes", "scale"), [(5, 2.0), (200, 2.0), (201, 10.0)])
def test_the_scale_of_the_authors_goes_by_the_number_of_classes(classes: int, scale: float) -> None:
    made = learner("baselinepp")
    assert isinstance(made, BaselinePlusPlus)
    made.scale = None
    features = torch.randn(1, 2, 5, dtype=torch.float64)
    (cosine,) = made.logits((torch.ones(1, classes, 5, dtype=torch.float64),), features).unbind()
    expected = scale * F.cosine_similarity(features[0], torch.ones(5, dtype=torch.float64), dim=-1)
    torch.testing.assert_close(cosine, expected[:, None].expand(-1, classes))


@EVERY
def test_training_tells_all_training_classes_apart(name: str) -> None:
    made, episode = learner(name).train(), batches()
    loss, answers, _ = made.training_loss(episode)
    weight = made.head.weight.detach().numpy()
    losses = []
    for task in range(2):
        for place, (image, label) in enumerate(zip(episode.query.x[task], episode.query.y[task], strict=True)):
            features = 1.5 * image.flatten().numpy()
            if name == "baseline":
                assert made.head.bias is not None
                expected = weight @ features + made.head.bias.detach().numpy()
            else:
                lengths = np.ones(TRAINING_CLASSES)
                if name == "normalised":
                    lengths = made.head.length.detach().numpy()
                expected = SCALE * lengths * np.array([unit(w) @ unit(features) for w in weight])
            np.testing.assert_allclose(answers[task, place].detach(), expected, atol=1e-12)
            losses.append(-np.log(softmax(expected)[int(label)]))
    assert loss.item() == pytest.approx(np.mean(losses), abs=1e-12)


@EVERY
def test_shuffled_images_are_normalised_among_themselves_where_there_is_no_support_set(name: str) -> None:
    def loss(protocol: Protocol) -> float:
        torch.manual_seed(1)
        return learner(name, MLP((1, 1, 5), [6], protocol)).train().training_loss(batches()).loss.item()

    assert loss("support") == pytest.approx(loss("transductive"), abs=1e-12)


@EVERY
def test_every_parameter_learns_from_a_step_of_training(name: str) -> None:
    made = learner(name).train()
    made.training_step([batches()], 0)["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in made.parameters())


@EVERY
def test_a_task_is_answered_alone_as_among_others_and_changes_nothing(name: str) -> None:
    made = learner(name).eval()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    support, query_x = tasks(3)
    with torch.no_grad():
        together = made(support, query_x)
        for task in range(3):
            one = slice(task, task + 1)
            alone = made(Examples(support.x[one], support.y[one]), query_x[one])
            torch.testing.assert_close(alone[0], together[task], atol=1e-12, rtol=0)
    assert all(torch.equal(before[key], value) for key, value in made.state_dict().items())
    assert not together.requires_grad


@EVERY
@pytest.mark.parametrize("protocol", ["running", "support", "none"])
def test_queries_do_not_see_each_other(name: str, protocol: Protocol) -> None:
    made = learner(name, MLP((1, 1, 5), [6], protocol)).eval()
    support, query_x = tasks()
    changed = query_x.clone()
    changed[:, -1] += 1
    difference = (made(support, changed) - made(support, query_x)).abs()
    assert difference[:, :-1].max() < 1e-12
    assert difference[:, -1].max() > 1e-6


def test_a_longer_fit_is_a_better_one() -> None:
    support, _ = tasks()

    def support_loss(name: str, steps: int) -> float:
        made = learner(name).eval()
        made.fit = Fit(steps, lr=0.05, momentum=0.5, weight_decay=0.0)
        return Classification(WAYS).loss(made(support, support.x), support.y).item()

    for name in NAMES:
        assert support_loss(name, 40) < support_loss(name, 5) < support_loss(name, 1)


@EVERY
def test_episodes_of_other_ways_than_training_classes_are_validated(name: str) -> None:
    support, query_x = tasks()
    episode = Episode(
        support, Examples(query_x, torch.zeros(2, 4, dtype=torch.int64)), torch.arange(2), torch.zeros(2, WAYS)
    )
    (answers,) = learner(name).eval().validation_step([episode], 0)["episodes"]
    assert answers["answers"].shape == (2, 4, WAYS)
