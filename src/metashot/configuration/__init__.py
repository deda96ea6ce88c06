"""The configuration: the classes it may name, its checks, and the objects that are built from it.

Objects never read the configuration tree; each is built with its own arguments.
"""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from metashot.configuration.buildable import CONF as CONF
from metashot.configuration.building import build as build
from metashot.configuration.building import build_algorithm as build_algorithm
from metashot.configuration.building import build_backbone as build_backbone
from metashot.configuration.building import locate as locate
from metashot.configuration.checking import GROUPS as GROUPS
from metashot.configuration.checking import Container as Container
from metashot.configuration.checking import check as check
from metashot.sources.root import VARIABLE, default_root

OmegaConf.register_new_resolver(VARIABLE, default_root, replace=True)


def plain(config: DictConfig) -> Container:
    """The resolved configuration as dictionaries, lists and values."""
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def differences(new: Container, old: Container, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Compare two configurations.

    Args:
        new: a configuration.
        old: another one.
        prefix: what keys begin with, such as `data.`.

    Yields:
        Each key whose values differ, with both values.
    """
    for key in sorted(new.keys() | old.keys()):
        a, b = new.get(key), old.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}", a, b
