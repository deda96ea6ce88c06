"""python -m metashot.page: serves the page, or writes it as static files."""

import socket
import tempfile
from pathlib import Path

from omegaconf import DictConfig

from metashot import configuration
from metashot.applied.class_learner import ClassLearner
from metashot.commands.learners import read_learner
from metashot.files.paths import printable
from metashot.page.facts import refuse_many, refuse_others


def serve_page(composed: DictConfig, opened: socket.socket) -> None:
    """Serve the page until it is stopped.

    Args:
        composed: the composed configuration.
        opened: the socket that listens at the port.

    Raises:
        BadInput: if the checkpoint cannot be used.
    """
    from metashot.page.server import page_app
    from metashot.page.serving import serve

    config = configuration.plain(composed)
    learner = _learner(config)
    with tempfile.TemporaryDirectory(prefix="metashot-page-", ignore_cleanup_errors=True) as folder:
        serve(page_app(learner, config["ckpt"], opened.getsockname()[1], Path(folder)), opened, config["browser"])


def write_page(composed: DictConfig) -> None:
    """Write the page as static files.

    Args:
        composed: the composed configuration.

    Raises:
        BadInput: if the checkpoint or the output cannot be used.
    """
    from metashot.page import static

    config = configuration.plain(composed)
    folder = static.write_page(_learner(config), config["out"])
    print(f"page: {printable(folder)} (serve it with any web server, such as python -m http.server -d {printable(folder)})")


def _learner(config: dict[str, object]) -> ClassLearner:
    learner = read_learner(config)
    refuse_others(learner, f"ckpt={config['ckpt']}")
    assert isinstance(learner, ClassLearner)
    if learner.is_fitted:
        refuse_many(learner.examples, len(learner.classes_), f"ckpt={config['ckpt']}")
    return learner
