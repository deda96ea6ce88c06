"""Scoring a learner on episodes of a split, with everything the report says."""

import time
from pathlib import Path

import pytorch_lightning as pl

from metashot import __version__
from metashot.algorithms.base import Algorithm
from metashot.bad_input import BadInput
from metashot.data.module import EpisodicDataModule, Split
from metashot.episodes import shown
from metashot.evaluation.protocol import Scoring
from metashot.evaluation.report import Report
from metashot.problems import Classification


def test(
    trainer: pl.Trainer,
    algorithm: Algorithm,
    data: EpisodicDataModule,
    scoring: Scoring,
    split: Split,
    algo: str,
    checkpoint: Path,
    step: int,
) -> Report:
    """Answer the episodes of a split and report how well."""
    refuse_other_ways(algorithm, data, split, algo)
    data.evaluated_split = split
    start = time.perf_counter()
    trainer.test(algorithm, data, verbose=False)
    seconds = time.perf_counter() - start
    results, spec = scoring.results, data.specs[split]
    assert results is not None
    return Report(
        metric=results.problem.metric,
        score=results.score,
        ci95=results.ci95,
        loss=results.loss,
        episodes=len(results.scores),
        ways=spec.ways if isinstance(data.problem, Classification) else None,
        shots=spec.shots,
        queries=spec.queries,
        unequal_support=spec.unequal_support,
        unequal_queries=spec.unequal_queries,
        transductive=algorithm.transductive,
        algo=algo,
        data=data.name,
        split=split,
        seed=data.seed,
        checkpoint=str(checkpoint),
        step=step,
        seconds=round(seconds, 3),
        version=__version__,
    )


def refuse_other_ways(algorithm: Algorithm, data: EpisodicDataModule, split: Split, algo: str) -> None:
    ways = data.specs[split].ways
    if algorithm.fixed_ways in (None, ways):
        return
    others = "use an algorithm without a head, such as algo=protonet"
    if isinstance(ways, tuple):
        raise BadInput(
            f"data.{split}.ways draws {shown(ways)} ways, but the head of this {algo} is for one number of classes: give "
            f"one number, or {others}"
        )
    raise BadInput(
        f"{ways} ways were asked for on the {split} split, but this {algo} has a head for {algorithm.fixed_ways} "
        f"classes: use data.{split}.ways={algorithm.fixed_ways}, train with data.ways={ways}, or {others}"
    )
