"""Checks of a run that need only its configuration, made before torch is imported."""

from typing import Any

from metashot import configuration
from metashot.arguments import Watched, check_value
from metashot.bad_input import BadInput
from metashot.checkpoints.compatibility import refuse_another_backbone, refuse_another_experiment
from metashot.checkpoints.stored import BEST, configuration_of_checkpoint, configuration_of_run
from metashot.configuration import Container, plugins, signatures
from metashot.configuration.banks import build_banks
from metashot.configuration.buildable import choice_of_backbone, target_of

# These keys describe the run, not the experiment. Plug-ins have to be named again to load what a run wrote.
RUN_KEYS = ("resume", "repeat", "folder", plugins.KEY)
_Pictures = signatures.alias("metashot.evaluation.gallery.Pictures")


def experiment_of(config: Container) -> Container:
    """The part of a configuration that defines the experiment, which is stored with its results."""
    return {key: value for key, value in config.items() if key not in RUN_KEYS}


def refuse_training(config: Container) -> None:
    """Check the configuration of a training run, and build the banks of its data.

    Args:
        config: the resolved configuration of the run.

    Raises:
        BadInput: if the configuration cannot be trained.
    """
    configuration.check(config)
    check_value(config["folder"], str, "folder")
    check_value(config["init_from"], str | None, "init_from")
    check_value(config["freeze_backbone"], bool, "freeze_backbone")
    check_value(config["allow_seen_classes"], bool, "allow_seen_classes")
    check_value(config["pictures"], _Pictures, "pictures")
    check_value(config["curve"], Watched, "curve")
    if config["resume"] is not None:
        refuse_another_experiment(
            experiment_of(config),
            configuration_of_run(config["resume"], "resume"),
        )
    _refuse_nothing_to_train(config)
    _refuse_features_that_change(config)
    if config["init_from"] is not None and config["resume"] is None:  # a resumed run takes its weights from the checkpoint
        theirs = configuration_of_checkpoint(config["init_from"], "init_from", BEST)
        refuse_another_backbone(config["init_from"], config["backbone"], theirs.get("backbone", {}))
    build_banks(config["data"])


def _refuse_nothing_to_train(config: dict[str, Any]) -> None:
    name, steps = config["algo"]["name"], config["trainer"]["max_steps"]
    algorithm = target_of(config["algo"], "algo")
    trains, needs_start, has_weights = (
        signatures.constant(algorithm, key) for key in ("trains", "needs_start", "has_weights")
    )
    if not trains and steps:
        raise BadInput(
            f"trainer.max_steps={steps} cannot be done by algo={name}, which has no training phase: leave it at 0"
        )
    backbone = target_of(config["backbone"], "backbone")
    starts_trained = signatures.constant(backbone, "starts_trained")
    needs_weights = needs_start or (has_weights and not trains)
    if needs_weights and config["init_from"] is None and not starts_trained:
        raise BadInput(f"missing key init_from: algo={name} starts from a trained learner, as in init_from=runs/...")


def _refuse_features_that_change(config: dict[str, Any]) -> None:
    """Refuse a backbone that trains, or is not trained yet, where an algorithm learns from features."""
    name, backbone = config["algo"]["name"], target_of(config["backbone"], "backbone")
    if not signatures.constant(target_of(config["algo"], "algo"), "needs_features"):
        return
    if not signatures.constant(backbone, "has_weights"):
        return
    if signatures.constant(target_of(config["algo"], "algo"), "needs_pixels"):
        raise BadInput(
            f"backbone={choice_of_backbone(backbone)} makes features, but algo={name} draws pixels: give "
            "backbone=identity, or algo=vae for the features of a trained backbone"
        )
    trained, starts_trained = config["backbone"].get("train"), signatures.constant(backbone, "starts_trained")
    if config["init_from"] is None and not starts_trained:
        raise BadInput(
            f"missing key init_from: algo={name} learns from the features of a trained backbone, as in init_from=runs/... "
            "freeze_backbone=true; or use backbone=pretrained, backbone=wordvectors for texts, or backbone=identity for "
            "data that are features already"
        )
    if not config["freeze_backbone"] and (trained or not starts_trained):
        what = f"backbone.train={trained}" if trained else "freeze_backbone=false"
        raise BadInput(
            f"{what} trains the backbone, but algo={name} learns from features that stay as they are: give "
            + ("backbone.train=[]" if trained else "freeze_backbone=true")
        )
