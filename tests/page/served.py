"""A page's server in the process of the tests, at a free port, and what a page sends to it."""

import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from numpy.typing import NDArray
from PIL import Image

from metashot.applied.class_learner import ClassLearner
from metashot.page.server import page_app
from metashot.page.serving import listening


class Page:
    """What a page does: one tab of a browser, or the same one again."""

    def __init__(self, port: int, tab: str = "first") -> None:
        self.port, self.tab = port, tab
        address = f"http://127.0.0.1:{port}"
        # Without encryption, and so without reading certificates, which takes longer than most requests.
        self.client = httpx.Client(base_url=address, headers={"origin": address}, timeout=60, verify=False)

    def other(self, tab: str) -> "Page":
        return Page(self.port, tab)

    def facts(self, learner: str = "own") -> dict[str, Any]:
        found: dict[str, Any] = accepted(self.client.get("/api/learner", params={"learner": learner}))
        return found

    def post(self, call: str, message: Any) -> httpx.Response:
        return self.client.post(f"/api/{call}", json=message)

    def send_file(self, content: bytes, name: str = "a.png", learner: str = "own") -> httpx.Response:
        return self.client.post("/api/items", params={"learner": learner, "name": name}, content=content)

    def items(self, images: NDArray[np.uint8], learner: str = "own") -> list[str]:
        """The ids of images, each sent as a PNG."""
        return [accepted(self.send_file(png(image), learner=learner))["id"] for image in images]

    def fit(self, classes: list[dict[str, Any]], learner: str = "own") -> dict[str, Any]:
        message = {"learner": learner, "tab": self.tab, "classes": classes}
        return self.kept(learner, accepted(self.post("fit", message))["fit"])

    def kept(self, learner: str, fit: int) -> dict[str, Any]:
        return {"learner": learner, "tab": self.tab, "fit": fit}

    def answer(self, fit: dict[str, Any], items: list[str], unknown: float | None = None, steps: bool = False) -> list[Any]:
        asked = self.post("answer", {**fit, "items": items, "unknown": unknown, "steps": steps})
        answers: list[Any] = accepted(asked)["answers"]
        return answers

    def load(self, content: bytes, name: str = "pets.fewshot") -> httpx.Response:
        return self.client.post("/api/load", params={"name": name}, content=content)


@contextmanager
def served(learner: ClassLearner, folder: Path, checkpoint: str = "drawings", **more: Any) -> Iterator[Page]:
    with listening(0) as opened:
        port = opened.getsockname()[1]
        app = page_app(learner, checkpoint, port, folder, **more)
        config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        try:
            yield Page(port)
        finally:
            server.should_exit = True
            thread.join(5)


def accepted(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: httpx.Response, status: int, code: str, *parts: str) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    for part in parts:
        assert part in error["message"]
    assert "\n" not in error["message"]
    assert "Traceback" not in error["message"]
    return error


def png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def pixels_of(item: dict[str, Any]) -> bytes:
    return base64.b64decode(item["pixels"], validate=True)
