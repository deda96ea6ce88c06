"""What the wheel holds and what it asks for."""

import email
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import metashot
from metashot.checkpoints.ready_made import READY_MADE
from metashot.kernels.images import FUNCTIONS

from .wheels import ROOT, build_wheel

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("wheel")))


def test_the_wheel_holds_the_whole_package_and_conf_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    files = {name for name in wheel.namelist() if not name.startswith(f"metashot-{metashot.__version__}.dist-info/")}
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "metashot").rglob("*.py")}
    conf = {f"metashot/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*") if path.is_file()}
    assert "metashot/conf/algo/maml.yaml" in conf
    ready_made = {f"metashot/learners/{name}.ckpt" for name in READY_MADE}
    code = {"metashot/py.typed", "metashot/kernels/vectors.h", *(f"metashot/kernels/{name}.c" for name in FUNCTIONS)}
    page = {
        str(path.relative_to(ROOT / "src"))
        for folder in ("runtime", "web")
        for path in (ROOT / "src" / "metashot" / "page" / folder).rglob("*")
        if path.is_file()
    }
    assert {f"metashot/page/runtime/{name}" for name in ("LICENSE", "ort-wasm-simd-threaded.wasm")} < page
    lists = {f"metashot/sources/images/vinyals/{split}.txt" for split in ("train", "val", "test")}
    lists |= {f"metashot/results/{name}.yaml" for name in ("published", "tables")}
    assert files == modules | conf | code | ready_made | page | lists
    for name in conf:
        assert wheel.read(name) == (ROOT / name.removeprefix("metashot/")).read_bytes()


def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    return email.message_from_bytes(wheel.read(f"metashot-{metashot.__version__}.dist-info/METADATA"))


def test_the_wheel_asks_for_what_the_core_imports_and_not_for_learn2learn(wheel: zipfile.ZipFile) -> None:
    asked = [Requirement(text) for text in metadata(wheel).get_all("Requires-Dist", [])]
    core = {one.name for one in asked if one.marker is None}
    assert {"torch", "pytorch-lightning", "numpy", "hydra-core", "pillow", "pyyaml"} <= core
    assert "learn2learn" not in core
    of_extra = {one.name for one in asked if one.marker is not None and one.marker.evaluate({"extra": "learn2learn"})}
    assert "learn2learn" in of_extra
    (numpy,) = (one for one in asked if one.name == "numpy" and one.marker is None)
    assert numpy.specifier.contains("2.3")
    assert all(one.specifier for one in asked), "a dependency without a range"


def test_the_wheel_brings_the_command(wheel: zipfile.ZipFile) -> None:
    entries = wheel.read(f"metashot-{metashot.__version__}.dist-info/entry_points.txt").decode()
    assert entries.split() == ["[console_scripts]", "metashot", "=", "metashot.__main__:main"]


def pinned(file: str) -> dict[str, Requirement]:
    lines = [line.partition(" #")[0].partition(" --")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {canonicalize_name(one.name): one for one in found}


@pytest.mark.parametrize(
    ("file", "extra", "own"),
    [
        ("requirements.txt", "learn2learn", True),
        ("requirements-dev.txt", "onnx", False),
        ("requirements-dev.txt", "clip", False),
        ("requirements-dev.txt", "rl", False),
        ("requirements-dev.txt", "page", False),
    ],
)
def test_pinned_versions_are_in_the_ranges_of_the_project(file: str, extra: str, own: bool) -> None:
    ranges = [Requirement(text) for text in PROJECT["optional-dependencies"][extra]]
    ranges += [Requirement(text) for text in PROJECT["dependencies"]] if own else []
    pins = pinned(file)
    names = {canonicalize_name(one.name) for one in ranges}
    assert names == set(pins) if own else names <= set(pins)
    for one in ranges:
        (version,) = pins[canonicalize_name(one.name)].specifier
        assert version.operator == "=="
        assert one.specifier.contains(version.version), f"{file} pins {one.name}=={version.version}, outside {one}"


def test_every_imported_distribution_is_a_dependency() -> None:
    """Here is named what the core imports under other names than it is installed by."""
    import ast
    import sys

    distributions = {"yaml": "pyyaml", "PIL": "pillow", "hydra": "hydra-core", "fontTools": "fonttools"}
    distributions["charset_normalizer"] = "charset-normalizer"
    distributions |= {"pytorch_lightning": "pytorch-lightning", "lightning_fabric": "pytorch-lightning"}
    # Imported where a user asks for them.
    optional = {"learn2learn", "onnx", "onnxruntime", "onnxscript", "sklearn", "timm", "safetensors", "huggingface_hub"}
    optional |= {"open_clip", "tokenizers", "transformers", "gymnasium", "mujoco", "starlette", "uvicorn"}
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(str(node.module).partition(".")[0])
    own = imported - sys.stdlib_module_names - optional - {"metashot"}
    declared = {Requirement(text).name for text in PROJECT["dependencies"]}
    assert {distributions.get(name, name) for name in own} == declared
