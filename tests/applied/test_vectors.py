"""Learners of vectors in a user's hands: fit, predict, save, and files that are not what they should be."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metashot
from metashot.applied.class_learner import VectorLearner
from metashot.applied.export import refuse_export
from metashot.bad_input import BadInput, BadValue
from tests.applied.learners import tiny
from tests.sources.vectors.tables import FEATURES, clouds

WAYS = 4
ORIGIN: dict[str, Any] = {
    "name": "vectors",
    "presentation": "features",
    "input_shape": [FEATURES],
    "items": "x",
    "mean": [0.5] * FEATURES,
    "std": [2.0] * FEATURES,
}
SETTINGS = ("data=vectors", "data.root=x.npz", "backbone=mlp", "backbone.hidden=[8]")


def checkpoint(folder: Path, algo: str = "protonet", **origin: Any) -> Path:
    return tiny(folder, algo, "running", *SETTINGS, **ORIGIN | origin)


def episode() -> tuple[np.ndarray, list[str], np.ndarray, list[str]]:
    """Support rows with labels, and queries with theirs."""
    x, y = clouds(classes=WAYS, each=6)
    order = np.argsort(y, kind="stable").reshape(WAYS, 6)
    support, query = order[:, :3].ravel(), order[:, 3:].ravel()
    return x[support], [f"kind {k}" for k in y[support]], x[query], [f"kind {k}" for k in y[query]]


@pytest.mark.parametrize("algo", ["protonet", "matching", "snail", "baseline", "maml", "metasgd"])
def test_a_learner_of_vectors_answers_as_its_algorithm_does_on_standardised_rows(tmp_path: Path, algo: str) -> None:
    learner = metashot.load(checkpoint(tmp_path, algo))
    assert isinstance(learner, VectorLearner)
    x, labels, queries, _ = episode()
    answers = learner.fit(x, labels).predict_proba(queries)
    assert learner.predict(queries).tolist() == [learner.classes_[place] for place in answers.argmax(1)]
    from metashot.episodes import Examples

    support, asked = (torch.from_numpy((rows - np.float32(0.5)) / np.float32(2.0))[None] for rows in (x, queries))
    y = torch.arange(WAYS).repeat_interleave(3)[None]
    with torch.no_grad():
        expected = learner.algorithm(Examples(support, y), asked)[0].softmax(-1)
    np.testing.assert_allclose(answers, expected.double().numpy(), atol=1e-5)


def test_rows_may_be_of_any_type_of_numbers(tmp_path: Path) -> None:
    learner = metashot.load(checkpoint(tmp_path))
    x, labels, queries, truth = episode()
    plain = learner.fit(x, labels).predict(queries).tolist()
    assert learner.fit(torch.from_numpy(x), labels).predict(queries.astype(np.float64).tolist()).tolist() == plain
    assert learner.score(queries, truth) == np.mean(np.array(plain) == np.array(truth))
    assert learner.n_features_in_ == FEATURES


def test_a_saved_learner_of_vectors_gives_the_answers_that_it_gave(tmp_path: Path) -> None:
    learner = metashot.load(checkpoint(tmp_path))
    x, labels, queries, _ = episode()
    before = learner.fit(x, labels).predict_proba(queries)
    learner.save(tmp_path / "it.fewshot")
    again = metashot.load_fitted(tmp_path / "it.fewshot")
    assert isinstance(again, VectorLearner)
    assert np.array_equal(again.predict_proba(queries), before)
    assert again.classes_.tolist() == learner.classes_.tolist()


def test_a_learner_without_a_network_can_be_used_too(tmp_path: Path) -> None:
    path = tiny(tmp_path, "protonet", "running", "data=vectors", "data.root=x.npz", "backbone=identity", **ORIGIN)
    x, labels, queries, truth = episode()
    assert metashot.load(path).fit(x, labels).score(queries, truth) > 0.8


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((3, FEATURES + 1)), r"x has the shape \(3, 7\); allowed: \[N, 6\]"),
        (np.zeros(FEATURES), r"x has the shape"),
        (np.full((3, FEATURES), np.nan), "non-finite"),
        (np.full((3, FEATURES), 1e39), "too large for 32 bits"),
        ([["a"] * FEATURES] * 3, "cannot be read as numbers"),
        (np.zeros((2, FEATURES)), "2 rows of x and 3 labels"),
        (np.zeros((0, FEATURES)), "x has the shape"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(tmp_path: Path, rows: Any, words: str) -> None:
    with pytest.raises(BadValue, match=words):
        metashot.load(checkpoint(tmp_path)).fit(rows, ["a", "b", "b"])


def test_what_is_for_images_is_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    with pytest.raises(BadValue, match="ink=dark is for learners of drawings"):
        metashot.load(path, ink="dark")
    with pytest.raises(BadInput, match="export is for learners of images"):
        refuse_export(metashot.load(path))


BROKEN: dict[str, Any] = {
    "of pixels": lambda content: content["origin"].pop("presentation"),
    "of texts": lambda content: content["origin"].update(presentation="tokens"),
    "of nothing": lambda content: content["origin"].update(presentation=5),
    "other constants": lambda content: content["origin"].update(mean=[0.5]),
    "one constant": lambda content: content["origin"].update(mean=None),
    "no deviation": lambda content: content["origin"].update(std=[0.0] * FEATURES),
    "a huge shape": lambda content: content["origin"].update(input_shape=[65_536] * 4),
    "a shape of nothing": lambda content: content["origin"].update(input_shape=[], mean=None, std=None),
    "no numbers": lambda content: content["x"].fill_(float("nan")),
    "pixels": lambda content: content.update(x=content["x"].byte()),
    "doubles": lambda content: content.update(x=content["x"].double()),
    "another width": lambda content: content.update(x=content["x"][:, :-1]),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_fitted_learner_that_is_not_what_it_says_is_refused(tmp_path: Path, change: Any) -> None:
    x, labels, _, _ = episode()
    learner = metashot.load(checkpoint(tmp_path))
    learner.fit(x, labels).save(tmp_path / "it.fewshot")
    content = copy.deepcopy(torch.load(tmp_path / "it.fewshot", weights_only=True))
    change(content)
    torch.save(content, tmp_path / "it.fewshot")
    with pytest.raises(BadInput, match=r"it\.fewshot"):
        metashot.load_fitted(tmp_path / "it.fewshot")
