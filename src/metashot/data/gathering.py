"""Episodes from a bank: the items at the places that a sampler has drawn."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.data.bank import Bank
from metashot.data.feature_bank import FeatureBank
from metashot.episodes import Episode, EpisodeIndices, Examples, Names


def gather(
    bank: Bank | FeatureBank,
    indices: EpisodeIndices,
    device: torch.device,
    values: Callable[[Tensor], Tensor] = lambda items: items,
    names: Sequence[str] = (),
) -> Episode:
    """Read the items of episodes of one shape in one pass over a bank.

    Args:
        bank: the items, or the features in their place.
        indices: the positions of the items of each episode.
        device: where the episodes are needed.
        values: converts items to values; by default they stay unchanged.
        names: what the classes are called; by default support sets have no names.

    Returns:
        The episodes, with values as x.
    """
    count = indices.support.shape[1]
    x = values(bank.gather(np.concatenate([indices.support, indices.query], axis=1), device))

    def placed(array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(device)

    return Episode(
        support=Examples(x[:, :count], placed(indices.support_y), names=_names_of(indices, names)),
        query=Examples(x[:, count:], placed(indices.query_y)),
        number=placed(indices.number),
        classes=placed(indices.classes),
    )


def _names_of(indices: EpisodeIndices, names: Sequence[str]) -> Names | None:
    if not names or not indices.support.shape[1]:  # batches of shuffled items have no support set
        return None
    return tuple(tuple(names[place] for place in classes) for classes in indices.classes.tolist())
