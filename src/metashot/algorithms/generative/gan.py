"""A conditional Wasserstein GAN that hallucinates features, in the manner of AFHN: Li, Zhang, Li, Fu 2020, "Adversarial
feature hallucination networks for few-shot learning", arXiv:2003.13193.

The generator G makes a feature from an example s and noise z, and the critic D scores features given the same example. The
critic maximises E[D(x, s)] - E[D(G(s, z), s)] minus a gradient penalty (Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville
2017, "Improved training of Wasserstein GANs", arXiv:1704.00028), lambda E[(|grad D(x', s)| - 1)^2] at points x' between
real and made features of length 1. The generator minimises

    - E[D(G(s, z1), s)] - E[D(G(s, z2), s)] + alpha L_cr + beta / L_ar

with two noises for each s. L_cr is the cross-entropy of the queries, classified by their cosines to the class means of made
features. L_ar = E[(1 - cos(G(s, z1), G(s, z2))) / (1 - cos(z1, z2))] is how much features differ for different noise, so
that its inverse, which is averaged over tasks, keeps the generator from collapsing to one feature for each s.

Each training step takes `critic_steps` steps of the critic, with the same examples and other noise, and one of the
generator; the two have an optimiser each. All random numbers are functions of the episodes' numbers.

Where this departs from AFHN: G adds its output to s, and has no ReLU at its end, since features are centred on the mean of
the training classes and normalised; the noise has 64 numbers instead of as many as features; cosines of L_cr are multiplied
by 10; the real examples that the critic compares are queries of the task; the rate decays, and Adam's betas are 0.5 and
0.999 (Gulrajani et al.: 0 and 0.9); the critic's steps share their examples; the gradient penalty is for features of length
1, whatever the features' own.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from metashot.algorithms.base import TaskLosses
from metashot.algorithms.generative.learner import GenerativeLearner, Pairs, noise_of, one_hidden_layer
from metashot.algorithms.similarities import class_means, cosines
from metashot.arguments import Count, NotNegative, Units
from metashot.episodes import Batch, Episode, Examples

_SCALE = 10.0  # of the cosines of L_cr
_LEAST = 1e-6  # 1 - cos of two noises, and L_ar
_OF_GENERATOR, _OF_CRITIC = 1, 3  # streams of random numbers: two noises of the generator, then two for each critic step


class GAN(GenerativeLearner):
    """The conditional Wasserstein GAN.

    Args:
        noise: The size of the noise z.
        hidden: The units of the hidden layer of each network.
        critic_steps: The steps of the critic in each training step.
        gradient_penalty: lambda, the weight of the gradient penalty.
        classification: alpha, the weight of the loss of the queries.
        anti_collapse: beta, the weight of the term against collapse.
    """

    def __init__(
        self,
        noise: Units,
        hidden: Units,
        critic_steps: Count,
        gradient_penalty: NotNegative,
        classification: NotNegative,
        anti_collapse: NotNegative,
        **learner: Any,
    ) -> None:
        super().__init__(**learner)
        self.automatic_optimization = False  # two players have no common loss
        features = self.backbone.features
        self.noise_size = noise
        self.critic_steps = critic_steps
        self.gradient_penalty = gradient_penalty
        self.classification = classification
        self.anti_collapse = anti_collapse
        self.generator = one_hidden_layer(features + noise, hidden, features, dropout=0.0)
        self.critic = one_hidden_layer(2 * features, hidden, 1, dropout=0.0)

    def generate(self, anchors: Tensor, noise: Tensor) -> Tensor:
        """G(s, z) = s + g(s, z): [N, features]"""
        difference: Tensor = self.generator(torch.cat([anchors, noise], -1))
        return anchors + difference

    def score(self, x: Tensor, anchors: Tensor) -> Tensor:
        """D(x, s): [N]"""
        scores: Tensor = self.critic(torch.cat([x, anchors], -1)).squeeze(-1)
        return scores

    def critic_terms(self, pairs: Pairs, z: Tensor, share: Tensor, tasks: int) -> tuple[Tensor, Tensor]:
        """The estimated Wasserstein distance and the gradient penalty, averaged over tasks.

        Args:
            pairs: Real features with their examples.
            z: Noise [P, noise].
            share: How far each x' is on the way from the made to the real feature [P].
            tasks: The number of tasks.
        """
        with torch.no_grad():
            made = self.generate(pairs.anchor, z)
        distance = self.score(pairs.target, pairs.anchor) - self.score(made, pairs.anchor)
        between = (share[:, None] * pairs.target + (1 - share[:, None]) * made).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.score(between, pairs.anchor).sum(), between, create_graph=True)
        # Per unit of features of length 1: at the networks' own scale critics would outweigh the penalty and L_cr.
        penalty = (self.scale * torch.linalg.vector_norm(gradient, dim=-1) - 1).square()
        return pairs.mean(distance, tasks), pairs.mean(penalty, tasks)

    def generator_terms(self, real: Examples, query: Examples, z: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The mean score of made features (summed over both noises), L_cr (likewise) and L_ar of each task [T].

        Args:
            real: Support examples [T, S, features].
            query: Queries [T, Q, features].
            z: Two noises [T, S, noise].
        """
        made = [self.generate(real.x.flatten(0, 1), noise.flatten(0, 1)).view_as(real.x) for noise in z]
        scores = [self.score(features.flatten(0, 1), real.x.flatten(0, 1)).mean() for features in made]
        losses = [self.problem.loss(_SCALE * cosines(query.x, class_means(features, real.y)), query.y) for features in made]
        differ, noises_differ = _one_minus_cosine(made[0], made[1]), _one_minus_cosine(z[0], z[1]).clamp(min=_LEAST)
        return scores[0] + scores[1], losses[0] + losses[1], (differ / noises_differ).mean(1)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        generator, critic = self.optimizers()  # type: ignore[attr-defined]
        _uncounted(critic)  # so that the generator's steps are those of the run
        with torch.autocast(self.device.type, enabled=False):
            shown = [self._shown(episode) for episode in batch]
            tasks = sum(map(len, batch))
            answers = [self.training_answers(*self.features_of(episode), episode.number) for episode in batch]
            self.task_losses = [
                TaskLosses(episode.number, self.problem.losses(answer, episode.query.y).mean(1), None)
                for episode, answer in zip(batch, answers, strict=True)
            ]
            terms: dict[str, Tensor] = {}
            for step in range(self.critic_steps):
                terms |= self._critic_step(critic, batch, shown, tasks, step)
            terms |= self._generator_step(generator, batch, shown, tasks)
        for schedule in self.lr_schedulers():  # type: ignore[union-attr]
            schedule.step()  # type: ignore[call-arg]
        scores = [
            self.problem.score(answer, episode.query.y) * (len(episode) / tasks)
            for episode, answer in zip(batch, answers, strict=True)
        ]
        return {"loss": terms["generator_loss"], "score": torch.stack(scores).sum(), **terms}

    def _shown(self, episode: Episode) -> tuple[Examples, Examples, Pairs]:
        """Support examples and queries, as the generator knows them, and their pairs."""
        support, query = self.features_of(episode)
        with torch.no_grad():
            known = [Examples(self.inputs_of(part.x), part.y) for part in (support, query)]
        return known[0], known[1], self.pairs_of(support, query)

    def _critic_step(
        self,
        optimizer: LightningOptimizer,
        batch: Batch,
        shown: Sequence[tuple[Examples, Examples, Pairs]],
        tasks: int,
        step: int,
    ) -> dict[str, Tensor]:
        distances, penalties = [], []
        for episode, (support, query, pairs) in zip(batch, shown, strict=True):
            sizes = query.y.shape[1], support.y.shape[1]
            stream = _OF_CRITIC + 2 * step
            place = pairs.task, pairs.target_place, pairs.anchor_place
            z = noise_of(episode.number, *sizes, self.noise_size, stream).to(pairs.target)[place]
            share = torch.special.ndtr(noise_of(episode.number, *sizes, 1, stream + 1).to(pairs.target))[place]
            distance, penalty = self.critic_terms(pairs, z, share[:, 0], len(episode))
            distances.append(distance * (len(episode) / tasks))
            penalties.append(penalty * (len(episode) / tasks))
        distance, penalty = torch.stack(distances).sum(), torch.stack(penalties).sum()
        loss = self.gradient_penalty * penalty - distance
        self._descend(optimizer, loss, self.critic.parameters())
        found = {"critic_loss": loss, "wasserstein_distance": distance, "gradient_penalty": penalty}
        return {name: value.detach() for name, value in found.items()}

    def _generator_step(
        self,
        optimizer: LightningOptimizer,
        batch: Batch,
        shown: Sequence[tuple[Examples, Examples, Pairs]],
        tasks: int,
    ) -> dict[str, Tensor]:
        losses, parts = [], []
        for episode, (support, query, _) in zip(batch, shown, strict=True):
            first, second = (
                noise_of(episode.number, 1, support.y.shape[1], self.noise_size, _OF_GENERATOR + which)[:, 0]
                for which in range(2)
            )
            scores, classification, differ = self.generator_terms(
                support, query, (first.to(support.x), second.to(support.x))
            )
            loss = self.classification * classification - scores
            if self.anti_collapse:
                loss = loss + self.anti_collapse * (1 / differ.clamp(min=_LEAST)).mean()
            losses.append(loss * (len(episode) / tasks))
            parts.append(torch.stack([classification, differ.mean()]).detach() * (len(episode) / tasks))
        loss = torch.stack(losses).sum()
        self._descend(optimizer, loss, self.generator.parameters())
        classification, differ = torch.stack(parts).sum(0)
        return {"generator_loss": loss.detach(), "classification_loss": classification, "diversity": differ}

    def _descend(self, optimizer: LightningOptimizer, loss: Tensor, parameters: Iterable[nn.Parameter]) -> None:
        """Take a step of one player, with the gradient of the mean loss over devices.

        Each player's gradient leaves out the parameters of the other, for which DDP's own average would wait.
        """
        own = list(parameters)
        gradients = torch.autograd.grad(self.trainer.precision_plugin.pre_backward(loss, self), own)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        flat = self.trainer.strategy.reduce(flat, reduce_op="mean")  # type: ignore[assignment]
        for parameter, gradient in zip(own, flat.split([value.numel() for value in own]), strict=True):
            parameter.grad = gradient.view_as(parameter).clone()
        optimizer.step()
        optimizer.zero_grad()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.gradient_clip is not None:  # after the callbacks, which measure the whole norm
            self.clip_gradients(optimizer, gradient_clip_val=self.gradient_clip, gradient_clip_algorithm="norm")

    def configure_optimizers(self) -> Any:
        players = self.generator, self.critic
        return [self.optimization.build(player.parameters(), self.trainer.max_steps) for player in players]


def _one_minus_cosine(a: Tensor, b: Tensor) -> Tensor:
    """1 - cos(a, b) over the last dimension, exact where the two are alike, too."""
    return (F.normalize(a, dim=-1) - F.normalize(b, dim=-1)).square().sum(-1) / 2


def _uncounted(optimizer: LightningOptimizer) -> None:
    """Let the steps of an optimiser not count as steps of the run: Lightning counts those of all optimisers."""

    def nothing() -> None:
        return None

    optimizer._on_before_step = optimizer._on_after_step = nothing
