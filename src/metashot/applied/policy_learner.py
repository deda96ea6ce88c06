"""The learner that acts: its `fit` returns a policy that is adapted to an environment."""

import os
from collections.abc import Mapping
from typing import Any, NoReturn

from metashot.algorithms.reinforcement import learner as reinforcement
from metashot.applied.learner import Device, Fitted, Learner, Unavailable
from metashot.applied.policy import Policy, Randomness
from metashot.bad_input import BadInput


class PolicyLearner(Learner):
    """A learner that acts in environments. It keeps nothing of a fit: the policy that `fit` returns does."""

    def __init__(self, checkpoint: str | os.PathLike[str], device: Device = "auto") -> None:
        self.checkpoint = checkpoint
        self.device = device

    @property
    def policy(self) -> Policy:
        """The policy as it was trained, before it has adapted to an environment.

        Raises:
            BadInput: The learner is told its tasks, or acts in the worlds of its training only.
        """
        network = self.network
        if network.origin["told"]:
            raise BadInput(
                f"this {network.name} is told the task, which an environment of yours does not tell: load a policy that "
                "adapts, such as one of algo=maml_rl"
            )
        with network.held() as algorithm:
            assert isinstance(algorithm, reinforcement.PolicyLearner)
            return Policy(network, algorithm.unadapted())

    def fit(  # type: ignore[override]
        self,
        environment_or_trajectories: Any,
        trajectories: int | None = None,
        updates: int | None = None,
        horizon: int | None = None,
        seed: Randomness = None,
    ) -> Policy:
        """Adapt to an environment.

        A policy that adapts by gradients plays trajectories and takes a policy-gradient step, several times, each with new
        trajectories. One with a memory plays trajectories one after the other, and remembers them.

        Args:
            environment_or_trajectories: An environment with the interface of `gymnasium.Env` and the spaces of the
                training, which is reset and stepped but never closed. Or trajectories that were recorded elsewhere: a list
                of `metashot.Trajectory` or of (observations, actions, rewards). Recorded ones give one update, whose
                estimate is right only if `policy` itself has drawn their actions; those of another policy give a biased
                step.
            trajectories: How many are played before each update, or are remembered; None for as many as in training.
            updates: The policy-gradient steps; None for `algo.test_inner_steps` of the training.
            horizon: The most steps of a trajectory; None for as many as in training.
            seed: A number or a `numpy.random.Generator` that actions are drawn with. The environment is seeded with it, too.

        Returns:
            The adapted policy.

        Raises:
            BadInput: The spaces are others than in training, an argument cannot be used, or the environment fails.
        """
        return self.policy.fit(environment_or_trajectories, trajectories, updates, horizon, seed)

    @property
    def predict(self) -> Any:  # type: ignore[override]
        raise self._only_acts("predict")

    @property
    def predict_proba(self) -> Any:  # type: ignore[override]
        raise self._only_acts("predict_proba")

    @property
    def score(self) -> Any:  # type: ignore[override]
        raise self._only_acts("score")

    @property
    def save(self) -> Any:  # type: ignore[override]
        raise Unavailable(
            f"save is for learners that are fitted to examples: pickle the policy that fit of this {self.name} returns"
        )

    @property
    def estimate(self) -> Any:  # type: ignore[override]
        raise self._only_acts("estimate")

    @property
    def explain(self) -> Any:  # type: ignore[override]
        raise self._only_acts("explain")

    @property
    def next_to_label(self) -> Any:  # type: ignore[override]
        raise self._only_acts("next_to_label")

    @property
    def generate(self) -> Any:  # type: ignore[override]
        raise self._only_acts("generate")

    @property
    def examples(self) -> Any:
        raise self._only_acts("examples")

    @property
    def classes_(self) -> Any:
        raise self._only_acts("classes_")

    def restore(self, content: Mapping[str, Any]) -> NoReturn:
        raise self._only_acts("load_fitted")

    def __sklearn_tags__(self) -> NoReturn:
        raise self._only_acts("scikit-learn's interface")

    def __repr__(self) -> str:
        if self._loaded is None:
            return f"<{type(self).__name__}: checkpoint={self.checkpoint}>"
        return f"<{type(self).__name__}: {self._loaded.network.name} trained on {self._loaded.network.trained_on}>"

    def _only_acts(self, what: str) -> Unavailable:
        return Unavailable(
            f"{what} is for learners that answer queries, and this {self.name} was trained on {self.origin['name']} to act: "
            "use learner.fit(environment).act(observation)"
        )

    def _saved(self, fitted: Fitted) -> NoReturn:
        raise self._only_acts("save")

    def _fitted_to(self, fitted: Fitted) -> NoReturn:
        raise self._only_acts("fit")
