"""Static pages on plain file servers, and calls of their back end in a browser."""

import base64
import functools
import html
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from metashot.page.policy import POLICY_OF_FILES

# The document of a test: the policy of the page, without its front end.
_BLANK = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY_OF_FILES)}"></head><body></body></html>"""
_HELPERS = """async () => {
  window.bytesOf = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  window.textOf = (bytes) => {
    let text = "";
    for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
    return btoa(text);
  };
  window.caught = async (call) => {
    try {
      return { value: await call() };
    } catch (error) {
      return { name: error.name, code: error.code, message: error.message };
    }
  };
  const { idOf } = await import("/browser/images.js");
  window.itemsOf = (text, shape) => {
    const [bytes, size] = [bytesOf(text), shape.reduce((a, b) => a * b)];
    return Array.from({ length: bytes.length / size }, (_, place) => {
      const pixels = bytes.slice(place * size, (place + 1) * size);
      return { id: idOf(pixels, shape), pixels, remark: null, inverted: false, photographic: false };
    });
  };
  window.resultOf = async (blob) => textOf(new Uint8Array(await blob.arrayBuffer()));
}"""
_FIT = """async ([pixels, labels, names]) => {
  const items = itemsOf(pixels, backend.facts.shape);
  const classes = names.map((one) => ({ ...one, items: [] }));
  items.forEach((item, place) => classes[labels[place]].items.push(item));
  return backend.fit(classes);
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a folder on a plain file server, and the paths that were asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Site:
    """A static page in a browser, without its front end."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        page.goto(f"{address}/blank.html")
        page.evaluate(_HELPERS)

    def open(self) -> dict[str, Any]:
        """Open the back end; what it says of the learner."""
        facts: dict[str, Any] = self.page.evaluate(
            """async () => {
              window.backend = await (await import("/browser/backend.js")).open();
              return JSON.parse(JSON.stringify(backend.facts, (key, value) => (key === "pixels" ? undefined : value)));
            }"""
        )
        return facts

    def prepare(self, content: bytes, name: str = "it.png") -> dict[str, Any]:
        """An item, or an error that was raised."""
        found: dict[str, Any] = self.page.evaluate(
            """async ([text, name]) => {
              const { value, ...error } = await caught(() => backend.prepare(new Blob([bytesOf(text)]), name));
              return value === undefined ? error : { ...value, pixels: textOf(value.pixels) };
            }""",
            [_text(content), name],
        )
        if "pixels" in found:
            found["pixels"] = base64.b64decode(found["pixels"])
        return found

    def fit(self, pixels: bytes, labels: Sequence[int], names: Sequence[Any]) -> None:
        told = [{"name": one} if isinstance(one, str) else {"name": str(one), "label": one} for one in names]
        self.page.evaluate(_FIT, [_text(pixels), list(labels), told])

    def answer(self, pixels: bytes, unknown: float | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.page.evaluate(
            "([text, unknown]) => backend.answer(itemsOf(text, backend.facts.shape), { unknown, steps: false })",
            [_text(pixels), unknown],
        )
        return found

    def file(self, call: str) -> bytes:
        """The content of the Blob that `save` or `graph` returns."""
        return base64.b64decode(self.page.evaluate(f"async () => resultOf(await backend.{call}())"))

    def load(self, content: bytes, name: str = "it.fewshot") -> Any:
        """The classes of a fitted learner's file, or the error that was raised."""
        return self.page.evaluate(
            """async ([text, name]) => {
              const { value, ...error } = await caught(() => backend.load(new Blob([bytesOf(text)]), name));
              if (value === undefined) return error;
              return value.map((one) => ({ ...one, items: one.items.map((item) => textOf(item.pixels)) }));
            }""",
            [_text(content), name],
        )


def blank_page(folder: Path) -> None:
    """Put the document of the tests beside the files of a static page."""
    (folder / "blank.html").write_text(_BLANK)


def learner_json(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "learner" / "learner.json").read_text())
    return found


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
