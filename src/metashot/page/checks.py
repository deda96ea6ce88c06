"""Checks of a page's configuration that need no torch: they run before it is imported."""

from metashot.configuration import Container


def refuse_page(config: Container) -> None:
    """Raise `BadInput` where a configuration gives no page."""
