"""Checks of a page's configuration that need no torch: they run before it is imported."""

import importlib.util
from typing import Annotated, Literal

from metashot.arguments import AtLeast, AtMost, check_value
from metashot.bad_input import BadInput
from metashot.configuration import Container, signatures

NEEDED = ("starlette", "uvicorn")  # by a page that is served
_FOR_GRAPHS = ("onnx", "onnxruntime", "onnxscript")  # by one that is written
PAGE_FILES = "page"  # the value of `export`


def refuse_page(config: Container) -> None:
    """Raise `BadInput` where a configuration gives no page."""
    check_value(config["ckpt"], str, "ckpt", "one checkpoint, one run's folder, or one fitted learner")
    check_value(config["port"], Annotated[int, AtLeast(0), AtMost(65_535)], "port")
    check_value(config["browser"], bool, "browser", "true or false")
    check_value(config["export"], Literal["page"] | None, "export", "page, or null to serve the page")
    check_value(config["out"], str | None, "out")
    check_value(config["ink"], signatures.alias("metashot.applied.images.Ink"), "ink")
    check_value(config["device"], str, "device")
    is_written = config["export"] == PAGE_FILES
    if is_written and config["out"] is None:
        raise BadInput("missing key out: export=page writes a folder, as in export=page out=FOLDER")
    if not is_written and config["out"] is not None:
        raise BadInput(f"out={config['out']} is for a page that is written: give export=page, too, or leave out out")
    what, extra, needed = ("export=page", "onnx", _FOR_GRAPHS) if is_written else ("the page", "page", NEEDED)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(
            f"{what} needs {' and '.join(missing)}, which the extra {extra} installs: pip install 'metashot[{extra}]'"
        )
