"""Environments of gymnasium as families: tasks, seeds, nothing left over from other worlds, and what is refused."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

from metashot.bad_input import BadInput, GaveUp  # noqa: E402
from metashot.randomness import uniform_inside  # noqa: E402
from metashot.sources.worlds.cartpole import CartPole  # noqa: E402
from metashot.sources.worlds.environments import Copies, Environments  # noqa: E402
from metashot.worlds import Box, Discrete, stream_of_tasks  # noqa: E402
from tests.sources.worlds import broken  # noqa: E402
from tests.sources.worlds.families import (  # noqa: E402
    HORIZON,
    KEY,
    OF_GYMNASIUM,
    OF_MUJOCO,
    actions,
    happened,
    same,
    worlds,
)

ALL = sorted(OF_GYMNASIUM) + [
    pytest.param(name, marks=pytest.mark.skipif(not broken.HAS_SIMULATOR, reason="needs mujoco and imageio"))
    for name in sorted(OF_MUJOCO)
]
FAMILIES = OF_GYMNASIUM | OF_MUJOCO


@pytest.mark.parametrize("name", ALL)
def test_trajectories_depend_on_their_world_round_and_place_alone(name: str) -> None:
    family = FAMILIES[name]()
    together = happened(family, [3, 8, 5], 3, 2)
    other_round = happened(family, [3, 8, 5], 3, 1)  # in the same environments
    alone = [[happened(FAMILIES[name](), [number], copies + 1, 2)[0][copies] for copies in range(2)] for number in (3, 8)]
    again = happened(family, [8], 2, 2)
    for t in range(2):
        for n in range(2):
            assert same(together[t][n], alone[t][n])
    assert same(again[0][1], together[1][1])
    assert not same(other_round[0][0][:1], together[0][0][:1])
    assert not same(together[0][0][:1], together[0][1][:1])


def test_a_fresh_process_finds_the_same_trajectories_and_writes_nothing(tmp_path: Path) -> None:
    """Neither files nor warnings, of which MuJoCo has one for each model."""
    names = [*OF_GYMNASIUM, *(OF_MUJOCO if broken.HAS_SIMULATOR else ())]
    expected = []
    for name in names:
        family = FAMILIES[name]()
        for number in (1, 2):  # other worlds before
            happened(family, [number], 2, 0)
        expected.append(_digest(happened(family, [7], 2, 4)))
    code = (
        "from tests.sources.worlds.families import *; from tests.sources.worlds.test_environments import _digest\n"
        f"for name in {names}: print(_digest(happened((OF_GYMNASIUM | OF_MUJOCO)[name](), [7], 2, 4)))"
    )
    path = ":".join([str(Path(__file__).parents[3]), *filter(None, sys.path)])
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env={"PYTHONPATH": path}
    )
    assert found.stdout.split() == expected
    assert found.stderr == ""
    assert not list(tmp_path.iterdir())


def _digest(found: list[Any]) -> str:
    parts = (part.tobytes() for world in found for trajectory in world for part in trajectory)
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("name", ALL)
def test_steps_are_those_of_gymnasiums_own_environment(name: str) -> None:
    """A plain loop over `gymnasium.make`, with the attributes of the task."""
    family = FAMILIES[name]()
    assert isinstance(family, Environments)
    (((seen, paid, ended),),) = happened(family, [4], 1, 0)
    ids = {"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1"}
    environment = gymnasium.make(ids.get(name, "HalfCheetah-v5"))
    description = family.descriptions(KEY, np.array([4]))[0]
    if name in OF_GYMNASIUM:
        for attribute, value in zip(family.parameters, description, strict=True):
            setattr(environment.unwrapped, attribute, value)
    if name == "cartpole":
        own = environment.unwrapped
        own.total_mass, own.polemass_length = own.masspole + own.masscart, own.masspole * own.length
    seed = int(worlds(family, 4).environment(1, 0).seeds[0])  # type: ignore[attr-defined]
    observed, _ = environment.reset(seed=seed)
    np.testing.assert_array_equal(seen[0], observed)
    for step in range(HORIZON):
        action = family.spaces.moves(actions(family, [4], 1, step))[0].numpy()
        action = action.astype(environment.action_space.dtype)
        observed, reward, terminated, _, info = environment.step(action)
        np.testing.assert_array_equal(seen[step + 1], observed)
        if name.startswith("halfcheetah"):
            cost = 0.05 * np.square(action, dtype=np.float64).sum()
            speed = info["x_velocity"]
            reward = (description[0] * speed if name.endswith("direction") else -abs(speed - description[0])) - cost
        assert paid[step] == pytest.approx(reward, rel=1e-12)
        assert ended[step] == (terminated or step == HORIZON - 1)
        if terminated:
            break


def test_parameters_are_uniform_between_their_limits_and_the_task_sets_them() -> None:
    family = OF_GYMNASIUM["cartpole"]()
    assert isinstance(family, CartPole)
    found = family.descriptions(KEY, np.arange(4000))
    assert family.parameters == ("gravity", "length", "masspole")
    for values, (least, most) in zip(found.T, ([5, 15], [0.25, 1], [0.05, 0.5]), strict=True):
        assert least < values.min() < least + 0.01 * (most - least)
        assert most - 0.01 * (most - least) < values.max() < most
        assert values.mean() == pytest.approx((least + most) / 2, abs=0.02 * (most - least))
    environment = worlds(family, 0, 1).environment(2, 0)
    assert isinstance(environment, Copies)
    environment.reset()
    for place, one in enumerate(environment.environments):
        own, (gravity, length, mass) = one.unwrapped, found[place // 2]
        assert (own.gravity, own.length, own.masspole, own.masscart) == (gravity, length, mass, 1.0)
        assert own.total_mass == mass + 1.0
        assert own.polemass_length == mass * length


def test_null_leaves_a_parameter_as_the_environment_has_it() -> None:
    family = CartPole({"gravity": [1.0, 2.0], "length": None}, HORIZON)
    assert (family.parameters, family.described_by) == (("gravity",), 1)


def test_directions_are_even_and_velocities_between_their_limits() -> None:
    if not broken.HAS_SIMULATOR:
        pytest.skip("needs mujoco and imageio")
    directions = OF_MUJOCO["halfcheetah_direction"]().descriptions(KEY, np.arange(1000))
    assert {*directions.flatten()} == {-1.0, 1.0}
    assert abs(directions.mean()) < 0.1
    velocities = OF_MUJOCO["halfcheetah_velocity"]().descriptions(KEY, np.arange(1000))
    assert 0 < velocities.min() < 0.02
    assert 1.98 < velocities.max() < 2


def test_environments_are_vector_environments_of_gymnasium() -> None:
    environment = worlds(OF_GYMNASIUM["pendulum"](), 0, 1).environment(3, 0)
    assert isinstance(environment, gymnasium.vector.VectorEnv)
    assert environment.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.DISABLED
    assert environment.num_envs == 6
    assert environment.observation_space.shape == (6, 3)
    seen, info = environment.reset()
    assert (seen.shape, seen.dtype, info) == ((6, 3), torch.float32, {})
    seen, paid, terminated, truncated, _ = environment.step(torch.zeros(6, 1))
    assert [part.shape for part in (seen, paid, terminated, truncated)] == [(6, 3), (6,), (6,), (6,)]
    assert (paid.dtype, terminated.dtype) == (torch.float32, torch.bool)


def test_environments_that_have_ended_are_not_stepped_again() -> None:
    family = Environments("Counting-v0", {}, 6)
    environment = worlds(family, 0).environment(3, 0)
    assert isinstance(environment, Copies)
    environment.reset()
    # Copy n ends after n + 1 steps, by `terminated`, or by `truncated` in copy 1.
    for place, one in enumerate(environment.environments):
        one.unwrapped.last, one.unwrapped.cuts = place + 1, place == 1
    ends = [environment.step(torch.zeros(3, dtype=torch.long))[1:4] for _ in range(6)]
    assert [one.unwrapped.steps for one in environment.environments] == [1, 2, 3]
    assert torch.stack([paid for paid, _, _ in ends]).sum(0).tolist() == [1, 2, 3]
    assert ends[-1][1].tolist() == [True, False, True]
    assert ends[-1][2].tolist() == [False, True, False]
    with pytest.raises(gymnasium.error.ResetNeeded):
        environment.step(torch.zeros(3, dtype=torch.long))


def test_environments_are_kept_for_the_next_worlds_and_never_used_twice_at_once() -> None:
    family = Environments("Counting-v0", {}, 6)
    first = worlds(family, 0).environment(3, 0)
    assert isinstance(first, Copies)
    used = first.environments
    second = worlds(family, 1).environment(2, 0)
    assert isinstance(second, Copies)
    assert not {*map(id, used)} & {*map(id, second.environments)}
    del first
    third = worlds(family, 2).environment(3, 0)
    assert isinstance(third, Copies)
    assert {*map(id, used)} == {*map(id, third.environments)}


def test_an_environment_opens_no_window_and_its_own_limit_of_steps_is_replaced() -> None:
    environment = worlds(Environments("Windowed-v0", {}, 6), 0).environment(1, 0)
    assert isinstance(environment, Copies)
    assert environment.environments[0].render_mode is None
    environment.reset()
    ends = [environment.step(torch.zeros(1, dtype=torch.long))[3].item() for _ in range(6)]
    assert ends == [False] * 5 + [True]


def test_the_class_in_the_documentation_works() -> None:
    text = (Path(__file__).parents[3] / "docs" / "how-to" / "environments.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {"Environments": Environments, "Horizon": int, "uniform_inside": uniform_inside}
    names["stream_of_tasks"] = stream_of_tasks
    exec(code, names)
    family = names["SpinningPendulum"](HORIZON)
    (speed,) = family.descriptions(KEY, np.array([4]))[0]
    (((seen, paid, _),),) = happened(family, [4], 1, 0)
    np.testing.assert_allclose(paid, -abs(seen[1:, 2] - speed), atol=1e-5)


def test_spaces_are_taken_over() -> None:
    assert Environments("Counting-v0", {}, 6).spaces == (Discrete(4, 1), Discrete(2, -1))
    pendulum = Environments("Pendulum-v1", {}, 6).spaces
    assert pendulum.observations == Box((3,), (-1.0, -1.0, -8.0), (1.0, 1.0, 8.0))
    assert pendulum.actions == Box((1,), (-2.0,), (2.0,))


def test_observations_of_several_dimensions_are_inputs_of_one() -> None:
    family = Environments("Square-v0", {}, 2)
    seen, _ = worlds(family, 0, 1).environment(2, 0).reset()
    assert seen.shape == (4, 2, 3)
    assert family.spaces.inputs(seen, torch.float32).tolist() == [[0, 1, 2, 3, 4, 5]] * 4


REFUSED = [
    (("os:Pendulum-v1",), "is not an environment that gymnasium knows"),
    (("Pendulum",), "did you mean Pendulum-v1"),
    (("pendulm-v1",), "did you mean Pendulum-v1"),
    (("x" * 50,), "pprint_registry"),
    (
        ("Pendulum-v1", "h", [1.0, 2.0]),
        "parameters.h cannot be set: this attribute of Pendulum-v1 does not exist; its numbers: ",
    ),
    (("Pendulum-v1", "reset", [1.0, 2.0]), "is no number"),
    (("Pendulum-v1", "_np_random_seed", [1.0, 2.0]), "does not exist"),
    (("Pendulum-v1", "np_random_seed", [1.0, 2.0]), "is no number"),
    (("Pendulum-v1", "gg", [1.0, 2.0]), "did you mean g?"),
    (("Pendulum-v1", "g", [2.0, 1.0]), r"parameters.g=\[2.0, 1.0\] cannot be used; allowed: \[least, most\]"),
    (("Pendulum-v1", "g", [2.0]), "allowed: .least, most."),
    (("Dictionary-v0",), r"its observations are Dict\('a': Discrete\(2\)\); allowed: Box of at most"),
    (("Several-v0",), r"its actions are MultiDiscrete\(\[2 3\]\); allowed: Box"),
    (("Huge-v0",), "its observations are Box"),
    (("Choices-v0",), "its actions are Discrete"),
    (("Unmade-v0",), r"cannot be made \(RuntimeError: no licence on this machine\)"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED, ids=lambda given: str(given)[:40])
def test_what_cannot_be_used_is_refused_in_one_line(given: tuple[Any, ...], said: str) -> None:
    name, *parameter = given
    with pytest.raises(BadInput, match=said) as raised:
        Environments(name, dict([parameter]) if parameter else {}, HORIZON)
    assert "\n" not in str(raised.value)


def test_an_environment_of_another_module_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match="hostile:Pendulum-v1"):
        Environments("hostile:Pendulum-v1", {}, HORIZON)
    assert "hostile" not in sys.modules


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("reset", "of world 5 failed in reset of trajectory 1 (RuntimeError: it broke in two lines)"),
        ("step", "of world 5 failed in step 3 of trajectory 1 (RuntimeError: it broke in two lines)"),
        ("shape", "of world 5 failed in step 1 of trajectory 1 (ValueError: "),
        ("exit", "of world 5 failed in step 1 of trajectory 1 (SystemExit: 0)"),
        ("outside", "of world 5 failed in step 1 of trajectory 1 (ValueError: the observation 99; allowed: "),
        ("below", "of world 5 failed in step 1 of trajectory 1 (ValueError: the observation -1; allowed: "),
        ("fraction", "of world 5 failed in step 1 of trajectory 1 (ValueError: the observation 1.5; allowed: "),
        ("nothing", "of world 5 failed in step 1 of trajectory 1 (ValueError: the observation None; allowed: "),
        ("exception", "of world 5 failed in step 1 of trajectory 1 (Silent: it says nothing that can be read)"),
    ],
)
def test_an_environment_that_fails_is_named_with_its_world_and_step(when: str, said: str) -> None:
    family = Environments("Failing-v0", {}, 5)
    environment = worlds(family, 5, 6).environment(1, 0)

    def play() -> None:
        environment.reset()
        for _ in range(5):
            environment.step(torch.zeros(2, dtype=torch.long))

    assert isinstance(environment, Copies)
    used = {*map(id, environment.environments)}
    with broken.failing(when), pytest.raises(GaveUp) as raised:
        play()
    environment.close()
    assert str(raised.value).startswith("the environment Failing-v0 ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
    after = worlds(family, 5, 6).environment(1, 0)
    assert isinstance(after, Copies)
    assert not used & {*map(id, after.environments)}, "what failed is in no known state"


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    broken.register()
    yield
    broken.unregister()
