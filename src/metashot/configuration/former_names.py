"""The names and the arguments that classes had in earlier versions: configurations that were stored then are read as they
are written now."""

from typing import Any

_MODULES = {  # of version 0.1.0 before the rooms were made -> now
    "metashot.data.images": "metashot.data.class_episodes",
    "metashot.data.augmentation": "metashot.data.presentation.augmentation",
    "metashot.data.sources.sinusoid": "metashot.sources.curves.sinusoid",
    **{
        f"metashot.data.sources.{name}": f"metashot.sources.images.{name}"
        for name in ("glyphs", "omniglot", "cifarfs", "fc100", "cub", "folder", "miniimagenet", "tieredimagenet")
    },
}
_TARGET = "_target_"
_IMAGES = "metashot.data.images.ImageEpisodes"
_DATA_MODULES = {"ImageEpisodes": "ClassEpisodes"}
_OF_PIXELS = ("augmentation", "mean", "std")  # arguments of the former class that the presentation has now


def bring_up_to_date(config: Any) -> None:
    """Replace former names of classes and of their arguments in a configuration, in place.

    Args:
        config: a configuration as it was read from a file, which may hold anything.
    """
    waiting = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if node.get(_TARGET) == _IMAGES:
                pixels = {key: node.pop(key) for key in _OF_PIXELS if key in node}
                node |= {_TARGET: "metashot.data.class_episodes.ClassEpisodes"}
                node["presentation"] = {_TARGET: "metashot.data.presentation.pixels.Pixels", **pixels}
            elif isinstance(node.get(_TARGET), str):
                module, dot, name = node[_TARGET].rpartition(".")
                node[_TARGET] = f"{_MODULES.get(module, module)}{dot}{name}"
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def bring_state_up_to_date(checkpoint: dict[str, Any]) -> None:
    """Put the state of a data module where one of the class's present name looks for it, in place.

    Lightning keeps the state of a data module, here the next training episode, under the name of its class, and ignores it
    without a word where the class has another name.

    Args:
        checkpoint: the contents of a checkpoint.
    """
    for former, present in _DATA_MODULES.items():
        if former in checkpoint:
            checkpoint[present] = checkpoint.pop(former)
