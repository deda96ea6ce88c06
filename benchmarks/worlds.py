"""Environment steps a second: families in torch and environments of gymnasium, beside gymnasium's own synchronous vector
environment.

`python -m benchmarks worlds` steps each of them with random actions. Navigation as a plain `gymnasium.Env` has the same
formulas as the batched family; the two are stepped in turn, and the ratio is the median of those of each turn. Seconds are
those that one core computes, so that other programs on the machine change little. HalfCheetah needs MuJoCo, and is left out
where it is not installed.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.compare.table import machine
from benchmarks.outputs import between, refuse_json, write_json
from metashot.bad_input import BadInput
from metashot.randomness import key_of
from metashot.sources.worlds.bandits import Bandits
from metashot.sources.worlds.cartpole import CartPole
from metashot.sources.worlds.halfcheetah import HalfCheetahDirection
from metashot.sources.worlds.mazes import Mazes
from metashot.sources.worlds.navigation import Navigation
from metashot.worlds import Family, Worlds

HORIZON = 100
WORLDS = (1, 20, 400, 1000)  # 400 are 20 trajectories in each of 20
BEGIN, END = "<!-- worlds -->", "<!-- end of worlds -->"
_KEY = key_of(0, "worlds", "train")
Play = Callable[[], int]  # plays one trajectory in each world, and returns how many steps were taken


@dataclass(frozen=True)
class Measured:
    """Steps a second in so many worlds, and against what was stepped in turn with it."""

    what: str
    worlds: int
    steps_a_second: float
    against: str | None = None
    theirs: float | None = None
    ratio: float | None = None


class Robot(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Navigation as anybody would write it for gymnasium: one robot, without torch."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-0.1, 0.1, (2,), np.float32)
        self.goal = np.zeros(2, np.float32)
        self.position = np.zeros(2, np.float32)
        self.steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        if options is not None:
            self.goal = options["goal"]
        self.position = np.zeros(2, np.float32)
        self.steps = 0
        return self.position, {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        x, y = (min(max(move, -0.1), 0.1) for move in action.tolist())  # faster than numpy's clip
        self.position = self.position + np.array((x, y), np.float32)
        dx, dy = (self.position - self.goal).tolist()
        self.steps += 1
        reached = abs(dx) < 0.01 and abs(dy) < 0.01
        return self.position, -((dx * dx + dy * dy) ** 0.5), reached, self.steps >= HORIZON, {}


def batched(family: Family, count: int) -> Play:
    """Our environments of a family, created again for each trajectory, as a learner does."""
    worlds = Worlds(family, _KEY, torch.arange(count), 1, 1)
    space, random = family.spaces.actions, torch.Generator().manual_seed(0)
    discrete = not hasattr(space, "low")
    shape = (HORIZON, count) if discrete else (HORIZON, count, space.size)
    drawn = torch.randint(space.size, shape, generator=random) if discrete else 2 * torch.rand(shape, generator=random) - 1

    def play() -> int:
        environment = worlds.environment(1, 0)
        environment.reset()
        alive = torch.ones(count, dtype=torch.bool)
        steps = torch.zeros((), dtype=torch.long)
        for step in range(family.horizon):
            steps += alive.sum()
            _, _, terminated, truncated, _ = environment.step(family.spaces.moves(drawn[step]))
            alive &= ~(terminated | truncated)
            if not alive.any():
                break
        return int(steps)

    return play


def of_gymnasium(make: Callable[[], gymnasium.Env[Any, Any]], count: int, actions: NDArray[Any], goals: Any = None) -> Play:
    """gymnasium's own vector environment, of which every step counts, also those that reset what has ended."""
    environment = SyncVectorEnv([make] * count)
    if goals is not None:
        for one, goal in zip(environment.envs, goals, strict=True):
            one.reset(options={"goal": goal})

    def play() -> int:
        environment.reset(seed=0)
        for step in range(HORIZON):
            environment.step(actions[step])
        return HORIZON * count

    return play


def in_turn(calls: dict[str, Play], rounds: int) -> dict[str, list[float]]:
    """Steps a second of each call in each round, after one that is not counted."""
    found: dict[str, list[float]] = {what: [] for what in calls}
    for counted in [False] + [True] * rounds:
        for what, play in calls.items():
            begin = time.process_time()
            steps = play()
            if counted:
                found[what].append(steps / (time.process_time() - begin))
    return found


def pair(what: str, count: int, ours: Play, against: str, theirs: Play, rounds: int) -> Measured:
    found = in_turn({"ours": ours, "theirs": theirs}, rounds)
    ratio = statistics.median(a / b for a, b in zip(found["ours"], found["theirs"], strict=True))
    return Measured(what, count, statistics.median(found["ours"]), against, statistics.median(found["theirs"]), ratio)


def alone(what: str, count: int, play: Play, rounds: int) -> Measured:
    return Measured(what, count, statistics.median(in_turn({"ours": play}, rounds)["ours"]))


def measure(worlds: tuple[int, ...], rounds: int) -> list[Measured]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # gymnasium has one, too
    try:
        return _measured(worlds, rounds)
    finally:
        torch.set_num_threads(threads)


def _measured(worlds: tuple[int, ...], rounds: int) -> list[Measured]:
    rows, random = [], np.random.default_rng(0)
    navigation = Navigation(HORIZON, 1.0, 0.1, "distance")
    for count in worlds:
        moves = random.uniform(-0.1, 0.1, (HORIZON, count, 2)).astype(np.float32)
        goals = navigation.descriptions(_KEY, np.arange(count)).astype(np.float32)
        robots = of_gymnasium(Robot, count, moves, goals)
        rows.append(pair("navigation", count, batched(navigation, count), "SyncVectorEnv of robots", robots, rounds))
    for name, family in (("bandits", Bandits(5, HORIZON)), ("mazes", Mazes(10, 5, HORIZON))):
        rows += [alone(name, count, batched(family, count), rounds) for count in worlds]
    few = [count for count in worlds if count <= 20]
    for count in few:
        pushes = random.integers(0, 2, (HORIZON, count))
        poles = of_gymnasium(lambda: gymnasium.make("CartPole-v1"), count, pushes)
        family = CartPole({"length": [0.25, 1.0]}, HORIZON)
        rows.append(pair("cartpole", count, batched(family, count), "SyncVectorEnv of CartPole-v1", poles, rounds))
    try:
        cheetahs = HalfCheetahDirection(HORIZON)
    except BadInput:  # a package is missing
        return rows
    for count in few:
        torques = random.uniform(-1, 1, (HORIZON, count, 6)).astype(np.float32)
        others = of_gymnasium(lambda: gymnasium.make("HalfCheetah-v5"), count, torques)
        rows.append(
            pair("halfcheetah_direction", count, batched(cheetahs, count), "SyncVectorEnv of HalfCheetah-v5", others, rounds)
        )
    return rows


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks worlds", description=__doc__)
    parser.add_argument("--worlds", type=int, nargs="+", default=WORLDS, help="how many at once (default: 1 20 400 1000)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, 1 to 1,000, whose medians are shown (default: 7)")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    parser.add_argument("--markdown", type=Path, help=f"a file whose part between {BEGIN} and {END} becomes the table")
    given = parser.parse_args(arguments)
    if not 1 <= given.rounds <= 1000:
        parser.error(f"--rounds {given.rounds}: allowed: 1 to 1,000")
    if not all(1 <= count <= 100_000 for count in given.worlds):
        parser.error(f"--worlds {' '.join(map(str, given.worlds))}: allowed: 1 to 100,000 each")
    refuse_json(parser, given.json)
    markdown = between(parser, given.markdown, BEGIN, END)
    rows = measure(tuple(given.worlds), given.rounds)
    table = Table(*_HEADER)
    for row in rows:
        table.add_row(*_cells(row))
    console, on = Console(), f"gymnasium {gymnasium.__version__}, {machine()}"
    console.print(table)
    console.print(on, highlight=False)
    if given.json:
        write_json(given.json, {"machine": on, "rows": [asdict(row) for row in rows]})
    if markdown:
        lines = [_HEADER, ["---", "---:", "---:", "---", "---:", "---:"], *map(_cells, rows)]
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        markdown.replace(f"{text}\n\n{on}.")


_HEADER = ["family", "worlds", "steps a second", "against", "theirs", "ratio"]


def _cells(row: Measured) -> list[str]:
    theirs = "" if row.theirs is None else f"{row.theirs:,.0f}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} ×" if row.ratio < 10 else f"{row.ratio:.0f} ×"
    return [row.what, f"{row.worlds:,}", f"{row.steps_a_second:,.0f}", row.against or "", theirs, ratio]
