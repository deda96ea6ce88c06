"""`learner.next_to_label()`: which images to label next, and whether that is better than random choices."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import metashot
from metashot.algorithms.closed_form.logistic import LogisticRegression
from metashot.algorithms.closed_form.r2d2 import R2D2
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.applied import labelling
from metashot.applied.labelling import NotBetterThanRandom, Suggestions, chosen, refuse_labelling, suggested
from metashot.applied.learner import Unavailable
from metashot.bad_input import BadInput
from metashot.checkpoints.reading import metashot_part, read_checkpoint, write_checkpoint
from metashot.episodes import Examples
from tests.applied.learners import built, drawings, tiny
from tests.applied.test_estimating import FEATURES, clusters, made, protonet
from tests.applied.test_vectors import FEATURES as VECTOR
from tests.applied.test_vectors import checkpoint as vectors
from tests.applied.test_vectors import episode
from tests.configuration.test_configuration import composed

KINDS: dict[str, tuple[type[FeatureLearner], dict[str, Any]]] = {
    "euclidean": (ProtoNet, {"distance": "euclidean", "temperature": 1.0, "learned_temperature": False}),
    "cosine": (ProtoNet, {"distance": "cosine", "temperature": 0.1, "learned_temperature": False}),
    "r2d2": (R2D2, {"regularisation": 1.0, "learned_regularisation": True, "scale": 10.0}),
    "logistic": (LogisticRegression, {"regularisation": 1.0}),
}


def task(seed: int, ways: int = 4, shots: int = 1, each: int = 20, spread: float = 1.2) -> tuple[Examples, Tensor, Tensor]:
    """A support set, and unlabelled images with the labels that they would get."""
    found = clusters(seed, ways, shots + each, spread)
    labels = torch.arange(ways)
    support = Examples(found[:, :shots].flatten(0, 1), labels.repeat_interleave(shots))
    return support, found[:, shots:].flatten(0, 1), labels.repeat_interleave(each)


def choices(algorithm: FeatureLearner, support: Examples, pool: Tensor, n: int) -> list[int]:
    found: list[int] = chosen(algorithm, Examples(support.x[None], support.y[None]), pool[None], n)[0].tolist()
    return found


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_what_is_labelled_next_is_better_than_random(kind: str) -> None:
    of, settings = KINDS[kind]
    algorithm = made(of, 1.2, **settings)
    random, gains = np.random.default_rng(0), []
    for seed in range(100, 220):
        support, pool, y = task(seed, each=60)
        unlabelled, query = torch.arange(0, len(y), 3), torch.arange(len(y)).view(-1, 3)[:, 1:].flatten()
        candidates = pool[unlabelled]
        ours = choices(algorithm, support, candidates, 4)
        scores = []
        for places in [ours, *(random.permutation(len(candidates))[:4].tolist() for _ in range(4))]:
            labels = torch.cat([support.y, y[unlabelled[places]]])
            order = labels.argsort(stable=True)
            shown = Examples(torch.cat([support.x, candidates[places]])[order][None], labels[order][None])
            answers = algorithm.answer(algorithm.summary(shown), pool[query][None])[0]
            scores.append(float((answers.argmax(-1) == y[query]).double().mean()))
        gains.append(scores[0] - np.mean(scores[1:]))
    error = np.std(gains, ddof=1) / len(gains) ** 0.5
    assert np.mean(gains) > 2.5 * error
    simulated = suggested(algorithm, *task(100)[:2], n=4)
    assert simulated.better_than_random
    assert simulated.low - 2 * error < np.mean(gains) < simulated.high + 2 * error


def test_it_says_that_it_is_not_better_where_labels_cannot_help() -> None:
    algorithm = protonet()
    algorithm.familiarity.sample = torch.randn(20, 20, FEATURES, generator=torch.Generator().manual_seed(0)).double()
    found = suggested(algorithm, *task(1)[:2], n=4)
    assert not found.better_than_random
    assert found.low <= 0 <= found.high
    assert "not shown to be better than random ones" in str(found)


def test_labelling_every_image_is_no_better_than_random() -> None:
    support, pool, _ = task(2, each=2)
    found = suggested(protonet(), support, pool, n=len(pool))
    assert sorted(found.indices) == list(range(len(pool)))
    assert (found.gain, found.low, found.high, found.better_than_random) == (0, 0, 0, False)


def test_suggestions_are_reproducible_and_leave_global_randomness_alone() -> None:
    algorithm, (support, pool, _) = protonet(), task(3)
    before = torch.get_rng_state(), str(np.random.get_state())
    first, second = (suggested(algorithm, support, pool, n=5) for _ in range(2))
    assert first.indices.tolist() == second.indices.tolist()
    assert first.indices.dtype == np.int64
    assert (first.gain, first.low, first.high) == (second.gain, second.low, second.high)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == str(np.random.get_state())


def test_the_order_of_the_images_does_not_matter() -> None:
    algorithm, (support, pool, _) = protonet(), task(4)
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))
    permuted = choices(algorithm, support, pool[order], n=8)
    assert order[permuted].tolist() == choices(algorithm, support, pool, n=8)


def test_the_best_images_come_first() -> None:
    algorithm, (support, pool, _) = protonet(), task(5)
    assert choices(algorithm, support, pool, n=9)[:3] == choices(algorithm, support, pool, n=3)


def with_others() -> tuple[FeatureLearner, Examples, Tensor]:
    """Four classes with one example each, and unlabelled images, of which the second half is of other classes."""
    both = clusters(8, 8, 11, 0.3)
    return protonet(spread=0.3), Examples(both[:4, 0], torch.arange(4)), both[:, 1:].flatten(0, 1)


def known_of(algorithm: FeatureLearner, support: Examples, pool: Tensor) -> list[int]:
    """The places of the images that seem to belong to the classes, at a rate of false alarms of 25 %."""
    shown = Examples(support.x[None], support.y[None])
    familiar = algorithm.familiarity(shown, pool[None], together=True)[0]
    threshold = algorithm.familiarity.threshold(shown, 0.25, together=True)
    return [place for place in range(len(pool)) if familiar[place] >= threshold]


def test_images_of_other_classes_come_last() -> None:
    algorithm, support, pool = with_others()
    pool = pool.flip(0).repeat(2, 1)  # images of other classes first; with equal images, of which the second adds nothing
    known, found = known_of(algorithm, support, pool), choices(algorithm, support, pool, n=len(pool))
    assert len(known) > 40
    assert min(place % 80 for place in known) >= 40
    assert set(found[: len(known)]) == set(known)
    assert sorted(found) == list(range(len(pool)))


def test_each_choice_raises_the_cosines_of_the_represented_images_most() -> None:
    algorithm, support, pool = with_others()
    z, labelled = algorithm.familiarity.transformed(torch.cat([support.x, pool])), list(range(4))
    known = [place + 4 for place in known_of(algorithm, support, pool)]
    for _ in range(5):
        sums = {place: float((z[known] @ z[[*labelled, place]].T).amax(1).sum()) for place in known if place not in labelled}
        labelled.append(max(sums, key=lambda place: sums[place]))
    assert choices(algorithm, support, pool, n=5) == [place - 4 for place in labelled[4:]]


def test_only_one_of_equal_images_is_chosen_while_there_are_others() -> None:
    algorithm, (support, pool, _) = protonet(), task(7, each=5)
    found = choices(algorithm, support, pool.repeat(3, 1), n=8)
    assert len({place % len(pool) for place in found}) == 8
    again = choices(algorithm, support, torch.cat([support.x, pool]), n=8)
    assert min(again) >= len(support.x)  # images that are labelled already are not asked for again


def test_large_pools_are_chosen_from_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, (support, pool, _) = protonet(), task(9)
    expected = choices(algorithm, support, pool, n=len(pool))
    monkeypatch.setattr(labelling, "_NUMBERS_AT_ONCE", 100)
    assert choices(algorithm, support, pool, n=len(pool)) == expected
    monkeypatch.setattr(labelling, "_REPRESENTED", 16)
    found = choices(algorithm, support, pool, n=len(pool))
    assert sorted(found) == list(range(len(pool)))
    assert len({place // 20 for place in found[:4]}) > 2  # of the four classes


def test_tasks_that_are_computed_together_do_not_affect_each_other() -> None:
    algorithm, (support, pool, _), (other, others, _) = protonet(), task(10), task(11)
    shown = Examples(torch.stack([support.x, other.x]), torch.stack([support.y, other.y]))
    both = chosen(algorithm, shown, torch.stack([pool, others]), 6)
    assert both.tolist() == [choices(algorithm, support, pool, 6), choices(algorithm, other, others, 6)]


def test_what_cannot_be_simulated_is_said() -> None:
    algorithm = protonet()
    refuse_labelling(algorithm)
    algorithm.transductive = True
    with pytest.raises(BadInput, match="answers many queries together"):
        refuse_labelling(algorithm)
    algorithm.transductive = False
    assert algorithm.familiarity.sample is not None
    whole = algorithm.familiarity.sample
    algorithm.familiarity.sample = whole[:, :2]
    with pytest.raises(BadInput, match="at least 3 images of each validation class"):
        refuse_labelling(algorithm)
    algorithm.familiarity.sample = whole[:, :3]
    refuse_labelling(algorithm)
    assert np.isfinite(suggested(algorithm, *task(11, shots=2)[:2], n=2).gain)
    algorithm.familiarity.load_state_dict({})
    with pytest.raises(BadInput, match="an older version of metashot"):
        refuse_labelling(algorithm)


def test_suggestions_read_as_a_sentence() -> None:
    better = Suggestions(np.arange(5), 0.0231, 0.0182, 0.028, 400)
    assert str(better) == (
        "5 images to label next, better than random ones: +2.3 points of accuracy (95 % interval +1.8 to +2.8) in 400 "
        "simulated tasks"
    )
    assert str(Suggestions(np.arange(1), 0.001, -0.002, 0.004, 400)).startswith(
        "1 image to label next, not shown to be better than random ones: +0.1 points"
    )
    worse = Suggestions(np.arange(1), -0.004, -0.007, -0.001, 400)
    assert str(worse).startswith("1 image to label next, worse than random ones: -0.4 points")
    assert "(95 % interval +0.0 to +0.8)" in str(Suggestions(np.arange(1), 0.004, -0.0003, 0.008, 400))


IMAGES = drawings(12, seed=1)
LABELS = ["cat", "dog", "cat", "dog"]


def knowing(path: Path, inputs: Tensor) -> Path:
    """The checkpoint after it has learned what looks familiar, from inputs [classes, images, ...]."""
    algorithm = metashot.load(path).algorithm
    assert isinstance(algorithm, FeatureLearner)
    with torch.no_grad():
        features = algorithm.embed(inputs.float().flatten(0, 1)[None], support=0)[0].view(*inputs.shape[:2], -1)
    algorithm.familiarity.learn(features, features.flip(0))
    write_checkpoint({**read_checkpoint(path), "state_dict": algorithm.state_dict()}, path)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of a learner that knows what looks familiar."""
    inputs = torch.from_numpy(drawings(120, seed=2)).view(6, 20, 1, 28, 28) / 255
    return knowing(tiny(tmp_path, "protonet", "running"), inputs)


def fitted(path: Path) -> Any:
    return metashot.load(path, device="cpu").fit(IMAGES[:4], LABELS)


@pytest.mark.filterwarnings("ignore::metashot.applied.labelling.NotBetterThanRandom")
def test_a_saved_learner_suggests_the_same(checkpoint: Path, tmp_path: Path) -> None:
    learned = fitted(checkpoint)
    found = learned.next_to_label(IMAGES[4:], n=3)
    learned.save(tmp_path / "pets.fewshot")
    again = metashot.load_fitted(tmp_path / "pets.fewshot").next_to_label(list(IMAGES[4:]), n=np.int64(3))
    assert found.indices.tolist() == again.indices.tolist()
    assert str(found) == str(again)
    assert set(found.indices) <= set(range(8))


def test_a_warning_says_that_it_is_not_better(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = fitted(checkpoint)
    for low, warns in ((-0.01, True), (0.01, False)):
        result = Suggestions(np.arange(2), low + 0.01, low, low + 0.02, 400)
        monkeypatch.setattr("metashot.applied.network.suggested", lambda *_, result=result: result)
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            assert learned.next_to_label(IMAGES[4:], n=2) is result
        assert [each.category for each in raised] == [NotBetterThanRandom] * warns
        assert all(each.filename == __file__ for each in raised)


@pytest.mark.parametrize("n", [0, -1, 9, 2.0, True, None, "3"])
def test_a_number_that_cannot_be_chosen_is_refused(n: Any, checkpoint: Path) -> None:
    with pytest.raises(
        BadInput, match=rf"^n={n!r} cannot be used; allowed: a whole number from 1 to the number of images, 8$"
    ):
        fitted(checkpoint).next_to_label(IMAGES[4:], n=n)


def test_what_cannot_be_used_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="call fit"):
        metashot.load(checkpoint).next_to_label(IMAGES)
    with pytest.raises(BadInput, match="no images"):
        fitted(checkpoint).next_to_label([])
    with pytest.raises(BadInput, match=r"next_to_label\(\) is for learners that compare features.*label any images"):
        fitted(tiny(tmp_path, "maml", "running")).next_to_label(IMAGES[4:])
    with pytest.raises(BadInput, match="an older version of metashot"):
        fitted(tiny(tmp_path, "protonet", "running")).next_to_label(IMAGES[4:])
    with pytest.raises(BadInput, match="answers many queries together"):
        fitted(tiny(tmp_path, "protonet", "transductive")).next_to_label(IMAGES[4:])


@pytest.mark.filterwarnings("ignore::metashot.applied.labelling.NotBetterThanRandom")
def test_learners_of_vectors_choose_rows(tmp_path: Path) -> None:
    path = knowing(vectors(tmp_path), torch.from_numpy(np.random.default_rng(0).normal(size=(6, 20, VECTOR))))
    x, labels, rows, _ = episode()
    found = metashot.load(path).fit(x, labels).next_to_label(rows, n=4)  # type: ignore[attr-defined]
    assert set(found.indices) <= set(range(len(rows)))
    with pytest.raises(BadInput, match=f"the number of rows of x, {len(rows)}"):
        metashot.load(path).fit(x, labels).next_to_label(rows, n=len(rows) + 1)


@pytest.mark.parametrize(
    ("number", "message"),
    [(1e14, "non-finite answers"), (0.0, "gives the same features to all of their images: take another checkpoint")],
)
def test_validation_classes_that_simulate_nothing_are_refused(checkpoint: Path, number: float, message: str) -> None:
    learned = fitted(checkpoint)
    sample = learned.algorithm.familiarity.sample
    sample *= number
    with torch.no_grad():
        learned.algorithm.log_temperature.fill_(-60.0)
    for call in (learned.estimate, lambda: learned.next_to_label(IMAGES[4:], n=2)):
        with pytest.raises(BadInput, match=message):
            call()


def test_learners_of_numbers_have_no_classes(tmp_path: Path) -> None:
    origin = {"name": "sinusoid", "problem": "Regression", "outputs": 1, "input_shape": [1]}
    config = composed("train", "experiment=sinusoid", "backbone.hidden=[8]")
    path = tmp_path / "sinusoid.ckpt"
    content = {"global_step": 0, "state_dict": built(config, origin).state_dict(), "metashot": metashot_part(config, origin)}
    write_checkpoint(content, path)
    numbers = metashot.load(path)
    for call in (numbers.estimate, lambda: numbers.next_to_label([[1.0]])):
        with pytest.raises(
            Unavailable, match="is for classes, and this maml was trained on sinusoid to answer with numbers"
        ):
            call()
