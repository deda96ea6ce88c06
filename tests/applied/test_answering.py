"""Answers for those who look at them: nearest examples, features that are kept, and answers after each inner step."""

from pathlib import Path

import numpy as np
import pytest
import torch

import metashot
from metashot.applied.answering import Near, nearest_of
from metashot.applied.class_learner import ClassLearner

from .learners import drawings, tiny

IMAGES, LABELS, QUERIES = drawings(6, seed=1), ["b", "a", "c"] * 2, drawings(3, seed=2)


def fitted(path: Path) -> ClassLearner:
    learner = metashot.load(path).fit(list(IMAGES), LABELS)
    assert isinstance(learner, ClassLearner)
    return learner


def test_the_nearest_are_named_by_their_class_and_their_place_in_it() -> None:
    similarities = np.array([[0.1, 0.9, 0.3, 0.9], [0.0, np.nan, -1.0, 0.5]])
    first, second = nearest_of(similarities, np.array([0, 1, 1, 2]), 3)
    assert first == [Near(1, 0, 0.9), Near(2, 0, 0.9), Near(1, 1, 0.3)]
    assert second[:2] == [Near(2, 0, 0.5), Near(0, 0, 0.0)]
    assert [len(one) for one in nearest_of(similarities, np.array([0, 0, 0, 0]), 9)] == [4, 4]


@pytest.mark.parametrize("kind", [("protonet", "running"), ("simpleshot", "running"), ("svm", "running")], ids=" ".join)
def test_a_fit_to_kept_features_is_the_fit_to_their_images(tmp_path: Path, kind: tuple[str, str]) -> None:
    plain = fitted(tiny(tmp_path, *kind))
    features = plain.embedded(IMAGES[:, None])
    assert features is not None
    kept = plain.__sklearn_clone__().fit_pixels(IMAGES[:, None], LABELS, features)
    assert kept.classes_.tolist() == plain.classes_.tolist()
    np.testing.assert_allclose(kept.predict_proba(list(QUERIES)), plain.predict_proba(list(QUERIES)), atol=1e-6)
    asked = plain.embedded(QUERIES[:, None])
    answers = kept.answers(QUERIES[:, None], asked)
    np.testing.assert_allclose(answers.probabilities, plain.predict_proba(list(QUERIES)), atol=1e-6)
    assert answers.near is not None
    assert answers.after_steps is None
    assert answers.unknown is None


def test_more_examples_than_are_embedded_at_once_are_fitted_from_their_features(tmp_path: Path) -> None:
    learner = metashot.load(tiny(tmp_path, "protonet", "running"))
    assert isinstance(learner, ClassLearner)
    many, labels = drawings(300, seed=3), ["b", "a"] * 150
    features = learner.embedded(many[:, None])
    plain = learner.__sklearn_clone__().fit(list(many), labels).predict_proba(list(QUERIES))
    kept = learner.fit_pixels(many[:, None], labels, features).predict_proba(list(QUERIES))
    np.testing.assert_allclose(kept, plain, atol=1e-6)


@pytest.mark.parametrize("kind", [("maml", "support"), ("protonet", "transductive")], ids=" ".join)
def test_features_that_depend_on_more_than_their_image_are_not_kept(tmp_path: Path, kind: tuple[str, str]) -> None:
    assert fitted(tiny(tmp_path, *kind)).embedded(IMAGES[:, None]) is None


@pytest.mark.parametrize("kind", [("maml", "support"), ("anil", "running"), ("average", "support")], ids=" ".join)
def test_the_answer_after_the_last_step_is_the_answer(tmp_path: Path, kind: tuple[str, str]) -> None:
    learner = fitted(tiny(tmp_path, *kind, "algo.inner_batch=4" if kind[0] == "maml" else "algo.test_inner_steps=4"))
    answers = learner.answers(QUERIES[:, None], steps=True)
    assert answers.after_steps is not None
    assert answers.after_steps.shape == (3, len(learner.algorithm.watched_steps), 3)
    np.testing.assert_allclose(answers.after_steps[:, -1], answers.probabilities, atol=1e-5)
    np.testing.assert_allclose(answers.after_steps.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(answers.probabilities, learner.predict_proba(list(QUERIES)), atol=1e-6)
    assert np.abs(answers.after_steps[:, 0] - answers.probabilities).max() > 1e-3


def test_answers_are_those_of_any_mode_of_the_user(tmp_path: Path) -> None:
    learner = fitted(tiny(tmp_path, "maml", "support"))
    plain = learner.answers(QUERIES[:, None], steps=True)
    with torch.inference_mode():
        other = learner.answers(QUERIES[:, None], steps=True)
    assert plain.near is not None
    assert other.near is not None
    assert [[(near.label, near.example) for near in one] for one in plain.near] == [
        [(near.label, near.example) for near in one] for one in other.near
    ]
