"""What a presentation is: how the items of a bank become the inputs of a network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from metashot.bad_input import BadInput
from metashot.data.bank import Bank
from metashot.episodes import Episode
from metashot.sources.source import PIXELS


class Presentation(ABC):
    """Items [T, N, *item_shape] become inputs [T, N, *input_shape] in three steps, of which the first two may do nothing:
    `values` makes numbers of them, `augmented` changes the numbers of training at random, and `inputs` brings them to the
    form that a learner was, or will be, trained on."""

    kind: ClassVar[str]  # of the sources whose items it is for
    noun: ClassVar[str]  # what the items are called in messages, in the plural
    item_shape: tuple[int, ...]  # when `expect` was told
    input_shape: tuple[int, ...]  # likewise

    @property
    def augments(self) -> bool:
        """Whether training changes inputs at random."""
        return False

    @property
    def margin(self) -> int:
        """How many numbers training puts around each side of an input for a while."""
        return 0

    def expect(self, item_shape: tuple[int, ...]) -> None:
        """Be for items of this shape.

        Raises:
            BadInput: if it cannot be.
        """
        self.item_shape = self.input_shape = item_shape

    def fit(self, bank: Bank) -> None:
        """Take from the bank of the training split what depends on its items."""
        return

    def values(self, items: Tensor) -> Tensor:
        """Items as they lie in a bank, on the device that will use them, as numbers to work with."""
        return items

    def augmented(self, episode: Episode, key: tuple[int, int]) -> Episode:
        """A training episode of values, changed by random numbers that belong to it: `key` is the sampler's."""
        return episode

    @abstractmethod
    def inputs(self, values: Tensor) -> Tensor:
        """What a network takes: [T, N, *input_shape]."""

    def for_display(self, inputs: Tensor) -> Tensor | None:
        """Inputs as people look at them, images with values between 0 and 1; nothing where they have no picture."""
        return None

    def origin(self) -> dict[str, Any]:
        """What has to be known later to present other items to a learner that was trained with this, as plain containers.
        Learners of images are the ones that do not name their kind, as there was no other one."""
        return {"presentation": self.kind} if self.kind != PIXELS else {}

    def look_like(self, origin: Mapping[str, Any], name: str) -> str | None:
        """Present the items of the data set `name` as those of this origin, with which a learner was trained.

        Returns:
            What that changes, in a line, if anything.

        Raises:
            BadInput: if these items cannot be presented so.
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
