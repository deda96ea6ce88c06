"""The static page in a browser computes what metashot computes: pixels, features, probabilities, and files."""

import base64
import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import metashot
from metashot.applied.class_learner import ClassLearner
from metashot.applied.images import prepared
from metashot.applied.photographs import WIDE, is_photographic
from metashot.files.outputs import refuse_to_replace
from metashot.page.static import write_page
from metashot.sources.images.decoding import decode
from tests.applied.learners import drawings, tiny

from .static_sites import Site, blank_page, served
from .test_server import ODD_LABELS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

MLP = ("backbone=mlp", "backbone.hidden=[8]")
AGREEMENT = 1e-4  # of probabilities
# Each kind of head with what its checkpoint needs. The others take the exporter a second each.
HEADS = {
    "siamese": ("siamese", "algo.hidden=5", "algo.neighbours=2"),
    "matching": ("matching", "algo.temperature=0.1"),
    "euclidean": ("protonet",),
    "cosine": ("protonet", "algo.distance=cosine", "algo.normalise=l2", "algo.temperature=0.1"),
    "simpleshot": ("simpleshot",),
    "verification": ("siamese",),
    "contrastive": ("siamese", "algo.loss=contrastive", "algo.neighbours=3"),
    "triplet": ("triplet", "algo.hidden=5"),
}
FAST_HEADS = ("siamese",)


class Opened:
    """A learner, its static page, and that page in a browser."""

    def __init__(self, learner: ClassLearner, folder: Path, site: Site, asked: list[str]) -> None:
        self.learner = learner
        self.folder = folder
        self.site = site
        self.asked = asked
        self.facts = site.open()


Opener = Callable[..., Opened]


@pytest.fixture(scope="module")
def opened(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    """Opens the static page of a learner, once for all tests."""
    found: dict[str, Opened] = {}
    with ExitStack() as stack:

        def one(name: str, make: Callable[[Path], ClassLearner]) -> Opened:
            if name not in found:
                base = tmp_path_factory.mktemp("static")
                learner = make(base)
                folder = write_page(learner, str(base / "page"))
                blank_page(folder)
                address, asked = stack.enter_context(served(folder))
                context = stack.enter_context(chromium.new_context())
                found[name] = Opened(learner, folder, Site(context.new_page(), address), asked)
            return found[name]

        yield one


@pytest.fixture(scope="module")
def page(opened: Opener) -> Opened:
    """The page of the ready-made learner for drawings."""
    return opened("drawings", lambda _: metashot.load("drawings", "cpu"))  # type: ignore[return-value,arg-type]


def of_head(opened: Opener, name: str) -> Opened:
    """The page of a tiny learner with this head, which is calibrated and knows what looks familiar."""

    def make(base: Path) -> ClassLearner:
        algo, *settings = HEADS[name]
        learner = metashot.load(tiny(base, algo, "running", *MLP, *settings), "cpu", ink="bright")
        assert isinstance(learner, ClassLearner)
        algorithm: Any = learner.algorithm
        random = torch.Generator().manual_seed(0)
        classes = torch.randn(12, 1, algorithm.backbone.features, generator=random)
        items = classes + 0.5 * torch.randn(12, 30, algorithm.backbone.features, generator=random)
        algorithm.familiarity.learn(items[:6], items[6:])
        algorithm.calibration.temperature = torch.tensor(1.7)
        return learner

    return opened(name, make)


def examples(shape: tuple[int, ...], count: int, seed: int = 0) -> NDArray[np.uint8]:
    if shape[0] == 1:
        return drawings(count, seed, shape[1])[:, None]
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 3, 7, 7), dtype=np.uint8)
    return coarse.repeat(shape[1] // 7, axis=2).repeat(shape[2] // 7, axis=3)


NAMES = ["b", "ä", "a b", "😀", "Z"]


def check_answers(at: Opened, count: int = 23) -> float:
    """Compare answers with PyTorch's; their spread."""
    learner, site = at.learner, at.site
    shape = learner.form.shape
    shown, asked = examples(shape, count), examples(shape, 12, seed=1)
    labels = [place % len(NAMES) for place in range(count)]
    site.fit(shown.tobytes(), labels, NAMES)
    learner.fit_pixels(shown, [NAMES[label] for label in labels])
    order = [learner.classes_.tolist().index(name) for name in NAMES]
    expected = learner.probabilities(asked)[:, order]
    answers = site.answer(asked.tobytes(), unknown=0.2)
    found = np.array([one["probabilities"] for one in answers])
    np.testing.assert_allclose(found, expected, atol=AGREEMENT)
    assert [one["unknown"] for one in answers] == learner.unknown(asked, 0.2, False).tolist()
    assert all(one["steps"] is None for one in answers)
    return float(expected.std())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST_HEADS else pytest.mark.long) for name in HEADS]
)
def test_answers_of_each_head_are_those_of_pytorch(opened: Opener, name: str, tmp_path: Path) -> None:
    at = of_head(opened, name)
    assert check_answers(at) > 1e-3
    check_graph(at, tmp_path)
    check_saved(at, tmp_path)


def test_answers_of_the_learner_for_drawings_are_those_of_pytorch(page: Opened, tmp_path: Path) -> None:
    assert check_answers(page) > 1e-3
    check_graph(page, tmp_path)
    check_saved(page, tmp_path)


@pytest.mark.long
def test_answers_of_the_learner_for_photographs_are_those_of_pytorch(opened: Opener, tmp_path: Path) -> None:
    at = opened("photos", lambda _: metashot.load("photos", "cpu"))  # type: ignore[return-value,arg-type]
    assert check_answers(at, 10) > 1e-3
    check_graph(at, tmp_path)
    check_saved(at, tmp_path)


def check_graph(at: Opened, folder: Path) -> None:
    """The graph of the last fit answers as the page does, and is known as ours."""
    path = folder / "it.onnx"
    path.write_bytes(at.site.file("graph"))
    onnx.checker.check_model(onnx.load(path), full_check=True)
    refuse_to_replace(path)
    asked = examples(at.learner.form.shape, 7, seed=2)
    (found,) = onnxruntime.InferenceSession(path).run(["probabilities"], {"images": asked.astype(np.float32) / 255})
    np.testing.assert_allclose(found, at.learner.probabilities(asked), atol=AGREEMENT)
    told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(told["classes"]) == at.learner.classes_.tolist()
    assert json.loads(told["input"])["height"] == at.learner.form.shape[1]
    assert (told["algorithm"], told["metashot"]) == (at.learner.name, metashot.__version__)


def check_saved(at: Opened, folder: Path) -> None:
    """The file of the last fit answers as before in PyTorch, and the page reads what either of them saves."""
    path = folder / "of page.fewshot"
    path.write_bytes(at.site.file("save"))
    loaded = metashot.load_fitted(path, "cpu")
    assert isinstance(loaded, ClassLearner)
    refuse_to_replace(path)
    assert loaded.classes_.tolist() == at.learner.classes_.tolist()
    asked = examples(at.learner.form.shape, 7, seed=2)
    np.testing.assert_array_equal(loaded.probabilities(asked), at.learner.probabilities(asked))
    at.learner.save(folder / "of metashot.fewshot")
    kept = at.learner.examples
    for name in ("of page", "of metashot"):
        classes = at.site.load((folder / f"{name}.fewshot").read_bytes())
        assert [one["name"] for one in classes] == at.learner.classes_.tolist()
        for place, one in enumerate(classes):
            pixels = [base64.b64decode(item) for item in one["items"]]
            assert pixels == [image.tobytes() for image in kept.x[kept.y == place].numpy()]


def test_nearest_examples_are_those_with_the_largest_cosines(page: Opened) -> None:
    shown, asked = examples((1, 28, 28), 9), examples((1, 28, 28), 3, seed=4)
    page.site.fit(shown.tobytes(), [0, 0, 0, 0, 1, 1, 1, 2, 2], ["a", "b", "c"])
    algorithm: Any = page.learner.algorithm
    with torch.no_grad():
        features = [algorithm.embed(torch.from_numpy(x / 255).float()[None], support=0)[0] for x in (shown, asked)]
    cosines = torch.nn.functional.normalize(features[1], dim=-1) @ torch.nn.functional.normalize(features[0], dim=-1).T
    for answer, row in zip(page.site.answer(asked.tobytes()), cosines, strict=True):
        order = row.argsort(descending=True)[:5].tolist()
        starts = [0, 4, 7]
        assert [starts[one["class"]] + one["example"] for one in answer["near"]] == order
        np.testing.assert_allclose([one["similarity"] for one in answer["near"]], row[order], atol=1e-5)
        assert answer["unknown"] is None


def file_of(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def noise(width: int, height: int, mode: str, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 256, (height, width, 4), dtype=np.uint8))
    return image.convert(mode) if mode in ("RGBA", "LA") else image.convert("RGB").convert(mode)


def check_item(at: Opened, content: bytes, folder: Path, name: str = "it.png", apart: int = 0) -> None:
    (folder / name).write_bytes(content)
    expected, found = prepared(folder / name, name, at.learner.form), at.site.prepare(content, name)
    assert "pixels" in found, found
    pixels = np.frombuffer(found["pixels"], np.uint8).astype(int)
    assert np.abs(pixels - expected.pixels.ravel()).max() <= apart
    assert (found["inverted"], found["remark"]) == (expected.was_inverted, expected.remark)
    assert found["photographic"] == expected.is_photographic


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_pixels_of_png_files_are_those_of_pillow(page: Opened, tmp_path: Path, mode: str) -> None:
    for width, height in [(28, 28), (100, 80), (37, 91), (300, 211), (5, 9), (28, 60), (60, 28), (1, 1), (500, 3), (3, 700)]:
        check_item(page, file_of(noise(width, height, mode)), tmp_path)


def test_transparent_palettes_and_colours_are_shown_on_white(page: Opened, tmp_path: Path) -> None:
    check_item(page, file_of(noise(50, 40, "RGB").quantize(16), transparency=3), tmp_path)
    check_item(page, file_of(noise(50, 40, "L").point(lambda value: value // 64 * 64), transparency=64), tmp_path)
    steps = np.zeros((256, 256, 4), np.uint8)  # each value at each opacity
    steps[..., 3], steps[..., :3] = np.arange(256)[:, None], np.arange(256)[None, :, None]
    check_item(page, file_of(Image.fromarray(steps)), tmp_path)


def test_grey_values_of_16_bits_are_rounded(page: Opened, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for width, height in ((28, 28), (61, 35)):
        values = random.integers(0, 65536, (height, width), dtype=np.uint16)
        values[:20] = values[:20] // 16384 * 16384
        values[5:10, :] = np.arange(width)[None] * 300  # for which Pillow chooses other filters of rows
        for options in ({}, {"transparency": 16384}):
            check_item(page, file_of(Image.fromarray(values), **options), tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    check_item(page, file_of(Image.fromarray(values), exif=exif), tmp_path)
    cut = file_of(Image.fromarray(values))
    assert page.site.prepare(cut[: len(cut) // 2])["code"] == "unreadable"


def test_all_fits_and_filters_are_those_of_metashot(page: Opened) -> None:
    for fit in ("squash", "crop", "pad"):
        for enlarging in ("lanczos", "bicubic"):
            for shape in ((1, 28, 28), (3, 20, 33)):
                for width, height in [(64, 48), (31, 90), (10, 7), (33, 20), (20, 33), (7, 41), (5, 5)]:
                    content = file_of(noise(width, height, "RGB"))
                    expected = decode(content, "it", shape, fit, enlarging=enlarging)  # type: ignore[arg-type]
                    form = {"shape": shape, "fit": fit, "enlarging": enlarging, "inverted": "never", "of_drawings": False}
                    found = page.site.page.evaluate(
                        """async ([text, form]) => {
                          const { itemOf } = await import("/browser/images.js");
                          const learner = await (await fetch("/learner/learner.json")).json();
                          const item = await itemOf(new Blob([bytesOf(text)]), "it", { ...learner.form, ...form });
                          return textOf(item.pixels);
                        }""",
                        [base64.b64encode(content).decode(), form],
                    )
                    assert base64.b64decode(found) == expected.pixels.tobytes(), (fit, enlarging, shape, width, height)


@pytest.mark.parametrize("turn", range(1, 9))
def test_images_are_turned_upright_by_their_exif_data(page: Opened, tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    image = noise(61, 43, "RGB")
    image.paste((0, 0, 0), (0, 0, 30, 10))
    check_item(page, file_of(image, exif=exif), tmp_path)
    check_item(page, file_of(image, "WEBP", exif=exif, lossless=True), tmp_path, "it.webp")
    smooth = noise(5, 4, "RGB").resize((61, 43), Image.Resampling.BICUBIC)
    check_item(page, file_of(smooth, "JPEG", exif=exif, quality=95, subsampling=0), tmp_path, "it.jpg", apart=4)


def test_other_formats_give_nearly_the_same_pixels(page: Opened, tmp_path: Path) -> None:
    image = noise(50, 40, "RGB")
    for format in ("BMP", "GIF", "WEBP"):
        options = {"lossless": True} if format == "WEBP" else {}
        check_item(page, file_of(image, format, **options), tmp_path, f"it.{format.lower()}")
    frames = [noise(50, 40, "P", seed) for seed in range(3)]
    for format in ("GIF", "PNG", "WEBP"):
        options = {"save_all": True, "append_images": frames[1:], "duration": 50}
        content = file_of(frames[0].convert("RGB"), format, **options | ({"lossless": True} if format == "WEBP" else {}))
        assert page.site.prepare(content)["remark"] == "animated: its first frame is used"
    check_item(page, file_of(noise(5, 4, "RGB").resize((90, 60)).convert("CMYK"), "JPEG"), tmp_path, "it.jpg", apart=8)


def test_photographs_are_told_from_drawings_as_metashot_tells_them(page: Opened) -> None:
    random, images = np.random.default_rng(0), []
    for number in range(150):
        kind = number % 5
        coarse = random.integers(0, 256, (int(random.integers(2, 30)),) * 2 + (3,), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(coarse).resize((WIDE, WIDE), Image.Resampling.BICUBIC))
        stroke = drawings(1, number, WIDE)[0][..., None].repeat(3, 2)
        if kind == 1:
            picture = 255 - stroke // int(random.integers(1, 3))
        if kind == 2:  # uneven light, and ink of one colour
            light = np.linspace(120, 255, WIDE)[None, :, None] * np.ones((WIDE, 1, 3))
            picture = (light * np.where(stroke > 0, random.uniform(0, 1, 3), 1)).astype(np.uint8)
        if kind == 3:  # something on a plain ground
            margin, ground = int(random.integers(1, 45)), random.integers(0, 256, 3)
            framed = np.tile(ground.astype(np.uint8), (WIDE, WIDE, 1))
            framed[margin:-margin, margin : -margin - 3] = picture[margin:-margin, margin : -margin - 3]
            picture = framed
        if kind == 4:
            picture = picture.mean(2, keepdims=True).repeat(3, 2).astype(np.uint8)
        images.append(np.ascontiguousarray(picture))
    sides = [int(side) for side in random.choice([10, 25, 80, 300], len(images))]
    found = page.site.page.evaluate(
        """async ([texts, sides]) => {
          const { isPhotographic } = await import("/browser/photographs.js");
          const { form } = await (await fetch("/learner/learner.json")).json();
          return texts.map((text, place) => isPhotographic(bytesOf(text), sides[place], form.down_first));
        }""",
        [[base64.b64encode(image.tobytes()).decode() for image in images], sides],
    )
    expected = [is_photographic(np.moveaxis(image, -1, 0), side) for image, side in zip(images, sides, strict=True)]
    assert found == expected
    assert 20 < sum(expected) < 130


def png_head(width: int, height: int) -> bytes:
    """A PNG that claims a size, without pixels."""
    part = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0d" + part + zlib.crc32(part).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("content", "code", "word"),
    [
        (b"", "unreadable", "empty"),
        (b"no image", "unreadable", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unreadable", "not an image"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "unreadable", "HEIC"),
        (png_head(20, 20), "unreadable", "damaged"),
        (png_head(0, 20), "unreadable", "damaged"),
        (png_head(14_000, 14_000), "too_large", "too many pixels"),
        (png_head(70_000, 10), "too_large", "65,535"),
        (file_of(noise(90, 90, "RGB"))[:5000], "unreadable", "damaged"),
    ],
)
def test_files_that_are_no_usable_images_are_refused(page: Opened, content: bytes, code: str, word: str) -> None:
    found = page.site.prepare(content, "some file")
    assert (found.get("code"), found.get("name")) == (code, "PageError"), found
    assert "some file" in found["message"]
    assert word in found["message"]


@pytest.mark.long
def test_an_image_of_100_megapixels_is_read_in_strips(page: Opened, tmp_path: Path) -> None:
    image = Image.new("L", (10_000, 10_000), 255)
    image.paste(0, (1000, 2000, 9000, 7000))
    check_item(page, file_of(image), tmp_path)


def test_two_hundred_classes_and_a_thousand_examples_can_be_learned(page: Opened) -> None:
    shown, labels = examples((1, 28, 28), 1000, seed=50), [place % 200 for place in range(1000)]
    page.site.page.evaluate("() => { window.told = []; backend.progress = (...numbers) => told.push(numbers); }")
    page.site.fit(shown.tobytes(), labels, [f"class {place:03d}" for place in range(200)])
    told = page.site.page.evaluate("() => { backend.progress = null; return told; }")
    different = len({image.tobytes() for image in shown})
    assert len(told) > 10
    assert told[-1] == [different, different]
    page.learner.fit_pixels(shown, [f"class {label:03d}" for label in labels])
    asked = examples((1, 28, 28), 5, seed=9)
    found = [one["probabilities"] for one in page.site.answer(asked.tobytes())]
    np.testing.assert_allclose(found, page.learner.probabilities(asked), atol=AGREEMENT)
    page.site.page.evaluate("() => { window.told = []; backend.progress = (...numbers) => told.push(numbers); }")
    more = np.concatenate([shown, examples((1, 28, 28), 1, seed=77)])
    page.site.fit(more.tobytes(), [*labels, 0], [f"class {place:03d}" for place in range(200)])
    assert page.site.page.evaluate("() => { backend.progress = null; return told; }") == [[1, 1]]  # one image was embedded


def test_labels_that_are_no_text_are_saved_as_what_they_are(page: Opened, tmp_path: Path) -> None:
    labels = [10, 9, 2]
    page.site.fit(examples((1, 28, 28), 6).tobytes(), [0, 0, 1, 1, 2, 2], labels)
    (tmp_path / "it.fewshot").write_bytes(page.site.file("save"))
    assert metashot.load_fitted(tmp_path / "it.fewshot", "cpu").classes_.tolist() == [2, 9, 10]
    loaded = page.site.load((tmp_path / "it.fewshot").read_bytes())
    assert [(one["name"], one["label"]) for one in loaded] == [("2", 2), ("9", 9), ("10", 10)]
    for given in ([1.0, 2.5], [(1, "x"), (1, "y")], [True, False], [None, "None of it"]):
        shown = drawings(2)
        page.learner.fit(shown, given).save(tmp_path / "other.fewshot")
        classes = page.site.load((tmp_path / "other.fewshot").read_bytes())
        assert [one["name"] for one in classes] == [str(label) for label in page.learner.classes_.tolist()]


@pytest.mark.parametrize("labels", ODD_LABELS, ids=str)
def test_labels_stay_what_they_are_between_loading_and_saving(page: Opened, tmp_path: Path, labels: list[Any]) -> None:
    page.learner.fit(drawings(len(labels)), labels).save(tmp_path / "it.fewshot")
    content = base64.b64encode((tmp_path / "it.fewshot").read_bytes()).decode()
    again = page.site.page.evaluate(
        """async (content) => {
          await backend.fit(await backend.load(new Blob([bytesOf(content)]), "it.fewshot"));
          return resultOf(await backend.save());
        }""",
        content,
    )
    (tmp_path / "again.fewshot").write_bytes(base64.b64decode(again))
    found = metashot.load_fitted(tmp_path / "again.fewshot", "cpu").classes_.tolist()
    expected = page.learner.classes_.tolist()
    assert sorted((type(label).__name__, repr(label)) for label in found) == sorted(
        (type(label).__name__, repr(label)) for label in expected
    )


def test_files_that_are_no_fitted_learner_of_this_page_are_refused(page: Opened, opened: Opener, tmp_path: Path) -> None:
    page.learner.fit(drawings(4), ["a", "b"] * 2).save(tmp_path / "good.fewshot")
    good = (tmp_path / "good.fewshot").read_bytes()
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))

    def changed(more: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", compression) as archive:
            for name, content in {**members, **more}.items():
                archive.writestr(name, content)
        return file.getvalue()

    def refused(content: bytes, *words: str) -> None:
        found = page.site.load(content, "its name")
        assert isinstance(found, dict), found
        assert (found["code"], found["name"]) == ("bad_input", "PageError"), found
        for word in ("its name", *words):
            assert word in found["message"], found

    assert isinstance(page.site.load(changed({})), list)
    refused(b"", "no archive")
    refused(good[:-100], "damaged")
    seen = good.index(drawings(4)[0].tobytes())
    refused(good[:seen] + bytes(200) + good[seen + 200 :], "does not match its checksum")
    refused(changed({}, zipfile.ZIP_DEFLATED), "compressed")
    refused(changed({pickled: pickle.dumps(print, 2)}), "it names", "print")
    refused(changed({pickled: b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR."}), "os.system")
    refused(changed({pickled: b"\x80\x02}."}), "not a fitted learner")
    refused(changed({pickled: b"\x80\x02" + b"]q\x00h\x00a" + b"."}))
    refused(changed({pickled: b"\x80\x02" + b"]" * 1000 + b"a" * 999 + b"."}), "more values")
    refused(changed({pickled: b"\x80\x02X\xff\xff\xff\xff"}), "cut off")
    refused(changed({pickled: pickle.dumps({"metashot_fitted": 1, "x": [], "y": []}, 2)}), "another learner")
    weights = max((name for name in members if "/data/" in name), key=lambda name: len(members[name]))
    refused(changed({weights: bytes(len(members[weights]))}), "another learner", "weights")
    refused((Path(metashot.__file__).parent / "learners" / "drawings.ckpt").read_bytes(), "checkpoint")
    other = metashot.load(tiny(tmp_path, "protonet", "running", *MLP), "cpu").fit(drawings(4), ["a", "b"] * 2)
    other.save(tmp_path / "other.fewshot")
    refused((tmp_path / "other.fewshot").read_bytes(), "another learner", "settings")
    places = next(name for name in members if "/data/" in name and members[name] == np.array([0, 0, 1, 1]).tobytes())
    for broken in ([0, 0, 0, 0], [0, 0, 1, 7], [0, 0, 1, -1]):
        refused(changed({places: np.array(broken).tobytes()}), "damaged")


def test_unusable_fits_are_refused(page: Opened) -> None:
    found = page.site.page.evaluate(
        """async () => {
          const [item] = itemsOf(textOf(new Uint8Array(784)), [1, 28, 28]);
          const fit = (...classes) => caught(() => backend.fit(classes));
          const many = Array.from({ length: 1001 }, (_, place) => ({ name: String(place), items: [item] }));
          return [
            await fit({ name: "a", items: [item] }),
            await fit({ name: "a", items: [item] }, { name: "b", items: [] }),
            await fit({ name: "a", items: [item] }, { name: "a", items: [item] }),
            await fit(...many),
            await fit({ name: "a", items: Array(10000).fill(item) }, { name: "b", items: [item] }),
            await caught(() => backend.prepare({ size: 65 * 2 ** 20 }, "large")),
          ];
        }"""
    )
    assert [one["code"] for one in found] == ["bad_input"] * 3 + ["too_large"] * 3


def test_nothing_is_asked_of_others_and_the_page_works_without_a_network(page: Opened, chromium: Any) -> None:
    context = chromium.new_context()
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    tab = context.new_page()
    refused: list[str] = []
    tab.on("console", lambda message: refused.append(message.text) if "Security Policy" in message.text else None)
    site = Site(tab, page.site.address)
    site.open()
    context.set_offline(True)
    before = len(asked)
    shown = examples((1, 28, 28), 6)
    site.fit(shown.tobytes(), [0, 0, 1, 1, 2, 2], ["a", "b", "c"])
    assert len(site.answer(shown.tobytes(), 0.05)) == 6
    assert "pixels" in site.prepare(file_of(noise(40, 40, "L")))
    assert site.load(site.file("save"))[0]["name"] == "a"
    site.fit(shown.tobytes(), [0, 0, 1, 1, 2, 2], ["a", "b", "c"])
    assert site.file("graph")
    assert all(url.startswith((page.site.address, "blob:")) for url in asked)
    assert not [url for url in asked[before:] if url.startswith("http")]
    assert not refused
    context.close()


def test_a_fitted_learner_gives_the_classes_that_the_page_begins_with(opened: Opener) -> None:
    images = drawings(5)

    def make(base: Path) -> ClassLearner:
        learner = metashot.load(tiny(base, "protonet", "running", *MLP), "cpu")
        learner.fit(images, [3, "b", 3, "b", 3])
        learner.save(base / "it.fewshot")
        return metashot.load_fitted(base / "it.fewshot", "cpu")  # type: ignore[return-value]

    at = opened("fitted", make)
    assert [(one["name"], len(one["items"])) for one in at.facts["classes"]] == [("3", 3), ("b", 2)]
    assert at.facts["classes"][0]["label"] == 3
    assert "label" not in at.facts["classes"][1]
    text = at.site.page.evaluate("() => textOf(backend.facts.classes[1].items[1].pixels)")
    assert base64.b64decode(text) == images[3].tobytes()
    assert at.facts["of_drawings"]
    assert at.facts["unknown"] is False
    error = at.site.page.evaluate(
        """async () => {
          await backend.fit(backend.facts.classes);
          return caught(() => backend.answer(backend.facts.classes[0].items, { unknown: 0.05 }));
        }"""
    )
    assert error["code"] == "unavailable"


def test_words_are_there_in_both_languages(page: Opened) -> None:
    used = page.site.page.evaluate(
        """async () => {
          const { WORDS, say } = await import("/browser/words.js");
          document.documentElement.lang = "zh-CN";
          const chinese = say("browser.no_fit");
          document.documentElement.lang = "en";
          return [Object.keys(WORDS.en), Object.keys(WORDS.zh), chinese, say("browser.no_fit")];
        }"""
    )
    assert used[0] == used[1]
    assert used[2] != used[3]
