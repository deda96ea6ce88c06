"""What every backbone is: a network from inputs to features that knows whose statistics normalise them."""

import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metashot.backbones.normalisation import Protocol

_MARK = "public_digest"  # stands for all weights of a frozen public backbone


class Backbone(nn.Module):
    """Inputs [T, N, ...], such as images [T, N, channels, height, width], of T tasks to features [T, N, features].

    A backbone whose weights are published names them by `public_digest`, and `bring_back` gets them again. While it is
    frozen, its state holds that name instead of the weights.
    """

    public_digest: str | None = None  # of published weights, in hexadecimal digits
    wants: Mapping[str, Any] | None = None  # the inputs it was trained on: input_shape, mean and std, None for any

    feature_shape: tuple[int, ...]  # of one image's features: channels, height and width of a map, or a length alone

    def __init__(self, input_shape: tuple[int, ...], normalisation: Protocol) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.normalisation = normalisation
        self.draws = False  # whether a pass in training draws random numbers
        self.frozen = False  # whether training leaves it as it is, averages and all
        self.register_state_dict_post_hook(_name_instead_of_weights)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_weights_instead_of_name)  # type: ignore[no-untyped-call]

    @property
    def features(self) -> int:
        """Numbers in one image's features."""
        return math.prod(self.feature_shape)

    @property
    def embeds_independently(self) -> bool:
        """Whether an image's features depend on nothing but the image, once training is over."""
        return self.normalisation in ("running", "none")

    @property
    def transductive(self) -> bool:
        """Whether what is said of one image depends on the others that are not in the support set."""
        return self.normalisation == "transductive"

    def freeze(self) -> None:
        self.frozen = True
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode and not self.frozen)
        return self

    def bring_back(self) -> None:
        """Have the weights that `public_digest` names."""
        raise NotImplementedError

    def digest(self) -> str:
        """Of all that decides its features of an input: the weights, their names and the settings of every layer. Two
        backbones that give other features have another one."""
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

    @abstractmethod
    def forward(self, images: Tensor, support: int) -> Tensor:
        """The first `support` images of each task are its support set."""


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
    state[prefix + _MARK] = _as_values(module.public_digest)


def _weights_instead_of_name(
    module: nn.Module,
    state: dict[str, Any],
    prefix: str,
    _: Any,
    __: bool,
    ___: list[str],
    ____: list[str],
    errors: list[str],
) -> None:
    assert isinstance(module, Backbone)
    mark = state.pop(prefix + _MARK, None)
    if mark is None:
        return
    if not mark.is_meta:  # where only shapes are compared there is nothing to read
        own = module.public_digest
        if own is not None and torch.equal(mark.cpu(), _as_values(own)):
            module.bring_back()
        else:
            named = mark.cpu().to(torch.uint8).flatten()[:_LONGEST_DIGEST].numpy().tobytes().hex()
            errors.append(f"its backbone has the published weights {named}, and this one has {own or 'none'}")
    module.frozen = False
    state.update(module.state_dict(prefix=prefix))
    module.freeze()  # as it was, and its state goes on to hold the name


def _as_values(digest: str) -> Tensor:
    return torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8)
