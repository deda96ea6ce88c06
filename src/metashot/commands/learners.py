"""The learner that `ckpt=` names, with the settings of the command line in place of stored ones."""

from pathlib import Path
from typing import Any

from metashot.applied.learner import Learner
from metashot.applied.loading import learner_of, restored
from metashot.applied.network import fitted_content, made
from metashot.bad_input import BadInput
from metashot.checkpoints.reading import read_checkpoint
from metashot.checkpoints.restoring import origin_of
from metashot.checkpoints.stored import BEST, OURS, find_checkpoint
from metashot.files.outputs import holds_fit
from metashot.sources.getting.files import printable

GROUPS = ("backbone", "engine", "algo")  # groups of the stored configuration that the command line may override


def read_learner(config: dict[str, Any]) -> Learner:
    """The learner of a checkpoint, or of a fitted learner's file, which is then fitted.

    Args:
        config: The command's configuration.

    Raises:
        BadInput: It cannot be read.
    """
    path = find_checkpoint(config["ckpt"], "ckpt", BEST)
    if holds_fit(path):
        return _fitted_learner(path, config)
    checkpoint = read_checkpoint(path)
    whole = checkpoint[OURS]["config"] | {group: config[group] for group in GROUPS}
    network = made(whole, origin_of(checkpoint, path), checkpoint["state_dict"], path, config["device"])
    return learner_of(network, config["ckpt"], config["device"], config["ink"])


def _fitted_learner(path: Path, config: dict[str, Any]) -> Learner:
    content = fitted_content(path)
    ink = content.get("ink", "auto")
    if config["ink"] not in ("auto", ink):
        raise BadInput(f"ink={config['ink']} cannot be used: {printable(path)} was fitted with ink={ink}; leave ink out")
    whole = content["config"] | {group: config[group] for group in GROUPS}
    network = made(whole, content["origin"], content["weights"], path, config["device"])
    return restored(network, content, config["ckpt"], config["device"])
