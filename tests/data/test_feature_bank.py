"""Features in place of images: those of the images that are asked for, in the shape that is asked for."""

import numpy as np
import torch

from metashot.data.feature_bank import FeatureBank

CPU = torch.device("cpu")


def test_features_are_those_of_the_images_at_the_places_asked_for() -> None:
    places = np.array([2, 3, 7, 40])
    bank = FeatureBank(torch.from_numpy(places[:, None] * np.array([1.0, 10.0])), places)
    found = bank.gather(np.array([[40, 2], [7, 7], [3, 40]]), CPU)
    assert found.tolist() == [[[40, 400], [2, 20]], [[7, 70], [7, 70]], [[3, 30], [40, 400]]]


def test_no_images_have_no_features() -> None:
    assert FeatureBank(torch.ones(2, 5), np.array([0, 9])).gather(np.empty((3, 0), dtype=np.int64), CPU).shape == (3, 0, 5)
