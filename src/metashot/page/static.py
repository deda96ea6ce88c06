"""The page as static files: a folder that any web server can offer, and that computes everything in the browser.

index.html, page.css, *.js, words/     the page
browser/                               the back end in the browser
learner/learner.json                   what the page says of the learner, its head, and the classes that it begins with
learner/numbers.bin                    arrays of the head
learner/examples.bin                   the pixels of the classes that the page begins with
learner/backbone.onnx                  images to features
learner/head.bin                       nodes of a graph from features to probabilities
learner/weights.fewshot                a fitted learner without examples, from which the page makes files to save
runtime/                               ONNX Runtime for the browser
metashot-page.json                     the list of all these files, by which a folder is known as ours
"""

import copy
import hashlib
import html
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from metashot.algorithms.features import FeatureLearner
from metashot.applied.class_learner import ClassLearner
from metashot.applied.export import INPUT, graph_of_module, refuse_without_onnx, session_of
from metashot.applied.images import Form, ink_of, normalised
from metashot.applied.learner import Learner
from metashot.applied.network import FORMAT
from metashot.bad_input import BadInput
from metashot.files.outputs import FITTED, WRITTEN_BY
from metashot.files.paths import place_to_write, printable, quoted
from metashot.files.whole_folders import put_in_place
from metashot.page.facts import OWN, facts_of, named
from metashot.page.heads import FEATURES, Numbers, familiarity_of, graph_of_head, head_of, refuse_head
from metashot.page.policy import POLICY_OF_FILES
from metashot.version import __version__

MARKER = "metashot-page.json"

_HERE = Path(__file__).resolve().parent
_WEB, _RUNTIME = _HERE / "web", _HERE / "runtime"
_OF_SERVER = "server"  # a folder of the page that static files do not need
_BACKEND = re.compile(r'data-backend="server"')
_HEAD = re.compile(r"<meta charset=[^>]*>", re.IGNORECASE)
_LARGEST_MARKER = 2**22
_LARGEST_NUMBER = 2**53  # up to which JavaScript has all integers
_CHECKED = (1, 3)  # batch sizes in which the graph is compared with PyTorch; it is traced with another
_TOLERATED = 1e-4  # difference of a feature, as a share of the largest


def refuse_static(learner: Learner) -> None:
    """Raise `BadInput` where a learner cannot be written as static files."""
    refuse_head(learner)
    refuse_without_onnx()


def refuse_place(out: str | os.PathLike[str]) -> Path:
    """The folder to write, which is missing, empty, or an earlier one of ours without anything else in it.

    Raises:
        BadInput: It is none of these, or cannot be written.
    """
    named = place_to_write(out, "out")
    folder = Path(os.path.realpath(named))
    given = f"out={quoted(named)}"
    if not folder.name or folder == Path.cwd() or folder == Path.home():
        raise BadInput(f"{given} cannot be replaced by the files of a page; allowed: a new folder, such as out=page")
    with _as_bad_input(given):
        if not os.path.lexists(folder):
            return folder
        if not folder.is_dir():
            raise BadInput(f"{given} is a file, and the files of a page need a folder: give another out=")
        if not any(folder.iterdir()):
            return folder
        stranger = _stranger_in(folder)
    if stranger is not None:
        raise BadInput(
            f"{given} is not empty and would be replaced: {stranger}; allowed: a new folder, an empty one, or a page that "
            "metashot wrote and nobody changed"
        )
    return folder


def write_page(learner: Learner, out: str) -> Path:
    """Write the page with a learner as static files. The folder is written whole or not at all.

    Args:
        learner: A learner of images; the classes of a fitted one are those that the page begins with.
        out: The folder.

    Returns:
        The folder that was written.

    Raises:
        BadInput: A browser cannot compute this learner, or the folder cannot be written.
    """
    refuse_static(learner)
    folder = refuse_place(out)
    assert isinstance(learner, ClassLearner)
    files = {**_page_files(), **_learner_files(learner)}
    given = f"out={quoted(out)}"
    with _as_bad_input(given):
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = folder.with_name(f".{folder.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}.writing")
        try:
            _write_all(beside, files)
            refuse_place(out)  # again: writing takes seconds
            put_in_place(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def _page_files() -> dict[str, bytes]:
    """The files of the page and of the runtime, by their names in the folder."""
    found = {
        f"runtime/{path.relative_to(_RUNTIME).as_posix()}": path.read_bytes()
        for path in sorted(_RUNTIME.rglob("*"))
        if path.is_file()
    }
    for path in sorted(_WEB.rglob("*")):
        name = path.relative_to(_WEB)
        if path.is_file() and name.parts[0] != _OF_SERVER:
            found[name.as_posix()] = path.read_bytes()
    if "index.html" in found:
        found["index.html"] = _static_document(found["index.html"].decode()).encode()
    return found


def _static_document(document: str) -> str:
    """The document of the page, which says that the browser computes, and carries the policy that a server would send."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY_OF_FILES)}">'
    changed, count = _BACKEND.subn('data-backend="browser"', document)
    changed, heads = _HEAD.subn(lambda found: f"{found[0]}\n    {policy}", changed, count=1)
    assert (count, heads) == (1, 1), "the document has another form"
    return changed


def _learner_files(learner: ClassLearner) -> dict[str, bytes]:
    algorithm = copy.deepcopy(learner.algorithm).cpu().float().eval()
    assert isinstance(algorithm, FeatureLearner)
    numbers = Numbers()
    head, familiarity = head_of(algorithm, numbers), familiarity_of(algorithm, numbers)
    stored = np.frombuffer(numbers.content(), "<f8")
    classes, pixels = _classes_of(learner)
    told = {
        "facts": facts_of(OWN, learner, os.fspath(learner.checkpoint)),
        "form": _described(learner.form),
        "ink": ink_of(learner.form),
        "features": algorithm.backbone.features,
        "head": head,
        "familiarity": familiarity,
        "classes": classes,
    }
    return {
        "learner/learner.json": json.dumps(told, ensure_ascii=False, allow_nan=False).encode(),
        "learner/numbers.bin": numbers.content(),
        "learner/examples.bin": pixels,
        "learner/backbone.onnx": _backbone_graph(algorithm, learner),
        "learner/head.bin": graph_of_head(head, stored).SerializeToString(),
        "learner/weights.fewshot": _unfitted_file(learner),
    }


def _described(form: Form) -> dict[str, Any]:
    return {
        "shape": list(form.shape),
        "fit": form.fit,
        "enlarging": form.enlarging,
        "inverted": form.inverted,
        "of_drawings": form.of_drawings,
        "down_first": _resizes_tall_images_down_first(),
    }


def _resizes_tall_images_down_first() -> bool:
    """Whether Pillow resizes tall images down and then across, as from version 13 on, which rounds otherwise."""
    image, kernel = Image.fromarray(np.random.default_rng(0).integers(0, 256, (91, 37), np.uint8)), Image.Resampling.LANCZOS
    down_first = image.resize((37, 28), kernel).resize((28, 28), kernel)
    return image.resize((28, 28), kernel).tobytes() == down_first.tobytes()


def _classes_of(learner: ClassLearner) -> tuple[list[dict[str, Any]], bytes]:
    """The classes of a fitted learner, each with the number of its examples, and the pixels of all, class by class."""
    if not learner.is_fitted:
        return [], b""
    examples, found = learner.examples, []
    order = examples.y.argsort(stable=True)
    labels = learner.classes_.tolist()
    for place, (label, name) in enumerate(zip(labels, named(labels, "the fitted learner"), strict=True)):
        found.append({"name": name, **_json_label(label, name), "count": int((examples.y == place).sum())})
    return found, examples.x[order].numpy().tobytes()


def _json_label(label: Any, name: str) -> dict[str, Any]:
    """The label of a class that is not its name, where JavaScript has it; others become their names."""
    is_number = isinstance(label, int | float) and abs(label) <= _LARGEST_NUMBER
    is_text = isinstance(label, str) and label != name
    return {"label": label} if label is None or is_number or is_text else {}


class _Features(nn.Module):
    """Maps images between 0 and 1 to features."""

    def __init__(self, algorithm: FeatureLearner, form: Form) -> None:
        super().__init__()
        self.algorithm = algorithm
        self.form = form

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.algorithm.embed(normalised(images, self.form)[None], support=0)[0]
        return features


def _backbone_graph(algorithm: FeatureLearner, learner: ClassLearner) -> bytes:
    """The backbone as ONNX, after its features were compared with PyTorch's."""
    module = _Features(algorithm, learner.form).eval()
    content: bytes = graph_of_module(module, learner, FEATURES, 1, {}).SerializeToString()
    session, random = session_of(content), torch.Generator().manual_seed(0)
    for count in _CHECKED:
        images = torch.rand(count, *learner.form.shape, generator=random)
        with torch.no_grad():
            expected = module(images)
        (found,) = session.run([FEATURES], {INPUT: images.numpy()})
        difference = float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
        if not difference <= _TOLERATED:
            raise BadInput(
                f"the ONNX graph of this {learner.name} gives other features than PyTorch (they differ by "
                f"{difference:.2g} of the largest), so no page was written: leave export out, and python -m metashot.page "
                "serves it"
            )
    return content


def _unfitted_file(learner: ClassLearner) -> bytes:
    """The file of `learner.save` without its examples and classes, which come last in it."""
    network = learner.network
    kept = {FITTED: FORMAT, "version": __version__, "config": network.config, "origin": network.origin}
    file = io.BytesIO()
    torch.save({**kept, "weights": network.weights()}, file)
    return file.getvalue()


def _write_all(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    told = {WRITTEN_BY: f"metashot {__version__}", "files": {name: _digest(content) for name, content in files.items()}}
    (folder / MARKER).write_text(json.dumps(told, indent=1))


def _stranger_in(folder: Path) -> str | None:
    """What in a folder is not an unchanged file of ours; None if all are."""
    listed = _listed_files(folder)
    if listed is None:
        return "metashot did not write it"
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                return f"metashot did not write {printable(path)}"
            inside = path.relative_to(folder).as_posix()
            if path.is_dir():
                if not any(one.startswith(f"{inside}/") for one in listed):
                    return f"metashot did not write {printable(path)}"
            elif inside != MARKER and inside not in listed:
                return f"metashot did not write {printable(path)}"
            elif inside != MARKER and _digest_of(path) != listed[inside]:
                return f"{printable(path)} was changed"
    return None


def _listed_files(folder: Path) -> dict[str, str] | None:
    """The digest of each file that the marker lists; None where there is no marker of ours."""
    marker = folder / MARKER
    try:
        if marker.is_symlink() or not marker.is_file() or marker.stat().st_size > _LARGEST_MARKER:
            return None
        told = json.loads(marker.read_bytes())
        ours = isinstance(told, dict) and str(told.get(WRITTEN_BY)).startswith("metashot ")
        return {str(name): str(digest) for name, digest in told["files"].items()} if ours else None
    except (OSError, ValueError, KeyError, AttributeError, RecursionError):
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _as_bad_input(given: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"{given} cannot be written: {error.strerror or error}; choose another out=") from error
