"""Checks of a prediction's configuration that need no torch: they run before it is imported."""

from metashot.arguments import check_value
from metashot.bad_input import BadInput, one_of
from metashot.checkpoints.ready_made import READY_MADE
from metashot.checkpoints.stored import BEST, find_checkpoint
from metashot.configuration import Container, signatures
from metashot.files.outputs import holds_fit
from metashot.files.paths import printable


def refuse_prediction(config: Container) -> None:
    """Raise `BadInput` where a configuration cannot give a prediction."""
    if config["query"] is None:
        raise BadInput("missing key query: give it as in support=pets/ query=photos/")
    if config["ckpt"] is None and config["support"] is not None:  # several calls in one, for which none is picked
        raise BadInput(
            f"missing key ckpt: several calls need one, as in ckpt=photos; allowed: {one_of(READY_MADE)} or a path"
        )
    if config["ckpt"] is None:
        raise BadInput(
            "missing key support: give it as in support=pets/ query=photos/, or a fitted learner as in ckpt=pets.fewshot"
        )
    check_value(config["support"], str | None, "support")
    check_value(config["query"], str | list[str], "query")
    check_value(config["out"], str, "out")
    check_value(config["text"], str, "text")
    check_value(config["label"], str, "label")
    check_value(config["encoding"], str | None, "encoding")
    check_value(config["explain"], bool | str, "explain")
    check_value(config["export"], str | None, "export")
    check_value(config["save"], str | None, "save")
    check_value(config["ink"], signatures.alias("metashot.applied.images.Ink"), "ink")
    check_value(config["device"], str, "device")
    is_fitted = holds_fit(find_checkpoint(config["ckpt"], "ckpt", BEST))
    if is_fitted and config["support"] is not None:
        raise BadInput(
            f"ckpt={printable(config['ckpt'])} is a fitted learner, which has its examples: leave support out, or give the "
            "checkpoint of a run to learn from other ones"
        )
    if not is_fitted and config["support"] is None:
        raise BadInput(
            "missing key support: give it as in support=pets/ query=photos/, or give a fitted learner, as in "
            "ckpt=pets.fewshot"
        )
