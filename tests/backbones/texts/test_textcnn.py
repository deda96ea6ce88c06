"""The convolutional network on texts against torch's own layers, one text at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.backbones.texts.textcnn import TextCNN
from metashot.backbones.texts.tokens import hashed
from metashot.bad_input import BadInput

from .networks import inputs, textcnn

TEXTS = ["hello world", "a", "abc", "ﬁve ünïts", "0123456789abcdef"]


def found_in(network: TextCNN, text: str) -> list[Tensor]:
    """What each filter finds at the places of one text without padding: [channels, places] for each width."""
    ids = torch.tensor(list(map(ord, text)))
    vectors = network.table.weight[hashed(ids, 32)].T[None]  # [1, dimensions, L]
    found = []
    for filters in network.filters:
        width = filters.weight.shape[3]
        layer = torch.nn.Conv1d(vectors.shape[1], filters.weight.shape[0], width, bias=False).double()
        layer.weight = torch.nn.Parameter(filters.weight[:, :, 0].detach())
        found.append(layer(F.pad(vectors, (0, width - 1)))[0])
    return found


def test_features_are_the_largest_that_filters_find_normalised() -> None:
    network = textcnn("transductive").double()
    features = network(inputs(TEXTS), support=2)[0]
    largest = torch.stack([torch.cat([values.amax(1) for values in found_in(network, text)]) for text in TEXTS])
    expected = F.relu(F.batch_norm(largest, None, None, training=True))
    torch.testing.assert_close(features, expected, rtol=1e-9, atol=1e-12)


def test_features_of_parts_are_means_over_quarters_in_a_map() -> None:
    network = textcnn("none", parts=4).double()
    assert network.feature_shape == (9, 2, 2)
    for text in TEXTS:
        places = torch.arange(len(text)) * 4 // len(text)
        found = torch.cat(found_in(network, text))  # [maps, L]
        expected = torch.zeros(9, 4, dtype=torch.float64)
        for part in set(places.tolist()):
            expected[:, part] = found[:, places == part].mean(1)
        maps = network(inputs([text]), support=1).view(9, 4)
        torch.testing.assert_close(maps, F.relu(expected), rtol=1e-9, atol=1e-12)


def test_parameters_are_as_many_as_in_the_paper() -> None:
    network = TextCNN((2, 256), "words", 4096, 256, 300, [3, 4, 5], 100, 0.5, 1, "running")
    assert sum(parameter.numel() for parameter in network.filters.parameters()) == 300 * 100 * (3 + 4 + 5)
    assert network.features == 300


@pytest.mark.parametrize(
    ("own", "said"), [({"parts": 5}, r"backbone\.parts=5.*square"), ({"widths": []}, r"backbone\.widths=\[\]")]
)
def test_settings_that_make_no_features_are_refused(own: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        textcnn(**own)
