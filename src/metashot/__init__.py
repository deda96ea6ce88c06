"""Train, score and apply few-shot learners."""

from typing import TYPE_CHECKING, Any

from metashot.version import __version__ as __version__

if TYPE_CHECKING:
    from metashot.applied.learner import load as load
    from metashot.applied.learner import load_fitted as load_fitted

_OFFERED = ("load", "load_fitted")


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is asked for: `import metashot` stays quick."""
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from metashot.applied import learner

    return getattr(learner, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OFFERED})
