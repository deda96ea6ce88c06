"""What the benchmark of worlds measures is what it says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")

from benchmarks import worlds
from metashot.randomness import key_of
from metashot.sources.worlds.navigation import Navigation
from metashot.worlds import Worlds


def test_the_plain_robot_has_the_formulas_of_the_batched_one() -> None:
    family = Navigation(worlds.HORIZON, 1.0, 0.1, "distance")
    batch = Worlds(family, key_of(0, "worlds", "train"), torch.arange(3), 1, 1)
    goals = batch.descriptions().numpy()
    environment, robots = batch.environment(1, 0), [worlds.Robot() for _ in range(3)]
    environment.reset()
    for robot, goal in zip(robots, goals, strict=True):
        robot.reset(options={"goal": goal})
    random, ended = np.random.default_rng(0), np.zeros(3, bool)
    for number in range(worlds.HORIZON):
        towards = goals - np.stack([robot.position for robot in robots])
        moves = (towards if number > 50 else random.normal(0, 0.1, (3, 2))).astype(np.float32)
        found = [part.numpy() for part in environment.step(torch.from_numpy(moves))[:4]]
        steps = [robot.step(move) for robot, move in zip(robots, moves, strict=True)]
        theirs = [np.array([step[part] for step in steps]) for part in range(4)]
        for ours, other in zip(found, theirs, strict=True):
            np.testing.assert_allclose(ours, other, atol=1e-6)
        ended |= found[2]
    assert ended.all()


def test_the_table_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, file = tmp_path / "page.md", tmp_path / "it.json"
    page.write_text(f"before\n{worlds.BEGIN}\nold\n{worlds.END}\nafter\n")
    worlds.run(["--worlds", "2", "--rounds", "1", "--json", str(file), "--markdown", str(page)])
    rows = json.loads(file.read_text())["rows"]
    assert [row["what"] for row in rows[:4]] == ["navigation", "bandits", "mazes", "cartpole"]
    for row in rows:
        assert row["worlds"] == 2
        assert row["steps_a_second"] > 0
        assert (row["ratio"] is None) == (row["what"] in ("bandits", "mazes"))
    assert rows[0]["ratio"] == pytest.approx(rows[0]["steps_a_second"] / rows[0]["theirs"])
    text = page.read_text()
    assert "| navigation | 2 |" in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert "SyncVectorEnv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "--rounds 0: allowed: 1 to 1,000"),
        (["--worlds", "0"], "--worlds 0: allowed: 1 to 100,000 each"),
        (["--json", "none/it.json"], "its folder does not exist"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        worlds.run(arguments)
    assert said in capsys.readouterr().err
