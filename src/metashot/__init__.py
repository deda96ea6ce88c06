"""Train, score and apply few-shot learners."""

import importlib
from typing import TYPE_CHECKING, Any

from metashot.version import __version__ as __version__

if TYPE_CHECKING:
    from metashot.applied.loading import load as load
    from metashot.applied.loading import load_fitted as load_fitted
    from metashot.applied.trajectories import Trajectory as Trajectory
    from metashot.bad_input import BadInput as BadInput
    from metashot.bad_input import GaveUp as GaveUp
    from metashot.experiment import Experiment as Experiment

_EXPORTS = {
    "BadInput": "metashot.bad_input",
    "Experiment": "metashot.experiment",
    "GaveUp": "metashot.bad_input",
    "Trajectory": "metashot.applied.trajectories",
    "load": "metashot.applied.loading",
    "load_fitted": "metashot.applied.loading",
}


def __getattr__(name: str) -> Any:
    """Import the classes that need torch on first use, so that `import metashot` stays fast."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
