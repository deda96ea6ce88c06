"""Small tables of vectors: classes are clouds around points of their own."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEATURES, CLASSES, EACH = 6, 20, 8


def clouds(seed: int = 0, classes: int = CLASSES, each: int = EACH) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows in random order [N, features], and the class of each."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, FEATURES))
    y = random.permutation(np.repeat(np.arange(classes), each))
    x = centres[y] + 0.3 * random.normal(size=(len(y), FEATURES))
    return x.astype(np.float32), y


def npz(path: Path, compressed: bool = False, **changed: Any) -> Path:
    """A file of clouds, but for the arrays that are given; those that are None are left out."""
    x, y = clouds()
    arrays = {name: values for name, values in ({"x": x, "y": y} | changed).items() if values is not None}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)  # type: ignore[arg-type]
    return path


def csv(path: Path, label: str = "class", split: dict[int, str] | None = None, delimiter: str = ",") -> Path:
    x, y = clouds()
    header = [*(f"f{column}" for column in range(FEATURES)), label, *(["split"] if split else [])]
    lines = [delimiter.join(header)]
    for row, place in zip(x, y, strict=True):
        fields = [*map(repr, row.tolist()), f"class {place}", *([split[int(place)]] if split else [])]
        lines.append(delimiter.join(fields))
    path.write_text("\n".join(lines) + "\n")
    return path
