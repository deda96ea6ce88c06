"""Score a trained algorithm on the episodes of a split, and collect everything for the report."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from torch import Tensor

from metashot.algorithms.base import Algorithm
from metashot.algorithms.reinforcement.learner import PolicyLearner
from metashot.bad_input import BadInput, GaveUp
from metashot.data.module import EpisodicDataModule
from metashot.data.seen_classes import TrainingClasses
from metashot.episodes import Episode, format_amount
from metashot.evaluation.acting import ActingReport, RegretCurve
from metashot.evaluation.answers import Answers, calibration_error, class_accuracies
from metashot.evaluation.made import made_report
from metashot.evaluation.pictures.texts import TextEpisode, first_texts
from metashot.evaluation.protocol import EpisodeResults, Scoring
from metashot.evaluation.report import AfterSteps, Measure, Report
from metashot.evaluation.statistics import mean_and_interval, mean_of_worst
from metashot.evaluation.strangers import stranger_report
from metashot.evaluation.timing import Timing
from metashot.sources.getting.files import printable
from metashot.sources.splitting import Split
from metashot.version import __version__
from metashot.worlds import Worlds


@dataclass(frozen=True)
class Tested:
    """The metadata of the checkpoint that is tested."""

    algo: str
    checkpoint: Path
    step: int
    training_seed: int | None  # None where the checkpoint does not store it
    training_classes: TrainingClasses
    data: str  # the name of the data of its run

    def external_data(self, of_weights: str | None) -> str | None:
        """The data beyond the training split of its run that its weights were trained on.

        Args:
            of_weights: That of published weights.
        """
        before = map(printable, sorted(self.training_classes.data - {self.data}))  # before `init_from`
        return " and ".join([*([] if of_weights is None else [of_weights]), *before]) or None


@dataclass(frozen=True)
class Evaluation:
    """A report with the results that it was computed from."""

    report: Report
    results: EpisodeResults
    answers: Answers | None  # None where queries have no predicted class
    names: Sequence[str]  # the names of the split's classes
    first_batch: tuple[Episode | Worlds, Tensor] | None = None  # some episodes with their answers, for the picture
    texts: TextEpisode | None = None  # the first of these episodes, where its items are texts
    regret: RegretCurve | None = None  # of a policy, where the worlds know the best actions


def test(
    trainer: pl.Trainer,
    algorithm: Algorithm,
    data: EpisodicDataModule,
    scoring: Scoring,
    timing: Timing,
    split: Split,
    watched: int,
    tested: Tested,
) -> Evaluation:
    """Score an algorithm on the episodes of a split.

    Args:
        trainer: The Lightning trainer, with `scoring` and `timing` among its callbacks.
        algorithm: The algorithm to test.
        data: The data module; it is set to evaluate `split`.
        scoring: The callback that collects the scores.
        timing: The callback that measures the time of a task.
        split: The split to score.
        watched: The first `watched` episodes are also scored after each inner step.
        tested: The metadata of the checkpoint.

    Returns:
        The evaluation.

    Raises:
        BadInput: The algorithm's head does not fit the split's ways.
        GaveUp: Answers are not finite, or an episode has no score.
    """
    refuse_other_ways(algorithm, data, split, tested.algo)
    # Between updates in a world, a policy has to act anyway.
    algorithm.watched_episodes = watched if algorithm.answers_queries else data.episodes[split] or 0
    data.evaluated_split = split
    start = time.perf_counter()
    trainer.test(algorithm, data, verbose=False)
    seconds = time.perf_counter() - start
    results, spec = scoring.results, data.specs[split]
    assert results is not None
    if trouble := results.first_non_finite():
        raise GaveUp(
            f"{printable(tested.checkpoint)} cannot be scored on the {split} split of {data.name}: {trouble}; nothing was "
            "reported: are its weights finite, and is trainer.precision=32-true?"
        )
    names = data.class_names(split)
    answers = None
    if scoring.answered is not None:
        (number, label, predicted), confidence = scoring.answered
        answers = Answers(number, label, predicted, confidence, data.classes_of(split, np.asarray(results.numbers)))
    strangers = None
    if scoring.with_strangers is not None:
        strangers = stranger_report(scoring.with_strangers, data.strangers, spec.queries, algorithm.false_alarms)
    report = Report(
        metric=results.problem.metric,
        score=results.score,
        ci95=results.ci95,
        loss=results.loss,
        episodes=len(results.scores),
        ways=spec.ways if results.problem.has_classes else None,
        shots=spec.shots,
        queries=spec.queries,
        unequal_support=spec.unequal_support,
        unequal_queries=spec.unequal_queries,
        sampling=data.sampling(split),
        transductive=algorithm.transductive,
        external_data=tested.external_data(algorithm.external_data),
        seen_classes=tested.training_classes.counted(data, split),
        algo=tested.algo,
        data=data.name,
        split=split,
        episode_seed=data.seeds[split],
        training_seed=tested.training_seed,
        checkpoint=str(tested.checkpoint),
        step=tested.step,
        seconds=round(seconds, 3),
        version=__version__,
        worst_episodes=mean_of_worst(results.scores, results.problem.higher_is_better),
        calibration_error=None if answers is None else calibration_error(answers),
        seconds_of_a_task=timing.seconds,
        inner_steps=[
            AfterSteps(steps, *mean_and_interval(scores), len(scores)) for steps, scores in results.after_steps.items()
        ],
        strangers=strangers,
        classes=[] if answers is None else class_accuracies(answers, names),
        measures={name: Measure(*mean_and_interval(values)) for name, values in results.measures.items()},
        made=None if scoring.with_made is None else made_report(scoring.with_made, results.scores),
        acting=_acting(algorithm, scoring, data),
    )
    texts, regret = None, None if scoring.with_regrets is None else RegretCurve.of(scoring.with_regrets)
    if scoring.first_batch is not None:
        batch, given = scoring.first_batch
        texts = first_texts(data, split, batch, given) if isinstance(batch, Episode) else None
    return Evaluation(report, results, answers, names, scoring.first_batch, texts, regret)


def _acting(algorithm: Algorithm, scoring: Scoring, data: EpisodicDataModule) -> ActingReport | None:
    if not isinstance(algorithm, PolicyLearner):
        return None
    assert scoring.environment_steps is not None
    return ActingReport(algorithm.adapts_by, scoring.environment_steps, int(algorithm.environment_steps), data.family)


def refuse_other_ways(algorithm: Algorithm, data: EpisodicDataModule, split: Split, algo: str) -> None:
    """Raise `BadInput` where the algorithm has a head for another number of classes than the split's ways."""
    ways = data.specs[split].ways
    if algorithm.fixed_ways in (None, ways):
        return
    others = "use an algorithm without a head, such as algo=protonet"
    if isinstance(ways, tuple):
        raise BadInput(
            f"data.{split}.ways draws {format_amount(ways)} ways, but the head of this {algo} is for one number of classes: "
            f"give one number, or {others}"
        )
    raise BadInput(
        f"{ways} ways were asked for on the {split} split, but this {algo} has a head for {algorithm.fixed_ways} "
        f"classes: use data.{split}.ways={algorithm.fixed_ways}, train with data.ways={ways}, or {others}"
    )
