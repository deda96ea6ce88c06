"""Examples that a fitted learner makes: how many, of what form, whose, and by whom they cannot be made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metashot
from metashot.algorithms.generative import learner as generative
from metashot.applied.images import as_inputs
from metashot.applied.learner import Unavailable
from metashot.applied.photographs import PhotographsGiven
from metashot.bad_input import BadInput, BadValue
from metashot.randomness import key_of, normal

from .learners import drawings, tiny

OF_PIXELS = {"mean": None, "std": None}
LABELS = ["b", "b", "a", "a", "c"]


def learner(folder: Path, algo: str) -> Any:
    if algo == "vae_images":
        return metashot.load(tiny(folder, algo, "running", "backbone=identity", **OF_PIXELS), device="cpu")
    return metashot.load(tiny(folder, algo, "running"), device="cpu")


def test_drawings_are_made_class_by_class_in_the_form_of_the_training_images(tmp_path: Path) -> None:
    fitted = learner(tmp_path, "vae_images").fit(drawings(5), LABELS)
    made, labels = fitted.generate(3)
    assert (made.shape, labels.tolist()) == ((9, 28, 28), ["a"] * 3 + ["b"] * 3 + ["c"] * 3)
    assert made.min() >= 0
    assert made.max() <= 1
    more, _ = fitted.generate(5)
    np.testing.assert_allclose(more.reshape(3, 5, 28, 28)[:, :3], made.reshape(3, 3, 28, 28), atol=1e-6)
    fitted.save(tmp_path / "it.fewshot")
    np.testing.assert_allclose(metashot.load_fitted(tmp_path / "it.fewshot", device="cpu").generate(3)[0], made, atol=1e-6)
    with pytest.warns(PhotographsGiven):  # an untrained generator draws nothing but grey
        other = metashot.load(tiny(tmp_path, "protonet"), device="cpu").fit(made, labels)
    assert set(other.predict(drawings(5))) <= {"a", "b", "c"}


def test_drawings_in_colour_have_the_form_in_which_images_are_given(tmp_path: Path) -> None:
    origin = {"input_shape": [3, 28, 28], "mean": None, "std": None}
    images = np.stack([drawings(5)] * 3, -1)
    fitted = metashot.load(tiny(tmp_path, "vae_images", "running", "backbone=identity", **origin), device="cpu").fit(
        images, LABELS
    )
    made, _ = fitted.generate(2)
    assert made.shape == (6, 28, 28, 3)
    with pytest.warns(PhotographsGiven):
        answers = fitted.predict(made)
    assert set(answers) <= {"a", "b", "c"}


@pytest.mark.parametrize("algo", ["vae_images", "vae", "gan"])
def test_they_are_what_the_generator_makes_of_the_examples_in_turn(tmp_path: Path, algo: str) -> None:
    images = drawings(5)
    fitted = learner(tmp_path, algo).fit(images, LABELS)
    algorithm = fitted.network.algorithm
    inputs = as_inputs(images[:, None], fitted.form, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        features = algorithm.embed(inputs[None], support=0)[0]
    normalised = algorithm.normalised(features)
    made = fitted.generate(3)[0].reshape(3, 3, -1)
    for place, turns in enumerate(([2, 3, 2], [0, 1, 0], [4, 4, 4])):  # a, b, c
        noise = normal(
            key_of("made examples"), np.zeros(1, np.int64), np.array([place], np.uint64), 3 * algorithm.noise_size
        )
        with torch.no_grad():
            found = algorithm.generate(normalised[turns] * algorithm.scale, torch.from_numpy(noise).float().view(3, -1))
        np.testing.assert_allclose(made[place], (found / algorithm.scale).numpy(), atol=1e-6)


WRONG: list[Any] = [0, -1, 10_001, 2.5, True, "3", None]


@pytest.mark.parametrize("n", WRONG)
def test_other_numbers_are_refused(tmp_path: Path, n: Any) -> None:
    fitted = learner(tmp_path, "vae_images").fit(drawings(5), LABELS)
    with pytest.raises(BadValue, match="cannot be used; allowed: a whole number from 1 to 10,000"):
        fitted.generate(n)


def test_learners_that_make_none_say_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="this protonet makes no examples: use a learner that was trained with algo=vae, gan"):
        metashot.load(tiny(tmp_path, "protonet"), device="cpu").fit(drawings(5), LABELS).generate()
    with pytest.raises(Unavailable, match="fit"):
        learner(tmp_path, "vae_images").generate()


def test_many_are_made_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = learner(tmp_path, "vae_images").fit(drawings(5), LABELS)
    whole, _ = fitted.generate(7)
    passes: list[int] = []
    generate = fitted.network.algorithm.generate

    def noted(anchors: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        passes.append(len(anchors))
        found: torch.Tensor = generate(anchors, noise)
        return found

    monkeypatch.setattr(fitted.network.algorithm, "generate", noted)
    monkeypatch.setattr(generative, "_AT_ONCE", 8)
    np.testing.assert_allclose(fitted.generate(7)[0], whole, atol=1e-6)
    assert passes == [8, 8, 5]


def test_a_generator_that_has_diverged_is_refused(tmp_path: Path) -> None:
    fitted = learner(tmp_path, "vae_images").fit(drawings(5), LABELS)
    torch.nn.init.constant_(fitted.network.algorithm.decoder.last.bias, torch.nan)
    with pytest.raises(
        BadInput, match="makes examples that are not finite, since the training of its checkpoint has diverged"
    ):
        fitted.generate(2)
