"""The data of a learner again, for a benchmark that asks it about classes that it has not seen in training."""

from collections.abc import Sequence
from typing import Any

from metashot import configuration
from metashot.applied.learner import Learner
from metashot.bad_input import BadInput
from metashot.data.class_episodes import ClassEpisodes
from metashot.data.seen_classes import TrainingClasses
from metashot.sources.splitting import Split


def own_data(learner: Learner, splits: Sequence[Split], changed: dict[str, Any] | None = None) -> ClassEpisodes:
    """The data that a learner was trained on, as it is presented to the learner.

    Args:
        learner: the learner of a run.
        splits: the splits whose classes it is asked about.
        changed: other settings of `data` than those of the run.

    Raises:
        BadInput: The data has no classes, or those of a split were seen in training.
    """
    network = learner.network
    data = configuration.build(network.config["data"] | (changed or {}), seed=network.config["seed"])
    if not isinstance(data, ClassEpisodes):
        raise BadInput(f"this is for data with classes, and {data.name} has none")
    data.look_like(network.origin)
    data.setup()
    refuse_seen(learner, data, splits)
    return data


def refuse_seen(learner: Learner, data: ClassEpisodes, splits: Sequence[Split]) -> None:
    """Refuse a learner that was trained on classes of some splits."""
    for split in splits:
        TrainingClasses.noted_in(learner.network.origin, learner.network.path).refuse_seen(data, split, "this learner")
