"""Who may talk to the page's server and how much they may send: ASGI middleware in front of all of its answers.

The server listens on this machine alone, but any web page that is open in the user's browser can send requests to this
machine, and a name of the attacker's own can lead to it (DNS rebinding). So a request has to name this server as its host,
and whatever could change something has to come from the page itself. No CORS header is ever sent.
"""

import asyncio
import json
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metashot.page.policy import POLICY_OF_SERVER

HOSTS = ("127.0.0.1", "localhost")
SHORT = 2**20  # bytes of a request whose path has no limit of its own
_PATIENCE = 30.0  # seconds that a client may take for the next bytes of a request
_LONGEST = 600.0  # seconds that it may take for all of them
_DRAINED = 2**28  # bytes of a refused request that are still read: a browser shows no answer before it has sent everything
_SAFE = ("GET", "HEAD")

HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY_OF_SERVER,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}


class Refused(Exception):
    """A request that gets an error for an answer."""

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"code": code, "message": message, **details}


class Gone(Exception):
    """The client closed its connection before it had sent everything."""


class Guards:
    """Refuses requests that do not come from the page itself, or are too large, and adds headers to every answer.

    Args:
        app: What answers the other requests.
        port: The port that the server listens at.
        largest: The most bytes in the body of a request, by path.
    """

    def __init__(self, app: ASGIApp, port: int, largest: Mapping[str, int]) -> None:
        self.app = app
        self.largest = largest
        self.hosts = {f"{host}:{port}" for host in HOSTS} | (set(HOSTS) if port == 80 else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        most = self.largest.get(scope["path"], SHORT)
        body = _Body(receive, most)
        try:
            self._refuse_strangers(scope)
            body.refuse_declared(_all(scope, b"content-length"))
            await self.app(scope, body.receive, send_guarded)
        except Gone:
            return
        except asyncio.CancelledError:
            if not begun:
                await _send_error(send_guarded, Refused(503, "unreachable", "the server is stopped"), scope["method"])
            raise
        except Refused as refused:
            if begun:
                raise
            if refused.status == 413:
                await body.drain()
            await _send_error(send_guarded, refused, scope["method"])
        except Exception as error:
            if begun:
                raise
            traceback.print_exception(error, file=sys.stderr)
            what = "something went wrong in metashot: the terminal that it was started in says what"
            await _send_error(send_guarded, Refused(500, "failed", what), scope["method"])

    def _refuse_strangers(self, scope: Scope) -> None:
        hosts, origins, sites = (_all(scope, name) for name in (b"host", b"origin", b"sec-fetch-site"))
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            raise Refused(403, "forbidden", "this server answers to its own address alone, which the terminal shows")
        if len(origins) > 1 or any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
            raise Refused(403, "forbidden", "this server answers to its own page alone, and not to other web pages")
        if not origins and scope["method"] not in _SAFE:
            raise Refused(403, "forbidden", "a request that sends something has to come from the page: it has no Origin")
        is_visit = (
            scope["method"] == "GET"
            and scope["path"] == "/"
            and _all(scope, b"sec-fetch-mode") == ["navigate"]
            and _all(scope, b"sec-fetch-dest") == ["document"]
        )
        if any(site not in ("same-origin", "none") for site in sites) and not is_visit:
            raise Refused(403, "forbidden", "this server answers to its own page alone, and not to other web pages")


class _Body:
    """The body of a request, whose bytes are counted while they are read."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._read = 0
        self._ended = False
        self._begun = time.monotonic()

    def refuse_declared(self, lengths: list[str]) -> None:
        """Refuse a body that is known to be too large before any of it is read."""
        if any(not (length.isascii() and length.isdigit()) for length in lengths):
            raise Refused(400, "bad_input", "the length of the request is not a number")
        if any(len(length) > 18 or int(length) > self._most for length in lengths):
            raise self._too_large()

    async def receive(self) -> Message:
        message = await self._next()
        self._read += len(message.get("body", b""))
        if self._read > self._most:
            raise self._too_large()
        return message

    async def drain(self) -> None:
        """Read what is still sent and forget it, so that the client reads the answer."""
        read = 0
        try:
            async with asyncio.timeout(_PATIENCE):
                while not self._ended and read < _DRAINED:
                    read += len((await self._next()).get("body", b""))
        except (TimeoutError, Gone, Refused):
            return

    async def _next(self) -> Message:
        if self._ended:
            return await self._receive()  # which waits for the end of the connection
        left = self._begun + _LONGEST - time.monotonic()
        try:
            async with asyncio.timeout(min(_PATIENCE, left)):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, "bad_input", "the request came too slowly, and was not read to its end") from None
        if message["type"] == "http.disconnect":
            self._ended = True
            raise Gone
        self._ended = not message.get("more_body", False)
        return message

    def _too_large(self) -> Refused:
        return Refused(
            413,
            "too_large",
            f"more than {self._most / 2**20:,.0f} MiB were sent, which is the most that is read",
            most=self._most,
        )


def _all(scope: Scope, name: bytes) -> list[str]:
    """The values of a header, each as often as it was sent."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


async def _send_error(send: Send, refused: Refused, method: str) -> None:
    body = as_json({"error": refused.error})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.status == 405:
        headers.append((b"allow", refused.error.get("allowed", "GET, HEAD").encode()))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def as_json(value: Any) -> bytes:
    """JSON in ASCII, which has room for any text that Python has, undecodable names among it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
