"""What the command says about the learner and its support set."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from metashot.applied.class_learner import ClassLearner
from metashot.commands.predictions import calibration_note


def learner(
    shots: int | list[int], of_validation: int | None = None, temperature: float | None = 2.0, **algo: str
) -> ClassLearner:
    config: dict[str, Any] = {"algo": algo, "data": {"shots": shots, "val": {"shots": of_validation}}}
    calibration = SimpleNamespace(temperature=None if temperature is None else torch.tensor(temperature))
    found = SimpleNamespace(network=SimpleNamespace(config=config), algorithm=SimpleNamespace(calibration=calibration))
    return cast(ClassLearner, found)


@pytest.mark.parametrize(
    ("given", "examples", "expected"),
    [
        (learner(1), 5, "for 1 example of each class, and may be far too low or too high with 5"),
        (learner(5), 1, "for 5 examples of each class"),
        (learner(1, of_validation=2), 6.5, "for 2 examples of each class, and may be far too low or too high with 6.5"),
        (learner([2, 4]), 12, "for 2 to 4 examples"),
        (learner(1, normalise="none"), 5, "for 1 example"),
        (learner([2, 4]), 1, None),
        (learner(5), 2, None),
        (learner(1), 2, None),
        (learner(1, temperature=None), 5, None),
        (learner(1, normalise="centre_l2"), 5, None),
    ],
)
def test_a_note_says_for_how_many_examples_probabilities_are_calibrated(
    given: ClassLearner, examples: float, expected: str | None
) -> None:
    found = calibration_note(given, examples)
    assert (found is None) == (expected is None)
    assert (expected or "") in (found or "")
