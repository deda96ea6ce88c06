"""Compatibility of configurations: a resumed run with its earlier self, and initial weights with the backbone."""

from metashot import configuration
from metashot.bad_input import BadInput
from metashot.configuration import Container
from metashot.configuration.buildable import choice_of_backbone

# Keys that a resumed run may change: they do not change the experiment.
FREE_WHEN_RESUMED = (
    *("pictures", "curve", "allow_seen_classes", "trainer.", "logger.", "engine."),
    *("data.root", "data.banks", "data.tasks_per_evaluation_step"),
)
# In the backbone's group. Published weights are compared by their digest, wherever they were found.
_CHANGES_NO_WEIGHT = ("normalisation", "drop_block", "drop_block_size", "dropout", "fused", "train", "weights")


def refuse_another_experiment(new: Container, old: Container) -> None:
    """Check that a resumed run has the same experiment as before.

    Args:
        new: the configuration that is given now.
        old: the configuration of the run to resume.

    Raises:
        BadInput: if they differ in a key that changes the experiment.
    """
    for key, given, kept in configuration.differences(new, old):
        if not key.startswith(FREE_WHEN_RESUMED):
            raise BadInput(
                f"{key}={given} was given, but the run to resume has {key}={kept}, and a resumed run goes on as it was: "
                f"leave {key} out, or start a new run with repeat= instead of resume="
            )


def refuse_another_backbone(given: str, own: Container, theirs: Container) -> None:
    """Check that initial weights come from the same backbone.

    Args:
        given: the value of `init_from`.
        own: the backbone configuration of this run.
        theirs: the backbone configuration of the checkpoint.

    Raises:
        BadInput: if the backbones differ in a setting that changes the weights.
    """
    if own["_target_"] != theirs.get("_target_"):
        names = [choice_of_backbone(config.get("_target_")) for config in (theirs, own)]
        raise BadInput(
            f"init_from={given} holds the weights of another backbone, {names[0]}, but this run has {names[1]}: "
            f"choose backbone={names[0]}"
        )
    differences = configuration.differences(own, theirs)
    changes = [(key, mine, other) for key, mine, other in differences if key not in _CHANGES_NO_WEIGHT]
    if changes:
        wanted = " ".join(f"backbone.{key}={str(other).replace(' ', '')}" for key, _, other in changes)
        had = " ".join(f"backbone.{key}={str(mine).replace(' ', '')}" for key, mine, _ in changes)
        raise BadInput(
            f"init_from={given} holds the weights of another backbone: it has {wanted}, but this run has {had}: "
            f"give {wanted}"
        )
