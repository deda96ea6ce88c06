"""How Hydra finds the choices that plug-ins have in their conf/."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from metashot.configuration import plugins


class ConfOfPlugins(SearchPathPlugin):  # type: ignore[misc]
    """Adds the folders behind metashot's own, which therefore cannot be overridden."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for name, folder in zip(plugins.enabled(), plugins.folders()[1:], strict=True):
            search_path.append(name, f"file://{folder}")


def find_conf_of_plugins() -> None:
    """Have Hydra look there too, in this process and from now on."""
    Plugins.instance().register(ConfOfPlugins)
