"""What tasks of validation classes need, which a fitted learner simulates to tell what to expect of its own."""

from metashot.algorithms.features import FeatureLearner
from metashot.bad_input import BadInput


def refuse_simulation(algorithm: FeatureLearner, purpose: str, fewest: int, instead: str) -> None:
    """Check that an algorithm can be asked in simulated tasks.

    Args:
        algorithm: The algorithm.
        purpose: What tasks are simulated for, as messages begin.
        fewest: The number of images of a class that a task needs.
        instead: What the user can do instead.

    Raises:
        BadInput: It reads class names, or its checkpoint has too few validation features or none that differ.
    """
    if algorithm.reads_names:
        raise BadInput(
            f"{purpose} simulates tasks of validation classes, whose names a checkpoint does not keep, and this learner "
            f"reads the names of classes: {instead}"
        )
    if algorithm.familiarity.sample is None:
        raise BadInput(
            f"{purpose} needs the validation classes that a checkpoint keeps, and an older version of metashot wrote this "
            "one: train it again"
        )
    if bool((algorithm.familiarity.sample == algorithm.familiarity.sample[:1, :1]).all()):
        raise BadInput(
            f"{purpose} simulates tasks of the validation classes that a checkpoint keeps, and this learner gives the same "
            f"features to all of their images: take another checkpoint, or {instead}"
        )
    if algorithm.familiarity.sample.shape[1] < fewest:
        raise BadInput(
            f"{purpose} simulates tasks with at least {fewest} images of each validation class, and this learner was "
            f"trained on data with fewer: {instead}"
        )
