"""Whether a stored configuration can go on as another one: a resumed run as it was, weights in the backbone they fit."""

from metashot import configuration
from metashot.bad_input import BadInput
from metashot.configuration import Container

# What a resumed run may change without becoming another experiment.
FREE_WHEN_RESUMED = (
    *("pictures", "curve", "allow_seen_classes", "trainer.", "logger.", "engine."),
    *("data.root", "data.banks", "data.tasks_per_evaluation_step"),
)
_CHANGES_NO_WEIGHT = ("normalisation", "drop_block", "drop_block_size")  # settings of a backbone


def refuse_another_experiment(new: Container, old: Container) -> None:
    """A resumed run goes on as it was."""
    for key, given, kept in configuration.differences(new, old):
        if not key.startswith(FREE_WHEN_RESUMED):
            raise BadInput(
                f"{key}={given} was given, but the run to resume has {key}={kept}, and a resumed run goes on as it was: "
                f"leave {key} out, or start a new run with repeat= instead of resume="
            )


def refuse_another_backbone(given: str, own: Container, theirs: Container) -> None:
    """Weights fit the backbone that they were trained in."""
    if own["_target_"] != theirs.get("_target_"):
        names = [str(config.get("_target_")).rpartition(".")[2].lower() for config in (theirs, own)]
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
