"""The Python interface answers as in an episode, keeps the weights, can be fitted again, and refuses what it cannot use."""

import contextlib
import datetime
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import metashot
from metashot.algorithms.base import Algorithm
from metashot.applied.learner import AskedAlone, Learner
from metashot.bad_input import BadInput
from metashot.checkpoints.reading import metashot_part, read_checkpoint, write_checkpoint
from metashot.episodes import Examples
from tests.configuration.test_configuration import composed

from .learners import MEAN, STD, WAYS, built, drawings, tiny

FAMILIES = [
    ("maml", "transductive"), ("maml", "support"), ("mamlpp", "running"), ("reptile", "support"), ("protonet", "running"),
    ("protonet", "transductive"), ("matching", "running"), ("relation", "support_later"), ("siamese", "running"),
    ("snail", "support_later"), ("mann", "running"), ("metalstm", "support_later"), ("baselinepp", "running"),
    ("svm", "support"), ("logistic", "running"), ("simpleshot", "running"),
    ("ptmap", "running"), ("laplacianshot", "support"), ("tim", "running"), ("feat", "running"),
    ("leo", "running"), ("cnaps", "support"), ("cnaps in blocks", "running"), ("hyper", "support"),
]  # fmt: skip
LABELS = ["dog", "cat", "ant", "cow", "cat", "dog", "cow", "ant"]  # as given, which is not the order of an episode


def as_episode(
    path: Path, images: NDArray[np.uint8], queries: NDArray[np.uint8]
) -> tuple[Algorithm, Examples, torch.Tensor]:
    """The algorithm of a checkpoint with the same support set and queries, as an episode would have them."""
    stored = read_checkpoint(path)
    algorithm = built(stored["metashot"]["config"], stored["metashot"]["origin"])
    algorithm.load_state_dict(stored["state_dict"])
    order = sorted(range(len(LABELS)), key=lambda place: LABELS[place])
    names = sorted(set(LABELS))

    def shown(pixels: NDArray[np.uint8]) -> torch.Tensor:
        return (torch.from_numpy(pixels.astype(np.float32) / 255)[None, :, None] - MEAN) / STD

    y = torch.tensor([[names.index(LABELS[place]) for place in order]])
    return algorithm.eval(), Examples(shown(images[order]), y), shown(queries)


@pytest.mark.parametrize(("algo", "protocol"), FAMILIES)
def test_answers_are_those_of_an_episode_and_weights_stay_as_they_are(tmp_path: Path, algo: str, protocol: str) -> None:
    path = tiny(tmp_path, algo, protocol)
    images, queries = drawings(8), drawings(5, seed=1)
    algorithm, support, asked = as_episode(path, images, queries)
    with torch.no_grad():
        scores = algorithm(support, asked)[0].double().numpy()
    exponentials = np.exp(scores - scores.max(1, keepdims=True))
    expected = exponentials / exponentials.sum(1, keepdims=True)
    assert expected.std() > 1e-3

    learner = metashot.load(path, device="cpu")
    assert learner.fit(images, LABELS) is learner
    np.testing.assert_array_equal(learner.classes_, ["ant", "cat", "cow", "dog"])
    np.testing.assert_allclose(learner.predict_proba(queries), expected, atol=1e-5)
    np.testing.assert_array_equal(learner.predict(queries), learner.classes_[expected.argmax(1)])
    truth = ["cat", "cat", "cat", "dog", "cow"]
    assert learner.score(queries, truth) == np.mean(learner.classes_[expected.argmax(1)] == np.array(truth))
    learner.fit(drawings(4, seed=2), [7, 3, 7, 3])
    np.testing.assert_array_equal(learner.classes_, [3, 7])
    assert set(learner.predict(queries).tolist()) <= {3, 7}
    learner.fit(images, LABELS)
    np.testing.assert_allclose(learner.predict_proba(queries), expected, atol=1e-5)
    kept = read_checkpoint(path)["state_dict"]
    for name, value in learner.algorithm.state_dict().items():
        assert value.numpy().tobytes() == kept[name].numpy().tobytes(), name


@pytest.mark.parametrize("algo", ["maml", "protonet", "snail"])
def test_fitted_learner_answers_after_it_was_read_as_it_did_before(tmp_path: Path, algo: str) -> None:
    learner = metashot.load(tiny(tmp_path, algo), ink="bright").fit(drawings(6), [("a", 1), ("b", 2), ("a", None)] * 2)
    learner.save(tmp_path / "pets.fewshot")
    read = metashot.load_fitted(tmp_path / "pets.fewshot")
    queries = 255 - drawings(5, seed=1)  # on which it depends whether they are inverted
    np.testing.assert_array_equal(read.predict_proba(queries), learner.predict_proba(queries))
    assert read.classes_.tolist() == learner.classes_.tolist() == [("a", 1), ("b", 2), ("a", None)]
    assert metashot.load_fitted(tmp_path / "pets.fewshot").fit(drawings(2), [0, 1]).predict(queries).shape == (5,)


@pytest.mark.parametrize("algo", ["maml", "snail"])
def test_fewer_classes_than_a_head_has_share_all_probability(tmp_path: Path, algo: str) -> None:
    learner = metashot.load(tiny(tmp_path, algo)).fit(drawings(4), [True, False] * 2)
    found = learner.predict_proba(drawings(5, seed=1))
    assert found.shape == (5, 2)
    np.testing.assert_allclose(found.sum(1), 1)
    assert learner.predict(drawings(5, seed=1)).dtype == bool


def test_many_queries_are_answered_as_few_are(tmp_path: Path) -> None:
    learner = metashot.load(tiny(tmp_path, "maml", "support")).fit(drawings(4), [0, 1] * 2)
    queries = drawings(600, seed=1)
    few = np.concatenate([learner.predict_proba(part) for part in np.array_split(queries, 7)])
    np.testing.assert_allclose(learner.predict_proba(queries), few, atol=1e-5)


@pytest.mark.parametrize(
    ("algo", "protocol", "worth"),
    [
        ("protonet", "transductive", "less accurate"),
        ("maml", "transductive", "less accurate"),
        ("ptmap", "running", "worth nothing"),
        ("laplacianshot", "running", "worth nothing"),
        ("tim", "running", "nearest class mean"),
    ],
)
def test_a_query_that_is_asked_alone_is_told_what_its_answer_is_worth(
    tmp_path: Path, algo: str, protocol: str, worth: str
) -> None:
    queries = drawings(4, seed=1)
    learner: Any = metashot.load(tiny(tmp_path, algo, protocol)).fit(drawings(4), [0, 1] * 2)
    for ask in (learner.predict, learner.predict_proba):
        with pytest.warns(AskedAlone, match=worth) as told:
            ask(queries[:1])
        assert len(told) == 1
        assert told[0].filename == __file__
    alone = []
    for query in queries:
        with pytest.warns(AskedAlone):
            alone.append(learner.predict_proba(query[None])[0])
    assert np.allclose(alone, alone[0], atol=1e-6) == (worth == "worth nothing")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.predict(queries)


def test_a_query_that_is_asked_alone_of_a_learner_of_single_queries_is_told_nothing(tmp_path: Path) -> None:
    learner = metashot.load(tiny(tmp_path, "protonet")).fit(drawings(4), [0, 1] * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.predict(drawings(1))


def test_queries_that_see_each_other_are_answered_together(tmp_path: Path) -> None:
    learner = metashot.load(tiny(tmp_path, "protonet", "transductive")).fit(drawings(4), [0, 1] * 2)
    queries = drawings(300, seed=1)
    assert learner.transductive
    assert np.abs(learner.predict_proba(queries)[:256] - learner.predict_proba(queries[:256])).max() > 1e-6


@pytest.mark.parametrize("factor", [float("nan"), 1e30])  # squared distances then are NaN, or beyond the largest float
def test_answers_that_are_not_finite_are_none(tmp_path: Path, factor: float) -> None:
    path = tiny(tmp_path, "protonet")
    stored = read_checkpoint(path)
    scale = next(name for name in reversed(stored["state_dict"]) if name.endswith("weight"))
    stored["state_dict"][scale] *= factor
    write_checkpoint(stored, path)
    learner = metashot.load(path).fit(drawings(4), [0, 1] * 2)
    for ask in (learner.predict, learner.predict_proba):
        with pytest.raises(BadInput, match=r"non-finite answers.*has diverged"):
            ask(drawings(3, seed=1))


@pytest.mark.parametrize("engine", ["learn2learn", "batched"])
def test_it_works_where_a_user_has_switched_gradients_off(tmp_path: Path, engine: str) -> None:
    path, images, queries = tiny(tmp_path, "maml", "support", f"engine={engine}"), drawings(4), drawings(3, seed=1)
    expected = metashot.load(path).fit(images, [0, 1] * 2).predict_proba(queries)
    with torch.inference_mode():
        found = metashot.load(path).fit(images, [0, 1] * 2).predict_proba(queries)
    np.testing.assert_array_equal(found, expected)


def test_loading_leaves_the_random_numbers_of_a_program_alone(tmp_path: Path) -> None:
    path = tiny(tmp_path, "protonet")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    metashot.load(path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([2, 1, 2, 1], dtype=np.int8), [1, 2]),
        (torch.tensor([5, 4, 5, 4]), [4, 5]),
        (np.array(["b", "a"] * 2), ["a", "b"]),
        ([2.5, -1.0] * 2, [-1.0, 2.5]),
        ([("b", 1), ("a", 2)] * 2, [("a", 2), ("b", 1)]),
        (["b", 1] * 2, ["b", 1]),
        ([None, "a"] * 2, [None, "a"]),
        ([frozenset({1, 2}), frozenset({1})] * 2, [frozenset({1, 2}), frozenset({1})]),
        ([datetime.date(2025, 1, 1), datetime.date(2024, 1, 1)] * 2, [datetime.date(2024, 1, 1), datetime.date(2025, 1, 1)]),
        ([2**70, 1] * 2, [1, 2**70]),
    ],
)
def test_labels_of_any_kind_come_back_as_they_were_given(tmp_path: Path, labels: Any, classes: list[Any]) -> None:
    learner = metashot.load(tiny(tmp_path, "protonet")).fit(drawings(4), labels)
    found = learner.classes_.tolist()
    assert found == classes
    assert [type(one) for one in found] == [type(one) for one in classes]
    assert all(answer in classes for answer in learner.predict(drawings(3)).tolist())


@pytest.fixture(scope="module")
def protonet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("protonet"), "protonet")


def refused(call: Any, *words: str) -> None:
    with pytest.raises(BadInput) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (drawings(4), [0] * 4, ("all labels are 0", "two classes")),
        (drawings(4), [0, 1, 0], ("4 images and 3 labels",)),
        (drawings(0), [], ("no images",)),
        (drawings(2), [[0], [1]], ("label 0 is list", "hashable")),
        (drawings(2), "ab", ("labels='ab'",)),
        (drawings(2), 1, ("labels=1",)),
        (drawings(2), np.zeros((2, 1)), ("labels of shape (2, 1)",)),
        (drawings(2), [float("nan"), 1.0], ("label 0", "NaN")),
    ],
)
def test_examples_that_cannot_be_learned_are_refused(
    protonet: Path, images: Any, labels: Any, words: tuple[str, ...]
) -> None:
    refused(lambda: metashot.load(protonet).fit(images, labels), *words)


def test_failed_fit_leaves_what_was_learned_before(protonet: Path) -> None:
    learner = metashot.load(protonet).fit(drawings(4), [0, 1] * 2)
    before = learner.predict_proba(drawings(3))
    refused(lambda: learner.fit(drawings(4), [5] * 4))
    np.testing.assert_array_equal(learner.predict_proba(drawings(3)), before)


@pytest.mark.parametrize("algo", ["maml", "snail"])
def test_more_classes_than_the_head_has_are_refused(tmp_path: Path, algo: str) -> None:
    learner = metashot.load(tiny(tmp_path, algo))
    refused(lambda: learner.fit(drawings(WAYS + 1), range(WAYS + 1)), "5 classes", "at most 4", "data.ways=5")


def test_nothing_is_answered_before_it_is_fitted(protonet: Path) -> None:
    learner = metashot.load(protonet)
    for call in (learner.predict, learner.predict_proba, lambda x: learner.score(x, [0])):
        refused(lambda call=call: call(drawings(1)), "call fit(images, labels) first")
    refused(lambda: learner.save("x"), "call fit")
    assert not hasattr(learner, "classes_")


def test_checkpoints_and_devices_that_are_not_there_are_refused(protonet: Path, tmp_path: Path) -> None:
    refused(lambda: metashot.load(tmp_path / "no.ckpt"), "no.ckpt")
    refused(lambda: metashot.load(protonet, device="tpu"), "device=tpu", "allowed")
    refused(lambda: metashot.load(protonet, device="meta"), "device=meta")
    refused(lambda: metashot.load(protonet, ink="red"), "ink=red")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        refused(lambda: metashot.load(protonet, device="cuda"), "device=cuda")


def test_files_that_are_no_fitted_learner_are_refused(protonet: Path, tmp_path: Path) -> None:
    refused(lambda: metashot.load_fitted(tmp_path / "no.fewshot"), "there is no fitted learner")
    refused(lambda: metashot.load_fitted(protonet), "is a checkpoint", "metashot.load")
    saved = tmp_path / "pets.fewshot"
    learner = metashot.load(protonet).fit(drawings(4), [0, 1] * 2)
    learner.save(saved)
    refused(lambda: metashot.load(saved), "metashot.load_fitted")
    content = saved.read_bytes()
    for place in (0, len(content) // 3, len(content) // 2, len(content) - 40):
        damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        saved.write_bytes(damaged)
        with contextlib.suppress(BadInput):  # but for a bit that no content depends on, such as a time
            found = metashot.load_fitted(saved).predict_proba(drawings(3))
            np.testing.assert_array_equal(found, learner.predict_proba(drawings(3)))
    for other in (content[: len(content) // 2], b"", b"hello"):
        saved.write_bytes(other)
        refused(lambda: metashot.load_fitted(saved), "is damaged")
    torch.save({"other": 1}, saved)
    refused(lambda: metashot.load_fitted(saved), "not a fitted learner")


def test_what_cannot_be_saved_is_refused_and_leaves_no_file(protonet: Path, tmp_path: Path) -> None:
    learner = metashot.load(protonet).fit(drawings(4), [datetime.date(2025, 1, 1), datetime.date(2024, 1, 1)] * 2)
    refused(lambda: learner.save(tmp_path / "x.fewshot"), "date", "allowed: text")
    deep: Any = "a"
    for _ in range(50):
        deep = (deep,)
    for label in ("a" * 1001, ("a" * 1001, 1), "\udcff", deep):  # what could not be read again
        learner.fit(drawings(4), [label, "b"] * 2)
        refused(lambda: learner.save(tmp_path / "x.fewshot"), "cannot be saved", "1,000 characters")
    learner.fit(drawings(4), [0, 1] * 2)
    refused(lambda: learner.save(tmp_path), "is a folder")
    (tmp_path / "file").write_text("")
    refused(lambda: learner.save(tmp_path / "file" / "x.fewshot"), "cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_saved_numbers_of_numpy_are_plain(protonet: Path, tmp_path: Path) -> None:
    learner = metashot.load(protonet).fit(drawings(4), [np.int32(4), np.float32(0.5)] * 2)
    learner.save(tmp_path / "x.fewshot")
    assert metashot.load_fitted(tmp_path / "x.fewshot").classes_.tolist() == [0.5, 4]


@pytest.fixture
def sinusoid(tmp_path: Path) -> Learner:
    """A learner of functions."""
    with_numbers = ["data=sinusoid", "backbone=mlp_sinusoid", "backbone.hidden=[8]"]
    origin = {"name": "sinusoid", "problem": "Regression", "outputs": 1, "input_shape": [1]}
    config = composed("train", "experiment=sinusoid", *with_numbers)
    torch.manual_seed(0)
    algorithm = built(config, origin)
    path = tmp_path / "sinusoid.ckpt"
    write_checkpoint(
        {"global_step": 0, "state_dict": algorithm.state_dict(), "metashot": metashot_part(config, origin)}, path
    )
    return metashot.load(path)


def test_numbers_are_learned_and_scored_as_r2(sinusoid: Learner, tmp_path: Path) -> None:
    x, y = np.linspace(-3, 3, 10), np.sin(np.linspace(-3, 3, 10))
    found = sinusoid.fit(x, y[:, None]).predict(x[:, None])
    assert found.shape == (10, 1)
    stored = read_checkpoint(tmp_path / "sinusoid.ckpt")
    algorithm = built(stored["metashot"]["config"], stored["metashot"]["origin"])
    algorithm.load_state_dict(stored["state_dict"])
    as_task = torch.tensor(x, dtype=torch.float32)[None, :, None]
    expected = algorithm.eval()(Examples(as_task, torch.tensor(y, dtype=torch.float32)[None, :, None]), as_task)
    np.testing.assert_allclose(found, expected[0].detach().numpy(), atol=1e-6)
    r2 = 1 - ((found[:, 0] - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert sinusoid.score(x, y) == pytest.approx(r2)
    sinusoid.save(tmp_path / "f.fewshot")
    np.testing.assert_array_equal(metashot.load_fitted(tmp_path / "f.fewshot").predict(x), found)


def test_learner_of_numbers_has_no_classes_and_refuses_other_shapes(sinusoid: Learner) -> None:
    refused(lambda: sinusoid.predict_proba([[1.0]]), "predict_proba is for classes")
    refused(lambda: sinusoid.estimate(within=2), "estimate is for classes")
    assert not hasattr(sinusoid, "classes_")
    refused(lambda: sinusoid.predict([1.0]), "call fit")
    refused(lambda: sinusoid.fit(np.zeros((3, 2)), np.zeros(3)), "x has the shape (3, 2)")
    refused(lambda: sinusoid.fit(np.zeros(3), np.zeros(2)), "3 rows of x and 2 rows of y")
    refused(lambda: sinusoid.fit([0.0, float("inf")], [0.0, 1.0]), "row 1")
    refused(lambda: sinusoid.fit(["a"], [1.0]), "cannot be read as numbers")


def test_what_metashot_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = metashot.lode  # type: ignore[attr-defined]


def test_paths_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for call in (metashot.load, metashot.load_fitted):
        for given, why in (("~nosuchuser/x", "has no home folder"), ("n" * 300, "File name too long"), ("", "is empty")):
            with pytest.raises(BadInput, match=why):
                call(given)
    fitted = metashot.load(tiny(tmp_path, "protonet")).fit(drawings(8), LABELS)
    with pytest.raises(BadInput, match=r"path=~nosuchuser/x.*has no home folder"):
        fitted.save("~nosuchuser/x")


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    learner = metashot.load(tiny(tmp_path, "protonet"))
    for name, what in (("pipe.png", "a pipe"), ("endless.png", "a device")):
        with pytest.raises(BadInput, match=f"it is {what} and not a file"):
            learner.fit([tmp_path / name, *drawings(1)], ["a", "b"])
    with pytest.raises(BadInput, match="cannot be read: Could not determine home"):
        learner.fit(["~nosuchuser/x.png", *drawings(1)], ["a", "b"])


@pytest.mark.parametrize(("algo", "expected"), [("protonet", "ImageNet-1k"), ("r2d2", "ImageNet-1k and glyphs")])
def test_what_was_trained_beside_a_frozen_backbone_names_its_own_data(tmp_path: Path, algo: str, expected: str) -> None:
    network = metashot.load(tiny(tmp_path, algo)).network
    assert network.trained_on == "glyphs"
    network.algorithm.freeze_backbone()
    network.algorithm.backbone.external_data = "ImageNet-1k"
    assert network.trained_on == expected
