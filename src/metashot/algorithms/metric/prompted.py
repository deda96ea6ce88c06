"""Tip-Adapter: Zhang, Fang, Zhang, Gao, Li, Dai, Qiao, Li 2022, "Tip-Adapter: training-free adaption of CLIP for few-shot
classification", arXiv:2207.09519 (as arXiv:2111.03930, "Training-free CLIP-Adapter for better vision-language modeling").

The names of the classes are a prior: W_c [ways, features] has the text features of prompts such as "a photo of a dog.", by
which CLIP classifies without any example. The support set is a cache of keys F_train [S, features], its image features, and
values L_train [S, ways], its one-hot labels. With the feature f of a query, all of length 1, its logits are

    100 f W_c' + alpha exp(-beta (1 - f F_train')) L_train.

alpha weighs the examples against the names, and beta says how close an example has to be. Nothing is trained. With several
prompts, W_c has the mean of their text features, at length 1. Underscores and hyphens of names are read as spaces.

Where this departs from the paper: alpha and beta are chosen on validation episodes, whose classes are others, unless they
are given; the keys are not averaged over augmented copies of the images; the keys are not fine-tuned (Tip-Adapter-F).
"""

import re
from collections.abc import Hashable, Iterable
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.choosing import Choice, ChoosesOnValidation
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import memberships
from metashot.arguments import Above, AtLeast, AtMost, Matching
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput, BadValue
from metashot.episodes import Examples, Names
from metashot.problems import Problem

# The middle ones are those of the paper for ImageNet. At 0 the examples do not count.
_ALPHAS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_BETAS = (0.7, 1.5, 3.0, 5.5, 10.0, 20.0, 40.0)
_SCALE = 100.0  # of the cosines with texts, as CLIP was trained
_LONGEST = 1000  # characters of a name
_WORDNET = re.compile(r"n\d{8}")  # how ImageNet's files name its classes, such as n02084071

Prompt = Annotated[str, Matching(r"[^{}]{0,500}\{\}[^{}]{0,500}", "with one {}, where the name of a class goes")]


class Cache(NamedTuple):
    """The classifiers of T tasks."""

    texts: Tensor  # W_c [T, ways, features]
    keys: Tensor  # F_train [T, S, features]
    values: Tensor  # L_train [T, S, ways]


class Prompted(FeatureLearner, ChoosesOnValidation):
    """Tip-Adapter.

    Args:
        prompts: Texts with {} in the place of a class's name.
        alpha: The weight of the examples, None to choose it on validation episodes.
        beta: How fast an example counts less with its distance, None to choose it on validation episodes.
    """

    reads_names = True

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        prompts: list[Prompt],
        alpha: Annotated[float, AtLeast(0), AtMost(1e6)] | None,
        beta: Annotated[float, Above(0), AtMost(1e6)] | None,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        if not backbone.reads_text:
            raise BadInput(
                f"algo=prompted reads the names of classes, and the backbone {type(backbone).__name__.lower()} has no text "
                "tower: use backbone=clip, or an algorithm that compares images alone, such as algo=protonet"
            )
        if not prompts:
            raise BadInput("algo.prompts=[] has no prompt: give at least one, such as 'a photo of a {}.'")
        self.prompts = prompts
        self.alpha = Choice(alpha, _ALPHAS)
        self.beta = Choice(beta, _BETAS)

    def summary(self, support: Examples) -> Cache:
        if support.names is None:
            raise BadValue("algo=prompted reads the names of classes, and this support set has none")
        texts = self._texts(support.names).to(support.x)
        return Cache(texts, F.normalize(support.x, dim=-1), memberships(support.y, support.x))

    def answer(self, cache: Cache, query: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            f = F.normalize(query, dim=-1)
            affinities = (-self.beta.chosen * (1 - f @ cache.keys.mT)).exp()  # [T, Q, S]
            return _SCALE * (f @ cache.texts.mT) + self.alpha.chosen * (affinities @ cache.values)

    def refuse_names(self, names: Iterable[Hashable]) -> None:
        for name in names:
            words(name)

    def _texts(self, names: Names) -> Tensor:
        """W_c [T, ways, features]."""
        read = [words(name) for of_task in names for name in of_task]
        features = self.backbone.text_features([prompt.replace("{}", name) for name in read for prompt in self.prompts])
        features = features.view(len(names), -1, len(self.prompts), self.backbone.features)
        return F.normalize(features.mean(2), dim=-1)


def words(name: Hashable) -> str:
    """The words of a class's name, such as "red car" for "red_car".

    Raises:
        BadValue: It has no words, or too many.
    """
    if not isinstance(name, str) or not any(map(str.isalpha, name)) or _WORDNET.fullmatch(name):
        raise BadValue(
            f"the class {str(name)[:60]} has no words to read, which algo=prompted needs: name classes by what they are, "
            "such as 'red car', or use an algorithm that compares images alone, such as algo=protonet"
        )
    if len(name) > _LONGEST:
        raise BadValue(f"the class {name[:60]}... has a name of {len(name):,} characters; allowed: at most {_LONGEST:,}")
    return " ".join(re.sub("[_-]", " ", name).split())
