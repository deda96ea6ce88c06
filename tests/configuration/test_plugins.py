"""Packages that a user names are let in, each class where their conf/ has it, and nothing else is."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.configuration import buildable, plugins, signatures
from metashot.configuration.checking import check_node

PLUGIN = Path(__file__).resolve().parents[1] / "plugin"
Package = Callable[..., str]
MODULE = "class Kind:\n    pass\n"


@pytest.fixture(autouse=True)
def nothing_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(plugins, "_enabled", {})
    monkeypatch.setattr(buildable, "_conf_folders", [buildable.CONF])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Package:
    """Makes an importable package of files; its name is new each time, since modules stay imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(**files: str) -> str:
        name = f"made_{abs(hash(request.node.nodeid))}"
        (tmp_path / name).mkdir()
        for path, text in ({"__init__.py": ""} | files).items():
            file = tmp_path / name / (path if path.endswith(".py") else f"{path}.yaml")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace("PACKAGE", name))
        return name

    return make


def test_a_class_may_stand_where_the_conf_of_its_plugin_has_it_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PLUGIN)
    before = buildable.buildable()
    plugins.enable(["stripes"])
    after = buildable.buildable()
    assert after["algo"] == before["algo"] | {"stripes.cityblock.CityBlock"}
    assert after["data.source"] == before["data.source"] | {"stripes.source.Stripes"}
    assert {key: value for key, value in after.items() if before.get(key) != value}.keys() == {"algo", "data.source"}
    with pytest.raises(BadInput, match=r"backbone\._target_=stripes\.cityblock\.CityBlock cannot be built"):
        buildable.target_of({"_target_": "stripes.cityblock.CityBlock"}, "backbone")
    with pytest.raises(BadInput, match=r"stripes\.prototypes\.WithPrototypes cannot be built"):  # which conf/ does not name
        buildable.target_of({"_target_": "stripes.prototypes.WithPrototypes"}, "algo")


def test_arguments_of_a_plugin_are_checked_through_what_it_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PLUGIN)
    plugins.enable(["stripes"])
    node = {"_target_": "stripes.source.Stripes", "image_size": 4, "examples": 20}
    with pytest.raises(BadInput, match=r"data\.source\.image_size=4 cannot be used; allowed: a whole number of at least 8"):
        check_node(node, "data.source")


def test_a_class_of_a_plugin_is_read_through_its_relative_imports_and_those_of_metashot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(PLUGIN)
    plugins.enable(["stripes"])
    kind = "stripes.cityblock.CityBlock"
    assert signatures.derives_from(kind, "stripes.prototypes.WithPrototypes")
    assert signatures.derives_from(kind, "metashot.algorithms.base.Algorithm")
    assert signatures.constant(kind, "solves") == signatures.constant("metashot.algorithms.base.Algorithm", "solves")
    assert signatures.parameters_of(kind)["optimizer"].annotation.target.startswith("metashot.algorithms.optimization.")


def test_a_class_of_a_package_that_nobody_named_is_refused_without_importing_it(package: Package, tmp_path: Path) -> None:
    """As where a checkpoint names it."""
    code = f"open({str(tmp_path / 'trace')!r}, 'w').write('imported')\n{MODULE}"
    name = package(**{"conf/algo/x": "_target_: PACKAGE.Kind\n", "__init__.py": code})
    with pytest.raises(BadInput, match=r"no enabled plug-in has it there; if you trust .* plugins=\[PACKAGE\]"):
        buildable.refuse_misplaced({"plugins": [name], "algo": {"_target_": f"{name}.Kind"}})
    assert name not in sys.modules
    assert not (tmp_path / "trace").exists()


def test_a_plugin_that_is_enabled_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PLUGIN)
    plugins.enable(["stripes"])
    plugins.enable(["stripes", "stripes"])
    assert plugins.enabled() == ("stripes",)
    assert len(plugins.folders()) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("stripes", r"plugins=stripes cannot be used; allowed: a list"),
        (None, "plugins=None cannot be used; allowed: a list"),
        ([1], r"plugins=\[1\] cannot be used; allowed: a list"),
        (["no_such_package"], "there is no package no_such_package that Python can import"),
        (["no_such.package"], r"there is no package no_such\.package that Python can import"),
        (["json"], "json has no folder conf/"),
        (["os"], "os has no folder conf/"),
        (["../plugin"], r"plugins=\[\.\./plugin\] cannot be used"),
        (["metashot"], "is metashot itself"),
        (["metashot.algorithms"], "is metashot itself"),
    ],
)
def test_what_is_no_plugin_is_refused(given: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plugins.enable(given)
    assert plugins.enabled() == ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"conf/algo/maml": "name: x\n"}, r"has conf/algo/maml\.yaml, which metashot has too: give it another name"),
        ({"conf/train": "seed: 1\n"}, r"has conf/train\.yaml, which metashot has too"),
        ({"conf/algo/stored": "name: x\n"}, "which is a reserved name"),
        ({"conf/algo/x": "_target_: os.mkdir\n"}, r"names os\.mkdir at algo, a class that is not one of its own"),
        (
            {"conf/algo/x": "_target_: metashot.tracking.csv_file.CsvLogger\n"},
            r"names metashot\.tracking\.csv_file\.CsvLogger at algo, a class that metashot does not build there",
        ),
        ({"conf/algo/x": "_target_: [1]\n"}, r"names \[1\] at algo"),
        ({"conf/algo/x": "a: [\n"}, r"x\.yaml cannot be read"),
        ({"conf/algo/x": "a: &b [1, 2]\nc: [*b, *b]\n"}, r"x\.yaml cannot be read: it has references"),
        ({"conf/algo/x": f"a: {'x' * 2**20}\n"}, r"x\.yaml cannot be read"),
        (
            {"conf/algo/x": "a: 1\n", "__init__.py": "raise ValueError('broken\\nin two')"},
            r"failed \(ValueError: broken in two\)",
        ),
        (
            {"conf/algo/x": "a: 1\n", "__init__.py": "import no_such_thing"},
            "ModuleNotFoundError: No module named 'no_such",
        ),
        ({"conf/algo/x": "a: 1\n", "__init__.py": "raise SystemExit(3)"}, r"failed \(SystemExit: 3\)"),
        ({"conf/algo/x": "a: 1\n", "__init__.py": "def f(:"}, r"failed \(SyntaxError"),
        (
            {"conf/algo/x": "a: 1\n", "__init__.py": "class Odd(BaseException): pass\nraise Odd('x')"},
            r"failed \(Odd: x\)",
        ),
        (
            {
                "conf/algo/x": "a: 1\n",
                "__init__.py": "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute",
            },
            r"failed \(Mute: it says nothing that can be read\)",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused_in_one_line(package: Package, files: dict[str, str], message: str) -> None:
    name = package(**files)
    with pytest.raises(BadInput, match=message) as refused:
        plugins.enable([name])
    assert "\n" not in str(refused.value)
    assert plugins.enabled() == ()
    assert buildable._conf_folders == [buildable.CONF]


def test_a_package_that_is_refused_for_its_conf_is_not_imported(package: Package, tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'trace')!r}, 'w').write('imported')"
    name = package(**{"conf/algo/maml": "name: x\n", "__init__.py": code})
    with pytest.raises(BadInput):
        plugins.enable([name])
    assert name not in sys.modules
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("def Kind():\n    pass\n", "was not found in its plug-in"),
        ("class Other:\n    pass\n", "was not found in its plug-in"),
        (
            "class Kind:\n    def __init__(self, x: nowhere):\n        pass\n",
            "uses the undefined name nowhere in an annotation",
        ),
        ("class Kind:\n    def __init__(self, x: [i for i in 'ab']):\n        pass\n", "annotation that is not understood"),
        ("class Kind(:\n", r"module made_\d+\.kind cannot be read"),
        ("class Kind(Kind):\n    pass\n", "cannot be read: RecursionError"),
    ],
)
def test_a_class_that_cannot_be_read_is_refused_by_name(package: Package, module: str, message: str) -> None:
    name = package(**{"conf/algo/x": "_target_: PACKAGE.kind.Kind\n", "kind.py": module})
    plugins.enable([name])
    with pytest.raises(BadInput, match=message):
        check_node({"_target_": f"{name}.kind.Kind", "x": 1}, "algo")


def test_a_module_that_cannot_be_imported_is_one_message(package: Package) -> None:
    from metashot.configuration import build

    name = package(**{"conf/algo/x": "_target_: PACKAGE.kind.Kind\n", "kind.py": f"{MODULE}import no_such_thing\n"})
    plugins.enable([name])
    with pytest.raises(BadInput, match=rf"the plug-in's {name}\.kind cannot be imported \(ModuleNotFoundError"):
        build({"_target_": f"{name}.kind.Kind"})


@pytest.mark.parametrize("code", ["import sys\nsys.exit(0)\n", "raise SystemExit\n"])
def test_a_module_that_exits_ends_nothing(package: Package, code: str) -> None:
    from metashot.configuration import build

    name = package(**{"conf/algo/x": "_target_: PACKAGE.kind.Kind\n", "kind.py": f"{MODULE}{code}"})
    plugins.enable([name])
    with pytest.raises(BadInput, match=rf"the plug-in's {name}\.kind cannot be imported \(SystemExit"):
        build({"_target_": f"{name}.kind.Kind"})


def test_what_is_no_class_when_it_is_imported_is_refused(package: Package) -> None:
    from metashot.configuration import build

    name = package(**{"conf/algo/x": "_target_: PACKAGE.kind.Kind\n", "kind.py": f"@lambda kind: 1\n{MODULE}"})
    plugins.enable([name])
    with pytest.raises(BadInput, match="is a int and not a class"):
        build({"_target_": f"{name}.kind.Kind"})


def test_a_pipe_among_the_files_of_a_plugin_is_not_waited_for(package: Package, tmp_path: Path) -> None:
    name = package(**{"conf/algo/x": "a: 1\n"})
    os.mkfifo(tmp_path / name / "conf" / "algo" / "pipe.yaml")
    with pytest.raises(BadInput, match="it is a pipe and not a file"):
        plugins.enable([name])
