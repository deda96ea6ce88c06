"""theta' = theta - alpha * gradient, with step sizes of each kind that algorithms have."""

import ast
from pathlib import Path

import pytest
import torch

import metashot
from metashot.algorithms.gradient.descent import StepSizes, descended

THETA = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0]])}
DIRECTIONS = {"a": torch.tensor([10.0, -10.0]), "b": torch.tensor([[1.0]])}


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.5, {"a": [-4.0, 7.0], "b": [[2.5]]}),
        (torch.tensor(0.5), {"a": [-4.0, 7.0], "b": [[2.5]]}),
        ({"a": 0.5, "b": torch.tensor(-2.0)}, {"a": [-4.0, 7.0], "b": [[5.0]]}),
        ({"a": torch.tensor([0.5, 0.1]), "b": 1.0}, {"a": [-4.0, 3.0], "b": [[2.0]]}),
    ],
    ids=["one number", "one tensor", "one for each parameter", "one for each element"],
)
def test_a_step_goes_against_the_gradient_by_its_step_size(alpha: StepSizes, expected: dict[str, list[float]]) -> None:
    assert {name: value.tolist() for name, value in descended(THETA, alpha, DIRECTIONS).items()} == expected


def test_every_update_of_the_family_is_this_step_and_says_so_beside_its_formula() -> None:
    family = Path(metashot.__file__).parent / "algorithms" / "gradient"
    updates = {}
    for path in family.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "update" and path.stem != "learner":
                updates[path.stem] = node
    assert {"maml", "mamlpp", "metasgd", "reptile", "finetune"} <= set(updates)
    for node in updates.values():
        assert "theta' = theta - alpha" in (ast.get_docstring(node) or "")
        returned = [child.value for child in ast.walk(node) if isinstance(child, ast.Return)]
        assert all(isinstance(call, ast.Call) and ast.unparse(call.func) == "descended" for call in returned)
