"""python -m metashot.predict: fits a learner to a few examples of each class, and predicts the classes of queries."""

from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from metashot import configuration
from metashot.applied.class_learner import ClassLearner, VectorLearner
from metashot.applied.folders import Outputs
from metashot.applied.policy_learner import PolicyLearner
from metashot.applied.text_learner import TextLearner
from metashot.arguments import Rate, check_value
from metashot.bad_input import BadInput
from metashot.commands.learners import read_learner
from metashot.commands.predict_images import predict_images
from metashot.commands.predict_texts import predict_texts
from metashot.files.outputs import named_file
from metashot.sources.getting.files import printable

_OF_TEXTS: dict[str, Any] = {
    "text": "text",
    "label": "label",
    "encoding": None,
    "explain": False,
}  # and what they usually are


def predict_files(composed: DictConfig) -> None:
    """Fit the learner to the support set, predict the queries, and write the table and the sheet or the page.

    Args:
        composed: the composed configuration.

    Raises:
        BadInput: if the checkpoint, the files or the outputs cannot be used.
    """
    config = configuration.plain(composed)
    table = _table(config)
    check_value(config["unknown"], Rate | None, "unknown")
    check_value(config["together"], bool, "together")
    if config["together"] and config["unknown"] is None:
        raise BadInput("together=true is for queries that may be unknown: give unknown=0.05, too, or leave it out")
    check_value(config["estimate"], Literal["auto"] | bool, "estimate", "auto, true or false")
    learner = _learner(config)
    if config["unknown"] is not None:
        learner.algorithm.refuse_strangers()
    if isinstance(learner, TextLearner):
        predict_texts(learner, config, _outputs(config, table, ".html"))
        return
    for key, usual in _OF_TEXTS.items():
        if config[key] != usual:
            raise BadInput(f"{key}={printable(str(config[key]))} is for learners of texts: leave it out")
    predict_images(learner, config, _outputs(config, table, ".png"))


def _table(config: dict[str, Any]) -> Path:
    table = named_file(config["out"], "out", "predictions.csv")
    if table.suffix.lower() != ".csv":
        raise BadInput(f"out={config['out']} cannot be used; allowed: the name of a table, such as out=predictions.csv")
    return table


def _outputs(config: dict[str, Any], table: Path, suffix: str) -> Outputs:
    """The files to write, with a sheet or page of this suffix beside the table."""
    learner = None if config["save"] is None else named_file(config["save"], "save", "pets.fewshot")
    graph, explanations = _graph_file(config["export"], table), _explanations_file(config["explain"], table)
    return Outputs(table, table.with_suffix(suffix), graph, learner, explanations)


def _learner(config: dict[str, Any]) -> ClassLearner | TextLearner:
    learner = read_learner(config)
    if isinstance(learner, VectorLearner):
        raise BadInput(
            f"ckpt={config['ckpt']} was trained on vectors, and cannot be given folders of images: use it in Python, as "
            "metashot.load(...).fit(x, y).predict(x)"
        )
    if isinstance(learner, PolicyLearner):
        raise BadInput(
            f"ckpt={config['ckpt']} acts in environments, and predicts no classes: use it in Python, as "
            "metashot.load(...).fit(environment).act(observation)"
        )
    if not isinstance(learner, ClassLearner | TextLearner):
        raise BadInput(
            f"ckpt={config['ckpt']} answers with numbers and not with classes: use it in Python, as "
            "metashot.load(...).fit(x, y).predict(x)"
        )
    return learner


def _graph_file(given: str | None, table: Path) -> Path | None:
    if given is None:
        return None
    path = table.with_suffix(".onnx") if given == "onnx" else named_file(given, "export", "pets.onnx")
    if path.suffix.lower() != ".onnx":
        raise BadInput(f"export={given} cannot be used; allowed: onnx, or the name of a file, such as export=pets.onnx")
    return path


def _explanations_file(given: str | bool, table: Path) -> Path | None:
    if given is False:
        return None
    path = table.with_name(f"{table.stem}_explained.html") if given is True else named_file(given, "explain", "words.html")
    if path.suffix.lower() != ".html":
        raise BadInput(
            f"explain={printable(str(given))} cannot be used; allowed: true, or the name of a page, such as "
            "explain=words.html"
        )
    return path
