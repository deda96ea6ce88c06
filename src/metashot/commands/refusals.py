"""What the scripts refuse before they import torch: all that can be known from the command line, from checkpoints without
their values, and from the files of a data set."""

import os
from pathlib import Path
from typing import Annotated, Any

from metashot import configuration
from metashot.arguments import AtLeast, AtMost, Episodes, Seed, Watched, check_value
from metashot.bad_input import BadInput
from metashot.checkpoints.compatibility import refuse_another_backbone, refuse_another_experiment
from metashot.checkpoints.stored import BEST, configuration_of_checkpoint, configuration_of_run, of_run
from metashot.configuration import Container, signatures
from metashot.configuration.buildable import target_of
from metashot.files.outputs import holds_fit
from metashot.files.paths import given_path, shown
from metashot.sources.building import build_bank
from metashot.sources.source import DataSource

RUN_KEYS = ("resume", "repeat", "folder")  # about the run and not about the experiment
NO_LOGGER = "metashot.tracking.options.Nowhere"
_OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SUBMITIT_EXECUTOR")  # set where several processes begin together
_Pictures = signatures.alias("metashot.evaluation.gallery.Pictures")
_Split = signatures.alias("metashot.sources.splitting.Split")


def refuse_training(config: Container) -> None:
    """Refuse what train.py cannot run; the banks of the data are built on the way."""
    configuration.check(config)
    check_value(config["folder"], str, "folder")
    check_value(config["init_from"], str | None, "init_from")
    check_value(config["freeze_backbone"], bool, "freeze_backbone")
    check_value(config["allow_seen_classes"], bool, "allow_seen_classes")
    check_value(config["pictures"], _Pictures, "pictures")
    check_value(config["curve"], Watched, "curve")
    if config["resume"] is not None:
        refuse_another_experiment(
            {key: value for key, value in config.items() if key not in RUN_KEYS},
            configuration_of_run(config["resume"], "resume"),
        )
    _refuse_nothing_to_train(config)
    if config["init_from"] is not None and config["resume"] is None:  # a resumed run has its weights
        theirs = configuration_of_checkpoint(config["init_from"], "init_from", BEST)
        refuse_another_backbone(config["init_from"], config["backbone"], theirs.get("backbone", {}))
    refuse_missing_files(config["data"])


def refuse_evaluation(config: Container) -> None:
    """Refuse what evaluate.py cannot score; the banks of the data are built on the way."""
    if config["ckpt"] is None:
        raise BadInput("missing key ckpt: give a checkpoint or the folder of a run, as in ckpt=runs/...")
    check_of_evaluation(config)
    check_value(config["ckpt"], str | list[str], "ckpt")
    if not config["ckpt"]:
        raise BadInput("ckpt=[] names no checkpoint: give one or several, as in ckpt=[RUN1,RUN2]")
    check_value(config["episodes"], Episodes, "episodes")
    check_value(config["split"], _Split, "split")
    check_value(config["out"], str | None, "out")
    check_value(config["allow_seen_classes"], bool, "allow_seen_classes")
    check_value(config["pictures"], _Pictures, "pictures")
    check_value(config["curve"], Watched, "curve")
    check_value(config["grid"]["ways"], list[signatures.alias("metashot.data.class_episodes.Ways")] | None, "grid.ways")  # type: ignore[misc]
    check_value(config["grid"]["shots"], list[signatures.alias("metashot.data.module.Counts")] | None, "grid.shots")  # type: ignore[misc]
    given = config["ckpt"] if isinstance(config["ckpt"], list) else [config["ckpt"]]
    if (wants_grid(config) or len(given) > 1) and config["logger"] != {"_target_": NO_LOGGER}:
        raise BadInput("logger= keeps the evaluation of one checkpoint on one kind of episodes: leave it out")
    for name, values in config["grid"].items():
        if values == []:
            raise BadInput(f"grid.{name}=[] has nothing to score: give numbers, as in grid.{name}=[1,5]")
    checkpoints_of(given)
    for one in given[1:]:  # the first one stands for the configuration
        configuration_of_checkpoint(one, "ckpt", BEST)
    refuse_missing_files(config["data"])


def refuse_looking(config: Container) -> None:
    """Refuse what python -m metashot.data cannot show."""
    configuration.check(config)
    check_value(config["split"], _Split, "split")
    check_value(config["number"], Annotated[int, AtLeast(0), AtMost(2**63 - 1)], "number")
    check_value(config["out"], str, "out")
    refuse_missing_files(config["data"])


def refuse_prediction(config: Container) -> None:
    """Refuse what python -m metashot.predict cannot answer."""
    for key in ("ckpt", "query"):
        if config[key] is None:
            raise BadInput(f"missing key {key}: give it as in ckpt=runs/... support=pets/ query=photos/")
    check_value(config["support"], str | None, "support")
    check_value(config["query"], str | list[str], "query")
    check_value(config["out"], str, "out")
    check_value(config["export"], str | None, "export")
    check_value(config["save"], str | None, "save")
    check_value(config["ink"], signatures.alias("metashot.applied.images.Ink"), "ink")
    check_value(config["device"], str, "device")
    is_fitted = holds_fit(of_run(config["ckpt"], "ckpt", BEST))
    if is_fitted and config["support"] is not None:
        raise BadInput(
            f"ckpt={shown(config['ckpt'])} is a fitted learner, which has its examples: leave support out, or give the "
            "checkpoint of a run to learn from other ones"
        )
    if not is_fitted and config["support"] is None:
        raise BadInput(
            "missing key support: give it as in ckpt=runs/... support=pets/ query=photos/, or give a fitted learner, as in "
            "ckpt=pets.fewshot"
        )


def check_of_evaluation(config: Container) -> None:
    """As that of a run, whose seed has to be there."""
    check_value(config["seed"], Seed | None, "seed")
    configuration.check(config | ({"seed": 0} if config["seed"] is None else {}))


def checkpoints_of(given: list[str]) -> list[Path]:
    """The checkpoints that `ckpt=` names, each once."""
    paths = [of_run(one, "ckpt", BEST) for one in given]
    for place, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:place]]:
            raise BadInput(f"ckpt={given[place]} was given twice: give each checkpoint once")
    return paths


def wants_grid(config: Container) -> bool:
    return any(values is not None for values in config["grid"].values())


def refuse_missing_files(data: Container) -> None:
    """Build the banks of a data set, if it has files, which need no torch; refuse files that are missing or damaged."""
    if "banks" not in data or any(name in os.environ for name in _OF_LAUNCHERS):
        return  # several processes refuse together, once they have joined
    source: DataSource = configuration.build(data["source"])
    build_bank(source, given_path(data["root"], "data.root"), given_path(data["banks"], "data.banks"))


def _refuse_nothing_to_train(config: dict[str, Any]) -> None:
    name, steps = config["algo"]["name"], config["trainer"]["max_steps"]
    algorithm = target_of(config["algo"], "algo")
    trains, needs_start = (signatures.constant(algorithm, key) for key in ("trains", "needs_start"))
    if not trains and steps:
        raise BadInput(
            f"trainer.max_steps={steps} cannot be done by algo={name}, which learns nothing before it sees a task: leave "
            "it at 0"
        )
    if (needs_start or not trains) and config["init_from"] is None:
        raise BadInput(f"missing key init_from: algo={name} starts from a trained learner, as in init_from=runs/...")
