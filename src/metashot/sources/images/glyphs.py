"""The letters of the fonts inside matplotlib: a data set that needs no download.

A class is a character; an example is that character in one face under a random affine map, a smooth
displacement and a change of stroke width. Train, validation and test hold different scripts. A small
sibling of Omniglot.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from metashot.arguments import AtLeast, AtMost
from metashot.sources.source import PIXELS, DataSource, Drawn

# Incremented whenever this module would draw other pixels or form other classes.
DRAWING = 1

# Upright faces only: the random shear slants a letter, and in true italics some letters turn into others
# (the italic of Cyrillic т is a Latin m).
FACES = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
)

# The first word of a character's Unicode name, which is its script for every letter kept here. Ogham is left
# out, since its letters are counts of strokes that 28 pixels do not resolve, and so are Lisu and Old Italic,
# whose letters are rotated or slanted Latin ones.
SCRIPTS = {
    "train": ("latin", "greek", "coptic", "cyrillic", "arabic"),
    "val": ("tifinagh", "nko", "hebrew", "lao"),
    "test": ("canadian", "georgian", "armenian"),
}

OVERSAMPLING = 4  # pixels of the letter's raster for one pixel of the image
LETTER = 0.64  # the letter's longer side before distortion, as a share of the image's side
MARGIN = 1.0  # pixels between a letter and the edge of the image
KNOTS = 5  # the displacement is drawn at KNOTS x KNOTS points and smooth in between
THINNER, THICKER = 2, 3  # the most steps of one raster pixel that a stroke's edge may move
BOUND = 2.0  # every distortion is clipped at this many standard deviations
TOLERATED = 0.02  # the fraction of ink that may vanish or fill gaps when a stroke changes

COMPARED_EM = 64  # font size at which letters are compared
COMPARED_SIDE = 32  # longer side of the rasters in which they are compared
COMPARED_PROPORTIONS = 1.4  # aspect ratios may differ by this factor, which the random stretch covers
ENLARGED = 1.2  # from this difference in size on, strokes that were equal differ in width after fitting
SOLID = 0.75  # the share of its box above which a letter counts as solid

Grey = npt.NDArray[np.uint8]
Real = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Fixed = npt.NDArray[np.int32]  # fixed-point numbers
Mask = npt.NDArray[np.bool_]
Step = Callable[[Grey, bool], Grey]
Ink = TypeVar("Ink", Grey, Mask)


class Glyphs(DataSource):
    """Characters as classes, split by script.

    Two characters are merged into one class if, in any face and fitted to 32 pixels, all ink of each lies within one
    pixel of the other's: equal outlines, small capitals (whose heavier strokes may reach two pixels), marks
    too small to tell apart. Proportions may differ by a factor of 1.4. The relation is closed transitively
    (A is also Greek Alpha and Cyrillic A). A class with characters in train and another split belongs to train;
    one with characters in validation and test is left out. So are classes within two pixels of a class in an
    earlier split, and characters that are only a dot or a bar. A class is drawn from one character, so that a
    merge in one face (I and l without serifs) does not mix the shapes of another.

    Args:
        image_size: height and width of the images.
        examples: the number of images of each class.
        rotation: standard deviation of the rotation in radians.
        log_scale: standard deviation of the logarithm of the stretch.
        shear: standard deviation of the tangent of the slant.
        displacement: standard deviation of the displacement, as a fraction of the side.
        stroke: standard deviation of the change of stroke width, as a fraction of the side.
    """

    name = "glyphs"
    official = None
    notes = ()
    bright_ink: ClassVar[bool] = True
    presented_as: ClassVar[str] = PIXELS
    dtype: ClassVar[str] = "uint8"

    def __init__(
        self,
        image_size: Annotated[int, AtLeast(8), AtMost(256)],
        examples: Annotated[int, AtLeast(1), AtMost(10_000)],
        rotation: Annotated[float, AtLeast(0), AtMost(1)],
        log_scale: Annotated[float, AtLeast(0), AtMost(0.5)],
        shear: Annotated[float, AtLeast(0), AtMost(1)],
        displacement: Annotated[float, AtLeast(0), AtMost(0.1)],
        stroke: Annotated[float, AtLeast(0), AtMost(0.1)],
    ) -> None:
        self.image_size = image_size
        self.examples = examples
        self.rotation = rotation
        self.log_scale = log_scale
        self.shear = shear
        self.displacement = displacement
        self.stroke = stroke
        # Found on first use and pickled with the object, so that workers need not compare the letters again.
        self._classes: dict[str, dict[str, str]] | None = None

    @property
    def item_shape(self) -> tuple[int, int, int]:
        return (1, self.image_size, self.image_size)

    def splits(self) -> dict[str, list[str]]:
        return {split: list(classes) for split, classes in self._found().items()}

    def counts(self, split: str) -> list[int]:
        return [self.examples] * len(self._found()[split])

    def characters(self, name: str) -> str:
        """The characters merged into a class; the first is the one that is drawn."""
        for classes in self._found().values():
            if name in classes:
                return classes[name]
        raise KeyError(f"glyphs has no class {name!r}; splits() lists the names")

    def known_as(self, name: str, root: Path) -> str:
        return f"{self.name}/{name}"

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        """The images [first, last) of a class, [images, 1, side, side]."""
        name, characters = list(self._found()[split].items())[label]
        return Drawn(self._draw_class(name, characters[0])[first:last, None])

    def files(self, root: Path) -> list[Path]:
        """No files: the fonts are part of the identity."""
        return []

    def prepare(self, root: Path, scratch: Path) -> None:
        self._found()

    def identity(self, root: Path) -> dict[str, str | int | float]:
        """Everything that determines the pixels."""
        import matplotlib
        import PIL
        from PIL import features

        fonts = hashlib.sha256()
        for face in FACES:
            fonts.update((_folder() / face).read_bytes())
        return {
            "image_size": self.image_size,
            "examples": self.examples,
            "rotation": self.rotation,
            "log_scale": self.log_scale,
            "shear": self.shear,
            "displacement": self.displacement,
            "stroke": self.stroke,
            "drawing": DRAWING,
            "fonts": fonts.hexdigest()[:16],
            "matplotlib": matplotlib.__version__,
            "pillow": PIL.__version__,
            "freetype": features.version("freetype2") or "unknown",
        }

    def _found(self) -> dict[str, dict[str, str]]:
        if self._classes is None:
            self._classes = _find_classes()
        return self._classes

    def _draw_class(self, name: str, character: str) -> Grey:
        """The images of a class, [examples, side, side], drawn with a random generator seeded by its name."""
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
        random = np.random.Generator(np.random.PCG64(seed))
        letters = _letter_rasters(character, self.image_size)
        rounds = -(-self.examples // len(letters))
        face = np.concatenate([random.permutation(len(letters)) for _ in range(rounds)])[: self.examples]

        levels, thinnest, thickest = _stroke_levels(letters)
        level = THINNER + self.stroke * self.image_size * OVERSAMPLING * self._normal(random)
        # A fractional level is a blend of the two levels next to it, in units of 1/64.
        parts = np.rint(64 * np.clip(level, thinnest[face], thickest[face])).astype(np.int32)
        below, share = parts >> 6, (parts & 63)[:, None, None]
        above = np.minimum(below + 1, THINNER + THICKER)
        blended = levels[face, below] * (64 - share) + levels[face, above] * share

        half_sides = np.array([_half_sides(letter) for letter in letters])[face]
        rows, columns = self._source_points(random, half_sides, letters.shape[-1])
        # Blending and smoothing each multiply by 64, sampling by 2**16; the shift keeps values below 2**31.
        sampled = _sample(_smoothed(blended) >> 8, rows, columns)
        return ((sampled + (1 << 19)) >> 20).astype(np.uint8)

    def _source_points(self, random: np.random.Generator, half_sides: Real, raster_side: int) -> tuple[Fixed, Fixed]:
        """The raster's row and column that each pixel shows, in units of 1/256, each [examples, side, side].

        They are rounded to integers, because the last bit of a sine or an exponential differs between machines.
        """
        side = self.image_size
        turn, slant = self.rotation * self._normal(random), self.shear * self._normal(random)
        height, width = np.exp(self.log_scale * self._normal(random, 2)).T
        knots = self.displacement * side * self._normal(random, 2, KNOTS, KNOTS)
        weights = _spline_weights(side)
        shift = np.einsum("yi,ecij->ecyj", weights, knots)
        shift_y, shift_x = np.einsum("ecyj,xj->ceyx", shift, weights)

        # From letter to image: stretch, then slant, then rotate. y points down.
        cosine, sine = np.cos(turn), np.sin(turn)
        xx, xy = cosine * width, (cosine * slant - sine) * height
        yx, yy = sine * width, (sine * slant + cosine) * height
        # A letter that would extend beyond the edge of the image is drawn smaller.
        half_height, half_width = (half_sides.T + THICKER) / OVERSAMPLING
        room = side / 2 - MARGIN
        fit_x = (room - np.abs(shift_x).max((1, 2))) / (np.abs(xx) * half_width + np.abs(xy) * half_height)
        fit_y = (room - np.abs(shift_y).max((1, 2))) / (np.abs(yx) * half_width + np.abs(yy) * half_height)
        fit = np.minimum(1.0, np.minimum(fit_x, fit_y))

        centred = np.arange(side) - (side - 1) / 2
        y = centred[:, None] - shift_y  # [examples, side, side]
        x = centred - shift_x
        xx, xy, yx, yy = (entry[:, None, None] for entry in (xx, xy, yx, yy))
        inverse = OVERSAMPLING / (fit[:, None, None] * (xx * yy - xy * yx))
        rows = inverse * (xx * y - yx * x)
        columns = inverse * (yy * x - xy * y)
        last = raster_side - 1
        fixed = np.rint(256 * np.clip(np.stack((rows, columns)) + last / 2, 0, last)).astype(np.int32)
        return fixed[0], fixed[1]

    def _normal(self, random: np.random.Generator, *shape: int) -> Real:
        """Normal random numbers for each example, clipped, because extreme distortions make a letter unreadable."""
        return np.clip(random.normal(size=(self.examples, *shape)), -BOUND, BOUND)


@cache
def _folder() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@cache
def _letters(face: str) -> frozenset[str]:
    """The letters of a face that can be classes."""
    from fontTools.ttLib import TTFont

    with TTFont(_folder() / face, lazy=True) as font:
        mapping: dict[int, str] = font.getBestCmap()
    kept = {word for words in SCRIPTS.values() for word in words}
    return frozenset(
        character
        for character, glyph in ((chr(code), glyph) for code, glyph in mapping.items())
        if glyph != ".notdef" and _is_plain_letter(character) and _script(character) in kept
    )


def _script(character: str) -> str:
    return unicodedata.name(character, "").split(" ")[0].lower()


def _is_plain_letter(character: str) -> bool:
    """Whether a character is no modifier letter and no compatibility form (ligatures, Arabic presentation forms,
    mathematical alphabets), and has at most one mark, since two are not readable in so few pixels."""
    return (
        unicodedata.category(character) in ("Lu", "Ll", "Lt", "Lo")
        and unicodedata.normalize("NFKC", character) == character
        and len(unicodedata.normalize("NFD", character)) <= 2
    )


@lru_cache(maxsize=32)
def _font(face: str, em: int) -> ImageFont.FreeTypeFont:
    # The other layout engine is not installed everywhere and may place glyphs differently.
    return ImageFont.truetype(_folder() / face, em, layout_engine=ImageFont.Layout.BASIC)


def _page(face: str, character: str, em: int) -> Image.Image | None:
    """The letter at `em` pixels, cropped to its ink; None if it has no ink."""
    font = _font(face, em)
    left, top, right, bottom = font.getbbox(character)
    width, height = int(right - left), int(bottom - top)
    if width < 1 or height < 1:
        return None
    page = Image.new("L", (width, height))
    ImageDraw.Draw(page).text((-left, -top), character, fill=255, font=font)
    box = page.getbbox()
    return page.crop(box) if box else None


def _centred(page: Image.Image, height: int, width: int, canvas: int) -> Grey:
    """The letter resized and centred in a square."""
    letter = page.resize((width, height), Image.Resampling.BILINEAR)
    square = np.zeros((canvas, canvas), np.uint8)
    row, column = (canvas - height) // 2, (canvas - width) // 2
    square[row : row + height, column : column + width] = np.asarray(letter)
    return square


def _letter_rasters(character: str, image_size: int) -> Grey:
    """The letter in every face that has it, [faces, rows, columns]."""
    longer_side = round(LETTER * image_size * OVERSAMPLING)
    # Room for the thickest stroke and the smoothing, and an empty border that represents everything outside.
    canvas = longer_side + 2 * (THICKER + 4)
    em = image_size * OVERSAMPLING
    drawn = (_page(face, character, em) for face in FACES if character in _letters(face))
    pages = [page for page in drawn if page is not None]
    return np.stack([_centred(page, *_sides(page, longer_side), canvas) for page in pages])


def _sides(page: Image.Image, longer_side: int) -> tuple[int, int]:
    """Height and width at which the longer side is `longer_side`, with proportions kept."""
    scale = longer_side / max(page.size)
    return max(1, round(page.height * scale)), max(1, round(page.width * scale))


def _find_classes() -> dict[str, dict[str, str]]:
    """The classes of each split with their characters."""
    pages = {face: _compared_pages(face) for face in FACES}
    structured: set[str] = set()
    for drawn in pages.values():
        unknown = drawn.keys() - structured
        structured |= {character for character in unknown if not _is_solid(drawn[character])}

    parent = {character: character for character in structured}
    nearly_alike: list[tuple[str, str]] = []
    for drawn in pages.values():
        characters = sorted(structured & drawn.keys())
        alike, nearly = _look_alike([drawn[character] for character in characters])
        for one, other in alike:
            low, high = sorted((_root(parent, characters[one]), _root(parent, characters[other])))
            parent[high] = low
        nearly_alike += [(characters[one], characters[other]) for one, other in nearly]

    members: dict[str, list[str]] = {}
    for character in sorted(structured):
        members.setdefault(_root(parent, character), []).append(character)
    nearly_roots = {(_root(parent, one), _root(parent, other)) for one, other in nearly_alike}
    nearly_roots |= {(other, one) for one, other in nearly_roots}
    split_of_script = {script: split for split, scripts in SCRIPTS.items() for script in scripts}

    earlier: set[str] = set()
    classes: dict[str, dict[str, str]] = {}
    for split in SCRIPTS:
        left_out = {one for one, other in nearly_roots if other in earlier}
        classes[split] = {}
        for root in members.keys() - left_out:
            own = [character for character in members[root] if split_of_script[_script(character)] == split]
            others = [character for character in members[root] if character not in own]
            if own and (split == "train" or not others):
                earlier.add(root)
                classes[split][unicodedata.name(own[0]).lower().replace(" ", "_")] = "".join(own + others)
        classes[split] = dict(sorted(classes[split].items(), key=lambda item: item[1]))
    return classes


def _root(parent: dict[str, str], character: str) -> str:
    while parent[character] != character:
        character = parent[character]
    return character


def _compared_pages(face: str) -> dict[str, Image.Image]:
    drawn = ((character, _page(face, character, COMPARED_EM)) for character in _letters(face))
    return {character: page for character, page in drawn if page is not None}


def _is_solid(page: Image.Image) -> bool:
    """Whether a letter is a dot or a bar, which random size and proportions make unrecognisable."""
    side = COMPARED_SIDE
    return bool((_centred(page, side, side, side) >= 128).mean() > SOLID)


def _look_alike(pages: list[Image.Image]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """The letters of a face that look alike, and those that nearly do, as pairs of indices, the smaller first."""
    proportions = np.array([page.height / page.width for page in pages])
    ratio = proportions[:, None] / proportions
    stretched_alike = (ratio < COMPARED_PROPORTIONS) & (ratio.T < COMPARED_PROPORTIONS)
    size = np.array([max(page.size) for page in pages])
    kept = np.stack([_centred(page, *_sides(page, COMPARED_SIDE), COMPARED_SIDE) for page in pages])
    filled = np.stack([_centred(page, COMPARED_SIDE, COMPARED_SIDE, COMPARED_SIDE) for page in pages])

    alike: set[tuple[int, int]] = set()
    nearly: set[tuple[int, int]] = set()
    for rasters, comparable in ((kept, np.ones_like(stretched_alike)), (filled, stretched_alike)):
        ink = rasters >= 128
        near = _grown(ink, diagonal=False)
        nearer = _grown(near, diagonal=True)
        possible = _coarsely_within(ink, nearer)
        one, other = np.nonzero(np.triu(comparable & possible & possible.T, 1))
        loose = _within(ink[one], nearer[other]) & _within(ink[other], nearer[one])
        one, other = one[loose], other[loose]
        nearly.update(zip(one.tolist(), other.tolist(), strict=True))
        # A letter that was enlarged more, such as a small capital, has a heavier stroke, which extends further.
        close = _within(ink[one], near[other]) | (size[one] * ENLARGED < size[other])
        close &= _within(ink[other], near[one]) | (size[other] * ENLARGED < size[one])
        alike.update(zip(one[close].tolist(), other[close].tolist(), strict=True))
    return alike, nearly


def _within(ink: Mask, area: Mask) -> Mask:
    """Whether all ink of one letter is inside the area of the other, [pairs]."""
    return np.asarray(~(ink & ~area).any((1, 2)))


def _coarsely_within(ink: Mask, area: Mask) -> Mask:
    """A test of all pairs at a quarter of the resolution, [letters, letters]; true wherever `_within` is true."""
    cells = (len(ink), COMPARED_SIDE // 4, 4, COMPARED_SIDE // 4, 4)
    inside = ink.reshape(cells).any((2, 4)).reshape(len(ink), -1).astype(np.float32)
    outside = 1 - area.reshape(cells).any((2, 4)).reshape(len(ink), -1).astype(np.float32)
    # Sums of ones below 2**24 are exact in float32 in any order, so every machine finds the same classes.
    return np.asarray(inside @ outside.T == 0)


def _grown(images: Ink, diagonal: bool) -> Ink:
    """Dilate images with a cross, or with a square if `diagonal`.

    Alternating the two grows an octagon, which is close to a disc.
    """
    grown = images.copy()
    np.maximum(grown[..., 1:, :], images[..., :-1, :], out=grown[..., 1:, :])
    np.maximum(grown[..., :-1, :], images[..., 1:, :], out=grown[..., :-1, :])
    across = grown.copy() if diagonal else images
    np.maximum(grown[..., 1:], across[..., :-1], out=grown[..., 1:])
    np.maximum(grown[..., :-1], across[..., 1:], out=grown[..., :-1])
    return grown


def _shrunk(images: Grey, diagonal: bool) -> Grey:
    return ~_grown(~images, diagonal)


def _stroke_levels(letters: Grey) -> tuple[Grey, Whole, Whole]:
    """Letters at stroke levels from thin to thick, [letters, levels, rows, columns], with the first and last usable level.

    Level THINNER is the letter itself.
    """
    # One step more than is used, so that the thinnest stroke is three raster pixels wide and does not fade.
    thinner, thinner_steps = _reversible_steps(letters, _shrunk, _grown, THINNER + 1)
    thicker, thicker_steps = _reversible_steps(letters, _grown, _shrunk, THICKER)
    levels = np.stack([*thinner[THINNER - 1 :: -1], letters, *thicker], 1)
    first = THINNER + 1 - thinner_steps
    return levels, first, np.maximum(first, THINNER + thicker_steps)


def _reversible_steps(letters: Grey, change: Step, undo: Step, most: int) -> tuple[list[Grey], Whole]:
    """The letters after one, two, ... steps, and how many of these steps `undo` nearly reverses, [letters].

    A step that cannot be undone has removed a stroke or closed a gap.
    """
    ink = letters.sum((1, 2), dtype=np.int64)
    changed: list[Grey] = []
    reversible = np.zeros(len(letters), np.int64)
    for step in range(most):
        changed.append(change(changed[-1] if changed else letters, step % 2 == 1))
        undone = changed[-1]
        for back in range(step, -1, -1):
            undone = undo(undone, back % 2 == 1)
        lost = np.abs(undone.sum((1, 2), dtype=np.int64) - ink)
        reversible += (reversible == step) & (lost <= TOLERATED * ink)
    return changed, reversible


def _half_sides(letter: Grey) -> tuple[float, float]:
    """Half the height and half the width of a centred letter."""
    rows, columns = np.flatnonzero(letter.any(1)), np.flatnonzero(letter.any(0))
    return (int(rows[-1] - rows[0]) + 1) / 2, (int(columns[-1] - columns[0]) + 1) / 2


def _smoothed(images: Fixed) -> Fixed:
    """Average over about one pixel of the image, so that one sample per pixel is enough; returns 64 times the values."""
    for axis in (1, 2):
        near = np.roll(images, -1, axis) + images + np.roll(images, 1, axis)
        images = (np.roll(images, -2, axis) + 2 * near + np.roll(images, 2, axis)).astype(np.int32)
    return images


def _sample(images: Fixed, rows: Fixed, columns: Fixed) -> Fixed:
    """Bilinear sampling in integers; `rows` and `columns` are in 1/256 of a pixel. Returns 2**16 times the values."""
    last = images.shape[-1] - 1
    row, column = np.minimum(rows >> 8, last - 1), np.minimum(columns >> 8, last - 1)
    down, right = rows - (row << 8), columns - (column << 8)
    corner = (np.arange(len(images))[:, None, None] * (last + 1) + row) * (last + 1) + column
    flat = images.ravel()
    top = flat[corner] * (256 - right) + flat[corner + 1] * right
    corner += last + 1
    bottom = flat[corner] * (256 - right) + flat[corner + 1] * right
    sampled: Fixed = top * (256 - down) + bottom * down
    return sampled


@cache
def _spline_weights(side: int) -> Real:
    """Cubic B-spline weights of the knots for each pixel, [side, KNOTS]; the outer knots are outside the image."""
    position = np.linspace(1, KNOTS - 2, side)
    distance = np.abs(position[:, None] - np.arange(KNOTS))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.maximum(2 - distance, 0) ** 3 / 6
    weights: Real = np.where(distance < 1, inner, outer)
    return weights
