"""Learners are estimators of scikit-learn: they can be cloned, validated, searched over, and sent to other processes."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import metashot
from metashot.applied.class_learner import ClassLearner
from metashot.applied.learner import Learner
from metashot.applied.number_learner import NumberLearner
from metashot.bad_input import BadInput
from metashot.checkpoints.reading import metashot_part, write_checkpoint
from tests.configuration.test_configuration import composed

from .learners import built, drawings, tiny
from .text_learners import checkpoint

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone, is_classifier, is_regressor  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402

IMAGES, LABELS = drawings(12), ["a", "b", "c"] * 4

_COLUMNS = "the check takes a second dimension of the single column that it gives to a learner of one input"
# What of scikit-learn's own checks a learner of numbers with one input fails, and why.
CANNOT = {
    "check_dont_overwrite_parameters": _COLUMNS,
    "check_n_features_in_after_fitting": _COLUMNS,
    "check_n_features_in": _COLUMNS,
    "check_dtype_object": _COLUMNS,
    "check_f_contiguous_array_estimator": _COLUMNS,
    "check_regressors_no_decision_function": _COLUMNS,
    "check_methods_sample_order_invariance": _COLUMNS,
    "check_methods_subset_invariance": _COLUMNS,
    "check_fit2d_1sample": _COLUMNS,
    "check_fit2d_1feature": _COLUMNS,
    "check_fit2d_predict1d": _COLUMNS,
    "check_dict_unchanged": _COLUMNS,
    "check_estimator_sparse_array": "the check cannot make a sparse array of one column",
    "check_estimators_nan_inf": "the check gives three columns, which are refused before their values are looked at",
    "check_estimators_empty_data_messages": "the message names the shape and what is allowed, in other words",
    "check_fit1d": "one column may be given as [N]",
    "check_supervised_y_2d": "y may be given as [N, outputs]: that is no mistake to be warned of",
}
PASSED_AT_LEAST = 25


@pytest.fixture
def protonet(tmp_path: Path) -> Learner:
    return metashot.load(tiny(tmp_path, "protonet"))


@pytest.fixture
def words(tmp_path: Path) -> Learner:
    return metashot.load(checkpoint(tmp_path), device="cpu")


@pytest.fixture
def sinusoid(tmp_path: Path) -> Learner:
    origin = {"name": "sinusoid", "problem": "Regression", "outputs": 1, "input_shape": [1]}
    config = composed("train", "experiment=sinusoid", "data=sinusoid", "backbone=mlp_sinusoid", "backbone.hidden=[8]")
    torch.manual_seed(0)
    path = tmp_path / "sinusoid.ckpt"
    write_checkpoint(
        {"global_step": 0, "state_dict": built(config, origin).state_dict(), "metashot": metashot_part(config, origin)}, path
    )
    return metashot.load(path)


def test_learner_of_numbers_passes_what_can_apply_of_scikit_learns_checks(sinusoid: Learner) -> None:
    found = estimator_checks.check_estimator(sinusoid, on_skip=None, on_fail=None)
    failed = {result["check_name"]: result["exception"] for result in found if result["status"] == "failed"}
    assert set(failed) == set(CANNOT), {name: failed.get(name) for name in set(failed) ^ set(CANNOT)}
    assert sum(result["status"] == "passed" for result in found) >= PASSED_AT_LEAST


# Those that give no data, which would be tables.
WITHOUT_DATA = (
    *("check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr"),
    *("check_no_attributes_set_in_init", "check_fit_score_takes_y", "check_do_not_raise_errors_in_init_or_set_params"),
    *("check_mixin_order", "check_get_params_invariance", "check_set_params", "check_parameters_default_constructible"),
)
OF_IMAGES_CANNOT = {"check_fit_score_takes_y": "it gives a table all the same"}


@pytest.mark.parametrize("check", WITHOUT_DATA)
def test_learner_of_images_passes_what_needs_no_table(protonet: Learner, check: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if check in OF_IMAGES_CANNOT:
            with pytest.raises(BadInput, match="give the images back their height and width"):
                getattr(estimator_checks, check)("learner", protonet)
        else:
            getattr(estimator_checks, check)("learner", protonet)


@pytest.mark.parametrize("check", WITHOUT_DATA)
def test_learner_of_texts_passes_what_needs_no_table(words: Learner, check: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if check in OF_IMAGES_CANNOT:
            with pytest.raises(BadInput, match=r"^text 0 is of the type float64 and not text: "):
                getattr(estimator_checks, check)("learner", words)
        else:
            getattr(estimator_checks, check)("learner", words)


@pytest.mark.parametrize("kind", [list, np.array, tuple])
def test_texts_are_split_searched_and_stand_at_the_end_of_a_pipeline(words: Learner, kind: Any) -> None:
    texts = kind([f"{name} {place}" for place in range(4) for name in ("a cat", "my dog", "owls")])
    tags = words.__sklearn_tags__().input_tags
    assert (tags.one_d_array, tags.two_d_array, tags.string) == (True, False, True)
    assert is_classifier(words)
    other = clone(words)
    assert other.get_params() == words.get_params() == {"checkpoint": words.checkpoint, "device": "cpu"}
    assert other.algorithm is words.algorithm
    scores = cross_val_score(words, texts, LABELS, cv=2)
    assert scores[1] == words.fit(texts[:6], LABELS[:6]).score(texts[6:], LABELS[6:])
    np.testing.assert_array_equal(cross_val_score(words, texts, LABELS, cv=2, n_jobs=2), scores)
    assert cross_val_predict(words, texts, LABELS, cv=2, method="predict_proba").shape == (12, 3)
    assert GridSearchCV(words, {"device": ["cpu", "auto"]}, cv=2).fit(texts, LABELS).predict(texts).shape == (12,)
    lower = make_pipeline(FunctionTransformer(lambda given: [text.lower() for text in given]), words)
    assert cross_val_score(lower, texts, LABELS, cv=2).shape == (2,)


def test_clone_is_not_fitted_has_the_same_parameters_and_reads_nothing(tmp_path: Path) -> None:
    path = tiny(tmp_path, "protonet")
    learner = metashot.load(path, device="cpu", ink="bright").fit(IMAGES, LABELS)
    expected = learner.predict_proba(IMAGES)
    path.unlink()
    other = clone(learner)
    assert isinstance(other, ClassLearner)
    assert other.get_params() == learner.get_params() == {"checkpoint": path, "device": "cpu", "ink": "bright"}
    assert not other.is_fitted
    assert other.algorithm is learner.algorithm
    np.testing.assert_array_equal(other.fit(IMAGES, LABELS).predict_proba(IMAGES), expected)


def test_parameters_can_be_set_and_count_from_the_next_fit(tmp_path: Path) -> None:
    paths = [tiny(tmp_path, "protonet"), tiny(tmp_path, "matching")]
    learner = metashot.load(paths[0]).fit(IMAGES, LABELS)
    before = learner.predict_proba(255 - IMAGES)
    assert learner.set_params(checkpoint=paths[1], ink="bright") is learner
    np.testing.assert_array_equal(learner.predict_proba(255 - IMAGES), before)
    learner.fit(IMAGES, LABELS)
    assert learner.name == "matching"
    expected = metashot.load(paths[1], ink="bright").fit(IMAGES, LABELS).predict_proba(255 - IMAGES)
    np.testing.assert_array_equal(learner.predict_proba(255 - IMAGES), expected)
    for wrong, error in (({"shots": 1}, ValueError), ({"ink": "red"}, BadInput), ({"checkpoint": "nowhere"}, BadInput)):
        with pytest.raises(error, match=r"allowed|nowhere"):
            learner.set_params(**wrong).fit(IMAGES, LABELS)


def test_learner_can_be_made_without_load(tmp_path: Path) -> None:
    path = tiny(tmp_path, "protonet")
    learner = ClassLearner(path)
    assert repr(learner) == f"<ClassLearner: checkpoint={path}, not fitted yet>"
    expected = metashot.load(path).fit(IMAGES, LABELS).predict(IMAGES)
    assert (learner.fit(IMAGES, LABELS).predict(IMAGES) == expected).all()
    with pytest.raises(BadInput, match=r"has a ClassLearner, and this is a NumberLearner"):
        NumberLearner(path).fit([1.0], [1.0])


@pytest.mark.parametrize("kind", ["array", "with channels", "tensor", "paths", "list of arrays"])
def test_cross_validation_splits_images_of_every_kind(tmp_path: Path, protonet: Learner, kind: str) -> None:
    images: Any = IMAGES
    if kind == "with channels":
        images = IMAGES[..., None]
    elif kind == "tensor":
        images = torch.from_numpy(IMAGES)
    elif kind == "list of arrays":
        images = list(IMAGES)
    elif kind == "paths":
        images = [str(tmp_path / f"{place}.png") for place in range(len(IMAGES))]
        for path, pixels in zip(images, IMAGES, strict=True):
            Image.fromarray(pixels).save(path)
    scores = cross_val_score(protonet, images, LABELS, cv=2)
    assert scores.shape == (2,)
    half = len(IMAGES) // 2
    assert scores[1] == protonet.fit(IMAGES[:half], LABELS[:half]).score(IMAGES[half:], LABELS[half:])
    assert cross_val_predict(protonet, images, LABELS, cv=2, method="predict_proba").shape == (12, 3)


def test_search_and_pipeline_take_a_learner(protonet: Learner) -> None:
    search = GridSearchCV(protonet, {"ink": ["auto", "bright"]}, cv=2).fit(IMAGES, LABELS)
    assert search.predict(IMAGES).shape == (12,)
    scaled = make_pipeline(FunctionTransformer(lambda images: images / 255), protonet)
    assert cross_val_score(scaled, IMAGES, LABELS, cv=2).shape == (2,)


def test_learners_say_what_they_are_and_whether_they_are_fitted(protonet: Learner, sinusoid: Learner) -> None:
    assert is_classifier(protonet)
    assert is_regressor(sinusoid)
    assert not hasattr(sinusoid, "predict_proba")
    for learner, data in ((protonet, (IMAGES, LABELS)), (sinusoid, ([0.0, 1.0], [0.0, 1.0]))):
        with pytest.raises(NotFittedError):
            check_is_fitted(learner)
        with pytest.raises(NotFittedError) as caught:
            learner.predict(IMAGES)
        assert isinstance(caught.value, BadInput)
        check_is_fitted(learner.fit(*data))
    assert sinusoid.n_features_in_ == 1
    with pytest.raises(ValueError, match="labels"):
        protonet.fit(IMAGES, LABELS[1:])


def test_numbers_come_back_in_the_shape_of_y(sinusoid: Learner, tmp_path: Path) -> None:
    x = np.linspace(-3, 3, 10)
    flat = sinusoid.fit(x, np.sin(x)).predict(x)
    sinusoid.save(tmp_path / "f.fewshot")
    np.testing.assert_array_equal(metashot.load_fitted(tmp_path / "f.fewshot").predict(x), flat)
    rows = sinusoid.fit(x, np.sin(x)[:, None]).predict(x)
    assert (flat.shape, rows.shape) == ((10,), (10, 1))
    np.testing.assert_array_equal(flat, rows[:, 0])
    assert cross_val_score(sinusoid, x, np.sin(x), cv=2).shape == (2,)


@pytest.mark.parametrize("algo", ["maml", "protonet", "snail"])
def test_copied_and_pickled_learners_answer_as_before(tmp_path: Path, algo: str) -> None:
    path = tiny(tmp_path, algo)
    learner = metashot.load(path, ink="bright").fit(IMAGES, [("t", label) for label in LABELS])
    path.unlink()
    for other in (copy.deepcopy(learner), copy.copy(learner), pickle.loads(pickle.dumps(learner))):
        np.testing.assert_array_equal(other.predict_proba(IMAGES), learner.predict_proba(IMAGES))
        assert other.classes_.tolist() == learner.classes_.tolist()
        assert other.get_params() == learner.get_params()
    assert copy.deepcopy(learner).algorithm is learner.algorithm
    assert not pickle.loads(pickle.dumps(clone(learner))).is_fitted


def test_folds_are_scored_in_several_processes(protonet: Learner) -> None:
    expected = cross_val_score(protonet, IMAGES, LABELS, cv=2)
    np.testing.assert_array_equal(cross_val_score(protonet, IMAGES, LABELS, cv=2, n_jobs=2), expected)
