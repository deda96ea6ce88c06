"""The glyphs: what may be one class, what keeps the splits apart, and that drawing is a pure function."""

import hashlib
import pickle
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from metashot.bad_input import BadInput
from metashot.configuration import signatures
from metashot.configuration.checking import check_arguments
from metashot.sources.images.glyphs import Glyphs

Images = npt.NDArray[np.uint8]
SETTINGS: dict[str, Any] = {
    "image_size": 28,
    "examples": 20,
    "rotation": 0.18,
    "log_scale": 0.2,
    "shear": 0.18,
    "displacement": 0.065,
    "stroke": 0.025,
}
SCRIPTS = {
    "train": {"LATIN", "GREEK", "COPTIC", "CYRILLIC", "ARABIC"},
    "val": {"TIFINAGH", "NKO", "HEBREW", "LAO"},
    "test": {"CANADIAN", "GEORGIAN", "ARMENIAN"},
}


@pytest.fixture(scope="module")
def glyphs() -> Glyphs:
    return Glyphs(**SETTINGS)


@pytest.fixture(scope="module")
def banks(glyphs: Glyphs) -> dict[str, Images]:
    """Every image, [classes, examples, side, side]."""
    return {
        split: np.stack([glyphs.draw(split, label, 0, 20).items[:, 0] for label in range(len(names))])
        for split, names in glyphs.splits().items()
    }


def scripts(characters: str) -> set[str]:
    return {unicodedata.name(character).split()[0] for character in characters}


def class_of(glyphs: Glyphs, character: str) -> str:
    every = [name for names in glyphs.splits().values() for name in names]
    return next(name for name in every if character in glyphs.characters(name))


def blurred_outline(character: str, font: ImageFont.FreeTypeFont) -> npt.NDArray[np.float64]:
    """The letter itself, fitted to 20 pixels, blurred, as a vector of length one."""
    page = Image.new("L", (500, 400))
    ImageDraw.Draw(page).text((150, 120), character, fill=255, font=font)
    letter = page.crop(page.getbbox())
    scale = 20 / max(letter.size)
    letter = letter.resize((max(1, round(letter.width * scale)), max(1, round(letter.height * scale))), Image.Resampling.BOX)
    centred = Image.new("L", (28, 28))
    centred.paste(letter, ((28 - letter.width) // 2, (28 - letter.height) // 2))
    pixels = np.asarray(centred.filter(ImageFilter.GaussianBlur(1)), float).ravel()
    vector: npt.NDArray[np.float64] = pixels - pixels.mean()
    unit: npt.NDArray[np.float64] = vector / np.sqrt((vector**2).sum())
    return unit


def nearest_neighbour_accuracy(bank: Images, episodes: int) -> float:
    """5-way 1-shot with five queries a class, on raw pixels."""
    random = np.random.default_rng(0)
    pixels = bank.reshape(*bank.shape[:2], -1).astype(np.float32)
    correct = []
    for _ in range(episodes):
        classes = random.choice(len(bank), 5, replace=False)
        chosen = np.stack([random.choice(bank.shape[1], 6, replace=False) for _ in classes])
        support = pixels[classes, chosen[:, 0]]
        query = pixels[classes[:, None], chosen[:, 1:]].reshape(25, -1)
        distance = ((query[:, None] - support) ** 2).sum(-1)
        correct.append(distance.argmin(1) == np.repeat(np.arange(5), 5))
    return float(np.mean(correct))


def test_there_are_enough_classes_for_five_way_episodes_in_every_split(glyphs: Glyphs) -> None:
    classes = {split: len(names) for split, names in glyphs.splits().items()}
    assert classes["train"] >= 800
    assert classes["val"] >= 100
    assert classes["test"] >= 400
    assert glyphs.counts("val") == [20] * classes["val"]


def test_splits_share_no_class_and_no_character(glyphs: Glyphs) -> None:
    names = [name for names in glyphs.splits().values() for name in names]
    assert len(names) == len(set(names))
    assert all(name.replace("_", "").replace("-", "").isalnum() and name.isascii() for name in names)
    characters = "".join(glyphs.characters(name) for name in names)
    assert len(characters) == len(set(characters))


def test_every_split_draws_scripts_of_its_own(glyphs: Glyphs) -> None:
    splits = glyphs.splits()
    for split, names in splits.items():
        assert scripts("".join(glyphs.characters(name)[0] for name in names)) == SCRIPTS[split]
    for split in ("val", "test"):
        assert scripts("".join(glyphs.characters(name) for name in splits[split])) == SCRIPTS[split]


@pytest.mark.parametrize("alike", ["AΑА", "HΗНн", "cCСс", "oOоО", "ΠП", "Lᒪ", "Xⵝᕁ", "ᐱɅ"])
def test_homoglyphs_are_one_class_of_train(glyphs: Glyphs, alike: str) -> None:
    found = {class_of(glyphs, character) for character in alike}
    assert len(found) == 1
    assert found <= set(glyphs.splits()["train"])


@pytest.mark.parametrize("different", ["bdpq", "EF", "OQ", "ᐳᐸ", "ᒉᒋᒍᒐ", "კპშ", "אבג"])
def test_letters_that_differ_are_different_classes(glyphs: Glyphs, different: str) -> None:
    assert len({class_of(glyphs, character) for character in different}) == len(different)


@pytest.mark.parametrize("face", ["DejaVuSans.ttf", "DejaVuSans-Bold.ttf"])
def test_no_character_of_one_split_looks_like_one_of_another(glyphs: Glyphs, face: str) -> None:
    font = ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts/ttf" / face, 80, layout_engine=ImageFont.Layout.BASIC
    )
    characters = {split: "".join(glyphs.characters(name) for name in names) for split, names in glyphs.splits().items()}
    outlines = {split: np.stack([blurred_outline(one, font) for one in every]) for split, every in characters.items()}
    # What the measure says of a homoglyph, and of a letter with one bar less.
    assert blurred_outline("A", font) @ blurred_outline("Α", font) > 0.99
    assert blurred_outline("E", font) @ blurred_outline("F", font) < 0.95
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        similarity = outlines[one] @ outlines[other].T
        row, column = np.unravel_index(similarity.argmax(), similarity.shape)
        # The closest that are left, a mirrored P and ᑫ, score 0.981.
        assert similarity.max() < 0.985, (characters[one][row], characters[other][column])


def test_only_letters_are_drawn(glyphs: Glyphs) -> None:
    characters = "".join(glyphs.characters(name) for names in glyphs.splits().values() for name in names)
    assert {unicodedata.category(character) for character in characters} <= {"Lu", "Ll", "Lt", "Lo"}
    assert all(unicodedata.normalize("NFKC", character) == character for character in characters)


def test_chunks_do_not_change_the_images(glyphs: Glyphs, banks: dict[str, Images]) -> None:
    chunks = np.concatenate([glyphs.draw("val", 5, *piece).items for piece in ((0, 3), (3, 4), (4, 20))])
    assert chunks.shape == (20, *glyphs.item_shape)
    assert chunks.dtype == np.uint8
    assert np.array_equal(chunks[:, 0], banks["val"][5])
    assert glyphs.draw("val", 5, 5, 5).items.shape == (0, *glyphs.item_shape)


def test_another_process_finds_the_same_classes_and_draws_the_same_bytes_without_torch(
    glyphs: Glyphs,
) -> None:
    program = (
        "import hashlib, sys\n"
        "from metashot.sources.images.glyphs import Glyphs\n"
        f"glyphs = Glyphs(**{SETTINGS})\n"
        "print(hashlib.sha256(repr(glyphs.splits()).encode()).hexdigest())\n"
        "drawn = b''.join(glyphs.draw('test', k, 0, 20).items.tobytes() for k in range(40, 80))\n"
        "print(hashlib.sha256(drawn).hexdigest())\n"
        "print('torch' in sys.modules)\n"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7", "OPENBLAS_NUM_THREADS": "1"}
    answer = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [
        hashlib.sha256(repr(glyphs.splits()).encode()).hexdigest(),
        hashlib.sha256(b"".join(glyphs.draw("test", k, 0, 20).items.tobytes() for k in range(40, 80))).hexdigest(),
        "False",
    ]


def test_pickled_glyphs_draw_the_same(glyphs: Glyphs) -> None:
    copy = pickle.loads(pickle.dumps(glyphs))
    assert np.array_equal(copy.draw("train", 7, 2, 9).items, glyphs.draw("train", 7, 2, 9).items)
    assert copy.identity(Path()) == glyphs.identity(Path())


def test_every_image_has_ink_and_background(banks: dict[str, Images]) -> None:
    for split, bank in banks.items():
        ink = (bank >= 128).mean((2, 3))
        assert ink.min() > 0.01, split
        assert ink.max() < 0.6, split
        assert bank.max((2, 3)).min() > 200, split


def test_no_letter_is_cut_off_by_the_edge(banks: dict[str, Images]) -> None:
    for bank in banks.values():
        edge = np.concatenate([bank[..., 0, :], bank[..., -1, :], bank[..., 0], bank[..., -1]], -1)
        assert edge.max() < 128


def test_all_examples_of_a_class_differ(banks: dict[str, Images]) -> None:
    for bank in banks.values():
        assert all(len({image.tobytes() for image in images}) == len(images) for images in bank)


def test_raw_pixels_are_not_enough_for_the_test_split(banks: dict[str, Images]) -> None:
    test = nearest_neighbour_accuracy(banks["test"], episodes=1000)
    val = nearest_neighbour_accuracy(banks["val"], episodes=1000)
    assert 0.35 < test < 0.6
    assert abs(test - val) < 0.1


@pytest.mark.parametrize("key", ["image_size", "examples", "rotation", "displacement"])
def test_a_setting_out_of_range_is_named(key: str) -> None:
    parameters = signatures.parameters_of("metashot.sources.images.glyphs.Glyphs")
    with pytest.raises(BadInput, match=f"data.source.{key}=-1"):
        check_arguments(parameters, {**SETTINGS, key: -1}, "data.source", frozenset())


def test_every_setting_is_part_of_the_identity(glyphs: Glyphs) -> None:
    for key, value in SETTINGS.items():
        changed = Glyphs(**{**SETTINGS, key: value * 2 if key in ("image_size", "examples") else value / 2})
        assert changed.identity(Path()) != glyphs.identity(Path())
        assert changed.identity(Path())[key] != value
