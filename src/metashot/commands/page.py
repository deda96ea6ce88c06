"""python -m metashot.page: serves the page, or writes it as static files."""

from omegaconf import DictConfig

from metashot import configuration


def open_page(composed: DictConfig) -> None:
    """Serve the page until it is stopped, or write its files.

    Args:
        composed: the composed configuration.

    Raises:
        BadInput: if the checkpoint, the port or the output cannot be used.
    """
    configuration.plain(composed)
    raise NotImplementedError
