"""Learners that make examples: what is made depends on the episode alone, and what it is worth is measured."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.generative.learner import GenerativeLearner, anchor_places, noise_of, resemblance
from metashot.algorithms.transfer.fitting import Fit
from metashot.episodes import Episode, Examples

from .feature_learners import Pixels, learner, one_task, random_episode

FEATURES, MADE = 5, 7
SETTINGS: dict[str, Any] = {
    "made": MADE,
    "classifier": "mean",
    "regularisation": 1.0,
    "fit": Fit(20, 0.1, 0.9, 0.001, 0.9),
    "normalise": "none",
}


class Shifted(GenerativeLearner):
    """What it makes is an example and its noise."""

    noise_size = FEATURES

    def generate(self, anchors: Tensor, noise: Tensor) -> Tensor:
        return anchors + noise


class Copied(Shifted):
    def generate(self, anchors: Tensor, noise: Tensor) -> Tensor:
        return anchors.clone()


def made(kind: type[GenerativeLearner] = Shifted, **settings: Any) -> GenerativeLearner:
    found = learner(kind, Pixels(FEATURES), **SETTINGS | settings)
    assert isinstance(found, GenerativeLearner)
    return found.eval()


def numbered(episode: Episode, *numbers: int) -> Episode:
    return replace(episode, number=torch.tensor(numbers))


def test_made_examples_take_the_examples_of_a_class_in_turn() -> None:
    episode = numbered(random_episode(FEATURES), 8, 3)
    found = made().examples_made(episode.support, episode.number)
    for task, number in enumerate((8, 3)):
        noise = noise_of(torch.tensor([number]), 3, MADE, FEATURES)[0]
        expected = []
        for label in range(3):
            own = [x for x, y in zip(episode.support.x[task], episode.support.y[task], strict=True) if y == label]
            expected += [own[place % len(own)] + noise[label, place] for place in range(MADE)]
        torch.testing.assert_close(found.x[task], torch.stack(expected))
        assert found.y[task].tolist() == [0] * MADE + [1] * MADE + [2] * MADE


def test_random_numbers_are_those_of_the_episode_whatever_the_batch_and_the_number_of_made_examples() -> None:
    noise = noise_of(torch.tensor([4, 9]), 3, 6, 5)
    assert torch.equal(noise_of(torch.tensor([9]), 3, 6, 5)[0], noise[1])
    assert torch.equal(noise_of(torch.tensor([4, 9]), 2, 4, 5), noise[:, :2, :4])
    others = [noise_of(torch.tensor([4]), 3, 6, 5, stream) for stream in (1, 2)] + [noise[:1], noise[1:]]
    assert len({float(each.sum()) for each in others}) == 4
    many = noise_of(torch.arange(50), 4, 50, 5).flatten()
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.var()) - 1) < 0.02
    assert abs(float((many.abs() < 1).double().mean()) - 0.6827) < 0.01


@pytest.mark.parametrize("classifier", ["mean", "logistic", "head"])
def test_an_answer_does_not_depend_on_the_batch(classifier: str) -> None:
    algorithm, episode = made(classifier=classifier), numbered(random_episode(FEATURES), 8, 3)
    together = algorithm.answers_to(episode)
    for task in range(2):
        torch.testing.assert_close(algorithm.answers_to(one_task(episode, task))[0], together[task])
    assert not torch.allclose(algorithm.answers_to(numbered(episode, 5, 6)), together)
    adapted = algorithm.answer_queries(algorithm.adapt(episode.support), episode.query.x)
    torch.testing.assert_close(adapted, algorithm.answers_to(numbered(episode, 0, 0)))


def test_class_means_are_those_of_real_and_made_examples_together() -> None:
    algorithm, episode = made(), random_episode(FEATURES)
    answers, examples = algorithm.answers_to(episode), algorithm.examples_made(episode.support, episode.number)
    for task in range(2):
        means = []
        for label in range(3):
            both = [*episode.support.x[task][episode.support.y[task] == label], *examples.x[task][examples.y[task] == label]]
            means.append(sum((x / x.norm() for x in both), torch.zeros(FEATURES)) / len(both))
        for query, row in zip(episode.query.x[task], answers[task], strict=True):
            expected = [10 * float(query @ mean / query.norm() / mean.norm()) for mean in means]
            assert row.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("classifier", ["mean", "logistic", "head"])
def test_without_made_examples_it_is_the_baseline_that_reports_compare_with(classifier: str) -> None:
    algorithm, episode = made(classifier=classifier), random_episode(FEATURES, query=(5, 4, 6))
    baseline = made(classifier=classifier, made=0)
    measures = algorithm.measures_of_made(episode)
    assert measures is not None
    assert baseline.measures_of_made(episode) is None
    right = (baseline.answers_to(episode).argmax(-1) == episode.query.y).to(measures.without).mean(1)
    torch.testing.assert_close(measures.without, right)


@pytest.mark.parametrize("classifier", ["mean", "logistic", "head"])
def test_the_score_of_made_examples_alone_is_that_of_a_support_set_of_them(classifier: str) -> None:
    algorithm, episode = made(classifier=classifier), random_episode(FEATURES, query=(5, 4, 6))
    measures = algorithm.measures_of_made(episode)
    assert measures is not None
    alone = algorithm.examples_made(episode.support, episode.number)
    stronger = SETTINGS["regularisation"] * alone.y.shape[1] / episode.support.y.shape[1]
    answers = made(classifier=classifier, made=0, regularisation=stronger).answers_to(replace(episode, support=alone))
    torch.testing.assert_close(measures.alone, (answers.argmax(-1) == episode.query.y).to(measures.alone).mean(1))


@pytest.mark.parametrize("classifier", ["mean", "logistic", "head"])
def test_copies_change_no_classifier(classifier: str) -> None:
    episode = random_episode(FEATURES, support=(2, 2, 2), query=(5, 4, 6))
    measures = made(Copied, classifier=classifier, made=6).measures_of_made(episode)
    assert measures is not None
    together = made(Copied, classifier=classifier, made=6).answers_to(episode).softmax(-1)
    torch.testing.assert_close(
        together, made(classifier=classifier, made=0).answers_to(episode).softmax(-1), rtol=1e-3, atol=1e-3
    )


def test_copies_are_counted_and_told_apart() -> None:
    episode = random_episode(FEATURES, support=(1, 1, 1), query=(6, 6, 6))
    measures = made(Copied).measures_of_made(episode)
    assert measures is not None
    assert measures.copies.tolist() == [1, 1]
    assert (measures.two_sample > 0.6).all()  # all made ones have a neighbour that is the same
    perfect = torch.randn(3, 400, FEATURES, generator=torch.Generator().manual_seed(0))
    label = torch.zeros(400, dtype=torch.int64)
    told, copies, _, _ = resemblance(perfect[0], perfect[2, :1].expand(400, -1), label, perfect[1], label)
    assert abs(float(told) - 0.5) < 0.06
    assert float(copies) < 0.05


def test_examples_of_the_same_distribution_have_on_average_what_is_expected() -> None:
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(1500):
        ours, theirs, anchor = (torch.randn(size, 3, generator=generator) for size in (4, 6, 1))
        zeros = torch.zeros(6, dtype=torch.int64)
        found.append(torch.stack(resemblance(ours, anchor.expand(4, -1), zeros[:4], theirs, zeros)))
    told, copies, told_expected, copies_expected = torch.stack(found).mean(0).tolist()
    assert (told_expected, copies_expected) == pytest.approx((3 / 7, 1 / 7))
    assert (told, copies) == pytest.approx((3 / 7, 1 / 7), abs=0.015)


def test_resemblance_is_that_of_plain_loops() -> None:
    generator = torch.Generator().manual_seed(3)
    ours, theirs = torch.randn(8, 2, generator=generator), torch.randn(7, 2, generator=generator) + 0.5
    anchors = ours + 0.7 * torch.randn(8, 2, generator=generator)
    y, real_y = torch.tensor([0] * 4 + [1] * 4), torch.tensor([0] * 3 + [1] * 4)
    told, copied = [], []
    for label in (0, 1):
        mine = [place for place in range(8) if y[place] == label]
        real = [place for place in range(7) if real_y[place] == label]
        size = min(len(mine), len(real))
        points = [(ours[place], True) for place in mine[:size]] + [(theirs[place], False) for place in real[:size]]
        hits = 0
        for place, (point, kind) in enumerate(points):
            others = [
                (float((point - other).norm()), other_kind) for at, (other, other_kind) in enumerate(points) if at != place
            ]
            hits += min(others)[1] == kind
        told.append(hits / len(points))
        closer = [
            float((ours[place] - anchors[place]).norm()) < min(float((anchors[place] - theirs[at]).norm()) for at in real)
            for place in mine
        ]
        copied.append(sum(closer) / len(closer))
    found = resemblance(ours, anchors, y, theirs, real_y)
    assert [float(value) for value in found[:2]] == pytest.approx([sum(told) / 2, sum(copied) / 2])


def test_places_of_examples_are_found_in_any_order_of_labels() -> None:
    y = torch.tensor([[2, 0, 1, 0, 2, 0]])
    assert anchor_places(y, 4).tolist() == [[[1, 3, 5, 1], [2, 2, 2, 2], [0, 4, 0, 4]]]


def test_normalised_features_have_the_scale_of_their_number_and_keep_their_direction() -> None:
    algorithm, episode = made(normalise="l2"), random_episode(FEATURES)
    x = algorithm.inputs_of(episode.support.x)
    torch.testing.assert_close(x.norm(dim=-1), torch.full_like(x[..., 0], FEATURES**0.5))
    torch.testing.assert_close(F.normalize(x, dim=-1), F.normalize(episode.support.x, dim=-1))


def test_order_of_the_classes_examples_does_not_change_which_class_is_which() -> None:
    support = Examples(torch.eye(3, FEATURES, dtype=torch.float64)[None] * 9, torch.arange(3)[None])
    assert made()(support, support.x).argmax(-1).tolist() == [[0, 1, 2]]
