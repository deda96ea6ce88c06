"""The architecture: imports go one way, and every module is named after what it is about."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import metashot

SOURCE = Path(metashot.__file__).parent

# From below to above: a module imports from its own room and from those before it, and from nothing else of metashot.
LAYERS = (
    {"version", "bad_input", "randomness"},
    {"process"},
    {"arguments", "files"},
    {"episodes", "problems", "worlds"},
    {"sources"},
    {"data", "kernels"},
    {"backbones"},
    {"engines"},
    {"algorithms"},
    {"configuration"},
    {"checkpoints"},
    {"evaluation"},
    {"applied", "tracking", "training"},
    {"experiment", "page", "results"},
    {"commands"},
    {"metashot", "predict", "__main__"},  # what users call: the package itself and the entry points
)
# Rooms that do not know of each other, though one stands below the other.
INDEPENDENT = {
    "kernels": {"sources", "data", "episodes", "problems"},
    "backbones": {"sources", "data"},
    "engines": {"sources", "data"},
    "algorithms": {"sources", "data"},
    "sources": {"problems"},
    "applied": {"training", "tracking"},
    "page": {"training", "tracking", "experiment", "results"},
    "experiment": {"page", "results"},
    "results": {"page", "experiment", "training", "tracking", "applied"},
    "tracking": {"training", "applied"},
    "training": {"tracking", "applied"},
}
WITHOUT_CONFIGURATION = (
    "sources",
    "data",
    "backbones",
    "engines",
    "algorithms",
    "evaluation",
    "episodes",
    "problems",
    "worlds",
    "randomness",
    "arguments",
)
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


def imported(module: Path) -> Iterator[str]:
    """The full names of all that a file of metashot imports, wherever in the file."""
    package = ("metashot", *module.parts[:-1])
    for node in ast.walk(ast.parse((SOURCE / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            origin = ".".join(part for part in (above, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def name_of(module: Path) -> str:
    parts = ("metashot", *module.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(module) for module in MODULES}


def modules_imported(module: Path) -> Iterator[str]:
    """The modules of metashot that a file imports from."""
    for name in imported(module):
        yield name if name in NAMES else name.rpartition(".")[0]


def place(module: Path) -> str:
    """The first name below metashot."""
    if module == Path("__init__.py"):
        return "metashot"
    return "__main__" if module.name == "__main__.py" else module.with_suffix("").parts[0]


def place_of_name(name: str) -> str:
    first = name.split(".")[1] if "." in name else ""
    return first if (SOURCE / first).is_dir() or (SOURCE / f"{first}.py").is_file() else "metashot"


def height(name: str) -> int:
    found = [level for level, places in enumerate(LAYERS) if name in places]
    assert found, f"{name} has no layer: say in DESIGN.md and in this test where it belongs"
    return found[0]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_reaches_upwards(module: Path) -> None:
    own = place(module)
    for name in imported(module):
        if name.split(".")[0] == "metashot":
            other = place_of_name(name)
            assert height(other) <= height(own), f"{module} imports {name}, which stands above it"
            assert other not in INDEPENDENT.get(own, set()), f"{module} imports {name}, and should not know of it"


@pytest.mark.parametrize("module", [module for module in MODULES if place(module) in WITHOUT_CONFIGURATION], ids=str)
def test_nothing_below_the_scripts_reads_the_configuration_tree(module: Path) -> None:
    assert not {name.split(".")[0] for name in imported(module)} & {"hydra", "omegaconf"}


def test_no_two_modules_import_each_other_not_even_by_way_of_others() -> None:
    below = {name_of(module): set(modules_imported(module)) for module in MODULES}
    while leaves := {name for name, others in below.items() if not others & below.keys() - {name}}:
        below = {name: others for name, others in below.items() if name not in leaves}
    assert not below, f"these import each other: {', '.join(sorted(below))}"


def test_modules_are_named_after_what_they_are_about() -> None:
    vague = ("util", "helper", "common", "misc", "manager")
    parts = {part for module in MODULES for part in module.with_suffix("").parts}
    assert not [part for part in parts if any(word in part for word in vague)]


def test_every_module_says_what_it_is_for() -> None:
    for module in MODULES:
        tree = ast.parse((SOURCE / module).read_text())
        assert not tree.body or ast.get_docstring(tree), module


def test_the_layers_are_those_that_exist() -> None:
    assert {place(module) for module in MODULES} == set().union(*LAYERS)


# Prints which of those named on the command line are imported, after each step, in a process that has imported nothing.
IMPORTING = """
import sys

def imported():
    print(*sorted(set(sys.argv[1:]) & set(sys.modules)), sep=",")

import metashot
assert "load" in dir(metashot)
imported()
metashot.load
imported()
import metashot.algorithms.gradient.maml
imported()
"""


@pytest.fixture(scope="module")
def importing() -> dict[str, set[str]]:
    """What is imported after each step of IMPORTING. It is one process, because torch alone takes seconds."""
    named = ("torch", "numpy", "hydra", "sklearn", "learn2learn")
    done = subprocess.run([sys.executable, "-c", IMPORTING, *named], capture_output=True, text=True, check=True)
    said = [set(filter(None, line.split(","))) for line in done.stdout.splitlines()]
    return dict(zip(("metashot", "load", "maml"), said, strict=True))


def test_importing_metashot_imports_nothing_slow(importing: dict[str, set[str]]) -> None:
    assert importing["metashot"] == set()


def test_torch_is_imported_by_what_needs_it(importing: dict[str, set[str]]) -> None:
    assert "torch" in importing["load"]


def test_core_does_not_import_scikit_learn(importing: dict[str, set[str]]) -> None:
    assert "sklearn" not in importing["load"]


def test_importing_maml_does_not_import_learn2learn(importing: dict[str, set[str]]) -> None:
    assert "learn2learn" not in importing["maml"]


# Packages and modules that are about texts.
ABOUT_TEXT = ("tokenizers", "transformers", "sentence_transformers", "wordllama")
ROOMS_OF_TEXTS = (
    "metashot.backbones.texts",
    "metashot.data.tokenizers",
    "metashot.data.token_bank",
    "metashot.sources.texts",
)


def test_no_algorithm_but_setfit_knows_of_texts() -> None:
    """Texts are a source, a presentation and backbones, and every algorithm that runs on features runs on them."""
    found = {
        str(module): name
        for module in MODULES
        if module.parts[0] == "algorithms" and module.stem != "setfit"
        for name in imported(module)
        if name.startswith(ROOMS_OF_TEXTS) or name.split(".")[0] in ABOUT_TEXT
    }
    assert not found
