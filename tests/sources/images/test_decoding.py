"""Promises of the decoder: right pixels for every kind of image, one exception for every kind of damage."""

import io
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from metashot.bad_input import BadInput
from metashot.sources.images.decoding import Fit, Unreadable, convert, decode

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=-1)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ANIMATED, PAGES = "animated: its first frame is used", "several pages: its first page is used"
SIXTEEN, TRANSPARENT = "16 bits a channel: scaled to 8", "transparent: shown on white"


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def raw_png(width: int, height: int, depth: int, colour: int, rows: list[bytes], transparent: bytes = b"") -> bytes:
    """A PNG of a kind that Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return (
        b"\x89PNG\r\n\x1a\n" + header + (chunk(b"tRNS", transparent) if transparent else b"") + pixels + chunk(b"IEND", b"")
    )


def as_stored(content: bytes, channels: int = 3) -> tuple[NDArray[np.uint8], str | None]:
    """[height, width, channels] without any resizing, and the remark."""
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    decoded = decode(content, "it", (channels, height, width), "squash")
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.shape == (channels, height, width)
    return decoded.pixels.transpose(1, 2, 0), decoded.remark


def grey_three_times(values: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(values[..., None], 3, axis=-1)


def palette_image(alpha: bytes | int | None) -> bytes:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    return saved(image, "PNG", **({} if alpha is None else {"transparency": alpha}))


def one_colour(mode: str, colour: Any, format: str, **options: Any) -> bytes:
    return saved(Image.new(mode, (8, 8), colour), format, **options)


EXACT: dict[str, tuple[bytes, NDArray[Any], str | None]] = {
    "RGB": (saved(Image.fromarray(COLOURS), "PNG"), COLOURS, None),
    "grey": (saved(Image.fromarray(RAMP), "PNG"), grey_three_times(RAMP), None),
    "1 bit": (saved(Image.fromarray(RAMP > 99), "PNG"), grey_three_times((RAMP > 99) * 255), None),
    "1 bit TIFF": (
        saved(Image.fromarray(RAMP > 99), "TIFF", compression="group4"),
        grey_three_times((RAMP > 99) * 255),
        None,
    ),
    "BMP": (saved(Image.fromarray(COLOURS), "BMP"), COLOURS, None),
    "TIFF": (saved(Image.fromarray(COLOURS), "TIFF", compression="tiff_lzw"), COLOURS, None),
    "WebP": (saved(Image.fromarray(COLOURS), "WEBP", lossless=True), COLOURS, None),
    "PPM": (saved(Image.fromarray(COLOURS), "PPM"), COLOURS, None),
    "TGA": (saved(Image.fromarray(COLOURS), "TGA"), COLOURS, None),
    "JPEG 2000": (saved(Image.fromarray(COLOURS), "JPEG2000", irreversible=False), COLOURS, None),
    "GIF": (saved(Image.fromarray(RAMP), "GIF"), grey_three_times(RAMP), None),
    "palette": (palette_image(None), np.array([[RED, GREEN, BLUE]]), None),
    "palette, one transparent": (palette_image(1), np.array([[RED, WHITE, BLUE]]), TRANSPARENT),
    "palette with alpha": (palette_image(bytes([255, 128, 0])), np.array([[RED, (127, 255, 127), WHITE]]), TRANSPARENT),
    "palette, all opaque": (palette_image(bytes([255, 255, 255])), np.array([[RED, GREEN, BLUE]]), None),
    "RGBA": (
        raw_png(3, 1, 8, 6, [bytes([*RED, 255, *GREEN, 128, *BLUE, 0])]),
        np.array([[RED, (127, 255, 127), WHITE]]),
        TRANSPARENT,
    ),
    "RGBA, all opaque": (one_colour("RGBA", (1, 2, 3, 255), "PNG"), np.full((8, 8, 3), (1, 2, 3)), None),
    "grey and alpha": (raw_png(2, 1, 8, 4, [bytes([9, 255, 0, 0])]), grey_three_times(np.array([[9, 255]])), TRANSPARENT),
    "grey, one transparent": (
        saved(Image.fromarray(RAMP), "PNG", transparency=7),
        grey_three_times(np.where(RAMP == 7, 255, RAMP)),
        TRANSPARENT,
    ),
    "RGB, one transparent": (one_colour("RGB", RED, "PNG", transparency=RED), np.full((8, 8, 3), 255), TRANSPARENT),
    "RGB, absent transparent": (one_colour("RGB", RED, "PNG", transparency=BLUE), np.full((8, 8, 3), RED), None),
    "2 bits, one transparent": (
        raw_png(4, 1, 2, 0, [bytes([0b00011011])], struct.pack(">H", 1)),
        grey_three_times(np.array([[0, 255, 170, 255]])),
        TRANSPARENT,
    ),
    "4 bits, one transparent": (
        raw_png(4, 1, 4, 0, [bytes([0x02, 0x3F])], struct.pack(">H", 2)),
        grey_three_times(np.array([[0, 255, 51, 255]])),
        TRANSPARENT,
    ),
    "16 bits": (saved(Image.fromarray(RAMP.astype(np.uint16) * 257), "PNG"), grey_three_times(RAMP), SIXTEEN),
    "16 bits, rounded": (
        saved(Image.fromarray(np.array([[0, 128, 129, 65535 - 129, 65535 - 128]], dtype=np.uint16)), "PNG"),
        grey_three_times(np.array([[0, 0, 1, 254, 255]])),
        SIXTEEN,
    ),
    "16 bits, one transparent": (
        raw_png(2, 1, 16, 0, [struct.pack(">2H", 257, 514)], struct.pack(">H", 257)),
        grey_three_times(np.array([[255, 2]])),
        f"{SIXTEEN}; {TRANSPARENT}",
    ),
    "16 bits TIFF": (saved(Image.fromarray(RAMP.astype(np.uint16) * 257), "TIFF"), grey_three_times(RAMP), SIXTEEN),
    "16 bits big-endian TIFF": (
        saved(Image.frombytes("I;16B", (16, 16), (RAMP.astype(">u2") * 257).tobytes()), "TIFF"),
        grey_three_times(RAMP),
        SIXTEEN,
    ),
    "16 bits PGM": (
        b"P5 16 16 65535\n" + (RAMP.astype(np.uint16) * 257).astype(">u2").tobytes(),
        grey_three_times(RAMP),
        SIXTEEN,
    ),
    "16 bits RGB": (
        raw_png(2, 1, 16, 2, [struct.pack(">6H", 0, 257 * 9, 65535, 257 * 200, 0, 0)]),
        np.array([[(0, 9, 255), (200, 0, 0)]]),
        SIXTEEN,
    ),
    "16 bits RGB, one transparent": (
        raw_png(2, 1, 16, 2, [struct.pack(">6H", 5, 3000, 65500, 0, 0, 0)], struct.pack(">3H", 5, 3000, 65500)),
        np.array([[WHITE, (0, 0, 0)]]),
        f"{SIXTEEN}; {TRANSPARENT}",
    ),
    "16 bits RGBA": (
        raw_png(2, 1, 16, 6, [struct.pack(">8H", 65535, 0, 0, 65535, 0, 65535, 0, 0)]),
        np.array([[RED, WHITE]]),
        f"{SIXTEEN}; {TRANSPARENT}",
    ),
    "32 bits TIFF": (
        saved(Image.fromarray(np.array([[-1000, 0, 4100]], dtype=np.int32)), "TIFF"),
        grey_three_times(np.array([[0, 50, 255]])),
        "32 bits a channel: scaled from the image's own range",
    ),
    "float TIFF": (
        saved(Image.fromarray(np.array([[-1.0, 0.0, 4.1, np.nan, np.inf]], dtype=np.float32)), "TIFF"),
        grey_three_times(np.array([[0, 50, 255, 0, 255]])),
        "floating point: scaled from the image's own range",
    ),
    "float TIFF of one value": (
        one_colour("F", 7.5, "TIFF"),
        np.zeros((8, 8, 3)),
        "floating point: scaled from the image's own range",
    ),
    "CMYK TIFF": (one_colour("CMYK", (0, 255, 255, 0), "TIFF"), np.full((8, 8, 3), RED), "CMYK: converted to RGB"),
    "animated GIF": (
        saved(Image.fromarray(RAMP), "GIF", save_all=True, append_images=[Image.fromarray(RAMP.T)]),
        grey_three_times(RAMP),
        ANIMATED,
    ),
    "animated PNG": (
        saved(Image.fromarray(COLOURS), "PNG", save_all=True, append_images=[Image.fromarray(COLOURS[::-1])]),
        COLOURS,
        ANIMATED,
    ),
    "animated WebP": (
        saved(
            Image.fromarray(COLOURS), "WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(COLOURS[::-1])]
        ),
        COLOURS,
        ANIMATED,
    ),
    "TIFF of two pages": (
        saved(Image.fromarray(COLOURS), "TIFF", save_all=True, append_images=[Image.fromarray(COLOURS[::-1])]),
        COLOURS,
        PAGES,
    ),
}

CLOSE: dict[str, tuple[bytes, tuple[int, int, int], str | None]] = {
    "JPEG": (one_colour("RGB", (200, 30, 60), "JPEG", quality=95), (200, 30, 60), None),
    "grey JPEG": (one_colour("L", 77, "JPEG", quality=95), (77, 77, 77), None),
    "CMYK JPEG, inverted as Adobe does": (one_colour("CMYK", (0, 255, 255, 0), "JPEG"), RED, "CMYK: converted to RGB"),
    "YCbCr TIFF": (saved(Image.new("RGB", (8, 8), (200, 30, 60)).convert("YCbCr"), "TIFF"), (200, 30, 60), None),
    "LAB TIFF": (saved(Image.new("RGB", (8, 8), (200, 30, 60)).convert("LAB"), "TIFF"), (200, 30, 60), None),
    "AVIF": (one_colour("RGB", (200, 30, 60), "AVIF", quality=95), (200, 30, 60), None),
}


@pytest.mark.parametrize("kind", EXACT)
def test_every_kind_of_image_gives_its_pixels_and_says_what_was_done(kind: str) -> None:
    content, expected, remark = EXACT[kind]
    pixels, said = as_stored(content)
    np.testing.assert_array_equal(pixels, expected)
    assert said == remark


@pytest.mark.parametrize("kind", CLOSE)
def test_lossy_images_give_their_colour(kind: str) -> None:
    content, expected, remark = CLOSE[kind]
    pixels, said = as_stored(content)
    np.testing.assert_allclose(pixels.astype(int), np.broadcast_to(expected, pixels.shape), atol=4)
    assert said == remark


@pytest.mark.parametrize("kind", EXACT)
def test_one_channel_is_the_luminance_of_three(kind: str) -> None:
    content, expected, _ = EXACT[kind]
    pixels, _ = as_stored(content, channels=1)
    np.testing.assert_allclose(pixels[..., 0], expected @ (0.299, 0.587, 0.114), atol=0.51)


def test_one_bit_images_are_resized_in_grey() -> None:
    drawn = np.kron(np.eye(15, dtype=bool), np.ones((7, 7), dtype=bool))  # 105 x 105, as Omniglot's
    small = decode(saved(Image.fromarray(drawn), "PNG"), "it", (1, 28, 28), "squash").pixels
    wanted = Image.fromarray(drawn).convert("L").resize((28, 28), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(small[0], np.asarray(wanted))
    assert len(np.unique(small)) > 2


def test_pixels_are_ready_for_torch() -> None:
    for content in (EXACT["RGB"][0], EXACT["grey"][0]):
        for channels in (1, 3):
            pixels = decode(content, "it", (channels, 16, 16), "squash").pixels
            assert pixels.flags.c_contiguous
            assert pixels.flags.writeable


ORIENTATIONS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied_without_a_remark(orientation: int, format: str) -> None:
    stored = COLOURS[:6, :9]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    content = saved(Image.fromarray(stored), format, exif=exif, **options)
    upright = ORIENTATIONS[orientation](stored)
    decoded = decode(content, "it", (3, *upright.shape[:2]), "squash")
    np.testing.assert_array_equal(decoded.pixels.transpose(1, 2, 0), upright)
    assert decoded.remark is None


def test_sixteen_bit_images_are_turned_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(Image.fromarray(RAMP[:4].astype(np.uint16) * 257), "PNG", exif=exif)
    np.testing.assert_array_equal(decode(content, "it", (1, 16, 4), "squash").pixels[0], np.rot90(RAMP[:4], -1))


def test_damaged_exif_costs_the_orientation_and_not_the_image() -> None:
    content = saved(Image.fromarray(COLOURS), "PNG", exif=b"Exif\0\0nonsense")
    decoded = decode(content, "it", (3, 16, 16), "squash")
    np.testing.assert_array_equal(decoded.pixels.transpose(1, 2, 0), COLOURS)
    assert decoded.remark == "damaged EXIF: shown as stored"


def striped(width: int, height: int) -> bytes:
    """Red with a blue column at each end and a green row at the top and the bottom, each a quarter of the side."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (0, 0, width // 4, height))
    image.paste(BLUE, (width - width // 4, 0, width, height))
    image.paste(GREEN, (0, 0, width, height // 4))
    image.paste(GREEN, (0, height - height // 4, width, height))
    return saved(image, "PNG")


@pytest.mark.parametrize(
    ("fit", "left", "top", "middle"),
    [("squash", BLUE, GREEN, RED), ("crop", RED, GREEN, RED), ("pad", BLUE, WHITE, RED)],
)
def test_fit_decides_what_becomes_of_a_wide_image(fit: Fit, left: Any, top: Any, middle: Any) -> None:
    pixels = decode(striped(160, 80), "it", (3, 20, 20), fit).pixels
    seen = pixels[:, 10, 1], pixels[:, 1, 10], pixels[:, 10, 10]
    np.testing.assert_allclose(seen, (left, top, middle), atol=25)  # Lanczos rings at edges


@pytest.mark.parametrize(
    ("fit", "left", "top", "middle"),
    [("squash", BLUE, GREEN, RED), ("crop", BLUE, RED, RED), ("pad", WHITE, GREEN, RED)],
)
def test_fit_decides_what_becomes_of_a_tall_image(fit: Fit, left: Any, top: Any, middle: Any) -> None:
    pixels = decode(striped(80, 160), "it", (3, 20, 20), fit).pixels
    seen = pixels[:, 10, 1], pixels[:, 1, 10], pixels[:, 10, 10]
    np.testing.assert_allclose(seen, (left, top, middle), atol=25)


@pytest.mark.parametrize(("height", "width"), [(16, 13), (9, 16), (15, 16), (16, 16)])
def test_crop_takes_whole_pixels_of_an_image_that_needs_no_scaling(height: int, width: int) -> None:
    pixels = decode(EXACT["RGB"][0], "it", (3, height, width), "crop").pixels
    top, left = (16 - height) // 2, (16 - width) // 2
    np.testing.assert_array_equal(pixels.transpose(1, 2, 0), COLOURS[top : top + height, left : left + width])


@pytest.mark.parametrize("channels", [1, 3])
def test_pad_keeps_the_pixels_of_an_image_that_needs_no_scaling_and_surrounds_them_with_white(channels: int) -> None:
    pixels = decode(EXACT["grey"][0], "it", (channels, 16, 21), "pad").pixels
    np.testing.assert_array_equal(pixels[:, :, 2:18], np.broadcast_to(RAMP, (channels, 16, 16)))
    assert (pixels[:, :, :2] == 255).all()
    assert (pixels[:, :, 18:] == 255).all()


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_every_pair_of_sizes_fits(fit: Fit) -> None:
    sizes = ((1, 1), (1, 300), (300, 1), (7, 3), (33, 31), (101, 64))
    for stored in sizes:
        content = saved(Image.new("L", stored, 9), "PNG")
        for width, height in sizes:
            pixels = decode(content, "it", (1, height, width), fit).pixels
            assert pixels.shape == (1, height, width)
            assert set(np.unique(pixels)) <= {9, 255}
            assert fit == "pad" or (pixels == 9).all()


def test_large_jpeg_is_decoded_at_a_reduced_size_of_at_least_twice_the_wanted() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise).resize((1200, 800), Image.Resampling.BICUBIC), "JPEG")
    pixels = decode(content, "it", (3, 84, 84), "squash").pixels.transpose(1, 2, 0)
    with Image.open(io.BytesIO(content)) as image:
        whole = np.asarray(image.resize((84, 84), Image.Resampling.LANCZOS)).astype(int)
    with Image.open(io.BytesIO(content)) as image:
        image.draft(None, (168, 168))
        assert image.size == (300, 200)
        np.testing.assert_array_equal(pixels, np.asarray(image.resize((84, 84), Image.Resampling.LANCZOS)))
    assert 0 < np.abs(pixels - whole).max() < 12


def test_box_is_cut_out_of_the_upright_image_first() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(Image.fromarray(COLOURS[:8]), "PNG", exif=exif)
    upright = np.rot90(COLOURS[:8], -1)
    pixels = decode(content, "it", (3, 9, 4), "squash", box=(3, 5, 4, 9)).pixels.transpose(1, 2, 0)
    np.testing.assert_array_equal(pixels, upright[5:14, 3:7])


def test_edges_of_a_box_go_to_the_nearest_pixel() -> None:
    pixels = decode(EXACT["RGB"][0], "it", (3, 5, 4), "squash", box=(2.6, 3.4, 4.1, 4.7)).pixels.transpose(1, 2, 0)
    np.testing.assert_array_equal(pixels, COLOURS[3:8, 3:7])


def test_box_partly_outside_is_clamped() -> None:
    content = EXACT["RGB"][0]
    pixels = decode(content, "it", (3, 4, 6), "squash", box=(-5, 12, 11, float("inf"))).pixels.transpose(1, 2, 0)
    np.testing.assert_array_equal(pixels, COLOURS[12:, :6])


@pytest.mark.parametrize("box", [(3, 3, 0, 4), (3, 3, 4, -1), (16, 0, 4, 4), (-9, 0, 9, 4), (0, float("nan"), 4, 4)])
def test_box_without_pixels_is_unreadable(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(Unreadable, match=r"^photo: nothing of the image \(16 x 16\) lies in the box"):
        decode(EXACT["RGB"][0], "photo", (3, 8, 8), "squash", box)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"class,name\n1,cat\n" * 20, "is not an image that can be read"),
        (bytes(range(256)) * 8, "is not an image that can be read"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC image, which cannot be read: convert it to JPEG or PNG"),
        (
            b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
            "is not an image that can be read",
        ),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "is not an image that can be read"),
        (raw_png(0, 4, 8, 0, [b""] * 4), "is not an image that can be read"),
        (raw_png(60_000, 60_000, 8, 0, []), "has too many pixels to be read safely"),
        (EXACT["RGB"][0].replace(b"IDATx", b"IDAT?"), "is cut off or damaged"),
        (saved(Image.fromarray(COLOURS), "JPEG")[:-300], "is cut off or damaged"),
        (one_colour("F", float("nan"), "TIFF"), "is cut off or damaged"),
    ],
    ids=["empty", "text", "bytes", "heic", "svg", "eps", "zero width", "bomb", "damaged", "cut off", "no number"],
)
def test_what_cannot_be_decoded_is_unreadable_for_a_plain_reason(content: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        decode(content, "/data/cat.png", (3, 8, 8), "squash")
    assert str(caught.value) == f"/data/cat.png: {reason}"
    assert isinstance(caught.value, BadInput)


def test_an_image_at_the_warning_level_of_pixels_is_read_in_silence(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert decode(EXACT["RGB"][0], "it", (3, 16, 16), "squash").remark is None
    assert not recwarn.list


def test_what_pillow_logs_of_a_damaged_file_stays_unsaid(caplog: pytest.LogCaptureFixture) -> None:
    three_samples, many_samples = (struct.pack("<HHIHH", 277, 3, 1, samples, 0) for samples in (3, 99))
    content = saved(Image.fromarray(COLOURS), "TIFF")
    assert three_samples in content
    with pytest.raises(Unreadable):
        decode(content.replace(three_samples, many_samples), "it", (3, 8, 8), "squash")
    assert not caplog.records


def test_an_interrupt_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Image, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decode(EXACT["RGB"][0], "it", (3, 8, 8), "squash")


PICTURE = Image.fromarray(np.kron(COLOURS, np.ones((2, 2, 1), dtype=np.uint8)))
FUZZED: dict[str, bytes] = {
    "png": saved(PICTURE, "PNG"),
    "palette png": saved(PICTURE.quantize(16), "PNG", transparency=3),
    "animated png": saved(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(90)]),
    "jpg": saved(PICTURE, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    "progressive jpg": saved(PICTURE, "JPEG", progressive=True),
    "gif": saved(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)]),
    "bmp": saved(PICTURE, "BMP"),
    "tiff": saved(PICTURE, "TIFF"),
    "lzw tiff": saved(PICTURE, "TIFF", compression="tiff_lzw"),
    "fax tiff": saved(PICTURE.convert("1"), "TIFF", compression="group4"),
    "webp": saved(PICTURE, "WEBP"),
    "lossless webp": saved(PICTURE, "WEBP", lossless=True),
}


@pytest.mark.parametrize("kind", FUZZED)
def test_a_file_cut_off_anywhere_is_unreadable_or_has_lost_nothing(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = FUZZED[kind]
    whole = decode(content, "it", (3, 16, 16), "crop").pixels
    unreadable = 0
    for length in np.linspace(0, len(content) - 1, 50, dtype=int).tolist():
        try:
            np.testing.assert_array_equal(decode(content[:length], "it", (3, 16, 16), "crop").pixels, whole)
        except Unreadable:
            unreadable += 1
    assert unreadable >= 10
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", FUZZED)
def test_flipped_bytes_give_an_image_or_unreadable_and_no_word_on_the_terminal(
    kind: str, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    draw = random.Random(kind)
    unreadable = 0
    for _ in range(60):
        content = bytearray(FUZZED[kind])
        for _ in range(draw.choice((1, 2, 5, 20))):
            content[draw.randrange(draw.choice((len(content), 60)))] = draw.randrange(256)
        try:
            assert decode(bytes(content), "it", (3, 16, 16), "crop").pixels.shape == (3, 16, 16)
        except Unreadable:
            unreadable += 1
    assert unreadable >= 5
    assert capfd.readouterr().err == ""
    assert not recwarn.list


def test_decoding_needs_no_torch() -> None:
    check = "import sys, metashot.sources.images.decoding; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


@pytest.mark.parametrize("size", [(1, 80_000_000), (80_000_000, 1), (65_536, 1)])
def test_image_that_is_too_long_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    """Of a few kB, whose scaling would take gigabytes."""
    content = raw_png(*size, 8, 0, [])
    with pytest.raises(Unreadable, match="and 65,535 a side can be read"):
        decode(content, "long.png", (1, 28, 28), "crop")
    with pytest.raises(Unreadable, match="and 65,535 a side can be read"):
        convert(Image.open(io.BytesIO(content)), "long.png", (1, 28, 28), "crop")
