"""The page in a real browser, against the real server: what a person does, by mouse, finger, keyboard and camera.

A learner's answers are tested elsewhere; here, it is tested that the page gives it the right examples and shows its answers.
"""

import ast
import io
import itertools
import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import metashot

pytest.importorskip("playwright.sync_api")
pytest.importorskip("uvicorn")

import uvicorn
from playwright.sync_api import Browser, BrowserContext, FileChooser, FilePayload, Locator, Page, expect

from metashot.page.server import WEB, page_app
from metashot.page.static import write_page
from tests.applied.learners import tiny

from .static_sites import served

expect.set_options(timeout=15_000)  # as other tests keep the machine busy

DIGITS = {
    "0": [
        [(0.5, 0.15), (0.3, 0.25), (0.2, 0.5), (0.3, 0.75), (0.5, 0.85), (0.7, 0.75), (0.8, 0.5), (0.7, 0.25), (0.5, 0.15)],
    ],
    "1": [[(0.4, 0.3), (0.55, 0.15), (0.55, 0.85)]],
    "3": [
        [(0.3, 0.2), (0.5, 0.1), (0.7, 0.3), (0.65, 0.4), (0.45, 0.5), (0.7, 0.6), (0.75, 0.7), (0.5, 0.9), (0.3, 0.8)],
    ],
    "4": [[(0.6, 0.85), (0.6, 0.15), (0.25, 0.6), (0.8, 0.6)]],
    "7": [[(0.25, 0.2), (0.75, 0.2), (0.45, 0.85)]],
}  # fmt: skip


class Server:
    """The page's server in a thread. It can be stopped, and started again without anything that it knew."""

    def __init__(self, learner: Any, checkpoint: str, folder: Path) -> None:
        self.learner, self.checkpoint, self.folder = learner, checkpoint, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        app = page_app(self.learner, self.checkpoint, self.port, folder=self.folder)
        config = uvicorn.Config(
            app, host="127.0.0.1", port=self.port, log_config=None, lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextmanager
def serving(checkpoint: str | Path, folder: Path) -> Iterator[Server]:
    server = Server(metashot.load(checkpoint, "cpu"), str(checkpoint), folder)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("drawings", tmp_path_factory.mktemp("files")) as server:
        yield server


@pytest.fixture(scope="module")
def adapting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tiny(tmp_path_factory.mktemp("maml"), "maml"), tmp_path_factory.mktemp("files")) as server:
        yield server


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tiny(tmp_path_factory.mktemp("laplacianshot"), "laplacianshot"), tmp_path_factory.mktemp("files")
    ) as server:
        yield server


class StaticPage:
    """The same page as static files, on a plain file server."""

    def __init__(self, address: str) -> None:
        self.address = f"{address}/"
        self.port = int(address.rpartition(":")[2])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StaticPage]:
    pytest.importorskip("onnxscript")
    folder = write_page(metashot.load("drawings", "cpu"), str(tmp_path_factory.mktemp("static") / "page"))
    with served(folder) as (address, _):
        yield StaticPage(address)


@pytest.fixture(params=["server", "static"])
def either(request: pytest.FixtureRequest) -> Server | StaticPage:
    """The page for drawings with each of its back ends."""
    found: Server | StaticPage = request.getfixturevalue("drawings" if request.param == "server" else "files")
    return found


Opens = Callable[..., Page]


@pytest.fixture
def opens(chromium: Browser) -> Iterator[Opens]:
    """Opens a page that has loaded. A test fails where a script of its pages has raised an error, or asked another host."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []
    hosts: set[str] = set()
    own: set[str] = {""}

    def open_page(server: Server | StaticPage, **options: Any) -> Page:
        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce", **options})
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: hosts.add(request.url.split("/")[2] if request.url.startswith("http") else ""))
        page.goto(server.address)
        expect(page.locator("#page")).to_be_visible()
        own.add(f"127.0.0.1:{server.port}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors
    assert hosts <= own, "the page asked a host that is not its own"


def drawn(digit: str, seed: int, name: str | None = None) -> FilePayload:
    """An image file of a digit, dark on white."""
    random_ = random.Random(seed)
    image = Image.new("L", (200, 200), 255)
    shift = (random_.uniform(-6, 6), random_.uniform(-6, 6))
    for stroke in DIGITS[digit]:
        points = [(200 * x + shift[0], 200 * y + shift[1]) for x, y in stroke]
        ImageDraw.Draw(image).line(points, fill=16, width=10, joint="curve")
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"name": name or f"{digit}-{seed}.png", "mimeType": "image/png", "buffer": file.getvalue()}


def card(page: Page, place: int) -> Locator:
    return page.locator(".card").nth(place)


def open_card(page: Page, place: int) -> Locator:
    if card(page, place).locator(".opener").is_visible():
        card(page, place).locator(".opener").click()
    return card(page, place)


def use(part: Locator, way: str) -> None:
    part.get_by_role("tab", name=way).click()


def box_of(element: Locator) -> Any:
    return element.bounding_box()


def draw(page: Page, part: Locator, digit: str, seed: int, size: float = 1.0) -> None:
    """Draw a digit by the mouse; a small one in the upper left corner."""
    random_ = random.Random(seed)
    sheet = part.locator(".sheet")
    sheet.scroll_into_view_if_needed()
    box = box_of(sheet)
    shift = (random_.uniform(-0.03, 0.03), random_.uniform(-0.03, 0.03))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = (size * (value + by + random_.uniform(-0.01, 0.01)) for value, by in zip(point, shift, strict=True))
        return box["x"] + box["width"] * x, box["y"] + box["height"] * y

    for first, *others in DIGITS[digit]:
        page.mouse.move(*place(first))
        page.mouse.down()
        for point in others:
            page.mouse.move(*place(point), steps=2)
        page.mouse.up()


def teach_files(page: Page, digits: Sequence[str], each: int = 2) -> None:
    """Make a class of each digit, from files."""
    for place, digit in enumerate(digits):
        if page.locator(".card").count() <= place:
            page.get_by_role("button", name="Add a class").click()
        card(page, place).locator(".name").fill(digit)
        card(page, place).locator(".name").press("Enter")
        drop(page, f".card:nth-child({place + 1})", [drawn(digit, seed) for seed in range(each)])
    expect(page.locator("#learned")).to_contain_text(f"Learned {each * len(digits)} examples of {len(digits)} classes")


def ask_file(page: Page, digit: str, seed: int = 99) -> None:
    use(page.locator("#ask"), "Files")
    page.locator("#ask input.file").set_input_files(drawn(digit, seed))


def answer(page: Page) -> Locator:
    return page.locator("#said")


def drop(page: Page, selector: str, files: Sequence[FilePayload]) -> None:
    """Drop files, as far as a script can: the browser's own events with a real DataTransfer."""
    page.evaluate(
        """([selector, files, kind]) => {
          const transfer = new DataTransfer();
          for (const { name, bytes } of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
          const target = document.querySelector(selector);
          for (const type of ["dragenter", "dragover", "drop"]) {
            target.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer }));
          }
        }""",
        [selector, [{"name": file["name"], "bytes": list(file["buffer"])} for file in files], "drop"],
    )


def paste(page: Page, files: Sequence[FilePayload]) -> None:
    page.evaluate(
        """(files) => {
          const transfer = new DataTransfer();
          for (const { name, bytes } of files) {
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
          }
          document.activeElement.dispatchEvent(
            new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData: transfer }));
        }""",
        [{"name": file["name"], "bytes": list(file["buffer"])} for file in files],
    )


def test_five_digits_drawn_with_the_mouse_are_answered_right_each_with_its_nearest_examples(
    opens: Opens, either: Server | StaticPage
) -> None:
    page = opens(either)
    expect(page.locator("#learned")).to_have_text("To begin, give examples of Class 1 and of Class 2.")
    for place, digit in enumerate(DIGITS):
        if place > 1:
            page.get_by_role("button", name="Add a class").click()
        one = open_card(page, place)
        one.locator(".name").fill(digit)
        for seed in range(2):
            draw(page, one, digit, seed)
            one.get_by_role("button", name="Add example", exact=True).click()
        expect(one.locator(".example")).to_have_count(2)
    expect(page.locator("#learned")).to_contain_text("Learned 10 examples of 5 classes")
    for digit in DIGITS:
        draw(page, page.locator("#ask"), digit, 50)
        expect(answer(page)).to_have_text(re.compile(rf"^{digit}: [5-9]\d|^{digit}: 100"))
        expect(page.locator("#near-list li").first).to_contain_text(digit)
        expect(page.locator("#bars .is-best")).to_contain_text(digit)
        expect(page.locator("#bars li")).to_have_count(5)
        page.locator("#ask").get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator("#strip-list .said")).to_have_text(list(DIGITS)[::-1])
    page.locator("#strip-list button").last.click()  # looks at the first answer again
    expect(answer(page)).to_contain_text("0: ")


def test_drawings_may_be_small_and_anywhere(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    for place, digit in enumerate(("3", "7")):
        one = open_card(page, place)
        one.locator(".name").fill(digit)
        for seed in range(2):
            draw(page, one, digit, seed)
            one.get_by_role("button", name="Add example", exact=True).click()
    expect(page.locator("#learned")).to_contain_text("Learned 4 examples of 2 classes")
    for digit in ("3", "7"):
        draw(page, page.locator("#ask"), digit, 50, size=0.3)
        expect(answer(page)).to_have_text(re.compile(rf"^{digit}: [89]\d|^{digit}: 100"))
        page.locator("#ask").get_by_role("button", name="Clear", exact=True).click()


def test_what_belongs_to_no_class_is_said_to_unless_that_is_forbidden(opens: Opens, either: Server | StaticPage) -> None:
    page = opens(either)
    teach_files(page, ["0", "1"], each=3)
    use(page.locator("#ask"), "Draw")
    draw(page, page.locator("#ask"), "4", 1)
    expect(answer(page)).to_have_text(re.compile(r"^None of these \(most like [01]\)$"))
    expect(page.get_by_text("The probabilities only compare the classes")).to_be_visible()
    page.get_by_label("Allow “none of these”").uncheck()
    expect(answer(page)).to_have_text(re.compile(r"^[01]: "))


def test_long_names_neither_overlap_nor_widen_a_phone_s_page(opens: Opens, drawings: Server) -> None:
    page = opens(drawings, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    names = ["Staphylococcus aureus", "Pseudomonas_aeruginosa_of_another_strain"]
    for place, (name, digit) in enumerate(zip(names, ("0", "1"), strict=True)):
        card(page, place).locator(".name").fill(name)
        card(page, place).locator(".name").press("Enter")
        drop(page, f".card:nth-child({place + 1})", [drawn(digit, seed) for seed in range(3)])
    expect(page.locator("#learned")).to_contain_text("Learned 6 examples of 2 classes")
    ask_file(page, "4")  # is none of these, and the headline names the class that is the most like it
    expect(page.locator("#near-list li")).to_have_count(5)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "a phone would have to scroll sideways"
    boxes = page.locator("#near-list li, #near-list li > *").evaluate_all(
        "all => all.map((one) => [one.tagName, one.getBoundingClientRect().left, one.getBoundingClientRect().right])"
    )
    items = [box for box in boxes if box[0] == "LI"]
    assert all(one[2] <= other[1] for one, other in itertools.pairwise(items)), "tiles overlap"
    widths = [right - left for _, left, right in boxes]
    assert max(widths) - min(widths) < 1, "tiles differ in size, or what is in them is wider than they are"
    assert {*page.locator("#near-list b").evaluate_all("all => all.map((one) => one.title)")} <= set(names)


def test_the_answer_goes_with_its_drawing_and_stays_in_the_list(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    teach_files(page, ["0", "1"])
    draw(page, page.locator("#ask"), "1", 50)
    expect(answer(page)).to_contain_text("1: ")
    page.keyboard.press("Escape")
    expect(answer(page)).to_be_empty()
    expect(page.locator("#ask-waiting")).to_have_text("Ready: draw or show something new.")
    expect(page.locator("#bars")).to_be_hidden()
    expect(page.locator("#strip-list .said")).to_have_text(["1"])


def test_a_photograph_given_to_a_learner_of_drawings_is_warned_of(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((240, 240), Image.Resampling.BICUBIC).save(file, "PNG")
    photograph: FilePayload = {"name": "photograph.png", "mimeType": "image/png", "buffer": file.getvalue()}
    teach_files(page, ["0", "1"])
    warnings = page.get_by_text("this learner was trained on drawings")
    expect(warnings.filter(visible=True)).to_have_count(0)
    drop(page, ".card", [photograph])
    expect(card(page, 0).locator(".photographs")).to_be_visible()
    drop(page, "#ask", [photograph])
    expect(page.locator("#answer").get_by_text("This looks like a photograph")).to_be_visible()
    ask_file(page, "0")
    expect(page.locator("#answer").get_by_text("This looks like a photograph")).to_be_hidden()


def test_a_finger_draws_without_scrolling_the_page(opens: Opens, drawings: Server) -> None:
    page = opens(drawings, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    sheet = card(page, 0).locator(".sheet")
    sheet.scroll_into_view_if_needed()
    box, before = box_of(sheet), page.evaluate("scrollY")
    touch = page.context.new_cdp_session(page)
    x, top = box["x"] + box["width"] / 2, box["y"] + 40
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": top + 200}]})
    for by in range(10, 200, 10):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": top + 200 - by}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert page.evaluate("scrollY") == before
    card(page, 0).get_by_role("button", name="Add example", exact=True).tap()
    expect(card(page, 0).locator(".example")).to_have_count(1)
    expect(page.locator("#learned")).to_contain_text("Now give an example of Class 2")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0, "a phone would have to scroll sideways"
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, label.button, summary")].filter((one) => one.checkVisibility())
          .filter((one) => { const box = one.getBoundingClientRect(); return Math.min(box.width, box.height) < 44; })
          .map((one) => one.outerHTML)"""
    )
    assert not small, "too small for a finger"


def test_a_stroke_is_undone_and_the_sheet_is_cleared(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    one = card(page, 0)
    pixels = "sheet.getContext('2d').getImageData(0, 0, 320, 320).data"
    ink = f"(sheet) => {pixels}.filter((value, at) => at % 4 === 0 && value < 128).length"
    draw(page, one, "1", 0)
    first = one.locator(".sheet").evaluate(ink)
    draw(page, one, "7", 0)
    assert one.locator(".sheet").evaluate(ink) > first > 0
    one.get_by_role("button", name="Undo").click()
    assert one.locator(".sheet").evaluate(ink) == first
    one.get_by_role("button", name="Clear", exact=True).click()
    assert one.locator(".sheet").evaluate(ink) == 0
    expect(one.get_by_role("button", name="Add example", exact=True)).to_be_disabled()


def test_dropped_and_pasted_files_become_examples_and_queries(opens: Opens, either: Server | StaticPage) -> None:
    page = opens(either)
    drop(page, ".card:nth-child(1)", [drawn("0", seed) for seed in range(3)])
    drop(page, ".card:nth-child(2)", [drawn("1", seed) for seed in range(2)])
    expect(page.locator("#learned")).to_contain_text("Learned 5 examples of 2 classes")
    open_card(page, 1)
    paste(page, [drawn("1", 7, "pasted.png")])
    expect(card(page, 1).locator(".example")).to_have_count(3)
    expect(card(page, 1).get_by_role("button", name="Example pasted.png")).to_be_visible()
    drop(page, "#ask", [drawn("0", 9)])
    expect(page.locator("#strip-list li")).to_have_count(1)
    page.locator("#ask").get_by_role("tab", name="Draw").focus()
    paste(page, [drawn("1", 8)])
    expect(page.locator("#strip-list .said")).to_have_text(["Class 2", "Class 1"])


def test_a_folder_with_folders_makes_a_class_of_each(opens: Opens, drawings: Server, tmp_path: Path) -> None:
    for digit in ("3", "4", "7"):
        (tmp_path / "digits" / digit).mkdir(parents=True)
        for seed in range(2):
            (tmp_path / "digits" / digit / f"{seed}.png").write_bytes(drawn(digit, seed)["buffer"])
    (tmp_path / "digits" / "readme.txt").write_text("beside the classes")
    (tmp_path / "digits" / ".hidden.png").write_text("not looked at")
    page = opens(drawings)
    use(card(page, 0), "Files")
    card(page, 0).locator("input[webkitdirectory]").set_input_files(tmp_path / "digits")
    expect(page.locator("#learned")).to_contain_text("Learned 6 examples of 3 classes")
    assert sorted(page.locator(".card .name").evaluate_all("all => all.map((one) => one.value)")) == ["3", "4", "7"]
    expect(page.locator("#teach > .failures")).to_contain_text("1 file: left out, since it lies beside sub-folders")


def test_folders_are_taken_in_the_order_of_python_and_those_without_a_place_are_named(
    opens: Opens, adapting: Server, tmp_path: Path
) -> None:
    names = ["b", "10", "B", "2", "a", "1", "c"]
    for name in names:
        (tmp_path / "digits" / name).mkdir(parents=True)
        (tmp_path / "digits" / name / "0.png").write_bytes(drawn("3", 0)["buffer"])
    page = opens(adapting)
    most = page.evaluate("fetch('api/learner?learner=own').then((one) => one.json()).then((facts) => facts.most_classes)")
    assert most < len(names)
    use(card(page, 0), "Files")
    card(page, 0).locator("input[webkitdirectory]").set_input_files(tmp_path / "digits")
    expect(page.locator("#learned")).to_contain_text(f"Learned {most} examples of {most} classes")
    assert page.locator(".card .name").evaluate_all("all => all.map((one) => one.value)") == sorted(names)[:most]
    reason = f"left out, since this learner tells at most {most} classes apart"
    expect(page.locator("#teach > .failures li")).to_have_text([f"{name}: {reason}" for name in sorted(names)[most:]])


def test_a_file_that_is_no_image_is_named_with_the_reason_and_the_others_are_taken(
    opens: Opens, either: Server | StaticPage
) -> None:
    page = opens(either)
    text: FilePayload = {"name": "<b>notes</b>.txt", "mimeType": "text/plain", "buffer": b"no image"}
    drop(page, ".card", [drawn("0", 0), text, drawn("0", 1)])
    one = card(page, 0)
    expect(one.locator(".failures")).to_contain_text("<b>notes</b>.txt: not usable as an image")
    expect(one.locator(".example")).to_have_count(2)
    drop(page, ".card", [drawn("0", 2)])  # mends it
    expect(one.locator(".failures")).to_be_hidden()
    drop(page, "#ask", [text])
    expect(page.locator("#ask .failures")).to_contain_text("not usable as an image")
    page.locator("#ask .failures").get_by_role("button", name="Close").click()
    expect(page.locator("#ask .failures")).to_be_hidden()


def test_two_tabs_keep_two_learners(opens: Opens, either: Server | StaticPage) -> None:
    first, second = opens(either), opens(either)
    teach_files(first, ["0", "1"])
    teach_files(second, ["1", "0"], each=3)  # other places, other counts
    open_card(second, 0).locator(".name").fill("one")
    open_card(second, 0).locator(".name").press("Enter")
    for page, name in ((first, "1"), (second, "one")):
        ask_file(page, "1")
        expect(answer(page)).to_contain_text(f"{name}: ")


def test_classes_are_renamed_added_and_removed_and_come_back(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    teach_files(page, ["0", "1", "7"])
    ask_file(page, "7")
    expect(answer(page)).to_contain_text("7: ")
    name = card(page, 2).locator(".name")
    name.fill("1")
    expect(card(page, 2).locator(".error").first).to_have_text("Another class has the name 1 already: choose another name.")
    assert name.get_attribute("aria-invalid") == "true"
    name.fill("seven")
    name.press("Enter")
    expect(card(page, 2).locator(".error").first).to_be_hidden()
    expect(answer(page)).to_contain_text("seven: ")
    card(page, 2).get_by_role("button", name="Remove the class seven").click()
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator("#bars li")).to_have_count(2)
    page.locator("#undone").get_by_role("button", name="Undo").click()
    expect(page.locator("#undone")).to_be_hidden()
    expect(page.locator("#learned")).to_contain_text("Learned 6 examples of 3 classes")
    expect(answer(page)).to_contain_text("seven: ")
    for _ in range(2):
        card(page, 0).locator(".icon").click()
    expect(page.locator("#learned")).to_contain_text("It needs two classes: add another one.")
    expect(answer(page)).to_be_empty()


def test_undo_is_in_sight_on_a_phone_and_no_field_takes_the_focus(opens: Opens, drawings: Server) -> None:
    phone = {"viewport": {"width": 390, "height": 500}, "is_mobile": True, "has_touch": True}
    page = opens(drawings, **phone)
    for place in (1, 2):
        drop(page, f".card:nth-child({place})", [drawn("0", place)])
        expect(card(page, place - 1).locator(".example")).to_have_count(1)
    page.get_by_role("button", name="Add a class").click()
    remove = card(page, 0).get_by_role("button", name="Remove the class Class 1")
    remove.scroll_into_view_if_needed()
    remove.click()
    undo = page.locator("#undone").get_by_role("button", name="Undo")
    expect(undo).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.locator(".drop > p").first).to_be_hidden()  # a phone has no Ctrl V
    undo.click()
    expect(page.locator(".card")).to_have_count(3)
    card(page, 0).get_by_role("button", name="Remove the class Class 1").click()
    page.locator("#undone").get_by_role("button", name="Close").click()
    expect(page.locator("#undone")).to_be_hidden()


def test_everything_can_be_done_by_keyboard(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    dialogs: list[FileChooser] = []
    page.on("filechooser", lambda dialog: dialogs.append(dialog))
    focused = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"

    def tab_to(name: str, back: bool = False) -> None:
        for _ in range(60):
            page.keyboard.press("Shift+Tab" if back else "Tab")
            if name in page.evaluate(focused):
                return
        raise AssertionError(f"the keyboard does not come to {name}")

    tab_to("Name of the class")
    page.keyboard.press("Control+A")
    page.keyboard.type("zero")
    page.keyboard.press("Enter")
    tab_to("Draw")
    page.keyboard.press("ArrowRight")
    assert "Files" in page.evaluate(focused)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    for _ in range(100):
        if dialogs:
            break
        page.wait_for_timeout(50)
    dialogs[0].set_files([drawn("0", seed) for seed in range(3)])
    expect(card(page, 0).locator(".example")).to_have_count(3)
    tab_to("Example 0-0.png")
    page.keyboard.press("ArrowRight")
    assert "0-1.png" in page.evaluate(focused)
    page.keyboard.press("Delete")  # the focus goes to the neighbour
    expect(card(page, 0).locator(".example")).to_have_count(2)
    assert "0-2.png" in page.evaluate(focused)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert "0-2.png" in page.evaluate(focused)
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Remove this example").press("Enter")
    assert "0-0.png" in page.evaluate(focused)
    page.keyboard.press("Delete")
    assert page.evaluate(focused) == "Name of the class"
    tab_to("Remove the class Class 2")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(1)
    assert page.evaluate(focused) == "Name of the class"
    tab_to("Add a class")
    page.keyboard.press("Enter")
    page.keyboard.type("new")
    page.keyboard.press("Enter")
    assert card(page, 1).locator(".name").input_value() == "new"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "focus is not visible"


def test_the_slider_goes_through_the_answers_after_each_inner_step(opens: Opens, adapting: Server) -> None:
    page = opens(adapting)
    teach_files(page, ["0", "1"])
    ask_file(page, "0")
    shares = page.locator("#bars .share")
    slider = page.get_by_role("slider", name="Inner steps")
    expect(slider).to_be_visible()
    last = int(slider.get_attribute("max") or 0)
    assert int(slider.input_value()) == last > 0
    seen = [shares.all_text_contents()]
    slider.focus()
    for _ in range(last):
        page.keyboard.press("ArrowLeft")
        seen.append(shares.all_text_contents())
    expect(page.locator("#step-said")).to_have_text("before any step")
    assert slider.get_attribute("aria-valuetext") == "before any step"
    expect(answer(page)).to_have_text(re.compile(", before any step$"))
    page.keyboard.press("ArrowRight")
    expect(answer(page)).to_have_text(re.compile(r", after \d+ of \d+ steps$"))
    assert len({tuple(one) for one in seen}) > 1, "the probabilities do not move"
    ask_file(page, "1")
    expect(page.locator("#strip-list li")).to_have_count(2)
    expect(page.locator("#step-said")).to_have_text(re.compile(r"^after \d+ steps?$"))  # as the strip, it starts at the last
    expect(answer(page)).not_to_have_text(re.compile("step"))


def test_a_transductive_learner_is_asked_all_queries_together(opens: Opens, together: Server) -> None:
    page = opens(together)
    teach_files(page, ["0", "1"])
    expect(page.locator("#strip")).to_be_hidden()
    for count, digit in enumerate(["0", "1", "0"], start=1):
        with page.expect_request(re.compile("api/answer")) as request:
            ask_file(page, digit, 50 + count)
        assert len(json.loads(request.value.post_data or "")["items"]) == count
    expect(page.locator("#alone")).to_contain_text("answers all of these together")


def test_more_classes_than_the_head_has_cannot_be_added(opens: Opens, adapting: Server) -> None:
    page = opens(adapting)
    most = page.evaluate("fetch('api/learner?learner=own').then((one) => one.json()).then((facts) => facts.most_classes)")
    for _ in range(most - 2):
        page.get_by_role("button", name="Add a class").click()
    expect(page.get_by_role("button", name="Add a class")).to_be_disabled()
    expect(page.locator("#add-note")).to_have_text(f"This learner tells at most {most} classes apart.")


def test_a_learner_is_saved_and_loaded_again_and_its_python_lines_run(
    opens: Opens,
    either: Server | StaticPage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = opens(either)
    teach_files(page, ["0", "1", "7"])
    open_card(page, 1).locator(".name").fill('one "1" 一')
    card(page, 1).locator(".name").press("Enter")
    page.get_by_label("Name of the file").fill('di/gits "1"')
    expect(page.get_by_role("button", name="Save learner")).to_be_enabled()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save learner").click()
    name = download.value.suggested_filename
    assert name == "di-gits -1-.fewshot"
    download.value.save_as(tmp_path / name)
    lines = page.locator("#lines-saved").text_content()
    page.locator("summary").click()
    of_folder = page.locator("#lines-folder").text_content()

    page.reload()
    expect(page.locator("#learned")).to_contain_text("To begin")
    page.locator("#load").set_input_files(tmp_path / name)
    expect(page.locator("#keep-note")).to_have_text(f"Loaded {name}.")
    expect(page.locator("#learned")).to_contain_text("Learned 6 examples of 3 classes")
    names = page.locator(".card .name").evaluate_all("all => all.map((one) => one.value)")
    assert sorted(names) == ["0", "7", 'one "1" 一']
    ask_file(page, "1")
    expect(answer(page)).to_contain_text('one "1" 一: ')
    assert not page.evaluate(
        "(() => { const e = new Event('beforeunload', {cancelable: true}); dispatchEvent(e); return e.defaultPrevented; })()"
    )

    (tmp_path / "query.png").write_bytes(drawn("1", 99)["buffer"])
    for digit in ("0", "1"):
        (tmp_path / "examples" / digit).mkdir(parents=True)
        for seed in range(2):
            (tmp_path / "examples" / digit / f"{seed}.png").write_bytes(drawn(digit, seed)["buffer"])
    monkeypatch.chdir(tmp_path)
    exec(lines or "", {})
    assert capsys.readouterr().out in ("['one \"1\" 一']\n", "['unknown']\n")
    exec(of_folder or "", {})
    assert capsys.readouterr().out in ("['1']\n", "['unknown']\n")


def test_what_cannot_be_loaded_is_said_in_place_and_the_examples_stay(opens: Opens, either: Server | StaticPage) -> None:
    page = opens(either)
    drop(page, ".card", [drawn("0", 0)])
    expect(page.locator(".example")).to_have_count(1)
    page.locator("#load").set_input_files({"name": "bad.fewshot", "mimeType": "", "buffer": b"nothing"})
    expect(page.get_by_role("dialog")).to_contain_text("1 example of yours is not saved")
    page.get_by_role("dialog").get_by_role("button", name="Replace them").click()
    expect(page.locator("#keep-error")).to_contain_text("bad.fewshot")
    expect(page.locator(".example")).to_have_count(1)
    drop(page, ".card:nth-child(2)", [drawn("1", 0)])
    with page.expect_download() as download:
        page.get_by_role("button", name="Save learner").click()
    expect(page.locator("#keep-note")).to_contain_text("Saved as")
    expect(page.locator("#keep-error")).to_be_empty()
    assert download.value.suggested_filename == "my-learner.fewshot"
    page.locator("#load").set_input_files({"name": "bad.fewshot", "mimeType": "", "buffer": b"nothing"})
    expect(page.locator("#keep-error")).to_contain_text("bad.fewshot")
    expect(page.locator("#keep-note")).to_be_empty()  # no word of success beside the error


def test_leaving_warns_only_if_examples_would_be_lost(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    warns = (
        "(() => { const e = new Event('beforeunload', {cancelable: true}); dispatchEvent(e); return e.defaultPrevented; })()"
    )
    assert not page.evaluate(warns)
    drop(page, ".card", [drawn("0", 0)])
    expect(page.locator(".example")).to_have_count(1)
    assert page.evaluate(warns)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted learner with 1,000 examples of 200 classes."""
    path = tmp_path_factory.mktemp("large") / "large.fewshot"
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 1, 28, 28), dtype=np.uint8)
    labels = [f"class {place % 200:03}" for place in range(1000)]
    learner: Any = metashot.load("drawings", "cpu")
    learner.fit_pixels(pixels, labels).save(path)
    return path


def test_two_hundred_classes_with_a_thousand_examples_stay_fluid(opens: Opens, drawings: Server, large: Path) -> None:
    page = opens(drawings)
    page.locator("#load").set_input_files(large)
    expect(page.locator(".card")).to_have_count(200)
    expect(page.locator("#learned")).to_contain_text("Learned 1,000 examples of 200 classes")
    assert page.locator(".example").count() == 1000
    painted = """() => [...document.querySelectorAll(".example canvas")]
      .filter((one) => one.getContext("2d").getImageData(0, 0, 1, 1).data[3]).length"""
    assert 0 < page.evaluate(painted) < 300, "pictures that are out of sight are painted"
    # A change touches one card, and no other element is made anew.
    page.evaluate("for (const one of document.querySelectorAll('.card, .example')) one.wasHere = true")
    drop(page, ".card:nth-child(3)", [drawn("0", 0)])
    expect(card(page, 2).locator(".example")).to_have_count(6)
    expect(page.locator("#learned")).to_contain_text("Learned 1,001 examples")
    assert page.evaluate("[...document.querySelectorAll('.card, .example')].filter((one) => one.wasHere).length") == 1200
    longest = page.evaluate(
        """async () => {
          let longest = 0;
          let before = performance.now();
          let going = true;
          const frame = (now) => {
            longest = Math.max(longest, now - before);
            before = now;
            if (going) requestAnimationFrame(frame);
          };
          requestAnimationFrame((now) => { before = now; frame(now); });
          for (const place of [5, 90, 199]) {
            document.querySelectorAll(".card .opener")[place].click();
            await new Promise((resolve) => setTimeout(resolve, 150));
          }
          going = false;
          return longest;
        }"""
    )
    assert longest < 400, "the page stood still"
    use(page.locator("#ask"), "Files")
    page.locator("#ask input.file").set_input_files(drawn("4", 0))
    expect(page.locator("#bars li")).to_have_count(8)
    page.get_by_role("button", name="Show all 200 classes").click()
    expect(page.locator("#bars li")).to_have_count(200)


@pytest.mark.long
def test_a_thousand_files_are_read_one_after_another(opens: Opens, drawings: Server, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for place in range(1000):
        (folder / f"{place % 10}").mkdir(parents=True, exist_ok=True)
        (folder / f"{place % 10}" / f"{place}.png").write_bytes(drawn("0", place)["buffer"])
    page = opens(drawings)
    use(card(page, 0), "Files")
    card(page, 0).locator("input[webkitdirectory]").set_input_files(folder)
    expect(page.locator("#learned")).to_contain_text("Learned 1,000 examples of 10 classes", timeout=120_000)
    expect(page.locator("#reading")).to_be_empty()


def test_a_server_that_is_killed_is_missed_and_fed_again_when_it_is_back(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    teach_files(page, ["0", "1"])
    ask_file(page, "1")
    expect(answer(page)).to_contain_text("1: ")
    try:
        drawings.stop()
        ask_file(page, "0")
        expect(page.locator("#banner")).to_contain_text("The server does not answer")
        expect(page.locator("#banner")).to_contain_text("Your examples are kept here")
        expect(page.locator(".example")).to_have_count(4)
        page.get_by_role("button", name="Save learner").click()
        expect(page.locator("#keep-error")).to_contain_text("the server does not answer")
    finally:
        drawings.start()  # another one, which knows nothing
    expect(page.locator("#banner")).to_contain_text("The server is back")
    expect(answer(page)).to_contain_text("0: ")  # the query that was asked in between
    expect(page.locator("#strip-list .said")).to_have_text(["0", "1"])
    expect(page.locator("#keep-error")).to_be_hidden()
    # A restart that nobody noticed is mended without a word.
    drawings.stop()
    drawings.start()
    ask_file(page, "1", 5)
    expect(page.locator("#strip-list .said")).to_have_text(["1", "0", "1"])


def test_another_learner_in_place_of_the_served_one_never_answers(
    opens: Opens, drawings: Server, adapting: Server, tmp_path: Path
) -> None:
    server = Server(drawings.learner, "drawings", tmp_path)
    try:
        page = opens(server)
        teach_files(page, ["0", "1"])
        server.stop()
        server.learner = adapting.learner  # of the same shape
        server.start()
        ask_file(page, "1")
        expect(page.locator("#banner")).to_contain_text("Another learner is being served now")
        expect(page.locator(".example")).to_have_count(4)
        server.stop()
        server.learner = drawings.learner
        server.start()
        expect(page.locator("#banner")).to_contain_text("The server is back")
        expect(answer(page)).to_contain_text("1: ")
        server.stop()
        expect(page.locator("#banner")).to_contain_text("The server does not answer", timeout=15_000)  # though nobody asks
    finally:
        server.stop()


def test_a_server_with_too_many_connections_is_tried_again(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    teach_files(page, ["0", "1"])
    page.route("**/api/**", lambda route: route.fulfill(status=503, body="Service Unavailable"))
    ask_file(page, "1")
    expect(page.locator("#banner")).to_contain_text("The server does not answer")
    page.unroute("**/api/**")
    expect(answer(page)).to_contain_text("1: ")


def test_names_stand_in_python_lines_with_what_would_change_how_they_are_shown_escaped(
    opens: Opens, drawings: Server
) -> None:
    page = opens(drawings)
    name = "a\u202e\u2028\u200b\U000e0041"
    line = page.evaluate("async (name) => (await import('/python_lines.js')).linesOfSaved(name, null)", name)
    given = str(line).partition("load_fitted(")[2].partition(")\n")[0]
    assert given.isascii()
    assert ast.literal_eval(given) == name


def test_a_loaded_learner_of_another_network_is_read_again_by_a_new_server(
    opens: Opens, drawings: Server, adapting: Server, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 28, 28), dtype=np.uint8)
    learner: Any = metashot.load(adapting.checkpoint, "cpu")
    learner.fit_pixels(pixels, [0, 1, 2, 0, 1, 2]).save(tmp_path / "other.fewshot")
    page = opens(drawings)
    page.locator("#load").set_input_files(tmp_path / "other.fewshot")
    expect(page.locator("#about-learner")).to_contain_text("maml")
    ask_file(page, "1")
    expect(page.locator("#steps")).to_be_visible()
    expect(page.locator("#unknown-choice")).to_be_hidden()
    drawings.stop()
    drawings.start()
    ask_file(page, "4")
    expect(page.locator("#strip-list .said")).to_have_text([re.compile("^[012]$")] * 2)
    expect(page.locator("#lines-folder")).to_contain_text('metashot.load_fitted("other.fewshot").fit(images, labels)')


def test_the_page_speaks_chinese_and_keeps_the_choice(opens: Opens, drawings: Server) -> None:
    page = opens(drawings, locale="zh-CN")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    expect(page.locator("h1")).to_contain_text("用少量样本教会它")
    expect(page.locator("#learned")).to_have_text("首先，请分别为“类别 1”和“类别 2”提供样本。")
    drop(page, ".card:nth-child(1)", [drawn("0", 0)])
    drop(page, ".card:nth-child(2)", [drawn("1", 0), drawn("1", 1)])
    expect(page.locator("#learned")).to_contain_text("已学习 2 个类别的 3 个样本")
    drop(page, "#ask", [drawn("1", 5)])
    expect(answer(page)).to_contain_text("类别 2")
    latin = page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter((one) => one.checkVisibility() && one.children.length === 0
          && /[a-z]{4,}/.test(one.textContent) && !one.closest("pre")).map((one) => one.textContent)"""
    )
    assert not [text for text in latin if "Python" not in text], "words that were not translated"
    page.get_by_role("button", name="English").click()
    assert page.evaluate("document.documentElement.lang") == "en"
    expect(page.locator("#learned")).to_contain_text("Learned 3 examples of 2 classes")
    expect(card(page, 0).locator(".count")).to_have_text("1 example")
    expect(answer(page)).to_contain_text("Class 2")  # which nobody has named
    page.reload()
    expect(page.locator("h1")).to_contain_text("Teach by a few examples")


def test_classes_without_a_name_of_their_own_follow_the_language_and_are_used_for_folders(
    opens: Opens, drawings: Server, tmp_path: Path
) -> None:
    page = opens(drawings)
    card(page, 0).locator(".name").fill("mine")
    card(page, 0).locator(".name").press("Enter")
    page.get_by_role("button", name="中文").click()
    names = "all => all.map((one) => one.value)"
    assert page.locator(".card .name").evaluate_all(names) == ["mine", "类别 2"]
    (tmp_path / "digits" / "3").mkdir(parents=True)
    (tmp_path / "digits" / "3" / "0.png").write_bytes(drawn("3", 0)["buffer"])
    use(card(page, 0), "文件")
    card(page, 0).locator("input[webkitdirectory]").set_input_files(tmp_path / "digits")
    expect(card(page, 1).locator(".example")).to_have_count(1)
    assert page.locator(".card .name").evaluate_all(names) == ["mine", "3"]


def test_every_control_has_a_name_and_every_heading_its_place(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    teach_files(page, ["0", "1"])
    ask_file(page, "0")
    expect(page.locator("#near-list li").first).to_be_visible()
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    kinds = {
        "button",
        "textbox",
        "checkbox",
        "slider",
        "tab",
        "link",
        "region",
        "navigation",
        "tablist",
        "tabpanel",
        "img",
        "list",
    }
    unnamed = {"list"}  # those of the page's lists that have one are tested below
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node.get("ignored") and node["role"]["value"] in kinds
    ]
    assert not [kind for kind, name in found if not name.strip() and kind not in unnamed]
    assert {"Teach", "Ask", "Keep", "Answer"} <= {name.split(" ")[-1] for kind, name in found if kind == "region"}
    assert {"Classes", "Examples of 0", "Probability of each class"} <= {name for kind, name in found if kind == "list"}
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].filter((one) => one.checkVisibility()).map((one) => one.tagName)"
    )
    assert levels[0] == "H1"
    assert (levels.count("H1"), levels.count("H2")) == (1, 3)
    assert page.locator("#said").get_attribute("aria-live") == "polite"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


CONTRASTS = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const ground = (element) => {
    if (element === null) return [255, 255, 255];
    const own = channels(getComputedStyle(element).backgroundColor);
    return own[3] === 0 ? ground(element.parentElement) : over(own, ground(element.parentElement));
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = element.matches("input[type=text]")
      || [...element.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    if (!hasText || !element.checkVisibility() || element.closest(":disabled, noscript, .unseen")) continue;
    const below = element.matches(".sheet-hint") ? [255, 255, 255] : ground(element);
    const text = over(channels(getComputedStyle(element).color), below);
    const [high, low] = [light(text), light(below)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${element.outerHTML.slice(0, 120)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_enough_contrast(opens: Opens, drawings: Server, theme: str) -> None:
    page = opens(drawings, color_scheme=theme)
    teach_files(page, ["0", "1"])
    ask_file(page, "0")
    expect(page.locator("#near-list li").first).to_be_visible()
    drop(page, ".card", [{"name": "a.txt", "mimeType": "", "buffer": b"x"}])
    expect(card(page, 0).locator(".failures")).to_be_visible()
    card(page, 0).locator(".name").fill("")
    page.evaluate("document.getElementById('banner').hidden = false; document.getElementById('banner').textContent = 'lost'")
    assert page.evaluate(CONTRASTS) == []
    dark = page.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).every((value) => value < 60)"
    )
    assert dark == (theme == "dark")
    white = page.locator("#ask .sheet").evaluate("(sheet) => sheet.getContext('2d').getImageData(1, 1, 1, 1).data[0]")
    assert white == 255, "paper is white in both"


def test_the_camera_takes_a_picture_and_more_while_the_button_is_held(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    one = card(page, 0)
    use(one, "Webcam")
    take = one.get_by_role("button", name="Take a picture")
    expect(take).to_be_enabled()
    take.click()
    expect(one.locator(".example")).to_have_count(1)
    take.focus()
    page.keyboard.press("Enter")
    expect(one.locator(".example")).to_have_count(2)
    box = box_of(take)
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    expect(one.locator(".example")).to_have_count(5)
    page.mouse.up()
    open_card(page, 1)  # the camera moves along
    card(page, 1).get_by_role("button", name="Take a picture").click()
    expect(card(page, 1).locator(".example")).to_have_count(1)
    assert not card(page, 1).locator("video").evaluate("(video) => video.paused")
    use(card(page, 1), "Draw")
    assert page.locator("video").first.evaluate("(video) => video.srcObject === null"), "the camera stays on"


def test_passing_by_with_the_arrow_keys_switches_no_camera_on(opens: Opens, drawings: Server) -> None:
    page = opens(drawings)
    one = card(page, 0)
    use(one, "Files")
    page.keyboard.press("ArrowRight")
    start = one.get_by_role("button", name="Start the camera")
    expect(start).to_be_visible()
    assert one.locator("video").evaluate("(video) => video.srcObject === null")
    start.press("Enter")
    expect(one.get_by_role("button", name="Take a picture")).to_be_focused()
    expect(start).to_be_hidden()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("NotAllowedError", "may not use the camera"),
        ("NotFoundError", "No camera was found"),
        ("NotReadableError", "cannot be used"),
    ],
)
def test_why_there_is_no_camera_is_said(opens: Opens, drawings: Server, error: str, words: str) -> None:
    page = opens(drawings)
    page.evaluate(
        f"() => {{ navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '{error}')); }}"
    )
    use(card(page, 0), "Webcam")
    expect(card(page, 0).locator(".camera .error")).to_contain_text(words)
    use(card(page, 0), "Files")  # there is another way
    expect(card(page, 0).locator(".camera .error")).to_be_hidden()


def test_a_page_that_is_opened_as_a_file_says_how_to_open_it(chromium: Browser) -> None:
    page = chromium.new_page()
    page.goto((WEB / "index.html").as_uri())
    expect(page.locator("#no-modules")).to_be_visible()
    expect(page.locator("#no-modules")).to_contain_text("must be opened through a web server")
    page.close()


# The words, without a browser


def words_of(language: str) -> dict[str, str]:
    lines = (WEB / "words" / f"{language}.js").read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r'  ("[^"]+"): (".*"),', line) for line in lines]
    return {json.loads(one[1]): json.loads(one[2]) for one in found if one}


def test_both_languages_have_the_same_words_with_the_same_values() -> None:
    english, chinese = words_of("en"), words_of("zh")
    assert len(english) > 100
    assert list(english) == list(chinese)

    def values(text: str) -> set[str]:
        return set(re.findall(r"\{(\w+)", text))

    assert not [key for key in english if values(english[key]) != values(chinese[key])]


def test_all_words_that_the_page_says_are_in_the_tables() -> None:
    english = words_of("en")
    own = [path for path in WEB.rglob("*") if path.suffix in (".js", ".html") and path.parent.name in ("web", "server")]
    said = set()
    for path in own:
        text = path.read_text(encoding="utf-8")
        said |= set(re.findall(r'data-say(?:-label|-placeholder)?="([^"]+)"', text))
        said |= set(re.findall(r'(?<![#.\w])(?:tell|say)\((?:[^()"]|\([^()]*\))*?"([\w.-]+)"', text))
    assert len(said) > 80
    assert said - {"aria-label"} <= set(english)


def test_nothing_is_inline_or_loaded_from_elsewhere() -> None:
    page = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for path in WEB.rglob("*"):
        if path.suffix in (".js", ".html", ".css") and "runtime" not in path.parts:
            text = path.read_text(encoding="utf-8")
            outside = set(re.findall(r"https?://[^\s\"'<`]+", text)) - {
                "http://localhost:8000",
                "http://localhost:8000</code>",
                "http://ns.adobe.com/xap/1.0/",  # the name of XMP in a JPEG, which is no address
            }
            assert not outside, path
            assert "innerHTML" not in text, path
