"""Problems: what a task asks for, its loss, and the score by which learners are compared."""

from typing import Literal

from metashot.problems.base import Loss as Loss
from metashot.problems.base import Picture as Picture
from metashot.problems.base import Predictions as Predictions
from metashot.problems.base import Problem as Problem
from metashot.problems.base import ScoredByQuery as ScoredByQuery
from metashot.problems.classification import Classification as Classification
from metashot.problems.dense import DenseLabels as DenseLabels
from metashot.problems.regression import COVERAGE
from metashot.problems.regression import Regression as Regression
from metashot.problems.regression import mean_and_deviation as mean_and_deviation
from metashot.problems.returns import Returns as Returns

ProblemName = Literal["Classification", "Regression", "DenseLabels", "Returns"]  # the names stored in checkpoints

PROBLEMS: dict[str, type[Problem]] = {kind.__name__: kind for kind in (Classification, Regression, DenseLabels, Returns)}
# Scores and measures that are shares, printed in percent. A set of names, because a report may be read without its problem.
IN_PERCENT = frozenset({*(kind.metric for kind in PROBLEMS.values() if kind.in_percent), COVERAGE})
