"""Published weights: a frozen backbone's state holds their name, and whoever reads it has the weights brought back."""

import hashlib

import pytest
import torch
from torch import Tensor, nn

from metashot import configuration
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.backbones.base import Backbone
from metashot.problems import Classification
from tests.configuration.test_configuration import composed


class Published(Backbone):
    """A backbone that anybody can find again, here by a seed."""

    seed = 1

    def __init__(self, width: int = 5) -> None:
        super().__init__((3,), "none")
        self.feature_shape = (width,)
        self.layer = nn.Linear(3, width)
        self.brought_back = 0
        self.public_digest = hashlib.sha256(str(self.seed).encode()).hexdigest()
        self.bring_back()

    def bring_back(self) -> None:
        self.brought_back += 1
        with torch.no_grad():
            for parameter in self.parameters():
                values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(self.seed), device="cpu")
                parameter.copy_(values)

    def forward(self, images: Tensor, support: int) -> Tensor:
        found: Tensor = self.layer(images)
        return found


class Other(Published):
    seed = 2


def learner(backbone: Backbone) -> ProtoNet:
    config = composed("train", "algo=protonet", "algo.learned_temperature=true")
    made: ProtoNet = configuration.build_algorithm(config, backbone=backbone, problem=Classification(3))
    return made


def frozen() -> ProtoNet:
    made = learner(Published())
    made.freeze_backbone()
    return made


def test_the_state_of_a_frozen_public_backbone_names_its_weights_and_does_not_hold_them() -> None:
    state = frozen().state_dict()
    assert sorted(name for name in state if name.startswith("backbone.")) == ["backbone.public_digest"]
    assert bytes(state["backbone.public_digest"].tolist()).hex() == Published().public_digest
    assert any(not name.startswith("backbone.") for name in state)


def test_weights_that_are_named_are_brought_back_and_stay_frozen() -> None:
    state = frozen().state_dict()
    other = learner(Published())
    with torch.no_grad():
        other.backbone.layer.weight.zero_()  # type: ignore[union-attr, operator]
    other.load_state_dict(state)
    assert torch.equal(other.backbone.layer.weight, Published().layer.weight)  # type: ignore[union-attr]
    assert other.backbone.frozen
    assert list(other.state_dict()) == list(state)


def test_another_digest_is_refused() -> None:
    with pytest.raises(
        RuntimeError, match=f"published weights {Published().public_digest}, and this one has {Other().public_digest}"
    ):
        learner(Other()).load_state_dict(frozen().state_dict())


def test_a_name_that_is_none_is_refused() -> None:
    state = frozen().state_dict() | {"backbone.public_digest": torch.full((10**6,), 1e9)}
    with pytest.raises(RuntimeError, match="published weights"):
        learner(Published()).load_state_dict(state)


def test_a_public_backbone_that_is_trained_keeps_its_weights_in_its_state() -> None:
    trained = learner(Published())
    with torch.no_grad():
        trained.backbone.layer.weight.add_(1)  # type: ignore[union-attr, operator]
    state = trained.state_dict()
    assert "backbone.public_digest" not in state
    other = learner(Published())
    other.load_state_dict(state)
    assert torch.equal(other.backbone.layer.weight, trained.backbone.layer.weight)  # type: ignore[union-attr]
    assert not other.backbone.frozen


def test_the_shape_of_a_network_is_compared_without_memory() -> None:
    state = {name: torch.empty(value.shape, device="meta") for name, value in frozen().state_dict().items()}
    backbone = Published()
    before = backbone.brought_back
    learner(backbone).to("meta").load_state_dict(state)
    assert backbone.brought_back == before


def test_digests_of_backbones_tell_weights_and_settings_apart() -> None:
    one, same, wide, retrained = Published(), Published(), Published(width=6), Published()
    with torch.no_grad():
        retrained.layer.weight[0, 0] += 1
    retrained.public_digest = None
    one.public_digest = same.public_digest = wide.public_digest = None
    assert one.digest() == same.digest()
    assert len({one.digest(), wide.digest(), retrained.digest()}) == 3
    same.feature_shape = (5, 1)
    assert one.digest() != same.digest()
