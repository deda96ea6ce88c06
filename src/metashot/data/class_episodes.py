"""Episodes of classes with items of any kind, sampled from the banks of a data source and presented as inputs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.arguments import AtLeast, AtMost, Concentration, Episodes, Images, Seed, Tasks
from metashot.bad_input import BadInput
from metashot.data.bank import Bank
from metashot.data.feature_bank import FeatureBank
from metashot.data.gathering import gather
from metashot.data.module import ClassIdentity, Counts, EpisodicDataModule, amount, own_seeds
from metashot.data.presentation.presentation import Presentation
from metashot.data.shuffling import ShuffledSampler
from metashot.episodes import Batch, Episode, EpisodeIndices, EpisodeSampler, EpisodeSpec, maximum
from metashot.files.paths import given_path
from metashot.problems import Classification
from metashot.sources.building import build_bank, read_digests, read_manifest
from metashot.sources.root import given_root
from metashot.sources.source import PIXELS, TOKENS, DataSource
from metashot.sources.splitting import SPLITS, Split
from metashot.sources.texts.code_points import PADDING, texts_of

_AT_ONCE = 1000  # episodes whose indices are held in memory at a time
_TEXTS = 10_000  # texts whose tokens are counted at a time


Way = Annotated[int, AtLeast(2), AtMost(100_000)]
Ways = Way | list[Way]


class SplitOptions:
    """The options of one split; a null option has the value given for all splits.

    Args:
        ways: classes per episode, or [least, most].
        shots: support items per class, or [least, most].
        queries: query items per class, or [least, most].
        unequal_support: the concentration of the Dirichlet distribution of the classes' shares of the support set.
        unequal_queries: likewise for the queries.
        episodes: the number of episodes for an evaluation.
        seed: the seed of the split's episodes.
    """

    def __init__(
        self,
        ways: Ways | None,
        shots: Counts | None,
        queries: Counts | None,
        unequal_support: Concentration | None = None,
        unequal_queries: Concentration | None = None,
        episodes: Episodes | None = None,
        seed: Seed | None = None,  # missing in checkpoints older than this key
    ) -> None:
        self.amounts = {"ways": ways, "shots": shots, "queries": queries}
        self.shares = {"unequal_support": unequal_support, "unequal_queries": unequal_queries}
        self.episodes = episodes
        self.seed = seed


class TrainingOptions(SplitOptions):
    """The options of the training split.

    Args:
        batch: the size of the batches of shuffled items that replace training episodes; None trains on episodes.
        **split: the options of `SplitOptions`.

    Raises:
        BadInput: if `batch` is given together with an option of episodes.
    """

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


class ClassEpisodes(EpisodicDataModule):
    """Episodes of the classes of a data source, whose items a presentation turns into inputs.

    Args:
        name: the name of the data set, as in `data=NAME`.
        source: the data source.
        root: the folder of the source's files, to which downloads are saved.
        banks: the folder of the banks, which hold the source's decoded items.
        presentation: how items become inputs.
        ways: classes per episode, or [least, most], for all splits that have no value of their own.
        shots: support items per class, likewise.
        queries: query items per class, likewise.
        unequal_support: the concentration of the Dirichlet distribution of the classes' shares of the support set; None for
            equal shares.
        unequal_queries: likewise for the queries.
        train: the options of the training split.
        val: the options of the validation split.
        test: the options of the test split.
        tasks_per_step: tasks in a training step, over all devices.
        tasks_per_evaluation_step: tasks evaluated at a time.
        seed: the seed of all splits that have none of their own.

    Raises:
        BadInput: if an option cannot be used, or the presentation is not for the kind of items that the source has.
    """

    asks = Classification

    def __init__(
        self,
        name: str,
        source: DataSource,
        root: str,
        banks: str,
        presentation: Presentation,
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
        for_all = EpisodeSpec(*amounts, unequal_support, unequal_queries)
        specs = {split: _spec(split, options[split], for_all) for split in SPLITS}
        episodes = {split: options[split].episodes for split in SPLITS}
        seeds = own_seeds(train.seed, val.seed, test.seed)
        super().__init__(name, specs, episodes, tasks_per_step, tasks_per_evaluation_step, seed, seeds)
        self.source = source
        self.root = given_root(root)
        self.banks_root = given_path(banks, "data.banks")
        self.presentation = presentation
        if presentation.kind != source.presented_as:
            raise BadInput(
                f"data.presentation is for {presentation.noun}, and the items of data={name} are {source.presented_as}: "
                "leave data.presentation as the data set's file has it"
            )
        if source.item_shape is not None:
            self._expect(source.item_shape)
        self.problem = Classification(maximum(specs["train"].ways))
        self.bank_folder: Path  # set when the banks are opened
        self.banks: dict[Split, Bank] = {}
        self._items: Mapping[Split, Bank] = {}  # of the banks, as the presentation converts them
        self.fingerprint: str | None = None  # of all items and class names, set when the banks are opened
        self.samplers: dict[Split, EpisodeSampler] = {}
        self.shuffled_sampler: ShuffledSampler | None = None
        self.features: dict[Split, Bank | FeatureBank] = {}  # for splits whose episodes consist of features
        self.batch_size = train.batch
        self._with_own_ways = {split for split in SPLITS if options[split].amounts["ways"] is not None}
        self._identities: dict[Split, list[ClassIdentity]] = {}
        self._placed: dict[tuple[Split, torch.device], Bank] = {}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.presentation.input_shape

    @property
    def items(self) -> str:
        return self.presentation.kind

    @property
    def noun(self) -> str:
        return self.presentation.noun

    @property
    def shuffled(self) -> bool:
        return self.batch_size is not None

    def shape_of(self, split: Split) -> str:
        if split == "train" and self.shuffled:
            return f"{self.tasks_per_step} x {self.batch_size} shuffled {self.presentation.noun} a step"
        return super().shape_of(split)

    def _inputs_of_a_task(self, split: Split) -> int:
        return self.batch_size if split == "train" and self.batch_size is not None else super()._inputs_of_a_task(split)

    def prepare_data(self) -> None:
        build_bank(self.source, self.root, self.banks_root)

    def setup(self, stage: str | None = None) -> None:
        self.open()
        self.refuse_undrawable(SPLITS if stage is None or stage == "fit" else (self.evaluated_split,))

    def open(self) -> None:
        self.open_banks()
        if self.batch_size is not None:
            bank = self.banks["train"]
            self.shuffled_sampler = ShuffledSampler(bank.items_per_class, self.batch_size, self.seeds["train"], "train")
            self.problem = Classification(len(bank.classes))

    def refuse_undrawable(self, splits: Sequence[Split]) -> None:
        drawn = [split for split in splits if split != "train" or not self.shuffled]
        ways = {split: maximum(self.specs[split].ways) for split in drawn}
        found = {split: len(self.banks[split].classes) for split in drawn}
        if small := [split for split in drawn if ways[split] > found[split]]:
            keys = {split: f"data.{split}.ways" if split in self._with_own_ways else "data.ways" for split in small}
            said = ", ".join(f"{keys[split]}={ways[split]} and the {split} split has {found[split]}" for split in small)
            fitting = " ".join(f"data.{split}.ways={found[split]}" for split in small)
            raise BadInput(
                f"tasks have more classes (ways) than there are: {said}; give {fitting} or fewer, or more classes"
            )
        for split in drawn:
            self.sampler(split)
        self.refuse_more_than_memory(self.presentation.margin)

    def sampler(self, split: Split) -> EpisodeSampler:
        """The sampler of a split's episodes.

        Raises:
            BadInput: if such episodes cannot be drawn from the bank.
        """
        if split not in self.samplers:
            bank = self.banks[split]
            spec = self.specs[split]
            self.samplers[split] = EpisodeSampler(spec, bank.items_per_class, self.seeds[split], split, bank.classes)
        return self.samplers[split]

    def sampling(self, split: Split) -> str | None:
        return self.sampler(split).sampling

    def open_banks(self) -> None:
        """Build and open the banks, without checking whether episodes can be drawn from them."""
        if not self.banks:
            self.bank_folder = build_bank(self.source, self.root, self.banks_root)
            self._items = self.banks = {split: Bank.open(self.bank_folder, split) for split in SPLITS}
            described = read_manifest(self.bank_folder)["splits"]
            self._expect(self.banks["train"].item_shape)
            self.presentation.fit(self.banks["train"])
            self.fingerprint = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]

    def origin(self) -> dict[str, Any]:
        fingerprint = "images" if self.presentation.kind == PIXELS else "items"
        return super().origin() | self.presentation.origin() | {fingerprint: self.fingerprint}

    def look_like(self, origin: Mapping[str, Any]) -> str | None:
        """Present items in the way a learner was trained on.

        Args:
            origin: the `origin()` of the data that the learner was trained on.

        Returns:
            One line that says what changes; None if nothing does.

        Raises:
            BadInput: if these items cannot be presented in that way.
        """
        if self.source.item_shape is None or self.presentation.kind == TOKENS:
            self.open_banks()
        change = self.presentation.look_like(origin, self.name)
        own, wanted = (max(shape[1:], default=1) for shape in (self.source.item_shape or (), tuple(origin["input_shape"])))
        if change is not None and getattr(self.source, "has_larger_files", False) and own < wanted:
            change += f"; data.source.image_size={wanted} reads larger files at that size"
        if not self.banks:
            return change
        assert self.fingerprint is not None
        self._items, line = self.presentation.prepare(self.banks, self.fingerprint, self.banks_root)
        self._placed.clear()
        return "\n".join(filter(None, [change, line])) or None

    def _expect(self, item_shape: tuple[int, ...]) -> None:
        if getattr(self.presentation, "item_shape", None) != item_shape:
            self.presentation.expect(item_shape)

    def batch(self, split: Split, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        sampler = self.sampler(split)
        if split in self.features:
            episodes = self._embedded(split, sampler, numbers, device)
        else:
            episodes = [self._gathered(split, sampler(group), device) for group in sampler.groups(numbers)]
            if not self.strangers:  # which have to be as long as the others
                episodes = [self.presentation.compact(episode) for episode in episodes]
            episodes = [self._presented(episode) for episode in episodes]
        if not self.strangers:
            return episodes
        return [replace(episode, strangers=self._strangers(split, sampler, episode, device)) for episode in episodes]

    def _strangers(self, split: Split, sampler: EpisodeSampler, episode: Episode, device: torch.device) -> Tensor:
        """Inputs, or features, of items of other classes: [T, U, ...]."""
        places = sampler.strangers(episode.number.cpu().numpy(), self.strangers)
        if split in self.features:
            return self.features[split].gather(places, device)
        return self.presentation.inputs(self.presentation.values(self._bank_on(device, split).gather(places, device)))

    def training_batch(self, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        """Augmented episodes, or batches of augmented shuffled items."""
        sampler = self.shuffled_sampler or self.sampler("train")
        if "train" in self.features:
            return self._embedded("train", sampler, numbers, device)
        episodes = [self._gathered("train", sampler(group), device) for group in sampler.groups(numbers)]
        changed = (self.presentation.augmented(episode, sampler.key) for episode in episodes)
        return [self._presented(self.presentation.compact(episode)) for episode in changed]

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

    def places_of(self, split: Split, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find the items that occur in some episodes.

        Args:
            split: the split of the episodes.
            numbers: the numbers of the episodes.

        Returns:
            The positions of these items in the split's bank, each once, in ascending order.
        """
        sampler = self.sampler(split)
        found = [np.empty(0, dtype=np.int64)]
        for first in range(0, len(numbers), _AT_ONCE):
            for group in sampler.groups(numbers[first : first + _AT_ONCE]):
                indices = sampler(group)
                found.append(np.unique(np.concatenate([indices.support, indices.query], axis=1)))
                if self.strangers:
                    found.append(np.unique(sampler.strangers(group, self.strangers)))
        return np.unique(np.concatenate(found))

    def spread_places(self, split: Split, classes: int, items: int) -> NDArray[np.int64]:
        """Positions of items that are spread evenly over a split.

        Args:
            split: the split.
            classes: the most classes.
            items: the most items of each class; all get as many as the smallest of these classes has.

        Returns:
            [classes, items]
        """
        sizes = self.banks[split].items_per_class
        firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        chosen = np.linspace(0, len(sizes) - 1, min(classes, len(sizes))).astype(np.int64)
        count = min(items, int(sizes[chosen].min()))
        within = np.linspace(0, sizes[chosen] - 1, count, axis=1).astype(np.int64)
        places: NDArray[np.int64] = firsts[chosen][:, None] + within
        return places

    def inputs_at(self, split: Split, places: NDArray[np.int64], device: torch.device) -> Tensor:
        """Present items of a split to a learner, without augmentation.

        Args:
            split: the split of the items.
            places: their positions in the split's bank, [items].
            device: where the inputs are needed.

        Returns:
            [items, *input_shape]
        """
        items = self._bank_on(device, split).gather(places[None], device)
        return self.presentation.inputs(self.presentation.values(items))[0]

    def present_for(self, wants: Mapping[str, Any] | None) -> str | None:
        if wants is None:
            return None
        looks = dict(wants)
        changes = []
        if not looks.pop("augmented", True) and self.presentation.augments:
            self.presentation.stop_augmenting()
            changes.append(f"{self.presentation.noun} are not augmented, so that a frozen backbone embeds each only once")
        changed = self.look_like(
            {
                "name": f"the {self.presentation.noun} of its pre-trained backbone",
                "presentation": self.presentation.kind,
                **looks,
            }
        )
        return "\n".join(filter(None, [changed, *changes])) or None

    def token_counts(self) -> Tensor:
        """How often each token id is in the training split, as its texts are presented: [ids]."""
        items = self._items["train"].items
        counts = np.zeros(0, np.int64)
        for first in range(0, len(items), _TEXTS):
            piece = np.asarray(items[first : first + _TEXTS])
            found = np.bincount(piece[piece != PADDING], minlength=len(counts))
            found[: len(counts)] += counts
            counts = found
        return torch.from_numpy(counts)

    def for_display(self, episode: Episode) -> Episode | None:
        """The episode with images between 0 and 1; None if its items cannot be pictured."""
        if episode.embedded:
            (episode,) = self.batch(self.evaluated_split, episode.number.cpu().numpy(), torch.device("cpu"))
        support, query = (self.presentation.for_display(part.x) for part in (episode.support, episode.query))
        if support is None or query is None:
            return None
        return replace(episode, support=replace(episode.support, x=support), query=replace(episode.query, x=query))

    def texts_of(self, split: Split, episode: Episode) -> tuple[list[list[str]], list[list[str]]]:
        """The texts of episodes, for people to read.

        Args:
            split: the split of the episodes.
            episode: the episodes, whose items are texts.

        Returns:
            The texts of the support set and the queries of each task.
        """
        support: list[list[str]] = []
        query: list[list[str]] = []
        sampler, bank = self.sampler(split), self.banks[split]
        for number in episode.number.tolist():
            indices = sampler(np.array([number]))
            for places, found in ((indices.support[0], support), (indices.query[0], query)):
                found.append(texts_of(np.take(bank.items, places, axis=0)))
        return support, query

    def _bank_on(self, device: torch.device, split: Split) -> Bank:
        if (split, device) not in self._placed:
            self._placed[split, device] = self._items[split].placed_on(device)
        return self._placed[split, device]

    def _embedded(
        self, split: Split, sampler: EpisodeSampler | ShuffledSampler, numbers: NDArray[np.int64], device: torch.device
    ) -> Batch:
        """Episodes, or batches of shuffled items, whose inputs are precomputed features."""
        bank, names = self.features[split], self.banks[split].classes
        return [
            replace(gather(bank, indices, device, names=names), embedded=True)
            for indices in map(sampler, sampler.groups(numbers))
        ]

    def _gathered(self, split: Split, indices: EpisodeIndices, device: torch.device) -> Episode:
        return gather(self._bank_on(device, split), indices, device, self.presentation.values, self.banks[split].classes)

    def _presented(self, episode: Episode) -> Episode:
        """The episode with its values converted to inputs."""
        support, query = (replace(part, x=self.presentation.inputs(part.x)) for part in (episode.support, episode.query))
        return replace(episode, support=support, query=query)


def _spec(split: Split, own: SplitOptions, for_all: EpisodeSpec) -> EpisodeSpec:
    """The options for all splits, overridden by those of this split."""
    given = {name: amount(value, f"data.{split}.{name}") for name, value in own.amounts.items() if value is not None}
    shares = {name: value for name, value in own.shares.items() if value is not None}
    return replace(for_all, **given, **shares)  # type: ignore[arg-type]
