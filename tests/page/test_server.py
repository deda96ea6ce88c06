"""The page's server answers as the learner does in Python, for every kind of learner and for several tabs."""

import base64
import math
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import metashot
from metashot.algorithms.features import FeatureLearner
from metashot.applied.class_learner import ClassLearner
from metashot.applied.images import each_prepared
from metashot.page import facts, learners, tabs
from tests.applied.learners import drawings, tiny
from tests.applied.test_labelling import knowing

from .served import Page, accepted, pixels_of, png, refused, served

KINDS = [
    *[
        ("protonet", "running"),
        ("full context", "support"),
        ("siamese", "running"),
        ("maml", "support"),
        ("anil", "running"),
    ],
    *[("ptmap", "running"), ("mann", "running")],
    *(
        pytest.param(kind, marks=pytest.mark.long)
        for kind in [
            *[("matching", "running"), ("relation", "running"), ("maml", "transductive"), ("metalstm", "support")],
            *[("protonet", "transductive"), ("snail", "running"), ("baseline", "running"), ("cnaps", "running")],
            *[("reptile", "running"), ("hyper", "support"), ("vae", "running"), ("average", "support")],
            *[("mamlpp", "running"), ("metabaseline", "running"), ("laplacianshot", "running"), ("leo", "running")],
        ]
    ),
]
COLOUR: dict[str, Any] = {"input_shape": [3, 20, 20], "name": "photos", "mean": [0.5] * 3, "std": [0.2] * 3}
IMAGES, QUERIES = drawings(8, seed=1), drawings(3, seed=2)
# In an order that sorting changes.
NAMES, LABELS = ("owl", "cat", "dog"), ["owl"] * 3 + ["cat"] * 2 + ["dog"] * 3
TOLERATED = 1e-5


def load(path: Path) -> ClassLearner:
    learner = metashot.load(path)
    assert isinstance(learner, ClassLearner)
    return learner


def classes_of(items: list[str], labels: list[Any] = LABELS) -> list[dict[str, Any]]:
    return [
        {"name": name, "items": [item for item, label in zip(items, labels, strict=True) if label == name]}
        for name in dict.fromkeys(labels)
    ]


def in_sent_order(learner: ClassLearner, queries: NDArray[np.uint8], names: tuple[Any, ...] = NAMES) -> NDArray[np.float64]:
    """What `predict_proba` answers, in the order of classes in which they were sent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = learner.predict_proba(queries)
    return found[:, [learner.classes_.tolist().index(name) for name in names]]


def probabilities(answers: list[Any]) -> NDArray[np.float64]:
    return np.array([answer["probabilities"] for answer in answers])


@pytest.fixture(scope="module")
def knows(tmp_path_factory: pytest.TempPathFactory) -> ClassLearner:
    """A learner that knows what looks familiar."""
    inputs = torch.from_numpy(drawings(120, seed=2)).view(6, 20, 1, 28, 28) / 255
    return load(knowing(tiny(tmp_path_factory.mktemp("knows"), "protonet", "running"), inputs))


@pytest.fixture(scope="module")
def page(knows: ClassLearner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with served(knows, tmp_path_factory.mktemp("served")) as opened:
        yield opened


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_every_learner_answers_as_in_python(tmp_path: Path, kind: tuple[str, str]) -> None:
    learner = load(tiny(tmp_path, *kind))
    with served(learner, tmp_path) as page, warnings.catch_warnings():
        warnings.simplefilter("error")  # an answer must not warn: the terminal is not where the user looks
        facts = page.facts()
        items, queries = page.items(IMAGES), page.items(QUERIES)
        fit = page.fit(classes_of(items))
        answers = page.answer(fit, queries, steps=True)
    assert not learner.is_fitted
    expected = in_sent_order(learner.fit(list(IMAGES), LABELS), QUERIES)
    np.testing.assert_allclose(probabilities(answers), expected, atol=TOLERATED)
    assert facts["transductive"] == learner.transductive
    assert (facts["worth_alone"] is not None) == learner.transductive
    assert all((answer["near"] is not None) == facts["near"] for answer in answers)
    assert all(answer["unknown"] is None for answer in answers)
    gradients = kind[0] in ("maml", "anil", "metalstm", "reptile", "hyper", "average", "mamlpp")
    assert (facts["steps"] is not None) == gradients
    assert facts["near"] == (gradients or kind[1] == "running")
    for answer in answers:
        if gradients:
            assert [step["steps"] for step in answer["steps"]] == facts["steps"] == list(learner.algorithm.watched_steps)
            np.testing.assert_allclose(answer["steps"][-1]["probabilities"], answer["probabilities"], atol=TOLERATED)
            assert np.ptp([step["probabilities"] for step in answer["steps"]], axis=0).max() > 1e-4
        else:
            assert answer["steps"] is None


def test_colour_images_are_answered_as_in_python(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (6, 31, 20, 3), dtype=np.uint8)
    learner = load(tiny(tmp_path, "protonet", "running", "data=folder", "data.root=x", **COLOUR))
    with served(learner, tmp_path) as page:
        items = page.items(images)
        answers = page.answer(page.fit(classes_of(items[:4], ["b", "a"] * 2)), items[4:])
        item = accepted(page.send_file(png(images[0])))
        assert page.facts()["shape"] == [3, 20, 20]
    assert len(pixels_of(item)) == 3 * 20 * 20
    expected = in_sent_order(learner.fit(list(images[:4]), ["b", "a"] * 2), images[4:], ("b", "a"))
    np.testing.assert_allclose(probabilities(answers), expected, atol=TOLERATED)


def test_transductive_learners_answer_the_queries_of_a_call_together(tmp_path: Path) -> None:
    learner = load(tiny(tmp_path, "ptmap", "running"))
    with served(learner, tmp_path) as page:
        items, queries = page.items(IMAGES), page.items(QUERIES)
        fit = page.fit(classes_of(items))
        together, alone = page.answer(fit, queries), page.answer(fit, queries[:1])
    learner.fit(list(IMAGES), LABELS)
    np.testing.assert_allclose(probabilities(together), in_sent_order(learner, QUERIES), atol=TOLERATED)
    np.testing.assert_allclose(probabilities(alone), in_sent_order(learner, QUERIES[:1]), atol=TOLERATED)
    assert np.abs(probabilities(alone)[0] - probabilities(together)[0]).max() > 1e-4


def test_the_nearest_examples_are_those_with_the_most_similar_features(page: Page, knows: ClassLearner) -> None:
    items, queries = page.items(IMAGES), page.items(QUERIES)
    sent = classes_of(items)
    answers = page.answer(page.fit(sent), queries)
    with torch.no_grad():
        x = torch.from_numpy(np.concatenate([IMAGES, QUERIES])[:, None]) / 255
        x = (x - knows.form.mean[0]) / knows.form.std[0]  # type: ignore[index]
        features = knows.algorithm.embed(x[None], support=0)[0]  # type: ignore[operator]
    cosine = torch.nn.functional.cosine_similarity(features[8:, None], features[None, :8], dim=-1)
    for row, answer in zip(cosine, answers, strict=True):
        found = [(sent[near["class"]]["items"][near["example"]], near["similarity"]) for near in answer["near"]]
        best = row.argsort(descending=True)[:5].tolist()
        assert [name for name, _ in found] == [items[place] for place in best]
        np.testing.assert_allclose([similarity for _, similarity in found], row[best].numpy(), atol=1e-5)


def test_the_nearest_examples_of_an_adapted_network_include_the_query_itself(tmp_path: Path) -> None:
    with served(load(tiny(tmp_path, "maml", "support")), tmp_path) as page:
        sent = classes_of(page.items(IMAGES))
        answers = page.answer(page.fit(sent), [sent[2]["items"][1]])
    nearest = answers[0]["near"][0]
    assert (nearest["class"], nearest["example"]) == (2, 1)
    assert nearest["similarity"] == pytest.approx(1, abs=1e-5)


def test_what_is_unknown_is_what_predict_calls_unknown(page: Page, knows: ClassLearner) -> None:
    strange = np.concatenate([QUERIES, drawings(3, seed=7) // 3])
    learner = metashot.load(knows.checkpoint).fit(list(IMAGES), LABELS)
    fit = page.fit(classes_of(page.items(IMAGES)))
    for rate in (0.05, 0.5):
        answers = page.answer(fit, page.items(strange), unknown=rate)
        assert [answer["unknown"] for answer in answers] == (
            learner.predict(list(strange), unknown=rate) == "unknown"
        ).tolist()
    assert page.facts()["unknown"]


def test_a_learner_that_cannot_tell_what_is_unknown_says_so(tmp_path: Path) -> None:
    with served(load(tiny(tmp_path, "maml", "running")), tmp_path) as page:
        items = page.items(IMAGES)
        fit = page.fit(classes_of(items))
        asked = page.post("answer", {**fit, "items": items[:1], "unknown": 0.05, "steps": False})
        refused(asked, 400, "unavailable", "cannot tell what is unknown")
        assert not page.facts()["unknown"]
        refused(page.post("graph", fit), 400, "unavailable", "export is for learners that compare features")
        assert "export is for" in page.facts()["no_graph"]
        too_many = [{"name": str(place), "items": [item]} for place, item in enumerate(items[:5])]
        refused(page.post("fit", {"learner": "own", "tab": "a", "classes": too_many}), 400, "bad_input", "at most 4")
        assert page.facts()["most_classes"] == 4


def test_an_image_is_prepared_as_for_predict(page: Page, knows: ClassLearner) -> None:
    bright = 255 - drawings(1, seed=5, side=60)[0]
    item = accepted(page.send_file(png(bright), "it.png"))
    (expected,) = each_prepared([bright], knows.form)
    assert pixels_of(item) == expected.pixels.tobytes()
    assert item["inverted"] is True
    assert item["photographic"] is False
    assert item["remark"] is None
    transparent = np.zeros((30, 30, 4), np.uint8)
    assert "transparent" in accepted(page.send_file(png(transparent)))["remark"]


def test_adding_one_example_embeds_that_one_alone(page: Page, knows: ClassLearner, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, embed = [], FeatureLearner.embed

    def counting(self: FeatureLearner, images: torch.Tensor, support: int) -> torch.Tensor:
        counts.append(images.shape[1])
        return embed(self, images, support)

    many = drawings(301, seed=11)
    labels = ["a", "b"] * 150 + ["a"]
    items, query = page.items(many), page.items(drawings(3, seed=12))
    monkeypatch.setattr(FeatureLearner, "embed", counting)
    page.fit(classes_of(items[:-1], labels[:-1]))
    assert sum(counts) == 300
    counts.clear()
    fit = page.fit(classes_of(items, labels))
    assert counts == [1]
    counts.clear()
    answers = page.answer(fit, query, unknown=0.05)
    assert counts == [3]
    monkeypatch.undo()
    plain = metashot.load(knows.checkpoint).fit(list(many), labels)
    np.testing.assert_allclose(probabilities(answers), plain.predict_proba(list(drawings(3, seed=12))), atol=TOLERATED)


def test_two_tabs_keep_two_learners(page: Page, knows: ClassLearner) -> None:
    items, queries = page.items(IMAGES), page.items(QUERIES)
    other = page.other("second")
    first, second = page.fit(classes_of(items)), other.fit(classes_of(items[:4], ["x", "y"] * 2))
    assert probabilities(page.answer(first, queries)).shape == (3, 3)
    assert probabilities(other.answer(second, queries)).shape == (3, 2)
    refused(
        page.post("answer", {**first, "tab": "second", "items": queries, "unknown": None, "steps": False}), 410, "no_fit"
    )
    expected = in_sent_order(metashot.load(knows.checkpoint).fit(list(IMAGES), LABELS), QUERIES)  # type: ignore[arg-type]
    np.testing.assert_allclose(probabilities(page.answer(first, queries)), expected, atol=TOLERATED)


def test_requests_at_the_same_time_are_answered_by_their_own_fit(page: Page) -> None:
    items, queries = page.items(IMAGES), page.items(QUERIES)
    tasks = [classes_of(items), classes_of(items[:6], ["x", "y"] * 3)]
    expected = [probabilities(page.answer(page.fit(task), queries)) for task in tasks]
    errors: list[BaseException] = []

    def use(place: int) -> None:
        own = page.other(f"tab {place}")
        try:
            for _ in range(15):
                found = probabilities(own.answer(own.fit(tasks[place % 2]), queries))
                np.testing.assert_allclose(found, expected[place % 2], atol=TOLERATED)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]


def test_what_the_server_has_lost_is_named_and_taken_again(page: Page, tmp_path: Path, knows: ClassLearner) -> None:
    sent = [accepted(page.send_file(png(image))) for image in IMAGES]
    items = [item["id"] for item in sent]
    classes = classes_of(items)
    old = page.fit(classes)
    with served(knows, tmp_path) as fresh:  # another server, as after a restart
        error = refused(fresh.post("fit", {"learner": "own", "tab": "a", "classes": classes}), 409, "missing_items")
        assert error["items"] == items
        refused(fresh.post("answer", {**old, "items": items[:1], "unknown": None, "steps": False}), 410, "no_fit")
        refused(fresh.post("save", old), 410, "no_fit")
        refused(fresh.post("graph", old), 410, "no_fit")
        again = fresh.post("pixels", {"learner": "own", "items": [item["pixels"] for item in sent]})
        assert accepted(again) == {"items": items}
        fit = fresh.fit(classes)
        asked = {**fit, "items": [items[0], "0" * 32], "unknown": None, "steps": False}
        assert refused(fresh.post("answer", asked), 409, "missing_items")["items"] == ["0" * 32]
        refused(fresh.client.get("/api/learner", params={"learner": "f" * 32}), 410, "no_learner")
        refused(fresh.post("fit", {"learner": "other", "tab": "a", "classes": classes}), 410, "no_learner")
        too_short = {"learner": "own", "items": [base64.b64encode(b"123").decode()]}
        refused(fresh.post("pixels", too_short), 400, "bad_input", "784")


def test_a_saved_learner_is_the_same_in_python_and_in_the_page(page: Page, tmp_path: Path) -> None:
    items, queries = page.items(IMAGES), page.items(QUERIES)
    classes = classes_of(items)
    for sent, label in zip(classes, (3, "cat", None), strict=True):
        sent |= {"name": str(label)} | ({} if label == "cat" else {"label": repr(label)})
    fit = page.fit(classes)
    answers = page.answer(fit, queries, unknown=0.05)
    content = page.post("save", fit).content
    (tmp_path / "it.fewshot").write_bytes(content)
    fitted = metashot.load_fitted(tmp_path / "it.fewshot")
    assert fitted.classes_.tolist() == [3, "cat", None]
    assert [type(label) for label in fitted.classes_.tolist()] == [int, str, type(None)]
    expected = in_sent_order(fitted, QUERIES, (3, "cat", None))  # type: ignore[arg-type]
    np.testing.assert_allclose(probabilities(answers), expected, atol=TOLERATED)
    facts = accepted(page.load(content))
    assert facts["learner"] == "own"  # it has the same network
    assert [(one["name"], one.get("label", "none")) for one in facts["classes"]] == [
        ("3", "3"),
        ("cat", "none"),
        ("None", "None"),
    ]
    assert [[item["id"] for item in one["items"]] for one in facts["classes"]] == [one["items"] for one in classes]


ODD_LABELS = (
    [2**53 + 1, 2**70, -(2**64)],
    [1.0, 2.5, 1e300],
    [True, False],
    [1, "1", "a"],
    ["", "b"],
    [(1, "x"), (1, "y")],
    [None, "None of it"],
)


@pytest.mark.parametrize("labels", ODD_LABELS, ids=str)
def test_labels_stay_what_they_are_between_loading_and_saving(
    page: Page, tmp_path: Path, knows: ClassLearner, labels: list[Any]
) -> None:
    fitted = metashot.load(knows.checkpoint, "cpu").fit(list(IMAGES[: len(labels)]), labels)
    fitted.save(tmp_path / "it.fewshot")
    facts = accepted(page.load((tmp_path / "it.fewshot").read_bytes()))
    classes = [{**one, "items": [item["id"] for item in one["items"]]} for one in facts["classes"]]
    (tmp_path / "again.fewshot").write_bytes(page.post("save", page.fit(classes)).content)
    found = metashot.load_fitted(tmp_path / "again.fewshot", "cpu").classes_.tolist()
    assert [(type(label), label) for label in found] == [(type(label), label) for label in fitted.classes_.tolist()]


def test_labels_that_cannot_be_told_become_their_names_and_equal_ones_are_refused(
    page: Page, tmp_path: Path, knows: ClassLearner
) -> None:
    fitted = metashot.load(knows.checkpoint, "cpu").fit(list(IMAGES[:2]), [math.inf, 1.5])
    fitted.save(tmp_path / "it.fewshot")
    classes = accepted(page.load((tmp_path / "it.fewshot").read_bytes()))["classes"]
    assert [(one["name"], one.get("label")) for one in classes] == [("1.5", "1.5"), ("inf", None)]
    content = torch.load(tmp_path / "it.fewshot", weights_only=True)
    content["classes"] = [True, 1]
    torch.save(content, tmp_path / "equal.fewshot")
    refused(page.load((tmp_path / "equal.fewshot").read_bytes()), 400, "bad_input", "two of its labels are equal")


def test_a_loaded_learner_with_another_network_answers_beside_the_own_one(page: Page, tmp_path: Path) -> None:
    learner = load(tiny(tmp_path, "maml", "support")).fit(list(IMAGES), LABELS)
    learner.save(tmp_path / "other.fewshot")
    facts = accepted(page.load((tmp_path / "other.fewshot").read_bytes(), "other.fewshot"))
    assert facts["learner"] not in ("own", "")
    assert (facts["algorithm"], facts["checkpoint"]) == ("maml", "other.fewshot")
    name = facts["learner"]
    assert page.facts(name)["steps"] == facts["steps"]
    classes = [{"name": one["name"], "items": [item["id"] for item in one["items"]]} for one in facts["classes"]]
    fit = page.fit(classes, name)
    found = probabilities(page.answer(fit, page.items(QUERIES, name)))
    np.testing.assert_allclose(found, learner.predict_proba(list(QUERIES)), atol=TOLERATED)
    own = page.fit(classes)
    assert page.answer(own, page.items(QUERIES))[0]["steps"] is None


def test_other_settings_of_the_same_network_are_another_learner(page: Page, tmp_path: Path, knows: ClassLearner) -> None:
    for ink, own in (("auto", True), ("bright", False)):
        learner = metashot.load(knows.checkpoint, ink=ink).fit(list(IMAGES), LABELS)  # type: ignore[arg-type]
        learner.save(tmp_path / f"{ink}.fewshot")
        facts = accepted(page.load((tmp_path / f"{ink}.fewshot").read_bytes()))
        assert (facts["learner"] == "own") == own
    content = torch.load(tmp_path / "auto.fewshot", weights_only=True)
    next(iter(content["weights"].values())).add_(0.1)  # as of another training
    torch.save(content, tmp_path / "other.fewshot")
    assert accepted(page.load((tmp_path / "other.fewshot").read_bytes()))["learner"] != "own"


def test_a_page_of_a_fitted_learner_begins_with_its_classes(tmp_path: Path) -> None:
    learner = load(tiny(tmp_path, "protonet", "running")).fit(list(IMAGES), [(1, "a")] * 4 + [(2, "b")] * 4)
    with served(learner, tmp_path, "pets.fewshot") as page:
        facts = page.facts()
        assert [one["name"] for one in facts["classes"]] == ["(1, 'a')", "(2, 'b')"]
        assert [one["label"] for one in facts["classes"]] == ["(1, 'a')", "(2, 'b')"]
        kept = [pixels_of(item) for one in facts["classes"] for item in one["items"]]
        assert kept == [image.tobytes() for image in IMAGES]
        fit = page.fit([{"name": one["name"], "items": [it["id"] for it in one["items"]]} for one in facts["classes"]])
        found = probabilities(page.answer(fit, page.items(QUERIES)))
    np.testing.assert_allclose(found, learner.predict_proba(list(QUERIES)), atol=TOLERATED)


@pytest.mark.long
def test_the_graph_of_a_fit_answers_as_the_page_does(page: Page) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    classes = classes_of(page.items(IMAGES))
    fit = page.fit(classes)
    answers = page.answer(fit, page.items(QUERIES))
    content = page.post("graph", fit).content
    (found,) = onnxruntime.InferenceSession(content).run(None, {"images": QUERIES[:, None].astype(np.float32) / 255})
    order = [sorted(NAMES).index(name) for name in NAMES]
    np.testing.assert_allclose(found[:, order], probabilities(answers), atol=1e-4)


def test_files_that_are_no_fitted_learners_are_refused_and_not_kept(tmp_path: Path, knows: ClassLearner) -> None:
    with served(knows, tmp_path) as page:
        refused(page.load(b"epoch 3\n", "no\nlearner.fewshot"), 400, "bad_input", "no\\nlearner.fewshot")
        refused(page.load(b""), 400, "bad_input", "pets.fewshot")
        refused(page.load(Path(knows.checkpoint).read_bytes()), 400, "bad_input", "is a checkpoint")
        vectors = tiny(tmp_path, "protonet", "running", "backbone=mlp", "data=glyphs")
        refused(page.load(vectors.read_bytes()[:-100]), 400, "bad_input")
        error = refused(page.load(b"x" * 2000, "n" * 10_000), 400, "bad_input")
        assert len(error["message"]) < 1000
        assert str(tmp_path) not in error["message"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".ckpt"] == []


def test_the_store_forgets_what_was_used_longest_ago() -> None:
    images = tabs.Images(most=4 * (784 + 500))
    ids = [images.add(image[None]) for image in IMAGES[:4]]
    images.pixels(ids[:1])
    images.keep_features(ids[2:3], "own", torch.ones(1, 2))
    newest = images.add(IMAGES[5][None])
    with pytest.raises(tabs.Missing) as found:
        images.pixels(ids)
    assert found.value.items == ids[1:3]  # the second, and the third too, which features have made larger
    assert len(images.pixels([ids[0], ids[3], newest])) == 3


def test_fits_are_kept_within_bounds(knows: ClassLearner) -> None:
    fitted = metashot.load(knows.checkpoint).fit(list(IMAGES), LABELS)
    assert isinstance(fitted, ClassLearner)
    fits = tabs.Fits(most=3)
    fit = tabs.Fit("own", fitted, NAMES)
    numbers = [fits.add("one", fit) for _ in range(3)]
    assert fits.get("one", numbers[1], "own") is fits.get("one", numbers[2], "own") is fit
    with pytest.raises(tabs.NoFit):
        fits.get("one", numbers[0], "own")  # two of a tab
    others = [fits.add(tab, fit) for tab in ("two", "three")]
    assert fits.get("one", numbers[2], "own") is fit
    with pytest.raises(tabs.NoFit):
        fits.get("one", numbers[1], "own")  # a fourth one
    with pytest.raises(tabs.NoFit):
        fits.get("two", others[0], "other")
    fits.forget("own")
    with pytest.raises(tabs.NoFit):
        fits.get("three", others[1], "own")


def test_a_page_of_another_learner_is_refused(page: Page, tmp_path: Path) -> None:
    own = page.facts()["served"]
    accepted(page.client.get("/api/learner", params={"learner": "own", "served": own}))
    for given in ("0" * 32, "", "own"):
        refused(page.client.get("/api/learner", params={"learner": "own", "served": given}), 409, "other_learner")
    path = tiny(tmp_path, "protonet", "running")
    same, other, trained = (load(path), metashot.load(path, "cpu", ink="dark"), load(tiny(tmp_path, "maml")))
    assert facts.identity_of(same) == facts.identity_of(load(path))
    assert len({facts.identity_of(one) for one in (same, other, trained)}) == 3


def test_few_loaded_learners_are_kept(page: Page, tmp_path: Path) -> None:
    names = []
    for seed in range(learners._MOST_LOADED + 1):
        learner = load(tiny(tmp_path, "protonet", "running", mean=[0.1 * (seed + 3)])).fit(list(IMAGES), LABELS)
        learner.save(tmp_path / f"{seed}.fewshot")
        names.append(accepted(page.load((tmp_path / f"{seed}.fewshot").read_bytes()))["learner"])
    assert len(set(names)) == len(names)
    refused(page.client.get("/api/learner", params={"learner": names[0]}), 410, "no_learner")
    assert page.facts(names[-1])["learner"] == names[-1]


def test_a_learner_with_more_examples_than_the_page_takes_is_refused(
    page: Page, tmp_path: Path, knows: ClassLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    metashot.load(knows.checkpoint).fit(list(IMAGES), LABELS).save(tmp_path / "it.fewshot")
    content = (tmp_path / "it.fewshot").read_bytes()
    for limit, most in [("MOST_EXAMPLES", 7), ("MOST_CLASSES", 2), ("_MOST_SHOWN", 6271)]:
        with monkeypatch.context() as patched:
            patched.setattr(facts, limit, most)
            refused(page.load(content), 400, "bad_input", "8 examples of 3 classes")
    accepted(page.load(content))
