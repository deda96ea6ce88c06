"""A fitted learner keeps the features of its support set and embeds only queries; `within` bounds the whole time."""

import copy
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metashot
from metashot.applied import network
from metashot.applied.class_learner import EqualExamples
from metashot.bad_input import BadInput
from metashot.commands.predictions import estimate_rows
from metashot.episodes import Examples

from .learners import drawings, tiny
from .test_labelling import knowing

pytestmark = pytest.mark.filterwarnings("ignore::metashot.applied.labelling.NotBetterThanRandom")

IMAGES, LABELS = drawings(12, seed=1), ["cat", "dog", "owl"] * 2
QUERIES = IMAGES[6:]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of a learner that knows what looks familiar."""
    inputs = torch.from_numpy(drawings(120, seed=2)).view(6, 20, 1, 28, 28) / 255
    return knowing(tiny(tmp_path, "protonet", "running"), inputs)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images in each forward pass of a backbone."""
    from metashot.algorithms.features import FeatureLearner

    counts, embed = [], FeatureLearner.embed

    def counting(self: FeatureLearner, images: torch.Tensor, support: int) -> torch.Tensor:
        counts.append(images.shape[1])
        return embed(self, images, support)

    monkeypatch.setattr(FeatureLearner, "embed", counting)
    return counts


def asked(learner: Any) -> list[Any]:
    """All that compares queries with the support set, or its examples with each other."""
    suggestions = learner.next_to_label(QUERIES, n=2)
    return [
        learner.estimate(),
        learner.predict(QUERIES, unknown=0.2).tolist(),
        learner.predict(QUERIES, unknown=0.2, together=True).tolist(),
        suggestions.indices.tolist(),
        str(suggestions),
        learner.predict_proba(QUERIES).tolist(),
    ]


def test_the_support_set_is_embedded_once(checkpoint: Path, embedded: list[int]) -> None:
    learner = metashot.load(checkpoint).fit(IMAGES[:6], LABELS)
    asked(learner)
    assert embedded == [6, *[len(QUERIES)] * 6]  # of the fit, and of the queries: predict(unknown=) embeds them twice


def test_what_is_kept_is_what_was_embedded_before_to_the_last_bit(checkpoint: Path, embedded: list[int]) -> None:
    learner = metashot.load(checkpoint).fit(IMAGES[:6], LABELS)
    fitted = learner._state()
    with torch.no_grad():
        inputs = fitted.support.inputs()
        support = Examples(inputs[None], fitted.support.y[None], names=(tuple(fitted.classes),))
        torch.testing.assert_close(learner.algorithm.adapt(support), fitted.learned, rtol=0, atol=0)
        before = network._embedded(learner.algorithm, [inputs])[0]  # type: ignore[arg-type]
    assert fitted.support.features is not None
    assert torch.equal(before, fitted.support.features)
    found = asked(learner)
    fitted.support.features = None
    assert asked(learner) == found
    assert torch.equal(before, fitted.support.features)


def test_many_examples_are_embedded_when_first_needed(
    checkpoint: Path, embedded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_AT_ONCE", 4)
    learner = metashot.load(checkpoint).fit(IMAGES[:6], LABELS)
    assert embedded == [6]
    assert learner.estimate() == learner.estimate()  # type: ignore[attr-defined]
    assert embedded == [6, 4, 2]


def test_features_of_autocast_are_not_kept(checkpoint: Path) -> None:
    expected = metashot.load(checkpoint).fit(IMAGES[:6], LABELS)._state().support.features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        learner = metashot.load(checkpoint, device="cpu").fit(IMAGES[:6], LABELS)
        learner.estimate()
    assert learner._state().support.features is None
    learner.estimate()
    assert torch.equal(learner._state().support.features, expected)  # type: ignore[arg-type]


def test_copies_and_files_have_the_features_of_their_own_fit(checkpoint: Path, tmp_path: Path) -> None:
    learner = metashot.load(checkpoint).fit(IMAGES[:6], LABELS)
    found = asked(learner)
    learner.save(tmp_path / "pets.fewshot")
    content = torch.load(tmp_path / "pets.fewshot", weights_only=True)
    assert set(content) == {"metashot_fitted", "version", "config", "origin", "weights", "x", "y", "classes", "ink"}
    others = [
        copy.deepcopy(learner),
        pickle.loads(pickle.dumps(learner)),
        metashot.load_fitted(tmp_path / "pets.fewshot"),
        learner.__sklearn_clone__().fit(IMAGES[:6], LABELS),
    ]
    learner.fit(IMAGES[:6], LABELS[::-1])
    for other in others:
        assert asked(other) == found
    assert asked(learner) != found


def test_threads_share_one_embedding(checkpoint: Path, embedded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_AT_ONCE", 4)
    learner: Any = metashot.load(checkpoint).fit(IMAGES[:6], LABELS)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(learner.estimate())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert embedded == [6, 4, 2]
    assert len(found) == 4
    assert len(set(found)) == 1


@pytest.fixture
def waiting(checkpoint: Path) -> Iterator[Any]:
    """A learner that another thread is using."""
    learner = metashot.load(checkpoint).fit(IMAGES[:6], LABELS)
    with learner.network._used:
        yield learner


def given_up(learner: Any, within: float) -> float:
    """The seconds after which an estimate is given up."""
    begin = time.monotonic()
    with pytest.raises(BadInput, match=rf"takes longer than {within:g} s here: allow more time"):
        learner.estimate(within=within)
    return time.monotonic() - begin


def test_within_counts_waiting_for_another_thread(waiting: Any) -> None:
    assert 0.2 <= given_up(waiting, 0.2) < 5


@pytest.mark.parametrize("within", ["x", -1, True])
def test_within_is_checked_first(waiting: Any, within: Any) -> None:
    with pytest.raises(BadInput, match=r"within=.* cannot be used; allowed: a positive number of seconds, or None"):
        waiting.estimate(within=within)


@pytest.mark.parametrize("within", [1e308, 10**400, float("inf"), np.float32(1e30)])
def test_any_time_can_be_given(checkpoint: Path, within: Any) -> None:
    learner: Any = metashot.load(checkpoint).fit(IMAGES[:6], LABELS)
    assert learner.estimate(within=within) == learner.estimate()


def test_within_counts_the_embedding_where_it_is_still_to_be_done(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, embedded: list[int]
) -> None:
    monkeypatch.setattr(network, "_AT_ONCE", 1)
    learner: Any = metashot.load(checkpoint).fit(IMAGES[:6], LABELS)
    embed = type(learner.algorithm).embed
    monkeypatch.setattr(type(learner.algorithm), "embed", lambda *given, **named: time.sleep(0.2) or embed(*given, **named))
    embedded.clear()
    given_up(learner, 0.1)
    assert embedded == [1]  # given up after the first part
    learner.estimate(within=600)


def test_equal_examples_are_warned_of(checkpoint: Path, recwarn: pytest.WarningsRecorder) -> None:
    learner: Any = metashot.load(checkpoint).fit(IMAGES[:6], LABELS)
    learner.estimate()
    assert not recwarn.list
    assert [name for name, _ in estimate_rows(learner, True, "images")] == ["estimate"]
    for places, said in (([0, 1, 2, 0, 4, 5], "1 example is a copy of another"), ([0, 1, 2] * 2, "3 examples are copies")):
        learner.fit(IMAGES[places], LABELS)
        with pytest.warns(EqualExamples, match=f"^{said}.*: the estimate may be too high; give each once") as given:
            learner.estimate()
        assert given[0].filename == __file__
        recwarn.clear()
        (_, note) = estimate_rows(learner, "auto", "images")
        assert note == ("note", str(given[0].message))
        assert not recwarn.list
