"""A small file of texts: the words of a class are of its own letters, and texts have two to five of them."""

import csv
from pathlib import Path

import numpy as np

CLASSES, EACH = 15, 8


def texts_of_class(label: int, each: int = EACH, seed: int = 0) -> list[str]:
    random = np.random.default_rng([seed, label])
    letters = [chr(point) for point in random.choice(np.arange(ord("a"), ord("z") + 1), 5, replace=False)]

    def word() -> str:
        return "".join(random.choice(letters, random.integers(2, 6)))

    return [" ".join(word() for _ in range(random.integers(2, 6))) for _ in range(each)]


def table(path: Path, classes: int = CLASSES, each: int = EACH) -> Path:
    """A CSV file with the columns text and label."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for label in range(classes):
            writer.writerows([text, f"class {label}"] for text in texts_of_class(label, each))
    return path
