"""Episodes of images: gathered from a data source's banks, changed at random in training, normalised."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metashot.arguments import AtLeast, AtMost, Concentration, Episodes, Images, Positive, Seed, Tasks
from metashot.bad_input import BadInput
from metashot.data.augmentation import Augmentation
from metashot.data.bank import ImageBank
from metashot.data.feature_bank import FeatureBank
from metashot.data.module import SPLITS, ClassIdentity, Counts, EpisodicDataModule, Split, amount, own_seeds
from metashot.data.shuffling import ShuffledSampler
from metashot.episodes import Batch, Episode, EpisodeIndices, EpisodeSampler, EpisodeSpec, Examples, maximum
from metashot.files.paths import given_path
from metashot.problems import Classification
from metashot.sources.building import build_bank, read_digests, read_manifest
from metashot.sources.source import DataSource

_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, as in ITU-R 601
_AT_ONCE = 1000  # episodes whose indices are in memory together


Way = Annotated[int, AtLeast(2), AtMost(100_000)]
Ways = Way | list[Way]


class SplitOptions:
    """What one split has for itself; whatever is null is as for all splits."""

    def __init__(
        self,
        ways: Ways | None,
        shots: Counts | None,
        queries: Counts | None,
        unequal_support: Concentration | None = None,
        unequal_queries: Concentration | None = None,
        episodes: Episodes | None = None,
        seed: Seed | None = None,  # checkpoints from before this key have none
    ) -> None:
        self.amounts = {"ways": ways, "shots": shots, "queries": queries}
        self.shares = {"unequal_support": unequal_support, "unequal_queries": unequal_queries}
        self.episodes = episodes
        self.seed = seed


class TrainingOptions(SplitOptions):
    """With `batch`, training goes through batches of so many shuffled images instead of episodes."""

    def __init__(self, batch: Images | None, **split: Any) -> None:
        super().__init__(**split)
        self.batch = batch
        if batch is None:
            return
        for key, value in (self.amounts | self.shares).items():
            if value is not None:
                raise BadInput(
                    f"data.train.{key}={value} has no effect, because data.train.batch={batch} trains on shuffled images "
                    "instead of episodes: leave one of the two out"
                )


class ImageEpisodes(EpisodicDataModule):
    """Episodes of a data source of images. `root` is where its files are or go, `banks` where the images are kept."""

    asks = Classification

    def __init__(
        self,
        name: str,
        source: DataSource,
        root: str,
        banks: str,
        augmentation: Augmentation,
        mean: list[float] | None,
        std: list[Positive] | None,
        ways: Ways,
        shots: Counts,
        queries: Counts,
        unequal_support: Concentration | None,
        unequal_queries: Concentration | None,
        train: TrainingOptions,
        val: SplitOptions,
        test: SplitOptions,
        tasks_per_step: Tasks,
        tasks_per_evaluation_step: Tasks,
        seed: int,
    ) -> None:
        options: dict[Split, SplitOptions] = {"train": train, "val": val, "test": test}
        amounts = amount(ways, "data.ways"), amount(shots, "data.shots"), amount(queries, "data.queries")
        of_all = EpisodeSpec(*amounts, unequal_support, unequal_queries)
        specs = {split: _spec(split, options[split], of_all) for split in SPLITS}
        episodes = {split: options[split].episodes for split in SPLITS}
        seeds = own_seeds(train.seed, val.seed, test.seed)
        super().__init__(name, specs, episodes, tasks_per_step, tasks_per_evaluation_step, seed, seeds)
        self.source = source
        self.root = given_path(root, "data.root")
        self.banks_root = given_path(banks, "data.banks")
        self.augmentation = augmentation
        self.input_shape: tuple[int, int, int] = source.image_shape
        self.normalisation = _constants(mean, std, source.image_shape[0])
        self.problem = Classification(maximum(specs["train"].ways))
        self.bank_folder: Path  # when the banks are open, which are then in it
        self.banks: dict[Split, ImageBank] = {}
        self.fingerprint: str | None = None  # of all images and what they are called, when the banks are open
        self.samplers: dict[Split, EpisodeSampler] = {}
        self.shuffled_sampler: ShuffledSampler | None = None
        self.features: dict[Split, FeatureBank] = {}  # of splits whose episodes are wanted as features
        self.batch_size = train.batch
        self._identities: dict[Split, list[ClassIdentity]] = {}
        self._placed: dict[tuple[Split, torch.device], ImageBank] = {}

    @property
    def shuffled(self) -> bool:
        return self.batch_size is not None

    def shape_of(self, split: Split) -> str:
        if split == "train" and self.shuffled:
            return f"{self.tasks_per_step} x {self.batch_size} shuffled images a step"
        return super().shape_of(split)

    def _inputs_of_a_task(self, split: Split) -> int:
        return self.batch_size if split == "train" and self.batch_size is not None else super()._inputs_of_a_task(split)

    def prepare_data(self) -> None:
        build_bank(self.source, self.root, self.banks_root)

    def setup(self, stage: str | None = None) -> None:
        self.open_banks()
        if self.batch_size is not None:
            bank = self.banks["train"]
            self.shuffled_sampler = ShuffledSampler(bank.images_per_class, self.batch_size, self.seeds["train"], "train")
            self.problem = Classification(len(bank.classes))
        for split in SPLITS:
            if split != "train" or not self.shuffled:
                self.sampler(split)
        self.refuse_more_than_memory(self.augmentation.crop_padding)

    def sampler(self, split: Split) -> EpisodeSampler:
        """That of the episodes of a split, if they can be drawn."""
        if split not in self.samplers:
            bank = self.banks[split]
            spec = self.specs[split]
            self.samplers[split] = EpisodeSampler(spec, bank.images_per_class, self.seeds[split], split, bank.classes)
        return self.samplers[split]

    def open_banks(self) -> None:
        """All that can be done before it is known whether episodes can be drawn."""
        if not self.banks:
            self.bank_folder = build_bank(self.source, self.root, self.banks_root)
            self.banks = {split: ImageBank.open(self.bank_folder, split) for split in SPLITS}
            described = read_manifest(self.bank_folder)["splits"]
            self.fingerprint = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]

    def origin(self) -> dict[str, Any]:
        mean, std = (None, None) if self.normalisation is None else (c.flatten().tolist() for c in self.normalisation)
        return super().origin() | {"mean": mean, "std": std, "images": self.fingerprint}

    def look_like(self, origin: Mapping[str, Any]) -> str | None:
        """Bring images to the shape and the normalisation that a learner was trained with; say what that changes."""
        channels, height, width = origin["input_shape"]
        own, wanted = self.source.image_shape, (channels, height, width)
        self.normalisation = _constants(origin["mean"], origin["std"], channels)
        self.input_shape = wanted
        if own == wanted:
            return None
        changes = []
        if own[0] != wanted[0]:
            changes.append("made grey" if wanted[0] == 1 else "given three equal colour channels")
        if own[1:] != wanted[1:]:
            changes.append(f"resized from {own[1]}x{own[2]} to {wanted[1]}x{wanted[2]}")
        return f"images of {self.name} are {' and '.join(changes)}, as the learner was trained on {origin['name']}"

    def batch(self, split: Split, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        sampler = self.sampler(split)
        if split in self.features:
            return [gather(self.features[split], sampler(group), device) for group in sampler.groups(numbers)]
        bank = self._bank_on(device, split)
        return [self._presented(gather(bank, sampler(group), device)) for group in sampler.groups(numbers)]

    def training_batch(self, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        """Changed at random, episodes or shuffled images."""
        sampler = self.shuffled_sampler or self.sampler("train")
        bank = self._bank_on(device, "train")
        episodes = [gather(bank, sampler(group), device) for group in sampler.groups(numbers)]
        return [self._presented(self.augmentation(episode, sampler.key)) for episode in episodes]

    def class_names(self, split: Split) -> Sequence[str]:
        return self.banks[split].classes

    def class_identities(self, split: Split) -> Sequence[ClassIdentity]:
        if split not in self._identities:
            names, digests = self.banks[split].classes, read_digests(self.bank_folder)[split]
            self._identities[split] = [
                ClassIdentity(name, self.source.known_as(name, self.root), digest)
                for name, digest in zip(names, digests, strict=True)
            ]
        return self._identities[split]

    def classes_of(self, split: Split, numbers: NDArray[np.int64]) -> dict[int, tuple[int, ...]]:
        found: dict[int, tuple[int, ...]] = {}
        sampler = self.sampler(split)
        for first in range(0, len(numbers), _AT_ONCE):
            for group in sampler.groups(numbers[first : first + _AT_ONCE]):
                found |= dict(zip(group.tolist(), map(tuple, sampler(group).classes.tolist()), strict=True))
        return found

    def images_of(self, split: Split, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of all images that occur in the episodes of a split with these numbers, in ascending order."""
        sampler = self.sampler(split)
        found = [np.empty(0, dtype=np.int64)]
        for first in range(0, len(numbers), _AT_ONCE):
            for group in sampler.groups(numbers[first : first + _AT_ONCE]):
                indices = sampler(group)
                found.append(np.unique(np.concatenate([indices.support, indices.query], axis=1)))
        return np.unique(np.concatenate(found))

    def images_at(self, split: Split, places: NDArray[np.int64], device: torch.device) -> Tensor:
        """Images of a split as the learner expects them: [images, channels, height, width]."""
        return self._converted(self._bank_on(device, split).gather(places[None], device))[0]

    def looked_at(self, episode: Episode) -> Episode:
        """With images between 0 and 1."""
        if episode.embedded:
            (episode,) = self.batch(self.evaluated_split, episode.number.cpu().numpy(), torch.device("cpu"))
        if self.normalisation is None:
            return episode
        mean, std = (constant.to(episode.support.x) for constant in self.normalisation)
        support, query = (Examples(part.x * std + mean, part.y) for part in (episode.support, episode.query))
        return replace(episode, support=support, query=query)

    def _bank_on(self, device: torch.device, split: Split) -> ImageBank:
        if (split, device) not in self._placed:
            self._placed[split, device] = self.banks[split].placed_on(device)
        return self._placed[split, device]

    def _presented(self, episode: Episode) -> Episode:
        """The images as the learner expects them."""
        support, query = (Examples(self._converted(part.x), part.y) for part in (episode.support, episode.query))
        return replace(episode, support=support, query=query)

    def _converted(self, x: Tensor) -> Tensor:
        """Of [T, N, channels, height, width]."""
        channels, *size = self.input_shape
        if channels < x.shape[2]:
            x = (x * x.new_tensor(_LUMINANCE).view(3, 1, 1)).sum(2, keepdim=True)
        elif channels > x.shape[2]:
            x = x.expand(-1, -1, channels, -1, -1)
        if list(x.shape[3:]) != size:
            resized = F.interpolate(x.flatten(0, 1), size=size, mode="bilinear", antialias=True)
            x = resized.view(*x.shape[:3], *size)
        if self.normalisation is None:
            return x
        mean, std = (constant.to(x) for constant in self.normalisation)
        return (x - mean) / std


def gather(bank: ImageBank | FeatureBank, indices: EpisodeIndices, device: torch.device) -> Episode:
    """One pass over the bank for all images, or their features, of episodes of one shape."""
    count = indices.support.shape[1]
    images = bank.gather(np.concatenate([indices.support, indices.query], axis=1), device)

    def placed(array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(device)

    return Episode(
        support=Examples(images[:, :count], placed(indices.support_y)),
        query=Examples(images[:, count:], placed(indices.query_y)),
        number=placed(indices.number),
        classes=placed(indices.classes),
        embedded=isinstance(bank, FeatureBank),
    )


def _spec(split: Split, own: SplitOptions, of_all: EpisodeSpec) -> EpisodeSpec:
    """What all splits have, but for what a split has for itself."""
    given = {name: amount(value, f"data.{split}.{name}") for name, value in own.amounts.items() if value is not None}
    shares = {name: value for name, value in own.shares.items() if value is not None}
    return replace(of_all, **given, **shares)  # type: ignore[arg-type]


def _constants(mean: list[float] | None, std: list[float] | None, channels: int) -> tuple[Tensor, Tensor] | None:
    """What is taken from each channel, and what it is divided by."""
    if (mean is None) != (std is None):
        raise BadInput("data.mean and data.std belong together: give both, or null for both")
    if mean is None or std is None:
        return None
    for key, values in (("data.mean", mean), ("data.std", std)):
        if len(values) != channels:
            raise BadInput(f"{key}={values} has {len(values)} values; allowed: one for each of the {channels} channels")
    return torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
