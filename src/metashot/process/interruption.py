"""Ctrl-C, SIGTERM and a closed terminal: the first ends a program where everything it wrote is whole, the second at once.

These are the only handlers of these signals, from a script's first line to its last. Libraries that have their own end a
program wherever they are: Lightning's for SIGTERM leaves its loops by `SystemExit`, which is exit code 0 without a word.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_UNWINDING = 1.0  # seconds in which a program that is told to stop at once cleans up and says so undisturbed


class Stopped(BaseException):
    """The user wants the program to end; the message says how to go on later."""


class StopRequest:
    """Whether the user wants the program to end. While it waits for something, the first signal is only noted, and `check`
    raises `Stopped` when that is done; otherwise, or the second time, the handler itself does."""

    def __init__(self) -> None:
        self.requested = False
        self.raised = False  # at once, somewhere in a library perhaps: what fails after that has tripped over it
        self.message = "stopped"
        self.waits_for: str | None = None
        self.quiet = False  # whether another process is the one that prints
        self.echo = 0.0  # seconds in which a second signal is the first one, passed on by what started this process
        self._deaf_until = 0.0
        self._code: int | None = None  # the exit code, once nothing can change it any more
        self._listens = False

    def begin(self) -> None:
        """Before a script, or the next job of a sweep."""
        self.check()
        self.message, self.waits_for = "stopped", None

    def check(self) -> None:
        """Here everything that was written is whole: end, if that is wanted."""
        if self.requested:
            raise Stopped(self.message)

    def end_with(self, code: int) -> None:
        """The script is over: what is left to do at a process's end may be cut short and changes nothing."""
        self._code = code

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals, but for those that whatever started this process wants ignored, as nohup does."""
        if self._listens or threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in SIGNALS}
        heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        self._listens = True
        try:
            for number in heard:
                signal.signal(number, self._note)
            yield
        finally:
            self._listens = False
            if self._code is None:
                for number in heard:
                    signal.signal(number, before[number])

    @contextlib.contextmanager
    def as_keyboard_interrupt(self) -> Iterator[None]:
        """Outside of scripts, which listen all the time: let a signal end what is going on where all that was written is
        whole, and raise `KeyboardInterrupt` then, as Python users expect it."""
        if self._listens or threading.current_thread() is not threading.main_thread():
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

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._code is not None:
            os._exit(self._code)
        now = time.monotonic()
        if now < self._deaf_until:
            return
        again, self.requested = self.requested, True
        if again or self.waits_for is None:
            self.raised = True
            self._deaf_until = now + _UNWINDING
            raise Stopped(self.message)
        self._deaf_until = now + self.echo
        if not self.quiet:
            # print() may have been what the signal interrupted, and refuses to be entered twice.
            with contextlib.suppress(OSError):
                os.write(2, f"\nstopping after {self.waits_for}; once more stops at once\n".encode())


STOP = StopRequest()  # signals are the process's, and so is this


def ignore_signals() -> None:
    """In a process that another one tells when to end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
