"""Pictures of a user's own, and trained learners for algorithms that start from one."""

from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from PIL import Image

from ..conftest import Command
from ..processes import Scripts
from .runs import TINY, of_images, of_network, settings_of


class Starts(Protocol):
    """Trains a learner for others to start from, once for all tests."""

    def __call__(self, of: str, network: str = "") -> Path:
        """Its run, on images of one size or on numbers; with another network than conv4 if one is named."""


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train|val|test/class/image: each class has a colour."""
    return coloured(tmp_path_factory.mktemp("pictures"), images=3)


@pytest.fixture(scope="session")
def more_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with more images of a class."""
    return coloured(tmp_path_factory.mktemp("more"), images=12)


def coloured(folder: Path, images: int) -> Path:
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in range(3):
            (folder / split / f"{split} {label}").mkdir(parents=True)
            colour = random.integers(40, 215, 3)
            for number in range(images):
                pixels = (colour + random.integers(-40, 41, (84, 84, 3))).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / f"{split} {label}" / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def anywhere(scripts: Scripts, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Without the trained run and the bank that other tests of the scripts share."""
    folder = tmp_path_factory.mktemp("combinations")
    return Command(scripts, folder / "banks", folder)


@pytest.fixture(scope="session")
def starts(anywhere: Command, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Starts:
    runs: dict[tuple[str, str], Path] = {}

    def start(of: str, network: str = "") -> Path:
        if (of, network) not in runs:
            algo = "maml" if of == "numbers" else "protonet"
            if of == "numbers":
                data = ["experiment=sinusoid"]
            elif network:
                data = of_network(network, of, pictures, anywhere.banks)
            else:
                data = of_images(of, pictures, anywhere.banks)
            command = anywhere.at(tmp_path_factory.mktemp("start"))
            outcome = command.run("train.py", *data, f"algo={algo}", *TINY, *settings_of(algo), "folder=run")
            assert outcome.code == 0, outcome
            runs[of, network] = command.folder / "run"
        return runs[of, network]

    return start
