"""The page in a browser: how long a fit and a query take, and how far its probabilities are from PyTorch's.

`python -m benchmarks page --data FOLDER` starts the page's server, and writes the page as static files where a browser can
compute the learner; a headless Chromium opens both and calls their back ends as the page does. A query is an image file that
is decoded and answered: on the server, these are two requests by HTTP. Learners of drawings are asked about characters of
Omniglot's evaluation set, others about test images of CIFAR-FS, in 5-way 5-shot tasks; the files are read from the archives
in the folder, or below it. `--screenshot` draws digits in the page by the mouse, and keeps what it looks like.
"""

import argparse
import base64
import io
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table

import metashot
from benchmarks.compare.table import machine
from benchmarks.outputs import between, refuse_json, write_json
from metashot.bad_input import BadInput

BEGIN, END = "<!-- page -->", "<!-- end of page -->"
WAYS, SHOTS, QUERIES = 5, 5, 14  # of a task; Omniglot has 20 drawings of a character
LEARNERS = ("drawings", "photos")
SERVER, BROWSER = "server", "browser"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SETTLED = 1500  # milliseconds after which a page shows its last answer
_PATIENCE = 300  # seconds until a server says where it is
# Digits as strokes through points of the unit square, for the screenshot.
_DIGITS = {
    "zero": [
        [(0.5, 0.15), (0.3, 0.25), (0.25, 0.5), (0.3, 0.75), (0.5, 0.85), (0.7, 0.75), (0.75, 0.5), (0.7, 0.25), (0.5, 0.15)]
    ],
    "one": [[(0.4, 0.3), (0.55, 0.15), (0.55, 0.85)]],
    "three": [
        [(0.28, 0.22), (0.5, 0.14), (0.7, 0.27), (0.62, 0.42), (0.45, 0.48)],
        [(0.45, 0.48), (0.68, 0.56), (0.74, 0.72), (0.52, 0.86), (0.27, 0.78)],
    ],
}

# Called in the page: the back end that the page itself uses, which is opened once more and measured call by call.
_OPEN = """async () => {
  const kind = document.documentElement.dataset.backend;
  window.measured = await (await import(new URL(`${kind}/backend.js`, location.href).href)).open();
  return measured.facts;
}"""
_ASK = """async ({ classes, queries }) => {
  const blob = (text) => new Blob([Uint8Array.from(atob(text), (one) => one.charCodeAt(0))], { type: "image/png" });
  const prepared = [];
  for (const [number, files] of classes.entries()) {
    const items = [];
    for (const file of files) items.push(await measured.prepare(blob(file), "support.png"));
    prepared.push({ name: `class ${number}`, items });
  }
  let begun = performance.now();
  await measured.fit(prepared);
  const fit = performance.now() - begun;
  const times = [], probabilities = [];
  for (const query of queries.map(blob)) {
    begun = performance.now();
    const item = await measured.prepare(query, "query.png");
    const [answer] = await measured.answer([item], { unknown: null, steps: false });
    times.push(performance.now() - begun);
    probabilities.push([...answer.probabilities]);
  }
  return { fit, times, probabilities };
}"""


@dataclass(frozen=True)
class Task:
    """Image files: some of each class to learn from, and queries."""

    support: list[list[bytes]]
    queries: list[bytes]


@dataclass(frozen=True)
class Measured:
    """Milliseconds of one back end with one learner, and the largest difference of its probabilities from PyTorch's."""

    learner: str
    where: str
    data: str
    queries: int
    first_fit: float
    fit: float  # the median of later ones
    first: float
    median: float
    slowest: float  # the 95th percentile
    difference: float


def tasks(archives: Mapping[str, list[bytes]], count: int) -> list[Task]:
    """Tasks of classes and images that are drawn at random, always the same ones."""
    drawn = random.Random(0)
    found = []
    for _ in range(count):
        chosen = [drawn.sample(archives[name], SHOTS + QUERIES) for name in drawn.sample(sorted(archives), WAYS)]
        queries = [image for images in chosen for image in images[SHOTS:]]
        drawn.shuffle(queries)
        found.append(Task([images[:SHOTS] for images in chosen], queries))
    return found


def omniglot(folder: Path) -> dict[str, list[bytes]]:
    """The drawings of each character of the evaluation set."""
    return _images(_archive(folder, "images_evaluation.zip"), lambda parts: parts[0] == "images_evaluation")


def cifar_fs(folder: Path) -> dict[str, list[bytes]]:
    """The images of each test class."""
    archive = _archive(folder, "cifar-fs.zip", "cifar100.zip")
    with zipfile.ZipFile(archive) as opened:
        named = set(opened.read("cifar100/splits/bertinetto/test.txt").decode().split())
    return _images(archive, lambda parts: parts[-2] in named, most=60)


def _archive(folder: Path, *names: str) -> Path:
    found = next((path for name in names for path in sorted(folder.rglob(name))), None)
    if found is None:
        raise BadInput(f"--data {folder}: there is no {' or '.join(names)} in this folder or below it")
    return found


def _images(archive: Path, wanted: Callable[[tuple[str, ...]], bool], most: int | None = None) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    with zipfile.ZipFile(archive) as opened:
        for name in sorted(opened.namelist()):
            parts = Path(name).parts
            if name.endswith(".png") and wanted(parts):
                images = found.setdefault("/".join(parts[:-1]), [])
                if most is None or len(images) < most:
                    images.append(opened.read(name))
    return found


@contextmanager
def served(checkpoint: str) -> Iterator[str]:
    """The address of the page's server."""
    command = [sys.executable, "-m", "metashot.page", f"ckpt={checkpoint}", "port=0", "browser=false", "device=cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        late = threading.Timer(_PATIENCE, process.kill)
        late.start()
        said = ""
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                    late.cancel()
                    yield found[0]
                    return
                said += line
            raise BadInput(f"the page of ckpt={checkpoint} did not start: {said.strip()}")
        finally:
            late.cancel()
            process.send_signal(signal.SIGINT)


@contextmanager
def written(checkpoint: str, folder: Path) -> Iterator[str]:
    """The address of the static page, which a plain server of files sends."""
    out = folder / "page"
    command = [sys.executable, "-m", "metashot.page", f"ckpt={checkpoint}", "export=page", f"out={out}", "device=cpu"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(out))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


def measure(page: Page, address: str, given: Sequence[Task]) -> tuple[list[float], list[float], list[list[float]]]:
    """The milliseconds of fits and of queries, and the probabilities of all queries."""
    page.goto(address)
    page.evaluate(_OPEN)
    fits, times, probabilities = [], [], []
    for task in given:
        coded = {
            "classes": [[base64.b64encode(image).decode() for image in images] for images in task.support],
            "queries": [base64.b64encode(image).decode() for image in task.queries],
        }
        found = page.evaluate(_ASK, coded)
        fits.append(found["fit"])
        times += found["times"]
        probabilities += found["probabilities"]
    return fits, times, probabilities


def of_pytorch(checkpoint: str, given: Sequence[Task]) -> list[list[float]]:
    """The probabilities of the same queries by `metashot.load`, each query asked alone as in the page."""
    learner = metashot.load(checkpoint, device="cpu")
    found: list[list[float]] = []
    for task in given:
        images = [Image.open(io.BytesIO(image)) for images in task.support for image in images]
        learner.fit(images, [label for label, images in enumerate(task.support) for _ in images])
        for query in task.queries:
            found += learner.predict_proba([Image.open(io.BytesIO(query))]).tolist()
    return found


def rows(learner: str, checkpoint: str, data: str, given: Sequence[Task], page: Page) -> Iterator[Measured]:
    """What the server takes, and the browser where it can compute the learner."""
    expected = np.array(of_pytorch(checkpoint, given))
    with tempfile.TemporaryDirectory(prefix="metashot-benchmarks-") as folder:
        begins = {SERVER: served(checkpoint)}
        if _can_be_written(checkpoint):
            begins[BROWSER] = written(checkpoint, Path(folder))
        for where, begin in begins.items():
            with begin as address:
                fits, times, found = measure(page, address, given)
            difference = float(np.abs(np.array(found) - expected).max())
            later = times[1:]
            yield Measured(
                *(learner, where, data, len(times), fits[0], statistics.median(fits[1:] or fits)),
                *(times[0], statistics.median(later), statistics.quantiles(later, n=20)[-1], difference),
            )


def _can_be_written(checkpoint: str) -> bool:
    from metashot.page.static import refuse_static

    try:
        refuse_static(metashot.load(checkpoint, device="cpu"))
    except BadInput:
        return False
    return True


@contextmanager
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        raise BadInput("Chromium is not installed: apt-get install chromium")
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # which root cannot have
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=sandbox)
        yield opened
        opened.close()


def draw(page: Page, sheet: Any, strokes: Sequence[Sequence[tuple[float, float]]], drawn: random.Random) -> None:
    """Draw strokes by the mouse, each time a little differently."""
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    turn, size = drawn.uniform(-0.12, 0.12), drawn.uniform(0.85, 1.0)
    for stroke in strokes:
        for number, (x, y) in enumerate(stroke):
            dx, dy = x - 0.5 + drawn.uniform(-0.02, 0.02), y - 0.5 + drawn.uniform(-0.02, 0.02)
            across, down = 0.5 + size * (dx - turn * dy), 0.5 + size * (dy + turn * dx)
            page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"], steps=4)
            if number == 0:
                page.mouse.down()
        page.mouse.up()


def screenshot(opened: Any, address: str, path: Path) -> None:
    """The page after two drawings of each of three digits and a query, as a visitor sees it by day."""
    context = opened.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light", reduced_motion="reduce")
    page, drawn = context.new_page(), random.Random(1)
    page.goto(address)
    page.locator("#page").wait_for()
    for place, (name, strokes) in enumerate(_DIGITS.items()):
        if page.locator(".card").count() <= place:
            page.get_by_role("button", name="Add a class").click()
        card = page.locator(".card").nth(place)
        if card.locator(".opener").is_visible():
            card.locator(".opener").click()
        card.locator(".name").fill(name)
        for number in range(2):
            draw(page, card.locator(".sheet"), strokes, drawn)
            card.get_by_role("button", name="Add example", exact=True).click()
            card.locator(".example").nth(number).wait_for()
    draw(page, page.locator("#ask .sheet"), _DIGITS["three"], drawn)
    page.wait_for_timeout(_SETTLED)  # it answers after each stroke, and the last answer is to be seen
    page.locator("#said", has_text="three").wait_for()
    page.mouse.move(5, 5)
    page.evaluate("() => { document.activeElement?.blur(); scrollTo(0, 0); }")
    page.screenshot(path=path)
    context.close()


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks page", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder with Omniglot and CIFAR-FS, for the measurements")
    parser.add_argument("--learners", nargs="+", default=LEARNERS, help="ready-made ones (default: drawings photos)")
    parser.add_argument("--maml", type=Path, help="a run of train.py algo=maml on drawings, which is measured, too")
    parser.add_argument("--queries", type=int, default=200, help="queries of each learner, 70 to 10,000 (default: 200)")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    parser.add_argument("--markdown", type=Path, help=f"a file whose part between {BEGIN} and {END} becomes the table")
    parser.add_argument("--screenshot", type=Path, help="a PNG file for a picture of the page")
    given = parser.parse_args(arguments)
    if given.data is None and given.screenshot is None:
        parser.error("there is nothing to do: give --data FOLDER, --screenshot FILE.png, or both")
    if not 70 <= given.queries <= 10_000:
        parser.error(f"--queries {given.queries}: allowed: 70 to 10,000")
    if given.screenshot and given.screenshot.suffix != ".png":
        parser.error(f"--screenshot {given.screenshot}: allowed: the name of a PNG file")
    if unknown := set(given.learners) - set(LEARNERS):
        parser.error(f"--learners {min(unknown)}: allowed: {', '.join(LEARNERS)}")
    refuse_json(parser, given.json)
    markdown = between(parser, given.markdown, BEGIN, END)
    warnings.simplefilter("ignore")
    try:
        with browser() as opened:
            if given.screenshot:
                with served("drawings") as address:
                    screenshot(opened, address, given.screenshot)
            if given.data is None:
                return
            found = list(_measured(given, opened))
            version = opened.version
    except BadInput as error:
        parser.error(str(error))
    table = Table(*_HEADER)
    for row in found:
        table.add_row(*_cells(row))
    console, on = Console(), f"Chromium {version}, {machine()}"
    console.print(table)
    console.print(on, highlight=False)
    if given.json:
        write_json(given.json, {"machine": on, "rows": [asdict(row) for row in found]})
    if markdown:
        lines = [_HEADER, ["---", "---", "---", *["---:"] * 6], *map(_cells, found)]
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        markdown.replace(f"{text}\n\n{on}.")


def _measured(given: argparse.Namespace, opened: Any) -> Iterator[Measured]:
    count = -(-given.queries // (WAYS * QUERIES))
    measured = [(name, name) for name in given.learners] + ([("MAML", str(given.maml))] if given.maml else [])
    for name, checkpoint in measured:
        data, read = ("CIFAR-FS", cifar_fs) if name == "photos" else ("Omniglot", omniglot)
        context = opened.new_context()
        yield from rows(name, checkpoint, data, tasks(read(given.data), count), context.new_page())
        context.close()


_HEADER = [
    *("learner", "computed by", "images", "first fit", "fit, median", "first query", "query, median"),
    *("query, 95th percentile", "largest difference"),
]


def _cells(row: Measured) -> list[str]:
    times = (row.first_fit, row.fit, row.first, row.median, row.slowest)
    return [
        row.learner,
        row.where,
        row.data,
        *(f"{time:,.0f} ms" for time in times),
        f"{row.difference:.1e}" if row.difference else "0",
    ]
