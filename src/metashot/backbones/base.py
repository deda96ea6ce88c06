"""The base class of backbones: networks from inputs to features, with a protocol for batch normalisation."""

import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from metashot.backbones.normalisation import Protocol
from metashot.bad_input import BadInput

MARK = "public_digest"  # replaces all weights of a frozen public backbone in its state


class Backbone(nn.Module):
    """Maps inputs [T, N, ...] of T tasks, such as images [T, N, channels, height, width], to features [T, N, features].

    A backbone with published weights says so by `is_published`; `bring_back` loads them and sets `public_digest`, which
    identifies them. While it is frozen, its state holds the digest instead of the weights.

    A subclass sets `feature_shape` and implements `forward`.

    Args:
        input_shape: The shape of one input.
        normalisation: The statistics that normalise inputs (see `normalisation.py`).
    """

    starts_trained: ClassVar[bool] = False  # whether it has published weights, so that `init_from` is not needed
    has_weights: ClassVar[bool] = True  # False where inputs are features already
    of_vectors: ClassVar[bool] = False  # whether inputs may be vectors
    of_texts: ClassVar[bool] = False  # whether inputs are texts [2, length]: token ids, and a mask that is 1 at tokens
    may_adapt: ClassVar[bool] = True  # whether tasks may have copies of its frozen weights that differ from them
    reads_labels: ClassVar[bool] = False  # whether features of a task may depend on the labels of its support set
    reads_text: ClassVar[bool] = False  # whether it also embeds texts, by `text_features`
    public_digest: str | None = None  # of published weights, hexadecimal
    external_data: str | None = None  # the data beyond the training split that its weights were trained on
    fused: bool = True  # whether kernels may be used where there are any
    wants: Mapping[str, Any] | None = None  # inputs: input_shape, mean, std, ..., or its tokenizer; None for any
    feature_shape: tuple[int, ...]  # of one input: (channels, height, width) of its map, or (features,)

    def __init__(self, input_shape: tuple[int, ...], normalisation: Protocol) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.normalisation = normalisation
        self.draws = False  # whether a forward pass in training draws random numbers
        self.frozen = False  # whether weights and running averages are excluded from training
        self.register_state_dict_post_hook(_name_instead_of_weights)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_weights_instead_of_name)  # type: ignore[no-untyped-call]

    @property
    def features(self) -> int:
        """The number of features of one image."""
        return math.prod(self.feature_shape)

    @property
    def embeds_independently(self) -> bool:
        """Whether, after training, the features of an image depend on no other image."""
        return self.normalisation in ("running", "none")

    @property
    def transductive(self) -> bool:
        """Whether the features of a query depend on the other queries of its task."""
        return self.normalisation == "transductive"

    @property
    def is_published(self) -> bool:
        """Whether it starts from published weights, which `bring_back` loads."""
        return self.public_digest is not None

    def freeze(self) -> None:
        """Exclude weights and running averages from training, permanently."""
        self.frozen = True
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode and not self.frozen)
        return self

    def bring_back(self) -> None:
        """Load the published weights, and set `public_digest`.

        Raises:
            BadInput: if they cannot be found.
        """
        raise NotImplementedError

    def digest(self) -> str:
        """A digest of everything that determines features: the weights, their names and the settings of every layer.

        Backbones that give different features have different digests.
        """
        found = hashlib.sha256()
        for name, module in self.named_modules():
            settings = {key: value for key, value in vars(module).items() if key not in _OF_TRAINING and _is_plain(value)}
            found.update(repr((name, type(module).__qualname__, sorted(settings.items()))).encode())
        if self.public_digest is not None and self.frozen:
            found.update(self.public_digest.encode())
            return found.hexdigest()
        for name, value in sorted(self.state_dict().items()):
            found.update(repr((name, value.dtype, tuple(value.shape))).encode())
            found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    @property
    def reads_frequencies(self) -> bool:
        """Whether it has to know how often each token occurs, by `learn_frequencies`."""
        return False

    def learn_frequencies(self, counts: Tensor) -> None:
        """Take what is known of the tokens of the training split before anything is trained. Checkpoints keep it.

        Args:
            counts: How often each token id is in the training split, [ids].
        """
        raise NotImplementedError

    def learn_labels(self, support: Tensor, memberships: Tensor) -> Any:
        """Look at labelled support sets, if it `reads_labels`; its forward pass then takes the result as `labels`.

        Args:
            support: Inputs [T, S, ...].
            memberships: Their one-hot labels [T, S, ways].
        """
        raise NotImplementedError

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Embed texts into the space of the features of images.

        Args:
            texts: The texts.

        Returns:
            Features [texts, features] of length 1. Their cosines with those of an image say how well they describe it.
        """
        raise NotImplementedError

    @property
    def fused_blocks(self) -> bool:
        """Whether kernels compute its blocks where they can, on a CPU."""
        return False

    def description(self, device_type: str) -> list[str]:
        """Lines, printed before a run, on how the backbone computes on this type of device."""
        return []

    @abstractmethod
    def forward(self, images: Tensor, support: int) -> Tensor:
        """Embed inputs.

        Args:
            images: [T, N, ...].
            support: The number of leading inputs in each task that form its support set.

        Returns:
            Features [T, N, features].
        """


_LONGEST_DIGEST = 64  # bytes that a message quotes
_OF_TRAINING = ("training", "frozen", "draws")


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _name_instead_of_weights(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    assert isinstance(module, Backbone)
    if module.public_digest is None or not module.frozen:
        return
    for name in [name for name in state if name.startswith(prefix)]:
        del state[name]
    state[prefix + MARK] = _as_values(module.public_digest)


def _weights_instead_of_name(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    assert isinstance(module, Backbone)
    errors: list[str] = others[-1]
    mark = state.pop(prefix + MARK, None)
    if mark is None:
        if module.public_digest is not None and any(name.startswith(prefix) for name in state):
            module.public_digest = None  # they may be any weights
        return
    if not mark.is_meta:  # a meta tensor has no values: only shapes are compared
        if module.is_published:
            module.bring_back()
        own = module.public_digest
        if own is None or not torch.equal(mark.cpu(), _as_values(own)):
            named = mark.cpu().to(torch.uint8).flatten()[:_LONGEST_DIGEST].numpy().tobytes().hex()
            errors.append(f"its backbone has the published weights {named}, and this one has {own or 'none'}")
    module.frozen = False
    state.update(module.state_dict(prefix=prefix))
    module.freeze()  # as before, so that its state holds the digest again


def _as_values(digest: str) -> Tensor:
    return torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8)


def refuse_no_images(name: str, input_shape: tuple[int, ...]) -> None:
    """Refuse inputs that are no images, with what reads them instead."""
    if len(input_shape) != 3:
        raise BadInput(
            f"backbone={name} is for images, and these inputs are of the shape {list(input_shape)}: use backbone=mlp, "
            "backbone=identity for inputs that are features already, or for curves experiment=sinusoid"
        )
