"""Lets Hydra find the choices in the conf/ of plug-ins."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from metashot.configuration import plugins


class ConfOfPlugins(SearchPathPlugin):  # type: ignore[misc]
    """Appends the folders to the search path, so that they cannot override metashot's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for name, folder in zip(plugins.enabled(), plugins.folders()[1:], strict=True):
            search_path.append(name, f"file://{folder}")


def find_conf_of_plugins() -> None:
    """Register the search path with Hydra, for the rest of this process."""
    Plugins.instance().register(ConfOfPlugins)
