"""The folder of an evaluation says which settings were changed since the training."""

from typing import Any

from metashot.commands.evaluate import changed_settings


def config(steps: int, gravity: list[float]) -> dict[str, Any]:
    source = {"environment": "Pendulum-v1", "parameters": {"g": gravity}}
    return {"algo": {"test_inner_steps": steps}, "backbone": {}, "data": {"source": source}}


def test_worlds_with_other_settings_have_a_folder_of_their_own() -> None:
    trained = config(3, [5.0, 15.0])
    assert changed_settings(trained, trained, acts=True) == ""
    assert changed_settings(config(1, [15.0, 20.0]), trained, acts=True) == "_test_inner_steps-1_parameters.g-15.0-20.0"
    assert changed_settings(config(1, [15.0, 20.0]), trained, acts=False) == "_test_inner_steps-1"
