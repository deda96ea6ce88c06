"""What an algorithm's file says of other groups, such as `data.train.ways`, is a suggestion: it applies where they have such
a key, and is left out where they have none.

Keys that an experiment or the command line sets are the user's own: they are never left out, and refused where unknown.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.default_element import ResultDefault
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

ALGORITHM = "algo"
SUGGESTING = (f"{ALGORITHM}/", "paper/")  # the files of an algorithm, and of its paper


class Loader(ConfigLoaderImpl):  # type: ignore[misc]
    """Hydra's own, which composes a configuration file by file; what is printed, swept and explained comes from it too."""

    def _compose_config_from_defaults_list(self, *arguments: Any, **named: Any) -> DictConfig:
        self.present: dict[str, Any] = {}
        composed: DictConfig = super()._compose_config_from_defaults_list(*arguments, **named)
        return composed

    def _load_single_config(self, default: ResultDefault, *arguments: Any, **named: Any) -> ConfigResult:
        loaded = super()._load_single_config(default, *arguments, **named)
        if isinstance(loaded.config, DictConfig):
            if default.config_path is not None and default.config_path.startswith(SUGGESTING):
                with open_dict(loaded.config), read_write(loaded.config):
                    leave_out_unknown(loaded.config, self.present | {ALGORITHM: ...})
            _add(self.present, OmegaConf.to_container(loaded.config, resolve=False))
        return loaded


def leave_out_unknown(suggested: DictConfig, present: Mapping[str, Any]) -> None:
    """Remove the keys that are not present, at every depth at which both are nodes."""
    for name in list(suggested):
        if name not in present:
            suggested.pop(name)
        elif isinstance(inner := suggested._get_node(name), DictConfig) and isinstance(present[name], Mapping):
            leave_out_unknown(inner, present[name])


@contextmanager
def suggestions_where_they_fit() -> Iterator[None]:
    """Have Hydra compose with suggestions if it is initialised here; other programs in the process keep its own loader."""
    before = hydra._internal.hydra.ConfigLoaderImpl
    hydra._internal.hydra.ConfigLoaderImpl = Loader  # Hydra has no place where one could ask for another
    try:
        yield
    finally:
        hydra._internal.hydra.ConfigLoaderImpl = before


def _add(present: dict[str, Any], new: Any) -> None:
    for name, value in new.items():
        if isinstance(value, dict) and isinstance(present.get(name), dict):
            _add(present[name], value)
        else:
            present[name] = value
