"""The head of distributional signatures against a computation in numpy, and what it hands to the backbone."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metashot import configuration
from metashot.algorithms.closed_form.signatures import DistributionalSignatures
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Classification
from tests.configuration.test_configuration import composed

WAYS, FEATURES = 3, 4


class Plain(Backbone):
    """A linear map, which moves with the labels where they are read."""

    def __init__(self, reads: bool) -> None:
        super().__init__((FEATURES,), "none")
        self.reads_labels = reads  # type: ignore[misc]
        self.feature_shape = (FEATURES,)
        self.layer = nn.Linear(FEATURES, FEATURES, bias=False)

    def learn_labels(self, support: Tensor, memberships: Tensor) -> Tensor:
        return support.mT @ memberships  # [T, features, ways]

    def forward(self, images: Tensor, support: int, labels: Tensor | None = None) -> Tensor:
        found: Tensor = self.layer(images)
        return found if labels is None else found + (images @ labels).sum(-1, keepdim=True).tanh()


def learner(reads: bool = True) -> DistributionalSignatures:
    torch.manual_seed(0)
    config = composed("train", "algo=signatures")
    made: DistributionalSignatures = configuration.build_algorithm(
        config, backbone=Plain(reads), problem=Classification(WAYS)
    )
    made.double().eval()
    with torch.no_grad():
        made.log_lambda.fill_(np.log(0.3))
        made.log_a.fill_(np.log(2.5))
    return made


def episode(tasks: int = 2) -> Episode:
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(tasks, 12, FEATURES, generator=draws, dtype=torch.double)
    y = torch.arange(12).remainder(WAYS).expand(tasks, -1)
    number = torch.arange(tasks)
    return Episode(Examples(x[:, :6], y[:, :6]), Examples(x[:, 6:], y[:, 6:]), number, torch.zeros(tasks, WAYS))


@pytest.mark.parametrize("reads", [True, False])
def test_answers_are_those_of_the_paper(reads: bool) -> None:
    made, given = learner(reads), episode()
    found = made(given.support, given.query.x).detach().numpy()
    weight = made.backbone.layer.weight.detach().numpy()  # type: ignore[union-attr, operator]
    for task in range(len(given)):
        support, query = given.support.x[task].numpy(), given.query.x[task].numpy()
        y = np.eye(WAYS)[given.support.y[task].numpy()]
        labels = support.T @ y

        def features(x: np.ndarray, labels: np.ndarray = labels) -> np.ndarray:  # type: ignore[type-arg]
            return x @ weight.T + (np.tanh((x @ labels).sum(1, keepdims=True)) if reads else 0)

        x = features(support)
        w = np.linalg.solve(x.T @ x + 0.3 * np.eye(FEATURES), x.T @ y)
        np.testing.assert_allclose(found[task], 2.5 * features(query) @ w + 1, rtol=1e-8)


@pytest.mark.parametrize("reads", [True, False])
def test_a_query_is_answered_after_adapting_as_in_its_episode(reads: bool) -> None:
    made, given = learner(reads), episode()
    adapted = made.adapt(given.support)
    torch.testing.assert_close(made.answer_queries(adapted, given.query.x), made(given.support, given.query.x))
    alone = made.answer_queries(adapted, given.query.x[:, :1])
    torch.testing.assert_close(alone, made(given.support, given.query.x)[:, :1])


def test_features_that_read_labels_are_not_embedded_once() -> None:
    assert not learner(True).embeds_independently
    assert learner(False).embeds_independently
    with pytest.raises(BadInput, match="cannot tell what is unknown, since its features depend on the classes"):
        learner(True).refuse_strangers()


def test_training_reaches_the_backbone_lambda_and_a() -> None:
    made, given = learner(), episode()
    made.training_loss(given).loss.backward()
    trained = {name for name, value in made.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0}
    assert trained == {"backbone.layer.weight", "log_lambda", "log_a"}
