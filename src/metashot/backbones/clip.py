"""CLIP: Radford et al. 2021, "Learning transferable visual models from natural language supervision", arXiv:2103.00020, as
open_clip has it; Ilharco et al. 2021, "OpenCLIP".

Two towers embed images and texts into the same space, where an image is close to the texts that describe it. Both are
frozen. The image tower is the backbone; the text tower embeds the names of classes for algorithms that read them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.arguments import Matching
from metashot.backbones.open_clip_networks import built, data_of, load_published_clip, named, tokenizer_of
from metashot.backbones.published_network import PublishedNetwork, identity_of

# Names that open_clip knows; a path or the address of a hub is none.
NameInOpenClip = Annotated[
    str, Matching(r"[A-Za-z0-9_-]{1,100}(\.[A-Za-z0-9_-]{1,100})?", "the name of a network of open_clip")
]
_MOST_TEXTS = 10_000  # whose features are kept


@dataclass(frozen=True, eq=False)
class _Texts:
    """The features of texts that were embedded before."""

    weights: Any  # what `identity_of` said when they were embedded
    features: dict[str, Tensor]


class Clip(PublishedNetwork):
    """A network of open_clip with an image tower and a text tower.

    Args:
        input_shape: The shape of one image of the data, which is resized to that of the weights.
        name: The name in open_clip, with the tag of its weights after a dot.
        weights: `hub` for those with this tag, or a file.

    Raises:
        BadInput: open_clip is not installed, or does not know the name.
    """

    reads_text = True

    def __init__(self, input_shape: tuple[int, ...], name: NameInOpenClip, weights: str) -> None:
        found = named(name)
        shape = (3, found.side, found.side)
        super().__init__(shape, "running")
        self.name = name
        self.weights = weights
        self.network = built(found)
        self.wants: Mapping[str, Any] = {"input_shape": list(shape), **found.inputs, "augmented": False}
        self.feature_shape = (int(found.architecture["embed_dim"]),)
        self.external_data = data_of(found, weights)
        self._named = found
        self._tokenizer: Any = None
        self._texts = _Texts(None, {})
        self.freeze()

    def load_published(self) -> None:
        load_published_clip(self.network, self._named, self.weights)

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        features: Tensor = self.network.encode_image(images.flatten(0, 1))  # type: ignore[operator]
        return features.reshape(tasks, count, self.features)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        weights = identity_of(self.network)
        known = self._texts  # once, since another thread may replace it
        if weights is None or known.weights != weights or len(known.features) > _MOST_TEXTS:
            known = self._texts = _Texts(weights, {})
        for text in texts:
            if text not in known.features:
                known.features[text] = self._embedded(text)
        return torch.stack([known.features[text] for text in texts])

    def _embedded(self, text: str) -> Tensor:
        """The feature of one text, by itself: in a batch, rounding would depend on the others."""
        if self._tokenizer is None:
            self._tokenizer = tokenizer_of(self._named)
        device = next(self.network.parameters()).device
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            found: Tensor = self.network.encode_text(self._tokenizer([text]).to(device))  # type: ignore[operator]
            return F.normalize(found[0], dim=-1)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_texts": _Texts(None, {}), "_tokenizer": None}  # they are made again
