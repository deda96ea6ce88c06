"""Augmentation: each image changed as torchvision would, by random numbers that are its own."""

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from metashot.bad_input import BadInput
from metashot.data.presentation.augmentation import Augmentation
from metashot.episodes import Episode, Examples
from metashot.randomness import random_words

OFF: dict[str, Any] = {"crop_padding": 0, "flip": 0, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
ALL: dict[str, Any] = {
    "crop_padding": 3,
    "flip": 0.5,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.2,
    "quarter_turns": "image",
}
KEY = (11, 22)
ROW, COLUMN, FLIP, TURN, BRIGHTNESS, CONTRAST, SATURATION, HUE = range(8)


def augmentation(**changed: Any) -> Augmentation:
    return Augmentation(**OFF | {"quarter_turns": "none"} | changed)


def episode(numbers: list[int], ways: int = 3, queries: int = 4, channels: int = 3, side: int = 12) -> Episode:
    """Images that belong to their episode's number and their place, as those of a bank do."""

    def examples(each: int, role: int) -> Examples:
        count = ways * each
        images = []
        for number in numbers:
            generator = torch.Generator().manual_seed(number * 10 + role)
            images.append(torch.rand(count, channels, side, side, generator=generator))
        return Examples(torch.stack(images), torch.arange(ways).repeat_interleave(each).expand(len(numbers), -1))

    classes = torch.zeros(len(numbers), ways, dtype=torch.long)
    return Episode(examples(2, 0), examples(queries, 1), torch.tensor(numbers), classes)


def one_by_one(images: torch.Tensor, share: torch.Tensor, given: dict[str, Any]) -> torch.Tensor:
    """What torchvision makes of each image with the same numbers."""
    changed = []
    for image, drawn in zip(images.flatten(0, 1), share.flatten(0, 1).tolist(), strict=True):
        margin, size = given["crop_padding"], list(image.shape[-2:])
        if margin:
            top, left = int(drawn[ROW] * (2 * margin + 1)), int(drawn[COLUMN] * (2 * margin + 1))
            image = TF.crop(TF.pad(image, [margin]), top, left, *size)
        if drawn[FLIP] < given["flip"]:
            image = TF.horizontal_flip(image)
        if given.get("quarter_turns") == "image":
            image = torch.rot90(image, int(drawn[TURN] * 4), (1, 2))
        for kind, change in (
            (BRIGHTNESS, TF.adjust_brightness),
            (CONTRAST, TF.adjust_contrast),
            (SATURATION, TF.adjust_saturation),
        ):
            most = given[change.__name__.removeprefix("adjust_")]
            if most:
                image = change(image, 1 + most * (2 * drawn[kind] - 1))
        if given["hue"]:
            image = TF.adjust_hue(image, given["hue"] * (2 * drawn[HUE] - 1))
        changed.append(image)
    return torch.stack(changed).view_as(images)


# torchvision turns the hue in single precision, and ours counts the mean of a contrast in steps of 2**-40.
EXACTNESS = {torch.float32: 5e-6, torch.float64: 1e-11}
KINDS = [{name: value} for name, value in ALL.items()] + [ALL]


@pytest.mark.parametrize("dtype", EXACTNESS, ids=["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS, ids=[" ".join(kind) if len(kind) == 1 else "all" for kind in KINDS])
def test_pixels_are_those_of_torchvision(kind: dict[str, Any], channels: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 30, channels, 12, 12, generator=generator, dtype=dtype)
    images[0, :5] = images[0, :5, :1]  # grey ones in colour: no hue of their own
    images[0, 5:8] = images[0, 5:8].round()  # pure colours, where channels are equal
    share = torch.rand(4, 30, 8, generator=generator, dtype=torch.float64)
    expected = one_by_one(images, share, OFF | kind)
    exactness = EXACTNESS[torch.float32 if kind.get("hue") else dtype]
    if kind.keys() <= {"crop_padding", "flip", "quarter_turns"}:
        exactness = 0.0
    torch.testing.assert_close(augmentation(**kind).apply(images, share), expected, atol=exactness, rtol=0)
    if channels == 3:
        assert not torch.equal(expected, images)


def test_an_image_is_a_function_of_its_episode_and_place_alone() -> None:
    change, numbers = augmentation(**ALL), [5, 0, 10**12, 7]
    together = change(episode(numbers), KEY)
    for place, number in enumerate(numbers):
        torch.manual_seed(place)
        alone = change(episode([number]), KEY)
        assert torch.equal(alone.support.x[0], together.support.x[place])
        assert torch.equal(alone.query.x[0], together.query.x[place])
    backwards = change(episode(numbers[::-1]), KEY)
    assert torch.equal(backwards.query.x.flip(0), together.query.x)
    assert torch.equal(change(episode([5], queries=1), KEY).support.x[0], together.support.x[0])


@pytest.mark.parametrize("side", [13, 192])
def test_an_image_has_the_same_bits_alone_and_among_others(side: int) -> None:
    """Sums are the danger: the order in which a device adds numbers depends on how many images there are and on threads."""
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, 3, side, side, generator=generator)
    share = torch.rand(2, 3, 8, generator=generator, dtype=torch.float64)
    change, threads = augmentation(**ALL), torch.get_num_threads()
    together = change.apply(images, share)
    torch.set_num_threads(2)
    try:
        for task, place in np.ndindex(2, 3):
            alone = change.apply(images[task : task + 1, place : place + 1], share[task : task + 1, place : place + 1])
            assert torch.equal(alone[0, 0], together[task, place])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "quarter_turns" not in kind], ids=lambda kind: " ".join(kind))
def test_images_need_not_be_square_where_nothing_turns(kind: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(2, 5, 3, 6, 11, generator=generator)
    share = torch.rand(2, 5, 8, generator=generator, dtype=torch.float64)
    changed = augmentation(**kind).apply(images, share)
    torch.testing.assert_close(changed, one_by_one(images, share, OFF | kind), atol=EXACTNESS[torch.float32], rtol=0)


def test_changes_are_those_of_the_documented_random_words() -> None:
    """Stream 16 belongs to the support set, 17 to the queries, 18 to classes; an image has eight words of its stream."""
    numbers = [3, 2**33]
    given = episode(numbers)
    changed = augmentation(**ALL | {"quarter_turns": "class"})(given, KEY)
    of_classes = random_words(KEY, np.array(numbers), 18, 3) / 2.0**32
    for examples, result, stream in ((given.support, changed.support, 16), (given.query, changed.query, 17)):
        words = random_words(KEY, np.array(numbers), stream, examples.y.shape[1] * 8) / 2.0**32
        share = torch.from_numpy(words).view(2, -1, 8)
        share[..., TURN] = torch.from_numpy(np.take_along_axis(of_classes, examples.y.numpy(), axis=1))
        torch.testing.assert_close(result.x, one_by_one(examples.x, share, ALL), atol=EXACTNESS[torch.float32], rtol=0)
        assert torch.equal(result.y, examples.y)


def test_another_key_number_place_or_role_draws_other_changes() -> None:
    change = augmentation(brightness=1.0)
    same = torch.full((2, 6, 3, 4, 4), 0.3)
    examples = Examples(same, torch.arange(3).repeat_interleave(2).expand(2, -1))
    given = Episode(examples, examples, torch.tensor([1, 2]), torch.zeros(2, 3, dtype=torch.long))
    first, other = change(given, KEY), change(given, (11, 23))
    drawn = torch.cat([e.x[..., 0, 0, 0].flatten() for e in (first.support, first.query, other.support, other.query)])
    assert len(drawn.unique()) == len(drawn)


@pytest.mark.parametrize("kind", ALL)
def test_one_kind_more_leaves_the_others_as_they_were(kind: str) -> None:
    """Parameters are at fixed places: with a kind of no effect added, the images stay the same."""
    images = torch.rand(1, 6, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    share = torch.rand(1, 6, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    others = {name: value for name, value in ALL.items() if name != kind}
    place = {"crop_padding": [ROW, COLUMN], "flip": [FLIP], "quarter_turns": [TURN]}.get(kind)
    place = place or [{"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": HUE}[kind]]
    neutral = {ROW: 0.5, COLUMN: 0.5, FLIP: 0.99, TURN: 0.0}
    for word in place:
        share[..., word] = neutral.get(word, 0.5)
    torch.testing.assert_close(augmentation(**ALL).apply(images, share), augmentation(**others).apply(images, share))


def test_contrast_and_hue_keep_extreme_images_finite_and_in_range() -> None:
    ends = torch.tensor([0.0, 1e-30, 1 / 255, 254 / 255, 1 - 2**-24, 1.0])
    images = torch.cartesian_prod(ends, ends, ends).T.reshape(1, 1, 3, 12, 18).expand(1, 200, -1, -1, -1)
    share = torch.rand(1, 200, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for strength in (0.1, 1.0):
        change = augmentation(brightness=strength, contrast=strength, saturation=strength, hue=strength / 2)
        changed = change.apply(images, share)
        assert changed.min() >= 0
        assert changed.max() <= 1


def test_images_of_a_class_turn_together_in_support_and_query() -> None:
    corner = torch.zeros(40, 6, 1, 4, 4)
    corner[..., 0, 0] = 1
    y = torch.arange(3).repeat_interleave(2).expand(40, -1)
    given = Episode(Examples(corner, y), Examples(corner, y), torch.arange(40), torch.zeros(40, 3, dtype=torch.long))
    turned = augmentation(quarter_turns="class")(given, KEY)
    corners = {(0, 0): 0, (3, 0): 1, (3, 3): 2, (0, 3): 3}

    def turns(x: torch.Tensor) -> list[list[int]]:
        return [[corners[tuple(image[0].nonzero()[0].tolist())] for image in task] for task in x]

    assert turns(turned.support.x) == turns(turned.query.x)
    for task in turns(turned.support.x):
        assert task[0::2] == task[1::2]
    found = np.array(turns(turned.support.x))[:, ::2]
    assert set(found.ravel().tolist()) == {0, 1, 2, 3}
    assert any(len(set(task)) > 1 for task in found.tolist())


def test_changes_are_drawn_about_equally_often() -> None:
    given = episode(list(range(300)), side=8, channels=1)
    x = torch.zeros_like(given.query.x)
    x[..., 4, 3] = 1  # off the middle, so that a flip shows
    marked = Episode(given.support, Examples(x, given.query.y), given.number, given.classes)
    flipped = augmentation(flip=0.3)(marked, KEY).query.x[..., 4, 4].sum().item()
    count = 300 * 12
    assert abs(flipped - 0.3 * count) < 5 * (count * 0.3 * 0.7) ** 0.5
    moved = augmentation(crop_padding=2)(marked, KEY).query.x.flatten(0, 1)[:, 0].nonzero()[:, 1:]
    where = torch.bincount((moved[:, 0] - 2) * 5 + moved[:, 1] - 1, minlength=25)
    assert where.sum() == count
    assert where.min() > count / 25 - 5 * (count / 25) ** 0.5
    assert where.max() < count / 25 + 5 * (count / 25) ** 0.5


def test_no_change_hands_the_episode_on_and_no_input_is_written_to() -> None:
    given = episode([0, 1])
    before = given.support.x.clone()
    assert augmentation()(given, KEY) is given
    augmentation(**ALL)(given, KEY)
    assert torch.equal(given.support.x, before)


def test_turning_what_is_not_square_is_refused_with_its_key() -> None:
    x = torch.zeros(1, 3, 1, 4, 6)
    examples = Examples(x, torch.arange(3).expand(1, -1))
    given = Episode(examples, examples, torch.tensor([0]), torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(BadInput, match=r"data\.presentation\.augmentation\.quarter_turns=image needs square images.*4x6"):
        augmentation(quarter_turns="image")(given, KEY)
