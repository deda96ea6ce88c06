"""Which differences hold is what an independent computation says."""

import numpy as np
import pytest
from scipy import stats

from metashot.results.comparisons import LEVEL, in_short, on_the_same_episodes, ranked
from tests.results.made import cell, result


def results(seed: int, count: int = 6) -> dict[str, list[float]]:
    """Scores of learners that differ by little, on episodes some of which are harder."""
    random = np.random.default_rng(seed)
    hardness = random.normal(0, 0.1, 200)
    return {
        f"learner{place}": (0.6 + 0.004 * place + hardness + random.normal(0, 0.03, 200)).tolist() for place in range(count)
    }


def by_hand(scores: dict[str, list[float]]) -> set[frozenset[str]]:
    """The pairs that differ: Holm's procedure as in his paper, step by step, from the smallest p-value."""
    names = list(scores)
    pairs = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    tested = sorted((stats.ttest_rel(scores[a], scores[b]).pvalue, a, b) for a, b in pairs)
    found = set()
    for done, (p, a, b) in enumerate(tested):
        if p > LEVEL / (len(pairs) - done):
            break
        found.add(frozenset((a, b)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_differences_hold_as_by_holms_procedure_on_paired_t_tests(seed: int) -> None:
    scores = results(seed)
    order = ranked({name: result(cell(name), values) for name, values in scores.items()})
    assert [one.name for one in order] == sorted(scores, key=lambda name: -np.mean(scores[name]))
    holding = by_hand(scores)
    assert 0 < len(holding) < 15
    for place, one in enumerate(order, 1):
        differing = {at for at, other in enumerate(order, 1) if frozenset((one.name, other.name)) in holding}
        assert set(one.better_than) == {at for at in differing if at > place}
        assert set(one.not_told_from) == set(range(1, 7)) - differing - {place}


def test_equal_scores_are_not_told_apart() -> None:
    equal = [0.5, 0.75, 1.0]
    one, other = ranked({"a": result(cell("a"), equal), "b": result(cell("b"), equal)})
    assert (one.better_than, one.not_told_from, other.not_told_from) == ((), (2,), (1,))


def test_lower_is_better_where_the_score_is_an_error() -> None:
    order = ranked({"a": result(cell("a"), [0.5, 0.6]), "b": result(cell("b"), [0.1, 0.2])}, higher_is_better=False)
    assert [one.name for one in order] == ["b", "a"]


def test_only_results_on_the_same_episodes_are_compared() -> None:
    of = {
        "a": result(cell("a"), [0.5, 0.6]),
        "b": result(cell("b"), [0.5, 0.7]),
        "c": result(cell("c"), [0.5, 0.7], episodes="others"),
        "shorter": result(cell("d"), [0.5]),
    }
    assert [set(group) for group in on_the_same_episodes(of)] == [{"a", "b"}]


@pytest.mark.parametrize(
    ("places", "text"), [([], ""), ([3], "3"), ([3, 2], "2, 3"), ([1, 2, 3, 7], "1–3, 7"), ([1, 3, 4, 5, 6], "1, 3–6")]
)
def test_places_in_short(places: list[int], text: str) -> None:
    assert in_short(places) == text
