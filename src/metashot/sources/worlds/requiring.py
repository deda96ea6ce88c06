"""What worlds need beside metashot's own requirements."""

import importlib.util

from metashot.bad_input import BadInput


def refuse_missing(package: str, data: str) -> None:
    """Raise `BadInput` if a package of the extra `rl` is not installed; it is not imported."""
    if importlib.util.find_spec(package) is None:
        raise BadInput(f"data={data} needs the package {package}, which is not installed: pip install 'metashot[rl]'")
