"""Pictures of policies: every family is drawn as it says, and what stands in them is what was measured."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from metashot.evaluation.acting import RegretCurve
from metashot.evaluation.pictures.scores import adaptation_picture, histogram_picture
from metashot.evaluation.pictures.worlds import Line, regret_picture, returns_picture, worlds_picture
from metashot.worlds import Discrete, Spaces, Trajectories, Worlds

from .files import clear_of_the_edges, words_of, written

KEY = (3, 5)
STAGES = ("before adapting", "after 1 update", "after 3 updates")


def worlds(family: Any, count: int) -> Worlds:
    return Worlds(family, KEY, torch.arange(count) + 4, 2, 4)


def navigation() -> Any:
    pytest.importorskip("gymnasium")
    from metashot.sources.worlds.navigation import Navigation

    return Navigation(9, 1.0, 0.1, "distance")


def bandits(arms: int) -> Any:
    pytest.importorskip("gymnasium")
    from metashot.sources.worlds.bandits import Bandits

    return Bandits(arms, 9)


def played(count: int, inputs: int, choices: int | None, seed: int) -> Trajectories:
    """Trajectories of 4 to 9 steps."""
    generator = torch.Generator().manual_seed(seed)
    taken = (torch.arange(9) < torch.tensor([9, 4, 9, 7])[:, None]).expand(count, 4, 9)
    observations = torch.randn(count, 4, 9, inputs, generator=generator).cumsum(2) / 10
    shape = (count, 4, 9)
    actions = torch.randint(choices, shape, generator=generator) if choices else torch.zeros(*shape, 2)
    return Trajectories(observations * taken[..., None], actions, torch.rand(shape, generator=generator) * taken, taken)


def stages(count: int, inputs: int, choices: int | None, names: tuple[str, ...]) -> Mapping[str, Trajectories]:
    return {name: played(count, inputs, choices, seed) for seed, name in enumerate(names)}


@pytest.mark.parametrize(("names", "count"), [(STAGES, 1), (STAGES[::2], 2), (STAGES, 8)])
def test_paths_are_drawn_with_their_goals(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: tuple[str, ...], count: int
) -> None:
    given = worlds(navigation(), count), stages(count, 2, None, names)
    assert clear_of_the_edges(written(tmp_path, lambda path: worlds_picture(*given, path)))
    words = words_of(monkeypatch, lambda path: worlds_picture(*given, path), tmp_path / "again.png")
    assert {*names, "start", "goal"} <= {*words}
    returns = " → ".join(f"{float(found.returns[0].mean()):.1f}" for found in given[1].values())
    assert f"world 4: return {returns}" in words


def test_the_star_is_at_the_goal_and_lines_end_with_their_trajectories(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given, found = worlds(navigation(), 2), stages(2, 4, None, STAGES[:1])  # two more inputs: the policy is told the goal
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *given, **named: figures.append(self))
    monkeypatch.setattr("metashot.evaluation.pictures.drawing.write_output", lambda *given: None)
    worlds_picture(given, found, tmp_path / "picture.png")
    goals = given.descriptions()
    for task, axes in enumerate(figures[0].axes):
        star = next(line for line in axes.lines if line.get_marker() == "*")
        assert np.ravel(star.get_xydata()).tolist() == pytest.approx(goals[task].tolist())
        second = [line for line in axes.lines if len(line.get_xydata()) == 9][1].get_xydata()  # type: ignore[arg-type]
        expected = found[STAGES[0]].observations[task, 1, :, :2].numpy()
        np.testing.assert_allclose(np.asarray(second)[:4], expected[:4], rtol=1e-6)
        assert np.isnan(np.asarray(second)[4:]).all()
        assert axes.get_aspect() == 1


@pytest.mark.parametrize(("names", "arms"), [(STAGES[:1], 5), (STAGES, 50)])
def test_arms_are_drawn_by_their_probability(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: tuple[str, ...], arms: int
) -> None:
    given = worlds(bandits(arms), 7), stages(7, 1, arms, names)
    assert clear_of_the_edges(written(tmp_path, lambda path: worlds_picture(*given, path)))
    words = words_of(monkeypatch, lambda path: worlds_picture(*given, path), tmp_path / "again.png")
    best = f"{float(given[0].descriptions()[0].max()):.2f}"
    assert (best in words) is (arms == 5)
    assert "pull" in words
    assert any(word.startswith("world 4") for word in words)


@pytest.mark.parametrize(("names", "count"), [(STAGES[:1], 1), (STAGES, 5)])
def test_other_families_are_drawn_as_rewards(tmp_path: Path, names: tuple[str, ...], count: int) -> None:
    silent = SimpleNamespace(name="silent", horizon=9, spaces=Spaces(Discrete(3), Discrete(2)))
    given = worlds(silent, count), stages(count, 3, 2, names)
    assert given[0].drawn_as == "rewards"
    assert clear_of_the_edges(written(tmp_path, lambda path: worlds_picture(*given, path)))


@pytest.mark.parametrize(("learners", "ci95"), [(1, None), (9, 0.1)])
def test_regret_is_drawn_for_each_learner(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, learners: int, ci95: float | None
) -> None:
    curves = {f"{place} learner": RegretCurve([0.5, 1.0 + place], [ci95] * 2) for place in range(learners)}
    assert clear_of_the_edges(written(tmp_path, lambda path: regret_picture(curves, "pulls", path)))
    words = words_of(monkeypatch, lambda path: regret_picture(curves, "pulls", path), tmp_path / "again.png")
    assert "pulls" in words
    assert [f"{name} ({curve.means[-1]:.2f} at the end)" in words for name, curve in curves.items()] == [True] * learners


@pytest.mark.parametrize("ci95", [0.1, None])
def test_learners_that_do_not_adapt_are_level(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci95: float | None) -> None:
    lines = [Line("1 adapts", (0, 1, 3), (-9.0, -5.0, -4.0), (ci95,) * 3)]
    lines += [Line(f"{place} level", (0,), (-3.0 - place,), (ci95,)) for place in range(2, 6)]

    def draw(path: Path) -> None:
        returns_picture(lines, "return", "updates", path)

    assert clear_of_the_edges(written(tmp_path, draw))
    words = words_of(monkeypatch, draw, tmp_path / "again.png")
    assert {"1 adapts (-4.00 at the end)", "2 level (-5.00)", "updates", "return"} <= {*words}


def test_worlds_have_words_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = (0, 1), (-9.0, -5.0), (0.5, 0.5), "return"
    words = words_of(monkeypatch, lambda path: adaptation_picture(*given, path, "updates", "worlds"), tmp_path / "a.png")
    assert {"updates", "mean over worlds"} <= {*words}
    assert "adaptation: return -9.0000 after 0 updates, -5.0000 after 1 update" in words
    scores = np.linspace(-9, -5, 40).tolist()
    words = words_of(
        monkeypatch, lambda path: histogram_picture(scores, 0.2, -9.0, "return", path, "worlds"), tmp_path / "b.png"
    )
    assert {"mean return in a world", "worlds", "return of 40 worlds"} <= {*words}
    assert not any("episode" in word for word in words)
