"""What worlds need beside metashot's own requirements."""

import importlib.util

from metashot.bad_input import BadInput


def refuse_missing(package: str, data: str) -> None:
    """Raise `BadInput` if a package of the extra `rl` is not installed; it is not imported."""
    if importlib.util.find_spec(package) is None:
        raise not_installed(package, f"data={data} needs")


def not_installed(package: str, needs: str = "worlds need") -> BadInput:
    """The error for a package of the extra `rl` that is not installed."""
    return BadInput(f"{needs} the package {package}, which is not installed: pip install 'metashot[rl]'")
