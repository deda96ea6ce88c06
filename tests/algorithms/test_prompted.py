"""Tip-Adapter against the paper's formula, written out with numpy, on a backbone whose text tower is a table."""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot import configuration
from metashot.algorithms.metric.prompted import Prompted, words
from metashot.bad_input import BadInput, BadValue
from metashot.episodes import Episode
from tests.configuration.test_configuration import composed

from .feature_learners import Pixels, learner, one_task, random_episode

FEATURES = 6
NAMES = (("red_car", "pear", "sea-lion"), ("pear", "dog", "red car"))
PROMPTS = ("a photo of a {}.", "{}, drawn")


class Reader(Pixels):
    """Its text tower gives each text a direction of its own."""

    reads_text = True

    def __init__(self) -> None:
        super().__init__(FEATURES)
        self.read: list[str] = []

    def text_features(self, texts: Sequence[str]) -> Tensor:
        self.read += texts
        return torch.from_numpy(np.stack([direction(text) for text in texts]))


def direction(text: str) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return unit(np.random.default_rng(seed).normal(size=FEATURES))


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def prompted(alpha: float | None = 2.0, beta: float | None = 3.0, prompts: Sequence[str] = PROMPTS) -> Prompted:
    made: Prompted = learner(Prompted, Reader(), prompts=list(prompts), alpha=alpha, beta=beta)
    return made


def episode(names: Any = NAMES) -> Episode:
    drawn = random_episode(FEATURES)
    return replace(drawn, support=replace(drawn.support, names=names))


def expected(drawn: Episode, task: int, alpha: float, beta: float, prompts: Sequence[str]) -> NDArray[np.float64]:
    """100 f W_c' + alpha exp(-beta (1 - f F_train')) L_train, for each query and class by itself."""
    assert drawn.support.names is not None
    support, y, query = (part[task].numpy() for part in (drawn.support.x, drawn.support.y, drawn.query.x))
    found = np.zeros((len(query), 3))
    for place, f in enumerate(unit(query)):
        for label, name in enumerate(drawn.support.names[task]):
            read = str(name).replace("_", " ").replace("-", " ")
            text = unit(np.mean([direction(prompt.format(read)) for prompt in prompts], axis=0))
            shown = unit(support[y == label])
            found[place, label] = 100 * f @ text + alpha * sum(np.exp(-beta * (1 - f @ key)) for key in shown)
    return found


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]])
@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 3.0), (0.3, 40.0), (0.0, 1.0)])
def test_logits_are_those_of_the_paper(alpha: float, beta: float, prompts: Sequence[str]) -> None:
    drawn = episode()
    answers = prompted(alpha, beta, prompts)(drawn.support, drawn.query.x)
    for task in range(2):
        np.testing.assert_allclose(answers[task], expected(drawn, task, alpha, beta, prompts), rtol=1e-6, atol=1e-6)


def test_without_examples_the_names_alone_answer() -> None:
    """With alpha=0 it is CLIP's zero-shot classifier: permuted names permute the answers, and other examples change none."""
    drawn, made = episode(), prompted(alpha=0.0)
    answers = made(drawn.support, drawn.query.x)
    order = [2, 0, 1]
    permuted = episode(tuple(tuple(names[place] for place in order) for names in NAMES))
    torch.testing.assert_close(made(permuted.support, drawn.query.x), answers[:, :, order])
    others = replace(drawn.support, x=torch.randn_like(drawn.support.x))
    torch.testing.assert_close(made(others, drawn.query.x), answers)


def test_the_examples_count_with_alpha() -> None:
    drawn, others = episode(), episode()
    others = replace(others, support=replace(others.support, x=torch.randn_like(others.support.x)))
    made = prompted(alpha=1e3)
    assert not torch.allclose(made(others.support, drawn.query.x), made(drawn.support, drawn.query.x))


def test_tasks_do_not_depend_on_each_other_or_on_how_they_are_adapted_to() -> None:
    drawn, made = episode(), prompted()
    answers = made(drawn.support, drawn.query.x)
    for task in range(2):
        alone = one_task(drawn, task)
        support = replace(alone.support, names=NAMES[task : task + 1])
        torch.testing.assert_close(made(support, alone.query.x)[0], answers[task])
    adapted = made.eval().adapt(drawn.support)
    torch.testing.assert_close(made.answer_queries(adapted, drawn.query.x), answers)
    embedded = replace(drawn, embedded=True)
    torch.testing.assert_close(made.answers_to(embedded), answers)
    torch.testing.assert_close(torch.cat([made.answers_to(part) for part in embedded.parts(1)]), answers)


def test_nothing_is_trained() -> None:
    assert not prompted().trains_for_tasks


def test_alpha_and_beta_are_open_unless_they_are_given() -> None:
    made = prompted(alpha=None, beta=None)
    assert made.choices() == [made.alpha, made.beta]
    assert (made.alpha.value, made.beta.value) == (1.0, 5.5)  # the paper's
    assert prompted().choices() == []


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("red_car", "red car"),
        ("red-car", "red car"),
        ("__sea-  lion_", "sea lion"),
        ("Rose (tea)", "Rose (tea)"),
        ("001.Black_footed_Albatross", "001.Black footed Albatross"),
        ("猫", "猫"),
        ("{}", None),
        ("7", None),
        ("", None),
        ("n02084071", None),
        ("n02084071 dog", "n02084071 dog"),
        (7, None),
        (True, None),
        (None, None),
        (("red", "car"), None),
        ("x" * 1001, None),
    ],
)
def test_names_are_read_as_words(name: Hashable, read: str | None) -> None:
    if read is not None:
        assert words(name) == read
        prompted().refuse_names(["dog", name])
        return
    with pytest.raises(BadValue, match=r"has no words to read|has a name of 1,001 characters"):
        prompted().refuse_names(["dog", name])
    with pytest.raises(BadValue, match=r"has no words to read|has a name of 1,001 characters"):
        prompted().summary(episode((("dog", name, "cat"), NAMES[0])).support)


def test_names_with_braces_are_put_in_as_they_are() -> None:
    made = prompted(prompts=["a {}."])
    made.summary(episode((("a{0}", "b{}", "c{x}"), NAMES[0])).support)
    assert made.backbone.read[:3] == ["a a{0}.", "a b{}.", "a c{x}."]  # type: ignore[index]


def test_a_support_set_without_names_is_refused() -> None:
    with pytest.raises(BadValue, match="reads the names of classes, and this support set has none"):
        prompted().summary(episode(None).support)


def test_a_backbone_without_a_text_tower_is_refused() -> None:
    with pytest.raises(BadInput, match=r"the backbone pixels has no text tower: use backbone=clip, or .* algo=protonet"):
        learner(Prompted, Pixels(FEATURES), prompts=["{}"], alpha=None, beta=None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompts", ["a photo"]),
        ("prompts", ["{} and {}"]),
        ("prompts", ["{0}"]),
        ("prompts", ["{name}"]),
        ("prompts", ["{} {"]),
        ("prompts", [3]),
        ("prompts", "a {}"),
        ("prompts", None),
        ("alpha", -1),
        ("beta", 0),
        ("beta", "x"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(key: str, value: Any) -> None:
    config = composed("train", "algo=prompted")
    configuration.check(config)
    config["algo"][key] = value
    with pytest.raises(BadInput, match=rf"algo\.{key}"):
        configuration.check(config)


def test_no_prompt_is_refused() -> None:
    with pytest.raises(BadInput, match=r"algo\.prompts=\[\] has no prompt: give at least one"):
        prompted(prompts=[])
