"""Ctrl-C and SIGTERM: the first ends a run after the step at hand and a checkpoint, the second at once."""

import signal
import sys
from types import FrameType, TracebackType
from typing import Any

from metashot.command_line import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While `patient`, a signal is only noted; otherwise, or the second time, it raises `Stopped`."""

    def __init__(self) -> None:
        self.patient = False
        self.requested = False
        self.raised = False
        self.message = "stopped"
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.raised and not isinstance(error, Stopped):
            raise Stopped(self.message) from error  # a library tripped over it, or swallowed it

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested or not self.patient:
            self.raised = True
            raise Stopped(self.message)
        self.requested = True
        print("\nstopping after this step and a checkpoint; once more stops at once", file=sys.stderr, flush=True)
