"""Ranges that settings of curves are drawn from."""

from collections.abc import Mapping, Sequence

from metashot.bad_input import BadInput

LARGEST = 1e6  # of a number, and of the inverse of a scale: sums and squares of larger ones lose their digits


def refuse_ranges(given: Mapping[str, Sequence[float]], positive: bool = False) -> None:
    """Raise `BadInput` for what is no range [least, most] of numbers that curves can be computed with.

    Args:
        given: The ranges, by their keys below data.source.
        positive: Whether the numbers have to be above 0, such as scales.
    """
    lowest = 1 / LARGEST if positive else -LARGEST
    for key, numbers in given.items():
        if len(numbers) != 2 or not lowest <= numbers[0] <= numbers[1] <= LARGEST:
            raise BadInput(
                f"data.source.{key}={list(numbers)} cannot be used; allowed: [least, most], from {lowest:g} to {LARGEST:g}"
            )
