"""Keys of other groups in an algorithm's file, such as `data.train.ways`, are suggestions.

They apply where the group has such a key, and are dropped otherwise.

Keys that an experiment or the command line sets are the user's own. They are never dropped, and are refused where unknown.
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
SUGGESTING = (f"{ALGORITHM}/", "paper/")  # files of algorithms, and of their papers


class Loader(ConfigLoaderImpl):  # type: ignore[misc]
    """Hydra's loader, which merges a configuration file by file, also for --cfg, sweeps and --help."""

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
    """Remove the keys that are not present, recursively where both are nodes."""
    for name in list(suggested):
        if name not in present:
            suggested.pop(name)
        elif isinstance(inner := suggested._get_node(name), DictConfig) and isinstance(present[name], Mapping):
            leave_out_unknown(inner, present[name])


@contextmanager
def suggestions_where_they_fit() -> Iterator[None]:
    """Let Hydra, if it is initialised in this context, compose with suggestions; other code in the process keeps its "
    "loader."""
    before = hydra._internal.hydra.ConfigLoaderImpl
    hydra._internal.hydra.ConfigLoaderImpl = Loader  # Hydra has no option for the loader
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
