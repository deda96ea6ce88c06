"""The base class of presentations, which turn the items of a bank into the inputs of a network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from metashot.bad_input import BadInput
from metashot.data.bank import Bank
from metashot.episodes import Episode
from metashot.sources.source import PIXELS
from metashot.sources.splitting import Split

Banks = Mapping[Split, Bank]  # the items of each split


class Presentation(ABC):
    """Turns items [T, N, *item_shape] into inputs [T, N, *input_shape].

    This takes three steps, of which the first two may do nothing: `values` converts items to numbers, `augmented` changes
    the values of training episodes at random, and `inputs` converts values to the form that a learner is trained on. A
    subclass sets `kind` and `noun` and implements `inputs`.

    Attributes:
        kind: the kind of items it presents, which a source names as `presented_as`.
        noun: the plural noun for the items in messages.
        item_shape: the shape of an item, set by `expect`.
        input_shape: the shape of an input, set by `expect`.
    """

    kind: ClassVar[str]
    noun: ClassVar[str]
    item_shape: tuple[int, ...]
    input_shape: tuple[int, ...]

    @property
    def augments(self) -> bool:
        """Whether training inputs are changed at random."""
        return False

    @property
    def margin(self) -> int:
        """The padding that augmentation temporarily adds to each side of a training input, in pixels."""
        return 0

    def stop_augmenting(self) -> None:
        """Leave training inputs unchanged from now on."""
        return

    def expect(self, item_shape: tuple[int, ...]) -> None:
        """Prepare for items of one shape: set `item_shape` and `input_shape`.

        Args:
            item_shape: the shape of one item.

        Raises:
            BadInput: if items of this shape cannot be presented.
        """
        self.item_shape = self.input_shape = item_shape

    def fit(self, bank: Bank) -> None:
        """Compute whatever depends on the training items, such as their mean and standard deviation.

        Args:
            bank: the items of the training split.
        """
        return

    def prepare(self, banks: Banks, fingerprint: str, folder: Path) -> tuple[Banks, str | None]:
        """Convert all items once, where that is too slow for each step.

        Args:
            banks: the items of each split.
            fingerprint: identifies the items.
            folder: the folder of the banks, where what is converted is kept.

        Returns:
            The items that `values` is called with, and a line for the user; None if there is nothing to say.

        Raises:
            BadInput: if it cannot be kept there.
        """
        return banks, None

    def values(self, items: Tensor) -> Tensor:
        """Convert items to numbers to compute with.

        Args:
            items: items as stored in a bank, already on the device that will use them: [T, N, *item_shape].

        Returns:
            Their values, [T, N, ...].
        """
        return items

    def augmented(self, episode: Episode, key: tuple[int, int]) -> Episode:
        """Change a training episode at random.

        Args:
            episode: an episode whose x are values, as returned by `values`.
            key: the sampler's key, from which the random numbers of the episode are derived.

        Returns:
            The augmented episode.
        """
        return episode

    @abstractmethod
    def inputs(self, values: Tensor) -> Tensor:
        """Convert values to the inputs of a network.

        Args:
            values: values as returned by `values`, augmented or not.

        Returns:
            The inputs, [T, N, *input_shape].
        """

    def compact(self, episode: Episode) -> Episode:
        """Leave out what no item of some episodes has, such as columns of padding. It changes no answer.

        Args:
            episode: episodes whose x are values, as returned by `values`.

        Returns:
            The same episodes in less memory.
        """
        return episode

    def for_display(self, inputs: Tensor) -> Tensor | None:
        """Convert inputs to images for people to look at.

        Args:
            inputs: inputs as returned by `inputs`.

        Returns:
            Images with values between 0 and 1; None if the inputs cannot be pictured.
        """
        return None

    def origin(self) -> dict[str, Any]:
        """Describe this presentation, so that a learner trained with it can be given other items later.

        Returns:
            Plain containers for the checkpoint. Image learners do not store their kind, because the first checkpoints had
            no other kind.
        """
        return {"presentation": self.kind} if self.kind != PIXELS else {}

    def identity(self) -> dict[str, Any]:
        """Describe everything that determines inputs, in plain containers that JSON can store."""
        return self.origin()

    def look_like(self, origin: Mapping[str, Any], name: str) -> str | None:
        """Present items in the way a learner was trained on.

        Args:
            origin: the `origin()` of the data that the learner was trained on.
            name: the name of the data set whose items are presented here.

        Returns:
            One line that says what changes; None if nothing does.

        Raises:
            BadInput: if these items cannot be presented in that way.
        """
        kind = origin.get("presentation", PIXELS)
        if kind != self.kind:
            raise BadInput(
                f"data={name} has {self.noun}, but the checkpoint was trained on {origin['name']}, which has {kind}: choose "
                "other data"
            )
        if tuple(origin["input_shape"]) != self.input_shape:
            raise BadInput(
                f"data={name} has {self.noun} of the shape {list(self.input_shape)}, but the checkpoint was trained on "
                f"{origin['name']}, whose have {list(origin['input_shape'])}: choose other data"
            )
        return None
