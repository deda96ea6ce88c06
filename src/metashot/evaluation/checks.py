"""Checks of an evaluation's configuration that need no torch: they run before it is imported."""

from pathlib import Path

from metashot import configuration
from metashot.arguments import Episodes, Rate, Seed, Strangers, Watched, check_value
from metashot.bad_input import BadInput
from metashot.checkpoints.stored import BEST, configuration_of_checkpoint, find_checkpoint
from metashot.configuration import Container, signatures
from metashot.configuration.banks import build_banks

NO_LOGGER = "metashot.tracking.options.Nowhere"
_Pictures = signatures.alias("metashot.evaluation.gallery.Pictures")
_Split = signatures.alias("metashot.sources.splitting.Split")


def refuse_evaluation(config: Container) -> None:
    """Raise `BadInput` where a configuration cannot be scored. This also builds the banks of the data."""
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
    check_value(config["strangers"], Strangers, "strangers")
    check_value(config["unknown"], Rate, "unknown")
    check_value(config["grid"]["ways"], list[signatures.alias("metashot.data.class_episodes.Ways")] | None, "grid.ways")  # type: ignore[misc]
    check_value(config["grid"]["shots"], list[signatures.alias("metashot.data.module.Counts")] | None, "grid.shots")  # type: ignore[misc]
    given = config["ckpt"] if isinstance(config["ckpt"], list) else [config["ckpt"]]
    if (wants_grid(config) or len(given) > 1) and config["logger"] != {"_target_": NO_LOGGER}:
        raise BadInput("logger= logs the evaluation of one checkpoint without a grid: leave it out")
    if wants_grid(config) and config["strangers"]:
        raise BadInput(f"strangers={config['strangers']} is reported for one shape of episodes: leave grid out")
    for name, values in config["grid"].items():
        if values == []:
            raise BadInput(f"grid.{name}=[] has nothing to score: give numbers, as in grid.{name}=[1,5]")
    checkpoints_of(given)
    for one in given[1:]:  # the first one was read when the configuration was composed
        configuration_of_checkpoint(one, "ckpt", BEST)
    build_banks(config["data"])


def check_of_evaluation(config: Container) -> None:
    """Check the configuration like a run's, except that the seed may be missing."""
    check_value(config["seed"], Seed | None, "seed")
    configuration.check(config | ({"seed": 0} if config["seed"] is None else {}))


def checkpoints_of(given: list[str]) -> list[Path]:
    """Find the checkpoints that `ckpt=` names; raises `BadInput` where one is missing or given twice."""
    paths = [find_checkpoint(one, "ckpt", BEST) for one in given]
    for place, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:place]]:
            raise BadInput(f"ckpt={given[place]} was given twice: give each checkpoint once")
    return paths


def wants_grid(config: Container) -> bool:
    return any(values is not None for values in config["grid"].values())
