"""The page's server: its files, and the calls by which it prepares images, fits, answers, saves and loads.

Each request holds what it needs, so that open tabs keep their learners apart, and a page that outlives its server goes on
with the next one. What takes long runs in threads.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from metashot.applied.class_learner import ClassLearner
from metashot.bad_input import BadInput, in_one_line
from metashot.page import messages
from metashot.page.facts import LARGEST_IMAGE, LARGEST_LEARNER, LARGEST_MESSAGE, identity_of
from metashot.page.guards import Gone, Guards, Refused, as_json
from metashot.page.learners import Learners, NoLearner, graph_of, saved
from metashot.page.tabs import Fit, Fits, Images, Missing, NoFit
from metashot.sources.images.decoding import Unreadable

WEB = Path(__file__).parent / "web"
_INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".txt": "text/plain; charset=utf-8",
}
_LARGEST = {  # bytes of what is sent to calls that take more than a short message
    "items": LARGEST_IMAGE,
    "load": LARGEST_LEARNER,
    "pixels": LARGEST_MESSAGE,
    "fit": 12 * 2**20,  # the names of all classes and the ids of all examples
}
_DECODED_AT_ONCE = 2  # images: one of a hundred megapixels takes hundreds of megabytes
_LOADED_AT_ONCE = 2  # files of learners
_READ_AT_ONCE, _SMALL = 8, 2**20  # large bodies that are held in memory, and the bytes of one that is not counted
_LONGEST_NAME = 100  # characters of a file's name in a message

Endpoint = Callable[[Request], Awaitable[Response]]


def page_app(learner: ClassLearner, checkpoint: str, port: int, folder: Path, web: Path = WEB) -> ASGIApp:
    """The application that serves the page.

    Args:
        learner: The learner of the command line; if it is fitted, the page begins with its classes.
        checkpoint: What the user gave for it, which the page repeats in the Python lines that do the same.
        port: The port at which it is served.
        folder: A private folder for files that are read or written for a moment.
        web: The folder with the page's files.
    """
    calls = _Calls(learner, checkpoint, folder)
    routes = [
        Route("/api/learner", _Path(calls.of_this_server(calls.learner), "GET", "HEAD")),
        *(Route(f"/api/{name}", _Path(calls.of_this_server(call), "POST")) for name, call in calls.posted().items()),
        *(Route(path, _Path(_giving(file), "GET", "HEAD")) for path, file in _files(web).items()),
    ]
    # Not a whole Starlette application: what it answers to exceptions is left to the guards.
    app = Router(routes, redirect_slashes=False, default=_nothing)
    largest = {f"/api/{name}": most for name, most in _LARGEST.items()}
    return Guards(app, port, largest)


class _Calls:
    """The calls of the page, which share what is kept."""

    def __init__(self, learner: ClassLearner, checkpoint: str, folder: Path) -> None:
        self._folder = folder
        self._identity = identity_of(learner)
        self._images = Images()
        self._fits = Fits()
        self._learners = Learners(learner, checkpoint, self._images, self._fits.forget)
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)
        self._decoding = asyncio.Semaphore(_DECODED_AT_ONCE)  # waiting for a turn takes no thread
        self._loading = asyncio.Semaphore(_LOADED_AT_ONCE)

    def of_this_server(self, call: Endpoint) -> Endpoint:
        """A call that is refused to a page that another server has sent, whose learner was another."""

        async def checked(request: Request) -> Response:
            if request.query_params.get("served", self._identity) != self._identity:
                raise Refused(409, "other_learner", "another learner is served now: load the page again")
            return await call(request)

        return checked

    def posted(self) -> dict[str, Endpoint]:
        return {
            "items": self.items,
            "pixels": self.pixels,
            "fit": self.fit,
            "answer": self.answer,
            "save": self.save,
            "graph": self.graph,
            "load": self.load,
        }

    async def learner(self, request: Request) -> Response:
        """Say what the page needs to know of a learner."""
        name = _asked(request, "learner")
        return _json(await run_in_threadpool(self._learners.facts, name) | {"served": self._identity})

    async def items(self, request: Request) -> Response:
        """Convert an image file to the learner's form."""
        learner, name = _asked(request, "learner"), _file_name(request)
        self._learners.get(learner)

        def prepare(content: bytes) -> dict[str, Any]:
            return self._learners.prepare(learner, content, name)

        return _json(await self._read(request, prepare, self._decoding))

    async def pixels(self, request: Request) -> Response:
        """Keep images that the page has, and this server has lost."""
        call = await self._read(request, messages.pixels_call)
        return _json({"items": await run_in_threadpool(self._learners.keep, call.learner, call.items)})

    async def fit(self, request: Request) -> Response:
        """Fit the learner for a tab."""
        call = await self._read(request, messages.fit_call)

        def fit() -> dict[str, Any]:
            begun = time.perf_counter()
            fitted = self._learners.fit(call.learner, call.classes)
            seconds = time.perf_counter() - begun
            return {"seconds": seconds, "fit": self._fits.add(call.tab, fitted)}

        return _json(await run_in_threadpool(fit))

    async def answer(self, request: Request) -> Response:
        """Answer queries by a fit."""
        call = await self._read(request, messages.answer_call)
        fit = self._fit(call)
        refuse = fit.fitted.algorithm.refuse_strangers
        if call.unknown is not None:
            try:
                refuse()
            except BadInput as error:
                raise Refused(400, "unavailable", str(error)) from error
        answers = await run_in_threadpool(self._learners.answer, fit, call.items, call.unknown, call.steps)
        return _json({"answers": answers})

    async def save(self, request: Request) -> Response:
        """Give the fitted learner's file of a fit."""
        fit = self._fit(await self._read(request, messages.kept_call))
        return _download(await run_in_threadpool(saved, fit, self._folder))

    async def graph(self, request: Request) -> Response:
        """Give the ONNX graph of a fit."""
        fit = self._fit(await self._read(request, messages.kept_call))
        reason = self._learners.get(fit.learner).facts["no_graph"]
        if reason is not None:
            raise Refused(400, "unavailable", reason)
        return _download(await run_in_threadpool(graph_of, fit, self._folder))

    async def load(self, request: Request) -> Response:
        """Read a fitted learner's file."""
        name, file_name = _file_name(request), request.query_params.get("name", "")
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            path = Path(folder, "given.fewshot")
            with path.open("wb") as file:
                async for part in request.stream():
                    await run_in_threadpool(file.write, part)
            async with self._loading:
                return _json(await run_in_threadpool(self._learners.load, path, name, file_name))

    async def _read(self, request: Request, use: Callable[[bytes], Any], turn: asyncio.Semaphore | None = None) -> Any:
        """Read a body, while few large ones are in memory, and use it in a thread, once it has its turn."""
        length = request.headers.get("content-length")
        is_small = length is not None and int(length) <= _SMALL
        async with contextlib.nullcontext() if is_small else self._reading:
            body = await request.body()
            async with turn or contextlib.nullcontext():
                return await run_in_threadpool(use, body)

    def _fit(self, call: messages.KeptCall) -> Fit:
        return self._fits.get(call.tab, call.fit, call.learner)


class _Path:
    """A path of the server, whose call's own exceptions become errors that the page knows."""

    def __init__(self, call: Endpoint, *methods: str) -> None:
        self._call = call
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in self._methods:
            allowed = ", ".join(self._methods)
            raise Refused(405, "bad_input", f"this path cannot be asked in this way; allowed: {allowed}", allowed=allowed)
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._call(request)
        except ClientDisconnect:
            raise Gone from None
        except Missing as error:
            raise Refused(409, "missing_items", str(error), items=error.items) from error
        except NoFit as error:
            raise Refused(410, "no_fit", "this server has no such fit: fit again") from error
        except NoLearner as error:
            raise Refused(410, "no_learner", "this server has no such learner: load its file again") from error
        except Unreadable as error:
            raise Refused(400, "unreadable", str(error)) from error
        except BadInput as error:
            raise Refused(400, "bad_input", str(error)) from error


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise Refused(404, "bad_input", "there is nothing at this path")


def _asked(request: Request, key: str) -> str:
    values = request.query_params.getlist(key)
    if len(values) != 1 or not 0 < len(values[0]) <= _LONGEST_NAME:
        raise BadInput(f"the address lacks {key}=, or has it more than once")
    return values[0]


def _file_name(request: Request) -> str:
    """The name of a file for messages: the page sends what the user's file is called."""
    given = in_one_line(request.query_params.get("name", "")) or "the file"
    return given if len(given) <= _LONGEST_NAME else f"{given[:_LONGEST_NAME]}..."


def _json(value: Any) -> Response:
    return Response(as_json(value), media_type="application/json")


def _download(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")


def _files(web: Path) -> Mapping[str, Path]:
    """The page's files that are there when the server starts, by their paths; nothing else is ever read."""
    found = {f"/{path.relative_to(web).as_posix()}": path for path in sorted(web.rglob("*")) if path.is_file()}
    index = found.get(f"/{_INDEX}")
    return found if index is None else {"/": index, **found}


def _giving(path: Path) -> Endpoint:
    kind = _TYPES.get(path.suffix, "application/octet-stream")

    async def give(request: Request) -> Response:
        return FileResponse(path, media_type=kind)

    return give
