"""Renames classes in stored configurations of earlier versions to their present names."""

from typing import Any

_MODULES = {  # modules of version 0.1.0 -> modules now
    "metashot.data.sources.sinusoid": "metashot.sources.curves.sinusoid",
    **{
        f"metashot.data.sources.{name}": f"metashot.sources.images.{name}"
        for name in ("glyphs", "omniglot", "cifarfs", "fc100", "cub", "folder", "miniimagenet", "tieredimagenet")
    },
}
_TARGET = "_target_"


def bring_up_to_date(config: Any) -> None:
    """Replace former names of classes in a configuration, in place.

    Args:
        config: a configuration as read from a file, not checked yet.
    """
    waiting = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(node.get(_TARGET), str):
                module, dot, name = node[_TARGET].rpartition(".")
                node[_TARGET] = f"{_MODULES.get(module, module)}{dot}{name}"
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
