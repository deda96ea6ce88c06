"""Images of every kind become the pixels that a learner was trained on, in the polarity that it knows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from metashot.applied.images import Form, Inverted, all_prepared, form_of, prepared
from metashot.bad_input import BadInput
from metashot.data.presentation.augmentation import Augmentation
from metashot.data.presentation.pixels import Pixels

GREY = np.linspace(0, 255, 60, dtype=np.uint8).reshape(6, 10)
COLOURS = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


def form(channels: int = 1, height: int = 6, width: int = 10, inverted: Inverted = "never") -> Form:
    return Form((channels, height, width), "squash", inverted, None, None)


def luminance(colours: Any) -> Any:
    """As ITU-R 601 has it."""
    return np.rint(np.asarray(colours, np.float64) @ [0.299, 0.587, 0.114])


KINDS = {
    "array": GREY,
    "array with a channel": GREY[..., None],
    "tensor": torch.from_numpy(GREY),
    "tensor with a channel": torch.from_numpy(GREY)[None],
    "floats": GREY / 255,
    "tensor of floats with a gradient": (torch.from_numpy(GREY) / 255).requires_grad_(),
    "half precision": (torch.from_numpy(GREY).double() / 255),
    "whole numbers": GREY.astype(np.int64),
    "not contiguous": np.repeat(GREY, 2, axis=1)[:, ::2],
    "L": Image.fromarray(GREY),
    "three equal channels": np.repeat(GREY[..., None], 3, axis=2),
    "opaque RGBA": np.concatenate([np.repeat(GREY[..., None], 3, axis=2), np.full((6, 10, 1), 255, np.uint8)], axis=2),
    "I;16": Image.fromarray(GREY.astype(np.uint16) * 257),
    "LA": Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (10, 6), 255)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_has_the_same_pixels_in_every_form(kind: str) -> None:
    np.testing.assert_array_equal(prepared(KINDS[kind], "it", form()).pixels[0], GREY)
    three = prepared(KINDS[kind], "it", form(channels=3)).pixels
    np.testing.assert_array_equal(three, np.stack([GREY] * 3))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "YCbCr", "HSV"])
def test_colours_become_luminance_or_stay(mode: str) -> None:
    image = Image.fromarray(COLOURS).convert(mode)
    shown = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(prepared(image, "it", form(channels=3)).pixels, shown.transpose(2, 0, 1))
    np.testing.assert_allclose(prepared(image, "it", form()).pixels[0], luminance(shown), atol=1)
    assert image.mode == mode


def test_files_and_images_of_pillow_are_the_same(tmp_path: Path) -> None:
    for name, image in (
        ("a.png", Image.fromarray(COLOURS)),
        ("b.tif", Image.fromarray(GREY)),
        ("c.bmp", Image.new("1", (5, 4))),
    ):
        image.save(tmp_path / name)
        from_file = prepared(tmp_path / name, "it", form(3, 4, 4)).pixels
        np.testing.assert_array_equal(prepared(Image.open(tmp_path / name), "it", form(3, 4, 4)).pixels, from_file)
        np.testing.assert_array_equal(prepared(str(tmp_path / name), "it", form(3, 4, 4)).pixels, from_file)


def test_image_is_upright_and_shown_on_white(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(GREY).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(prepared(Image.open(tmp_path / "turned.png"), "it", form()).pixels[0], GREY[::-1, ::-1])
    clear = np.zeros((6, 10, 4), np.uint8)
    assert (prepared(clear, "it", form()).pixels == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (84, 84), (500, 11)])
def test_every_size_is_brought_to_that_of_training(size: tuple[int, int]) -> None:
    found = prepared(np.full(size, 77, np.uint8), "it", form(3, 28, 32)).pixels
    assert found.shape == (3, 28, 32)
    assert (found == 77).all()


def test_images_of_all_kinds_can_be_given_together(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    found = all_prepared(
        [tmp_path / "a.png", str(tmp_path / "a.png"), GREY, torch.from_numpy(GREY)[None], Image.fromarray(GREY)], form()
    )
    np.testing.assert_array_equal(found, np.broadcast_to(GREY, (5, 1, 6, 10)))
    paths = np.array([str(tmp_path / "a.png")] * 2)
    np.testing.assert_array_equal(all_prepared(paths, form()), found[:2])


@pytest.mark.parametrize(
    "batch",
    [
        np.stack([GREY, GREY]),
        np.stack([GREY, GREY])[..., None],
        np.stack([COLOURS[..., :1]] * 2),
        torch.from_numpy(np.stack([GREY, GREY])),
        torch.from_numpy(np.stack([GREY, GREY]))[:, None] / 255,
    ],
)
def test_array_of_images_is_as_many_images(batch: Any) -> None:
    np.testing.assert_array_equal(all_prepared(batch, form()), np.broadcast_to(GREY, (2, 1, 6, 10)))


def test_binary_images_are_black_and_white() -> None:
    found = all_prepared(np.stack([GREY > 100, GREY > 200]), form())
    np.testing.assert_array_equal(found[:, 0], np.stack([GREY > 100, GREY > 200]) * 255)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([GREY / 16], ("image 0", "floats from 0 to 15.9", "between 0 and 1", "divide")),
        (np.stack([GREY, GREY]) / 16, ("floats from 0 to 15.9",)),
        ([GREY * float("nan")], ("image 0", "nan")),
        ([GREY.astype(int) + 1], ("from 1 to 256", "between 0 and 255")),
        ([GREY - 1.0], ("from -1 to 254",)),
        ([GREY.astype(complex)], ("complex128",)),
        ([np.zeros((2, 2, 2), np.uint8)], ("image 0", "(2, 2, 2)", "1, 3 or 4 channels")),
        ([torch.zeros(2, 4, 4)], ("(2, 4, 4)", "[channels, height, width]")),
        ([np.zeros((0, 4), np.uint8)], ("no pixels",)),
        ([[[1, 2]]], ("image 0 is list",)),
        ([None], ("image 0 is NoneType",)),
        ([GREY, "not there.png"], ("not there.png", "cannot be read")),
        ([b"bytes"], ("image 0 is bytes",)),
        ("one.png", ("one image was given", "[image]")),
        (Image.fromarray(GREY), ("one image was given",)),
        (COLOURS, ("(6, 10, 3)", "may be one image")),
        (torch.zeros(3, 6, 10), ("(3, 6, 10)", "may be one image")),
        (np.zeros((50, 64)), ("(50, 64)", "reshape")),
        (np.zeros((2, 3, 28, 28), np.uint8), ("channels before height",)),
        (torch.zeros(2, 28, 28, 3), ("[images, channels, height, width]",)),
        ({"a": GREY}, ("images=dict",)),
        (5, ("images=int",)),
        ([], ("no images were given",)),
    ],
)
def test_what_is_no_image_is_refused_and_named(images: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as caught:
        all_prepared(images, form())
    for word in words:
        assert word in str(caught.value), caught.value


def test_damaged_file_is_named(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).resize((99, 99)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:90])
    with pytest.raises(BadInput, match=r"cut\.png: is cut off or damaged"):
        all_prepared([GREY, tmp_path / "cut.png"], form())
    with pytest.raises(BadInput, match="image 1: cannot be used"):
        all_prepared([GREY, Image.open(tmp_path / "cut.png")], form())


DARK_INK = np.full((6, 10), 255, np.uint8)
DARK_INK[2:4, 3:7] = 0


def test_drawings_get_bright_ink_whatever_they_had() -> None:
    bright = form(inverted="on bright ground")
    for given in (DARK_INK, 255 - DARK_INK):
        np.testing.assert_array_equal(prepared(given, "it", bright).pixels[0], 255 - DARK_INK)
    for shade, inverted in ((127, False), (128, True)):  # the middle of the image does not count
        given = np.full((6, 10), shade, np.uint8)
        given[1:-1, 1:-1] = 255 - shade
        assert prepared(given, "it", bright).was_inverted is inverted
    tall = np.zeros((20, 4), np.uint8)
    tall[:, [0, -1]] = 255  # all four sides count, each pixel once
    assert prepared(tall, "it", form(1, 20, 4, "on bright ground")).was_inverted
    assert prepared(tall.T, "it", form(1, 4, 20, "on bright ground")).was_inverted


def test_ink_that_is_told_is_believed() -> None:
    for given in (DARK_INK, 255 - DARK_INK):
        np.testing.assert_array_equal(prepared(given, "it", form(inverted="always")).pixels[0], 255 - given)
        np.testing.assert_array_equal(prepared(given, "it", form(inverted="never")).pixels[0], given)


ORIGIN = {"name": "it", "input_shape": [1, 28, 28], "mean": None, "std": None}


def config(kind: str, **settings: Any) -> dict[str, Any]:
    return {"data": {"source": {"_target_": f"metashot.sources.images.{kind}", **settings}}}


def test_only_learners_of_drawings_invert() -> None:
    for kind in ("glyphs.Glyphs", "omniglot.Omniglot"):
        inks = {ink: form_of(config(kind), ORIGIN, ink).inverted for ink in ("auto", "dark", "bright")}  # type: ignore[arg-type]
        assert inks == {"auto": "on bright ground", "dark": "always", "bright": "never"}
    photographs = config("folder.OwnImages", fit="crop")
    assert form_of(photographs, ORIGIN, "auto") == Form((1, 28, 28), "crop", "never", None, None)
    with pytest.raises(BadInput, match="ink=dark is for learners"):
        form_of(photographs, ORIGIN, "dark")


def test_small_images_are_enlarged_as_the_training_images_were() -> None:
    origin = {"name": "it", "input_shape": [3, 40, 24], "mean": None, "std": None, "interpolation": "bicubic"}
    presented = Pixels(Augmentation(0, 0.0, 0.0, 0.0, 0.0, 0.0, "none"), mean=None, std=None)
    presented.expect((3, 6, 10))
    presented.look_like(origin, "it")
    items = torch.from_numpy(COLOURS.transpose(2, 0, 1).copy())[None, None]
    expected = presented.inputs(presented.values(items))[0, 0]
    own = form_of(config("cifarfs.CifarFS"), origin, "auto")
    for given in (COLOURS, Image.fromarray(COLOURS)):
        found = prepared(given, "it", own).pixels / 255
        assert np.abs(found - expected.numpy()).max() < 1.01 / 255  # Pillow rounds after each axis
    larger = Image.fromarray(COLOURS).resize((50, 90))
    lanczos = np.asarray(larger.resize((24, 40), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    np.testing.assert_array_equal(prepared(larger, "it", own).pixels, lanczos)


@pytest.mark.parametrize(
    "given",
    [
        torch.zeros(1, 3, 9, 9, device="meta"),
        torch.eye(9).expand(2, 9, 9).to_sparse(),
        torch.zeros(1, 3, 9, 9).to(torch.float8_e4m3fn),
        torch.quantize_per_tensor(torch.rand(2, 9, 9), 0.1, 0, torch.quint8),
        torch.nested.nested_tensor([torch.zeros(3, 3), torch.zeros(2, 2)]),
        np.array("a.png"),
        np.array(None),
    ],
    ids=["meta", "sparse", "float8", "quantised", "nested", "a text", "None"],
)
def test_arrays_and_tensors_that_hold_no_images_are_refused(given: Any) -> None:
    with pytest.raises(BadInput, match=r"cannot be used|allowed"):
        all_prepared(given, form())


def test_lazy_negatives_are_images() -> None:
    given = torch.full((2, 6, 10), 0.5 - 0.25j).conj().imag
    assert given.is_neg()
    np.testing.assert_array_equal(all_prepared(given, form()), np.full((2, 1, 6, 10), 64))
