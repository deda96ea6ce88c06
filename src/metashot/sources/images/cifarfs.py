"""CIFAR-FS: Bertinetto, Henriques, Torr, Vedaldi 2019, "Meta-learning with differentiable closed-form solvers".

The 100 classes of CIFAR-100, split at random: 64 for training, 16 for validation, 20 for testing.
"""

from metashot.arguments import Side
from metashot.bad_input import BadInput
from metashot.sources.getting.download import OfficialFile
from metashot.sources.getting.files import printable
from metashot.sources.images.cifar100 import CIFAR_100, CLASSES, LICENCE, Cifar100, PickledImages
from metashot.sources.official import Official
from metashot.sources.splitting import SPLITS, check_disjoint, listed_splits, names_listed

HELD_OUT = {
    "val": (
        "beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle otter sea shark "
        "television tractor"
    ),
    "test": (
        "baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail sweet_pepper table "
        "telephone wardrobe whale woman worm"
    ),
}
BERTINETTO = {
    "train": [name for name in CLASSES if name not in " ".join(HELD_OUT.values()).split()],
    **{split: names.split() for split, names in HELD_OUT.items()},
}


class CifarFS(Cifar100):
    """CIFAR-100's classes in the splits of CIFAR-FS.

    Args:
        split: `bertinetto`, or a folder of lists of classes. `bertinetto` uses the lists in the archive of CIFAR-FS; for
            CIFAR-100's own archive, which has none, it uses the lists above.
        image_size: height and width of the images.
    """

    name = "cifarfs"
    official = Official(
        title="CIFAR-FS",
        home="https://github.com/bertinetto/r2d2",
        licence=LICENCE,
        files=(
            CIFAR_100,
            OfficialFile(
                "cifar100.zip",
                "https://drive.usercontent.google.com/download?id=1pTsCCMDj45kzFYgrnO67BWVbKs48Q3NI&export=download&confirm=t",
                None,  # size and checksum are not published
                None,
            ),
        ),
    )

    def __init__(self, split: str, image_size: Side) -> None:
        lists = listed_splits(split, ("bertinetto",))
        self.listed = lists is None  # whether the lists are in the archive itself
        super().__init__(image_size, lists or BERTINETTO, {"split": lists or split})

    def splits_of_files(self) -> dict[str, list[str]]:
        if not self.listed or isinstance(self.opened, PickledImages):
            return self.classes
        where = printable(self.opened.path)
        splits: dict[str, list[str]] = {split: self._list_of(split) for split in SPLITS}
        check_disjoint(splits, where)
        return splits

    def _list_of(self, split: str) -> list[str]:
        wanted = f"splits/bertinetto/{split}.txt"
        found = [name for name in self.opened.names() if f"/{name}".endswith(f"/{wanted}")]
        if len(found) != 1:
            raise BadInput(
                f"{printable(self.opened.path)} has {len(found) or 'no'} {wanted}, the list of the {split} split's classes: "
                "fetch the archive again, or give a folder with such lists as data.source.split"
            )
        return names_listed(self.opened.read(found[0]), f"{printable(self.opened.path)}: {found[0]}")
