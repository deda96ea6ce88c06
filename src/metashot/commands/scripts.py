"""The six commands behind train.py, evaluate.py, `python -m metashot.predict`, `.data`, `.page`, `.results`, and `metashot`.

Each checks its configuration before it imports torch, which takes seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from metashot import configuration
from metashot.applied.checks import refuse_prediction
from metashot.arguments import AtLeast, AtMost, check_value
from metashot.checkpoints.recipes import EVALUATION, LOOKING, PAGE, PREDICTION, RESULTS, TRAINING
from metashot.commands.command_line import run_script
from metashot.configuration import Container, plain, signatures
from metashot.configuration.banks import build_banks
from metashot.evaluation.checks import refuse_evaluation
from metashot.page.checks import PAGE_FILES, refuse_page
from metashot.page.serving import listening
from metashot.results.checks import refuse_results
from metashot.training.checks import refuse_training

if TYPE_CHECKING:
    from omegaconf import DictConfig

_Split = signatures.alias("metashot.sources.splitting.Split")


def train() -> None:
    """Train a few-shot learner, test its best checkpoint, and write the report."""
    run_script(_train, TRAINING)


def evaluate() -> None:
    """Score checkpoints on episodes, and compare several checkpoints on the same episodes."""
    run_script(_evaluate, EVALUATION)


def predict() -> None:
    """Learn classes from a folder of a few images each, and name the classes of other images."""
    run_script(_predict, replace(PREDICTION, implied=_ready_made_learner))


def data() -> None:
    """Show the facts of a data set, and one of its episodes."""
    run_script(_look, LOOKING)


def page() -> None:
    """Serve a page in the browser that learns classes from a few images, or write it as static files."""
    run_script(_page, replace(PAGE, implied=_usual_learner))


def results() -> None:
    """Measure results beside the published ones, recipe by recipe, and write their tables."""
    run_script(_results, RESULTS)


COMMANDS: dict[str, Callable[[], None]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "data": data,
    "page": page,
    "results": results,
}


def _train(config: "DictConfig") -> float:
    refuse_training(plain(config))
    from metashot.commands.train import train_and_test

    return train_and_test(config)


def _evaluate(config: "DictConfig") -> float:
    refuse_evaluation(plain(config))
    from metashot.commands.evaluate import evaluate_checkpoints

    return evaluate_checkpoints(config)


def _predict(config: "DictConfig") -> Any:
    refuse_prediction(plain(config))
    from metashot.commands.predict import predict_files

    return predict_files(config)


def _ready_made_learner(given: Mapping[str, Any]) -> Sequence[str]:
    """Without `ckpt`, the ready-made learner that suits the support images."""
    support = given.get("support")
    if given.get("ckpt") is not None or not isinstance(support, str) or given.get("query") is None:
        return ()  # nothing to pick, or to be refused for another reason
    from metashot.applied.picking import picked

    found = picked(support)
    print(found, flush=True)
    return (f"ckpt={found.name}",)


def _page(config: "DictConfig") -> Any:
    given = plain(config)
    refuse_page(given)
    if given["export"] == PAGE_FILES:
        from metashot.commands.page import write_page

        return write_page(config)
    with listening(given["port"]) as opened:
        from metashot.commands.page import serve_page

        return serve_page(config, opened)


def _usual_learner(given: Mapping[str, Any]) -> Sequence[str]:
    """Without `ckpt`, the ready-made learner of drawings."""
    return () if "ckpt" in given else ("ckpt=drawings",)


def _results(config: "DictConfig") -> Any:
    refuse_results(plain(config))
    from metashot.commands.results import measure_and_write

    return measure_and_write(config)


def _look(config: "DictConfig") -> Any:
    _refuse_looking(plain(config))
    from metashot.commands.look import look_at_data

    return look_at_data(config)


def _refuse_looking(config: Container) -> None:
    """Check the configuration of the data command, and build the banks of its data."""
    configuration.check(config)
    check_value(config["split"], _Split, "split")
    check_value(config["number"], Annotated[int, AtLeast(0), AtMost(2**63 - 1)], "number")
    check_value(config["out"], str | None, "out")
    build_banks(config["data"])
