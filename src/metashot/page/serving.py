"""Serves the page at an address of this machine until the user stops it. It imports no torch: the port is taken before."""

import contextlib
import errno
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator
from typing import TYPE_CHECKING

from metashot.bad_input import BadInput, GaveUp
from metashot.process.interruption import STOP

if TYPE_CHECKING:
    from starlette.types import ASGIApp

ADDRESS = "127.0.0.1"
_GRACE = 1.0  # seconds for answers that are under way when the server is stopped
_CONNECTIONS = 100


@contextlib.contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket that listens at a port of this machine, and at no other address. Browsers that come early wait.

    Args:
        port: The port; 0 for any free one.

    Raises:
        BadInput: The port is taken, or may not be used.
    """
    # asyncio sends without delay only where the protocol is named: else each answer waits 40 ms for an acknowledgement.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as opened:
        if os.name == "posix":  # where it means that a port may be used again as soon as nobody listens there any longer
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((ADDRESS, port))
            opened.listen(_CONNECTIONS)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                why = "is taken: another program listens there, perhaps another page; stop it"
            elif error.errno in (errno.EACCES, errno.EPERM):
                why = "may not be used by this user: give one above 1023"
            else:
                raise BadInput(f"port={port} cannot be used: {error.strerror or error}; give another port") from error
            raise BadInput(
                f"port={port} {why}, or give another port, such as port={_next(port)} (0: any free one)"
            ) from error
        yield opened


def _next(port: int) -> int:
    return port + 1 if 1023 < port < 65535 else 8765


def serve(app: "ASGIApp", opened: socket.socket, browser: bool) -> None:
    """Serve an application until a signal ends the program: the main thread waits for nothing else.

    Args:
        app: The application.
        opened: The socket that listens.
        browser: Whether to open the page in the user's browser.

    Raises:
        GaveUp: The server has ended by itself.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=int(_GRACE),
    )
    server = uvicorn.Server(config)
    ended = threading.Event()  # since an exception of a signal handler breaks Thread.join

    def run() -> None:
        try:
            server.run(sockets=[opened])
        finally:
            ended.set()

    thread = threading.Thread(target=run, name="server", daemon=True)
    address = f"http://{ADDRESS}:{opened.getsockname()[1]}/"
    thread.start()
    try:
        print(f"page: {address} (on this machine alone; Ctrl-C stops it)", flush=True)
        if browser and _has_screen():
            threading.Thread(target=_show, args=(address,), name="browser", daemon=True).start()
        ended.wait()
    finally:
        STOP.leave_threads()  # which may fit or answer, even if the server does not wait for them any longer
        server.should_exit = True
        ended.wait(_GRACE + 0.5)
    raise GaveUp("the page's server has ended by itself: start it again")


def _has_screen() -> bool:
    """Whether a browser of its own window can be opened: one in the terminal would take it over."""
    needs_display = sys.platform.startswith("linux")
    return not needs_display or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _show(address: str) -> None:
    with contextlib.suppress(Exception):  # the address was printed
        webbrowser.open(address)
