"""python -m metashot.predict ckpt=RUN support=FOLDER query=FOLDER: learn classes from a few images, and name others."""

from typing import TYPE_CHECKING, Any

from metashot.command_line import run_script

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = ("backbone", "algo")


def predict(config: "DictConfig") -> Any:
    # Imported late: --help and a mistyped key are answered at once.
    from metashot.commands.predict import predict_files

    return predict_files(config)


def stored(given: str) -> dict[str, Any]:
    from metashot.commands.predict import stored_configuration

    return stored_configuration(given)


if __name__ == "__main__":
    run_script(predict, "predict", {"ckpt": stored}, GROUPS, (), {})
