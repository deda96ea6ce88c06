"""Whoever has to do with a problem asks it, and never which one it is."""

import ast
from pathlib import Path
from typing import get_args

import pytest

import metashot
from metashot.checkpoints import stored
from metashot.problems import IN_PERCENT, PROBLEMS, Picture, Problem, ProblemName

SOURCE = Path(metashot.__file__).parent
KINDS = {*PROBLEMS, "Problem", "ScoredByQuery"}
ELSEWHERE = sorted(path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] != "problems")
SAYS_WHICH = ("solves", "asks")  # the problems that an algorithm can learn, and the one that data pose


def uses(tree: ast.AST) -> list[ast.AST]:
    """Where a problem is named other than to annotate, to say which one is solved or posed, or to make the one posed."""
    allowed: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            allowed |= set(ast.walk(node.annotation))
        if isinstance(node, ast.AnnAssign):
            allowed |= set(ast.walk(node.annotation))
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id in SAYS_WHICH for target in targets):
                allowed |= set(ast.walk(node))
            made = node.value
            if isinstance(made, ast.Call) and any(
                isinstance(target, ast.Attribute) and target.attr == "problem" for target in targets
            ):
                allowed.add(made.func)
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in PROBLEMS and isinstance(node.ctx, ast.Load) and node not in allowed
    ]


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_asks_a_problem_which_one_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not [ast.unparse(node) for node in uses(tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
            named = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
            # Lightning's module is typed so that an attribute has to be told to be a problem at all.
            assert not named & (KINDS - {"Problem"}), ast.unparse(node)
        if isinstance(node, ast.Compare):
            texts = {part.value for part in [node.left, *node.comparators] if isinstance(part, ast.Constant)}
            assert not {text for text in texts if isinstance(text, str)} & {*PROBLEMS, *METRICS}, ast.unparse(node)


METRICS = {kind.metric for kind in PROBLEMS.values()} - {"mse"}  # which is the name of losses too


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_problems_are_imported_by_what_learns_them_or_poses_them(path: Path) -> None:
    imported = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("metashot.problems")
        for alias in node.names
    }
    if path.relative_to(SOURCE).parts[0] not in ("algorithms", "data"):
        assert not imported & {*PROBLEMS}


def test_what_is_forbidden_is_found() -> None:
    assert uses(ast.parse("if type(problem) is Regression: pass"))
    assert uses(ast.parse("def f(problem: Problem) -> bool:\n    return isinstance(problem, Classification)"))
    assert not uses(ast.parse("class A:\n    solves = (Classification, Regression)"))
    assert not uses(ast.parse("self.problem = Classification(5)"))
    assert not uses(ast.parse("def f(problem: Classification) -> None: ..."))


def test_checkpoints_name_the_problems_that_there_are() -> None:
    assert list(PROBLEMS) == list(get_args(ProblemName)) == list(stored._PROBLEMS)


@pytest.mark.parametrize("kind", PROBLEMS.values())
def test_every_problem_says_how_it_is_told_and_drawn(kind: type[Problem]) -> None:
    assert kind.kind
    assert (kind.metric in IN_PERCENT) == kind.in_percent
    assert kind.picture in get_args(Picture)
    assert len({other.metric for other in PROBLEMS.values()}) == len(PROBLEMS)
