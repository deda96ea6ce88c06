"""The files of onnxruntime-web that the page carries: those of npm, unchanged, with their licence, and on their own."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import metashot.page

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = Path(metashot.page.__file__).parent / "runtime"
SUMS = {name: digest for digest, name in map(str.split, (RUNTIME / "SHA256SUMS").read_text().splitlines())}
MODULE, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"


def test_the_files_have_the_digests_of_those_of_npm() -> None:
    assert set(SUMS) == {MODULE, WASM}
    for name, digest in SUMS.items():
        assert hashlib.sha256((RUNTIME / name).read_bytes()).hexdigest() == digest, name


def test_one_version_is_pinned_and_named() -> None:
    version = json.loads((RUNTIME / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    locked = json.loads((RUNTIME / "package-lock.json").read_text())["packages"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert locked["node_modules/onnxruntime-web"]["version"] == version
    assert f"ONNX Runtime Web v{version}" in (RUNTIME / MODULE).read_text()[:200]
    assert f"onnxruntime-web {version}" in (RUNTIME / "README.md").read_text()


def test_the_lock_has_a_digest_of_every_package_and_no_address() -> None:
    text = (RUNTIME / "package-lock.json").read_text()
    assert "://" not in text
    packages = json.loads(text)["packages"]
    assert all(package["integrity"].startswith("sha512-") for name, package in packages.items() if name)


def test_the_module_names_no_address_that_a_browser_would_load() -> None:
    text = (RUNTIME / MODULE).read_text()
    assert set(re.findall(r"\w+://[^\s\"'`)]+", text)) == {"https://web.dev/cross-origin-isolation-guide/"}  # in a warning
    assert not re.search(r"(?<![-\w])(?:from|import)\s*[\"']", text), "a module beside it is loaded"
    assert re.findall(r"sourceMappingURL=(\S+)", text) == [f"{MODULE}.map"]  # of its own folder, for developer tools


def test_licences_are_there() -> None:
    assert "MIT License" in (RUNTIME / "LICENSE").read_text()
    notices = (RUNTIME / "ThirdPartyNotices.txt").read_text()
    for included in ("protobuf", "onnx", "Eigen", "flatbuffers", "abseil", "re2", "nlohmann", "SafeInt", "Microsoft GSL"):
        assert re.search(rf"^.*{included}", notices, re.MULTILINE), included


def made(into: Path, runtime: Path = RUNTIME) -> subprocess.CompletedProcess[str]:
    command = ["make", "runtime", f"RUNTIME={runtime}", f"INTO={into}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_has_the_same_files(tmp_path: Path) -> None:
    done = made(tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(SUMS)
    for name in SUMS:
        assert (tmp_path / name).read_bytes() == (RUNTIME / name).read_bytes(), name


@pytest.mark.long
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_other_files_of_npm_are_not_taken(tmp_path: Path) -> None:
    changed, into = tmp_path / "runtime", tmp_path / "into"
    into.mkdir()
    shutil.copytree(RUNTIME, changed)
    lines = (changed / "SHA256SUMS").read_text()
    (changed / "SHA256SUMS").write_text(lines.replace(SUMS[WASM], "0" * 64))
    assert made(into, changed).returncode != 0
    assert list(into.iterdir()) == []
