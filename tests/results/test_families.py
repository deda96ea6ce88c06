"""Tables of families: numbers, returns and made examples stand beside accuracies, and a lower error is a better one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from metashot import problems
from metashot.results.comparisons import ranked
from metashot.results.document import Page
from metashot.results.families import IN_PERCENT, higher_is_better, is_below
from metashot.results.plan_files import read_plan, read_published
from metashot.results.storage import Kept, Record, Result, digest_of_episodes
from metashot.results.tables import Plan, Published

EPISODES = 50


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan()


def record(name: str) -> Record:
    return Record(name, 0, (), None, 100.0, 90.0, 2**30, "one core", 10, 5, "mse", [[5, 0.5, 0.1]], "ab" * 32, None)


def result(name: str, metric: str, mean: float, **more: Any) -> Result:
    scores = (mean + 0.01 * np.random.default_rng(len(name)).standard_normal(EPISODES)).tolist()
    report = {metric: mean, "ci95": 0.0125, "episodes": EPISODES, "transductive": False, "external_data": None, **more}
    return Result(name, name, metric, report, "the same", scores, "c0ffee" * 10)


def returns(name: str, mean: float, inner_steps: Sequence[float] = (), **more: Any) -> Result:
    adapting = [{"steps": step, "score": score, "ci95": 1.5, "episodes": 9} for step, score in enumerate(inner_steps)]
    acting = {"adapts_by": "updates", "environment_steps_in_training": 1234567}
    return result(name, "return", mean, inner_steps=adapting, acting=acting, worst_episodes=-9.0, **more)


def document(plan: Plan, *results: Result) -> str:
    kept = Kept({one.name: one for one in results}, {one.name: record(one.name) for one in results}, {})
    return Page(plan, read_published(), kept).document()


def part(text: str, title: str) -> list[str]:
    """The lines below a heading."""
    return next(found for found in text.split("\n## ") if found.startswith(f"{title}\n")).splitlines()


def row(lines: list[str], start: str) -> list[str]:
    """The cells of a line of a table."""
    line = next(line for line in lines if line.startswith(f"| {start} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_scores_are_what_their_problems_say_of_them() -> None:
    assert IN_PERCENT == problems.IN_PERCENT
    for kind in problems.PROBLEMS.values():
        assert higher_is_better(kind.metric) == kind.higher_is_better, kind.metric


def test_errors_have_their_unit_and_those_with_a_band_its_columns(plan: Plan) -> None:
    band = {"log_likelihood": -0.5, "log_likelihood_ci95": 0.1, "coverage": 0.94, "coverage_ci95": 0.01}
    text = document(plan, result("sinusoid/maml", "mse", 0.477), result("sinusoid/anp", "mse", 0.0917, **band))
    lines = part(text, "Sinusoids")
    head = row(lines, "algorithm")
    assert head[:4] == ["algorithm", "published", "measured (squared error)", "difference"]
    anp, maml, missing = (dict(zip(head, row(lines, f"`{name}`"), strict=True)) for name in ("anp", "maml", "cnp"))
    assert anp["measured (squared error)"] == "0.092 ± 0.013"
    assert anp["log-likelihood"] == "−0.500 ± 0.100"
    assert anp["points in the 95 % band, in percent"] == "94.00 ± 1.00"
    assert anp["memory"] == "1.0 GiB"
    assert anp["checkpoint"] == "`c0ffeec0ffee`"
    assert maml["log-likelihood"] == "–"
    assert {missing[name] for name in head if name not in ("algorithm", "recipe")} == {""}
    assert "environment steps" not in head


def test_of_errors_the_lowest_is_the_first(plan: Plan) -> None:
    maml, anp = result("sinusoid/maml", "mse", 0.477), result("sinusoid/anp", "mse", 0.0917)
    lines = part(document(plan, maml, anp), "Sinusoids")
    assert "On the same 50 episodes:" in lines
    assert row(lines, "1")[:4] == ["1", "`anp`", "0.092 ± 0.013", "2"]
    assert row(lines, "2")[3:] == ["–", "–"]
    assert [one.name for one in ranked({"a": maml, "b": anp}, higher_is_better=True)] == ["a", "b"]


def test_returns_stand_with_those_while_adapting_and_the_steps_of_the_training(plan: Plan) -> None:
    adapts = returns("navigation/maml_rl", -5.0, [-40.0, -5.0])
    lines = part(document(plan, adapts, returns("navigation/oracle", -0.8, [-0.8])), "The point robot of Finn et al. 2017")
    head = row(lines, "algorithm")
    assert "whole trials" not in head
    line, oracle = (dict(zip(head, row(lines, f"`{name}`"), strict=True)) for name in ("maml_rl", "oracle"))
    assert line["measured (return)"] == "−5.00 ± 0.01"
    assert line["as it adapts"] == "−40.00 ± 1.50, −5.00 ± 1.50"
    assert line["worst 5 %"] == "−9.00"
    assert line["environment steps"] == "1,234,567"
    assert oracle["as it adapts"] == "–"
    assert "On the same 50 worlds:" in lines


def test_a_published_return_of_whole_trials_stands_beside_that(plan: Plan) -> None:
    measured = returns("mazes/rl2", 12.0, [10.0, 12.0], trial_return=117.0, trial_return_ci95=1.5)
    text = document(plan, measured)
    lines = part(text, "Random mazes with 10 states and 5 actions")
    line = dict(zip(row(lines, "algorithm"), row(lines, "`rl2`"), strict=True))
    assert line["published"].startswith("156.2 [")
    assert line["whole trials"] == "117.00 ± 1.50"
    assert line["difference"] == "−39.20"
    assert any(note.startswith("- `rl2`:") for note in lines)


def test_made_examples_have_columns_and_external_data_a_table(plan: Plan) -> None:
    shares = {key: {"mean": 0.75, "ci95": 0.01} for key in ("without", "alone", "two_sample", "copies")}
    made = shares | {"gain": {"mean": -0.02, "ci95": 0.01, "p": 0.5}}
    name = "cifarfs_features/vae_5w1s"
    text = document(plan, result(name, "accuracy", 0.5, made=made, external_data="ImageNet-1k"))
    lines = part(text, "CIFAR-FS on the features of EfficientNet-Lite0")
    assert [line for line in lines if line.startswith("### ")] == [
        "### CIFAR-FS on the features of EfficientNet-Lite0, with external data"
    ]
    line = dict(zip(row(lines, "algorithm"), row(lines, "`vae`"), strict=True))
    assert (line["ways"], line["shots"], line["measured"]) == ("5", "1", "50.00 ± 1.25")
    assert line["gain"] == "−2.00 ± 1.00"
    assert [line[key] for key in ("without made examples", "made alone", "two-sample", "copies")] == ["75.00 ± 1.00"] * 4


def test_texts_are_split_by_external_data_before_they_are_measured(plan: Plan) -> None:
    lines = part(document(plan), "Definitions of nouns")
    below = lines.index("### Definitions of nouns, with external data")
    assert [line.split(" | ")[0] for line in lines[:below] if line.startswith("| `")] == ["| `ngrams`"] * 2
    assert sum(line.startswith("| `") for line in lines[below:]) == 24


@pytest.mark.parametrize(
    ("metric", "difference", "published", "below"),
    [
        *(("accuracy", -1.5, 98.0, True), ("accuracy", -0.5, 98.0, False), ("accuracy", 3.0, 98.0, False)),
        *(("mse", 0.1, 0.5, True), ("mse", -0.1, 0.5, False), ("mse", 0.004, 0.5, False)),
        *(("return", -0.03, 6.7, False), ("return", -0.5, 6.7, True), ("return", -0.5, -20.0, True)),
    ],
)
def test_worse_than_published_is_below_it_in_the_direction_of_the_score(
    metric: str, difference: float, published: float, below: bool
) -> None:
    assert is_below(metric, difference, published) is below


def test_an_error_above_the_published_one_is_explained(plan: Plan) -> None:
    table = replace(plan.tables["sinusoid"], published="sinusoid")
    cells = [replace(cell, table=table) if cell.table.name == "sinusoid" else cell for cell in plan.cells]
    published = {
        "sinusoid": {name: {"": Published(0.3, None, "A 2020, table 1", "the paper", False, "")} for name in ("maml", "anp")}
    }
    results = {one.name: one for one in (result("sinusoid/maml", "mse", 0.477), result("sinusoid/anp", "mse", 0.09))}
    page = Page(replace(plan, tables={"sinusoid": table}, cells=cells), published, Kept(results, {}, {}))
    assert [cell.name for cell in page.below()] == ["sinusoid/maml"]


def test_worlds_are_the_same_whatever_was_tried_in_them_before() -> None:
    keys = ("ways", "unequal_support", "unequal_queries", "sampling")
    report = {"shots": 1, "queries": 20, "split": "test", "episode_seed": 0, "episodes": 9, **dict.fromkeys(keys)}
    acting = {"acting": {}}

    def digest(changed: dict[str, Any]) -> str:
        return digest_of_episodes({"name": "bandits"}, report | changed, [])

    assert digest(acting) == digest(acting | {"shots": 20})
    assert digest(acting) != digest(acting | {"queries": 5})
    assert digest({}) != digest({"shots": 20})
