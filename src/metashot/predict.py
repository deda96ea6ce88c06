"""python -m metashot.predict ckpt=RUN support=FOLDER query=FOLDER: learn classes from a few images, and name others."""

from typing import TYPE_CHECKING, Any

from metashot.checkpoints.stored import configuration_of_learner
from metashot.commands.command_line import run_script
from metashot.commands.refusals import refuse_prediction
from metashot.configuration import plain

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = ("backbone", "algo")


def predict(config: "DictConfig") -> Any:
    refuse_prediction(plain(config))  # before the next line imports torch, which takes seconds
    from metashot.commands.predict import predict_files

    return predict_files(config)


def stored(given: str) -> dict[str, Any]:
    return configuration_of_learner(given, "ckpt")


if __name__ == "__main__":
    run_script(predict, "predict", {"ckpt": stored}, GROUPS, (), {})
