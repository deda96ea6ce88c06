"""Without gymnasium or MuJoCo everything else works, and worlds say which extra they need."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from metashot import configuration
from metashot.bad_input import BadInput
from metashot.checkpoints.recipes import TRAINING
from metashot.configuration.composing import composed

ROOT = Path(__file__).parents[3]
SAID = "which is not installed: pip install 'metashot[rl]'"


@pytest.mark.parametrize(
    ("data", "missing"),
    [
        ("navigation", "gymnasium"),
        ("bandits", "gymnasium"),
        ("mazes", "gymnasium"),
        ("cartpole", "gymnasium"),
        ("environment", "gymnasium"),
        ("halfcheetah_direction", "gymnasium"),
        ("halfcheetah_direction", "mujoco"),
        ("halfcheetah_velocity", "mujoco"),
        ("halfcheetah_velocity", "imageio"),
    ],
)
def test_worlds_say_what_they_need_before_anything_is_imported(
    data: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(TRAINING, ["algo=maml_rl", f"data={data}", "folder=x"])
    monkeypatch.setitem(sys.modules, missing, None)  # type: ignore[arg-type]
    if data.startswith("halfcheetah") and missing == "imageio":
        pytest.importorskip("mujoco")
    with pytest.raises(BadInput) as raised:
        configuration.check(config)
    assert str(raised.value) == f"data={data} needs the package {missing}, {SAID}"


def test_other_data_and_formulas_need_no_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gymnasium")
    for missing in ("mujoco", "imageio"):
        monkeypatch.setitem(sys.modules, missing, None)  # type: ignore[arg-type]
    for data in ("navigation", "cartpole"):
        configuration.check(composed(TRAINING, ["algo=maml_rl", f"data={data}", "folder=x"]))
    monkeypatch.setitem(sys.modules, "gymnasium", None)  # type: ignore[arg-type]
    configuration.check(composed(TRAINING, ["algo=maml", "data=glyphs", "folder=x"]))


def test_an_environment_of_mujoco_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gymnasium")
    from metashot.sources.worlds.environments import Environments

    for name in [name for name in sys.modules if name.startswith(("mujoco", "gymnasium.envs.mujoco"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mujoco", None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "imageio", None)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"environment=Hopper-v5 needs the package (mujoco|imageio), which"):
        Environments("Hopper-v5", {}, 10)


def test_train_py_ends_with_one_message_before_it_imports_torch(tmp_path: Path) -> None:
    code = """
import runpy, sys
sys.modules |= dict.fromkeys(['gymnasium', 'torch'])
sys.argv = ['train.py', 'experiment=navigation', 'folder=run']
runpy.run_path(sys.path[0] + '/train.py', run_name='__main__')
"""
    path = ":".join([str(ROOT), *filter(None, sys.path)])
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[0] = {str(ROOT)!r}" + code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": path},
    )
    assert found.stderr == f"error: data=navigation needs the package gymnasium, {SAID}\n"
    assert (found.returncode, list(tmp_path.iterdir())) == (2, [])


def test_the_data_module_says_it_too_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("metashot.sources.worlds.", "metashot.data.worlds"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gymnasium", None)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"^worlds need the package gymnasium, which is not installed: pip install"):
        importlib.import_module("metashot.data.worlds")
