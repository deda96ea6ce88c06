"""tieredImageNet: Ren et al. 2018, "Meta-learning for semi-supervised few-shot classification".

608 classes of ImageNet in 34 categories, split by category: 351 for training, 97 for validation, 160 for testing; all their
images, 84x84 RGB. The images are read directly from their files, since they may not fit into memory.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import Side
from metashot.bad_input import BadInput
from metashot.sources.getting.download import OfficialFile, download
from metashot.sources.getting.files import Files, Folder, printable
from metashot.sources.getting.pickles import read_pickle
from metashot.sources.images.image_files import Listed
from metashot.sources.images.imagenet_subset import (
    LICENCE,
    Found,
    ImageNetSubset,
    as_text,
    in_class_folders,
    refuse,
    split_folders,
)
from metashot.sources.images.packed_images import Numbered, Pack, PackedImages, Packing, Place, by_label
from metashot.sources.official import Official
from metashot.sources.splitting import SPLITS

MIRROR = "https://zenodo.org/record/7978538/files/tiered-imagenet-"
PNG, PIXELS = "_images_png.pkl", "_images.npz"  # follows the name of a split
LABELS = "_labels.pkl"


class TieredImageNet(ImageNetSubset):
    """Reads the pickles of Ren et al., the `.npz` files that MetaOptNet uses, or folders train|val|test/class/image.

    Args:
        image_size: height and width of the images.
    """

    name = "tieredimagenet"
    plain_name = "tieredimagenet"
    home_folder = "tiered-imagenet"
    sizes: ClassVar = {"train": (351, 448_695), "val": (97, 124_261), "test": (160, 206_209)}
    official = Official(
        title="tieredImageNet",
        home="https://github.com/renmengye/few-shot-ssl-public",
        licence=LICENCE,
        files=(
            # Learn2learn's mirror of the authors' files; only the checksum of the archive is published.
            *(
                OfficialFile(f"{split}{kind}", f"{MIRROR}{split}{kind}", None, None)
                for split in SPLITS
                for kind in (LABELS, PNG)
            ),
            OfficialFile(
                "tiered-imagenet.tar",
                "https://drive.usercontent.google.com/download?id=1g1aIDy2Ar_MViF2gDXFYDBTR-HYecV07&export=download&confirm=t",
                None,
                "md5:e07e811b9f29362d159a9edd0d838c62",
            ),
        ),
    )

    def __init__(self, image_size: Side) -> None:
        super().__init__(3, image_size, "squash", {})

    def find_in(self, folder: Path) -> Found | None:
        for kind in (PNG, PIXELS):
            images = [path for split in SPLITS if (path := _named(folder, split + kind))]
            if images:
                labels = [path for split in SPLITS if (path := _named(folder, split + LABELS))]
                return Found(kind, folder, [*images, *labels])
        splits = split_folders(folder)
        return Found("folders", folder, list(splits.values())) if splits else None

    def fetched(self, folder: Path) -> Found:
        files = [download(file, folder) for file in self._single_files()]
        return Found(PNG, folder, files)

    def open_found(self, found: Found, scratch: Path, archive: Path | None) -> tuple[Files, Listed]:
        if found.form == "folders":
            return Folder(found.folder), in_class_folders(found.folder, split_folders(found.folder))
        packs: dict[str, Pack] = {}
        listed: dict[str, dict[str, Numbered]] = {}
        for split in SPLITS:
            images, labels = (self._file(found, split + kind, archive) for kind in (found.form, LABELS))
            pack = _packed_png(images, scratch) if found.form == PNG else _packed_pixels(images, scratch)
            packs[images.name] = pack
            classes = _classes(labels, images, len(pack))
            listed[split] = {name: Numbered(images.name, numbers) for name, numbers in classes.items()}
        return PackedImages(archive or found.folder, packs), listed

    def _file(self, found: Found, name: str, archive: Path | None) -> Path:
        path = _named(found.folder, name)
        if path is not None:
            return path
        official = next((file for file in self._single_files() if file.name == name), None)
        if official is None or archive is not None or found.form != PNG:
            others = ", ".join(path.name for path in found.files)
            raise BadInput(
                f"{name} is not in {printable(found.folder)}, where there are {others}; it is needed too: put it there"
            )
        return download(official, found.folder)

    def _single_files(self) -> list[OfficialFile]:
        assert self.official is not None
        return [file for file in self.official.files if file.name.endswith((PNG, LABELS))]


def _named(folder: Path, name: str) -> Path | None:
    """A file under its original name or its name on the mirror."""
    return next((path for path in (folder / name, folder / f"tiered-imagenet-{name}") if path.is_file()), None)


def _packed_png(path: Path, scratch: Path) -> Pack:
    packing = Packing(path, scratch)

    def place(array: NDArray[Any], start: int | None) -> Any:
        is_row_of_bytes = array.dtype == np.uint8 and array.size == max(array.shape, default=0)
        return packing.place(array, start) if is_row_of_bytes else array

    content = read_pickle(path, place)
    images = content.tolist() if isinstance(content, np.ndarray) else content
    if not isinstance(images, list):
        refuse(path, f"it holds a {type(content).__name__}, not a list")
    for number, image in enumerate(images):
        if not isinstance(image, Place):
            kind = (
                f"an array of {image.dtype} {image.shape}" if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
            )
            refuse(path, f"its image {number} is {kind}, not an array of the bytes of a PNG file")
    return packing.image_files(images)


def _packed_pixels(path: Path, scratch: Path) -> Pack:
    packing = Packing(path, scratch)
    place, shape = packing.npz("images")
    if len(shape) != 4 or shape[3] != 3:
        refuse(path, f"its images have the shape {shape}, not (images, height, width, 3)")
    return packing.pixels(place, *shape[:3], is_blue_first=True)  # as OpenCV decoded them


def _classes(path: Path, images: Path, count: int) -> dict[str, NDArray[np.int32]]:
    """The indices of the images of each class."""
    content = read_pickle(path)
    if not isinstance(content, dict):
        refuse(path, f"it holds a {type(content).__name__}, not a dict")
    content = {as_text(key): value for key, value in content.items()}
    given = content.get("label_specific", content.get("labels"))
    if not isinstance(given, list | np.ndarray) or not all(isinstance(label, int | np.integer) for label in given):
        refuse(path, "it has neither 'label_specific' nor 'labels' with a whole number for each image")
    labels = np.asarray(given, np.int64)
    if len(labels) != count:
        raise BadInput(
            f"{printable(path)} has {len(labels)} labels and {printable(images.name)} has {count} images: they do not "
            "belong together, or one is not whole: fetch both again"
        )
    classes = by_label(labels)
    names = content.get("label_specific_str")
    if names is None:
        return {str(label): numbers for label, numbers in classes.items()}
    if not isinstance(names, list | np.ndarray) or any(not 0 <= label < len(names) for label in classes):
        refuse(path, "'label_specific_str' has no name for some of its labels")
    texts = [as_text(name) for name in names]
    # Two classes may have the same name: a crane is a bird or a machine.
    return {
        texts[label] if texts.count(texts[label]) == 1 else f"{texts[label]} ({label})": numbers
        for label, numbers in classes.items()
    }
