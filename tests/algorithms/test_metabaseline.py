"""Meta-Baseline against the paper's formula, written out with loops; what it begins with; and how it is configured."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from metashot.algorithms.metric.protonet import ProtoNet
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.transfer.metabaseline import MetaBaseline
from metashot.backbones.mlp import MLP
from metashot.configuration.buildable import CONF
from metashot.episodes import Episode, Examples
from metashot.problems import Classification

TASKS, WAYS = 2, 3
CONFIGURED = OmegaConf.load(CONF / "algo" / "metabaseline.yaml")


def metabaseline() -> MetaBaseline:
    """As it is configured."""
    torch.manual_seed(0)
    optimizer = Optimization("sgd", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    wanted = {name: CONFIGURED.algo[name] for name in ("distance", "temperature", "learned_temperature")}
    backbone = MLP((6,), [24], "running")
    return MetaBaseline(backbone, Classification(WAYS), optimizer=optimizer, **wanted).double()


def random_episode() -> Episode:
    generator = torch.Generator().manual_seed(1)

    def examples(*labels: int) -> Examples:
        x = torch.randn(TASKS, len(labels), 6, generator=generator, dtype=torch.float64)
        return Examples(x, torch.tensor(labels).expand(TASKS, -1))

    return Episode(examples(2, 0, 1, 1, 0, 2, 2), examples(1, 0, 2, 2), torch.arange(TASKS), torch.zeros(TASKS, WAYS))


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_scores_are_cosines_with_the_mean_of_each_class_divided_by_the_temperature(temperature: float) -> None:
    made, episode = metabaseline().eval(), random_episode()
    with torch.no_grad():
        made.log_temperature.fill_(np.log(temperature))
    scores = made(episode.support, episode.query.x).detach().numpy()
    support, query = (made.backbone(x, support=0).detach().numpy() for x in (episode.support.x, episode.query.x))
    assert scores.shape == (TASKS, 4, WAYS)
    for task in range(TASKS):
        for label in range(WAYS):
            members = [feature for feature, y in zip(support[task], episode.support.y[task], strict=True) if y == label]
            mean = sum(members) / len(members)
            for place, feature in enumerate(query[task]):
                cosine = sum(feature * mean) / (sum(feature**2) * sum(mean**2)) ** 0.5
                assert scores[task, place, label] == pytest.approx(cosine / temperature, rel=1e-9)


def test_it_begins_with_what_another_learner_has_learned() -> None:
    assert MetaBaseline.needs_start
    assert not ProtoNet.needs_start


def test_the_temperature_begins_at_a_tenth_and_is_learned_with_the_backbone() -> None:
    made, episode = metabaseline(), random_episode()
    assert made.log_temperature.exp().item() == pytest.approx(0.1)
    assert "log_temperature" in dict(made.named_parameters())
    descent = torch.optim.SGD(made.parameters(), 0.1)
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    made.train().training_loss(episode).loss.backward()
    descent.step()
    assert all(not torch.equal(parameter, before[name]) for name, parameter in made.named_parameters())
