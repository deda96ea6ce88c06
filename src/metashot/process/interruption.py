"""Ctrl-C, SIGTERM and a closed terminal: the first signal ends a program once its files are consistent, the second at once.

These are the only handlers of these signals, from the first line of a script to its last. Handlers of libraries end a
program anywhere: Lightning's for SIGTERM leaves its loops by `SystemExit`, which is exit code 0 without a message.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from metashot.process.exit_codes import FAILED

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLEANUP_SECONDS = 1.0  # for which a program that stops at once ignores further signals, to clean up


class Stopped(BaseException):
    """The user asked the program to stop; the message says how to resume."""


class StopRequest:
    """Whether the user asked the program to stop.

    While `waits_for` is set, the first signal is only noted, and `check` raises `Stopped` later. Otherwise, and for a second
    signal, the handler raises it at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self.raised = False  # by the handler, perhaps inside a library: later errors may be consequences
        self.message = "stopped"
        self.waits_for: str | None = None
        self.quiet = False  # whether another process prints
        self.echo = 0.0  # seconds in which a second signal is the first one, forwarded by the launcher
        self._ignore_until = 0.0
        self._code: int | None = None  # the exit code, once it is final
        self._is_listening = False

    def begin(self) -> None:
        """Start a script, or the next job of a sweep."""
        self.check()
        self.message, self.waits_for = "stopped", None

    def check(self) -> None:
        """Stop here, where all files are consistent, if the user asked for it.

        Raises:
            Stopped: the user asked for it.
        """
        if self.requested:
            raise Stopped(self.message)

    def end_with(self, code: int) -> None:
        """Fix the exit code: a signal during the process's cleanup ends it with this code."""
        self._code = code

    def leave_threads(self) -> None:
        """End the process without its other threads: PyTorch's abort it if they still compute while Python ends."""
        atexit.register(self._end_at_once)

    def _end_at_once(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(FAILED if self._code is None else self._code)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals, except those that the parent process set to be ignored, as nohup does."""
        if self._is_listening or threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in SIGNALS}
        handled = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        self._is_listening = True
        try:
            for number in handled:
                signal.signal(number, self._handle)
            yield
        finally:
            self._is_listening = False
            if self._code is None:
                for number in handled:
                    signal.signal(number, before[number])

    @contextlib.contextmanager
    def as_keyboard_interrupt(self) -> Iterator[None]:
        """Outside of scripts: let a signal stop the work once its files are consistent, and then raise `KeyboardInterrupt`,
        as Python users expect."""
        if self._is_listening or threading.current_thread() is not threading.main_thread():
            yield
            return
        try:
            with self.listening():
                self.begin()
                yield
        except Stopped as stopped:
            raise KeyboardInterrupt(str(stopped)) from None
        finally:
            self.requested = self.raised = False
            self.message, self.waits_for = "stopped", None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._code is not None:
            os._exit(self._code)
        now = time.monotonic()
        if now < self._ignore_until:
            return
        again, self.requested = self.requested, True
        if again or self.waits_for is None:
            self.raised = True
            self._ignore_until = now + _CLEANUP_SECONDS
            raise Stopped(self.message)
        self._ignore_until = now + self.echo
        if not self.quiet:
            # The signal may have interrupted print(), which is not re-entrant.
            with contextlib.suppress(OSError):
                os.write(2, f"\nstopping after {self.waits_for}; once more stops at once\n".encode())


STOP = StopRequest()  # one for the process, as signals are


def ignore_signals() -> None:
    """Ignore the signals, in a process that another one ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
