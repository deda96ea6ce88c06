"""The learner that predicts numbers: regression."""

import os
from collections.abc import Mapping
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.applied.arrays import inputs_of, outputs_of, refuse_other_length
from metashot.applied.learner import Device, Fitted, Learner
from metashot.bad_input import BadValue, shown
from metashot.episodes import Examples
from metashot.problems import mean_and_deviation


class NumberLearner(Learner):
    """A learner for regression, from inputs [N, inputs] to targets [N, outputs]; a single input or output may be [N]."""

    def __init__(self, checkpoint: str | os.PathLike[str], device: Device = "auto") -> None:
        self.checkpoint = checkpoint
        self.device = device

    def fit(self, x: Any, y: Any) -> Self:
        """Adapt to some points of a function. An earlier fit is replaced.

        Args:
            x: The inputs [N, inputs], or [N] for a single input.
            y: The targets [N, outputs], or [N] for a single output; predictions have the same number of dimensions.

        Returns:
            The learner itself, now fitted.

        Raises:
            BadInput: The inputs or targets cannot be used.
        """
        network = self.network
        points, values = inputs_of(x, network), outputs_of(y, network)
        refuse_other_length(len(points), "rows of x", len(values), "rows of y")
        examples = Examples(torch.from_numpy(points), torch.from_numpy(values))
        in_rows = (y if isinstance(y, Tensor) else np.asarray(y)).ndim > 1
        self._fitted = Fitted.to(network, examples, (), None, in_rows)
        return self

    @overload
    def predict(self, x: Any, return_std: Literal[False] = False) -> NDArray[np.float64]: ...
    @overload
    def predict(self, x: Any, return_std: Literal[True]) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
    def predict(
        self, x: Any, return_std: bool = False
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predict the targets of some inputs.

        Args:
            x: The inputs [N, inputs], or [N] for a single input.
            return_std: Whether to return the standard deviation of each prediction too, as scikit-learn's
                `GaussianProcessRegressor` does. Only some learners have one, such as neural processes.

        Returns:
            The predictions [N, outputs], or [N] where `fit` was given y as [N]; with `return_std` these and their standard
            deviations, in the same shape.

        Raises:
            Unavailable: The learner is not fitted.
            BadInput: The inputs cannot be used, or the learner's predictions have no standard deviations.
        """
        if not isinstance(return_std, bool | np.bool_):
            raise BadValue(f"return_std={shown(return_std)} cannot be used; allowed: True or False")
        fitted = self._state()
        gives_deviations = fitted.network.algorithm.gives_deviations
        if return_std and not gives_deviations:
            raise BadValue(
                f"return_std={return_std} asks for standard deviations, but this {fitted.network.name} predicts without: "
                "leave it out, or train a learner such as algo=cnp"
            )
        points = inputs_of(x, fitted.network)
        self._warn_of_one(fitted.network, len(points))
        answers = fitted.answers(points)
        if not gives_deviations:
            return answers if fitted.in_rows else answers[:, 0]
        parts = (part.numpy() for part in mean_and_deviation(torch.from_numpy(answers)))
        mean, deviation = (part if fitted.in_rows else part[:, 0] for part in parts)
        return (mean, deviation) if return_std else mean

    def score(self, x: Any, y: Any) -> float:
        """R2 as in scikit-learn: 1 minus the squared error divided by the variance, averaged over outputs."""
        values = outputs_of(y, self.network)
        predicted = self.predict(x).reshape(-1, values.shape[1])
        refuse_other_length(len(predicted), "rows of x", len(values), "rows of y")
        if len(values) < 2:
            raise BadValue("one row was given, but R2 needs at least two")
        missed, spread = ((predicted - values) ** 2).sum(0), ((values - values.mean(0)) ** 2).sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.where(spread > 0, 1 - missed / spread, np.where(missed > 0, 0.0, 1.0)).mean())

    def restore(self, content: Mapping[str, Any]) -> None:
        in_rows = content.get("in_rows", True)  # missing from files of earlier versions
        self._fitted = Fitted.to(self.network, Examples(content["x"], content["y"]), (), None, in_rows)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        one = int(self.origin["input_shape"][0]) == 1
        target, inputs = TargetTags(required=True), InputTags(one_d_array=one, two_d_array=True)
        functions = RegressorTags(poor_score=True)  # it predicts poorly for functions unlike its training data
        return Tags("regressor", target, regressor_tags=functions, input_tags=inputs)

    @property
    def n_features_in_(self) -> int:
        """The number of inputs of the function that it was fitted to."""
        return int(self._state().examples.x.shape[1])

    @property
    def predict_proba(self) -> Any:  # type: ignore[override]
        raise self._has_no_classes("predict_proba")

    def _saved(self, fitted: Fitted) -> dict[str, Any]:
        return {"in_rows": fitted.in_rows}

    def _fitted_to(self, fitted: Fitted) -> str:
        return f"{len(fitted.examples.x)} points"
