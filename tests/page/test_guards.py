"""Nobody but the page itself may talk to its server, and nothing that is sent breaks it or takes more than its share."""

import io
import json
import socket
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import metashot
from metashot.applied.class_learner import ClassLearner
from metashot.page import guards
from tests.applied.learners import drawings, tiny

from .served import Page, accepted, png, refused, served

PLAIN = httpx.Client(timeout=30, verify=False)
IMAGE = png(drawings(1)[0])
MESSAGES = ("fit", "answer", "save", "graph", "pixels")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a page."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "words").mkdir()
    (folder / "words" / "en.js").write_text("export const words = {};")
    (folder.parent / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def page(web: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("served")
    learner = metashot.load(tiny(folder, "protonet", "running"))
    assert isinstance(learner, ClassLearner)
    with served(learner, folder, web=web) as opened:
        yield opened


def asked(page: Page, method: str, path: str, **headers: str) -> httpx.Response:
    """A request with these headers and no others of a page."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return PLAIN.request(method, f"http://127.0.0.1:{page.port}{path}", headers=given)


def raw(page: Page, content: bytes, wait: float = 10.0) -> bytes:
    """What the server answers to these bytes."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=wait) as sock:
        sock.sendall(content)
        found = b""
        try:
            while part := sock.recv(65536):
                found += part
                head, _, body = found.partition(b"\r\n\r\n")
                if (length := [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]) and len(
                    body
                ) >= int(length[0].split(b":")[1]):
                    break
        except TimeoutError:
            pass
        return found


PATHS = ("/", "/index.html", "/words/en.js", "/api/learner?learner=own", "/nothing")


@pytest.mark.parametrize("path", PATHS)
def test_no_path_answers_to_another_host(page: Page, path: str) -> None:
    own = f"127.0.0.1:{page.port}"
    for host in ("evil.example", f"evil.example:{page.port}", "127.0.0.1", "localhost", f"127.0.0.1:{page.port + 1}",
                 f"{own}.evil.example", f"[::1]:{page.port}", "", f"user@{own}"):  # fmt: skip
        refused(asked(page, "GET", path, host=host), 403, "forbidden", "its own address")
    assert asked(page, "GET", path, host=own).status_code != 403
    assert asked(page, "GET", path, host=f"LOCALHOST:{page.port}").status_code != 403


def test_requests_without_a_host_or_with_two_are_refused(page: Page) -> None:
    assert b" 400 " in raw(page, b"GET / HTTP/1.1\r\n\r\n").split(b"\r\n")[0]
    assert b" 403 " in raw(page, b"GET / HTTP/1.0\r\n\r\n").split(b"\r\n")[0]
    two = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nHost: evil\r\n\r\n".encode()
    assert raw(page, two).split(b" ")[1] in (b"400", b"403")
    absolute = b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    assert raw(page, absolute).split(b" ")[1] in (b"400", b"403", b"404")


@pytest.mark.parametrize("path", PATHS)
def test_no_path_answers_to_another_origin(page: Page, path: str) -> None:
    own = f"http://127.0.0.1:{page.port}"
    for origin in ("https://evil.example", "null", f"https://127.0.0.1:{page.port}", f"http://localhost:{page.port}",
                   f"http://127.0.0.1:{page.port + 1}", f"{own}.evil.example", f"{own}/", ""):  # fmt: skip
        refused(asked(page, "GET", path, origin=origin), 403, "forbidden", "other web pages")
    assert asked(page, "GET", path, origin=own).status_code != 403
    assert asked(page, "GET", path).status_code != 403


@pytest.mark.parametrize("call", [*MESSAGES, "items?learner=own", "load"])
def test_whatever_is_sent_has_to_come_from_the_page(page: Page, call: str) -> None:
    own = f"http://127.0.0.1:{page.port}"
    refused(asked(page, "POST", f"/api/{call}"), 403, "forbidden", "no Origin")
    refused(asked(page, "POST", f"/api/{call}", origin="https://evil.example"), 403, "forbidden")
    refused(asked(page, "POST", f"/api/{call}", origin=own, sec_fetch_site="cross-site"), 403, "forbidden")
    assert asked(page, "POST", f"/api/{call}", origin=own, sec_fetch_site="same-origin").status_code == 400


def test_another_site_may_only_lead_to_the_page_itself(page: Page) -> None:
    visit = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    for site in ("cross-site", "same-site"):
        assert asked(page, "GET", "/", sec_fetch_site=site, **visit).status_code == 200
        refused(
            asked(page, "GET", "/", sec_fetch_site=site, sec_fetch_mode="no-cors", sec_fetch_dest="script"), 403, "forbidden"
        )
        refused(asked(page, "GET", "/", sec_fetch_site=site, **visit | {"sec_fetch_dest": "iframe"}), 403, "forbidden")
        refused(asked(page, "GET", "/words/en.js", sec_fetch_site=site, **visit), 403, "forbidden")
        refused(asked(page, "GET", "/api/learner?learner=own", sec_fetch_site=site, **visit), 403, "forbidden")
        refused(asked(page, "GET", "/", sec_fetch_site=site), 403, "forbidden")
    for site in ("none", "same-origin"):
        assert asked(page, "GET", "/api/learner?learner=own", sec_fetch_site=site).status_code == 200


def test_every_answer_has_the_headers_and_none_of_cors(page: Page) -> None:
    answers = [
        *[asked(page, "GET", path) for path in PATHS],
        asked(page, "OPTIONS", "/api/fit", origin=f"http://127.0.0.1:{page.port}", access_control_request_method="POST"),
        asked(page, "GET", "/", host="evil"),
        page.send_file(b"text"),
        page.send_file(IMAGE),
        asked(page, "HEAD", "/"),
    ]
    for answer in answers:
        for name, value in guards.HEADERS.items():
            assert answer.headers.get_list(name) == [value]
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "server" not in answer.headers or answer.headers["server"] == "uvicorn"
    policy = guards.HEADERS["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert "unsafe" not in guards.HEADERS["content-security-policy"]


def test_nothing_but_the_files_of_the_page_is_served(page: Page, web: Path) -> None:
    assert asked(page, "GET", "/").text == (web / "index.html").read_text()
    assert asked(page, "GET", "/words/en.js").headers["content-type"].startswith("text/javascript")
    head = asked(page, "HEAD", "/words/en.js")
    assert (head.status_code, head.text) == (200, "")
    (web / "later.js").write_text("not there when the server started")
    for path in ("/later.js", "/../secret.txt", "/%2e%2e/secret.txt", "/words/../../secret.txt",
                 "/words/%2e%2e%2f%2e%2e%2fsecret.txt", "//etc/passwd", "/words", "/words/", "/index.html/",
                 "/index.html%00", "/.", "/INDEX.HTML",
                 "/runtime/"):  # fmt: skip
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n\r\n".encode()
        assert b" 404 " in raw(page, head).split(b"\r\n")[0], path


def test_methods_that_are_not_for_a_path_are_refused(page: Page) -> None:
    own = f"http://127.0.0.1:{page.port}"
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST"):
        for path in ("/", "/api/learner?learner=own"):
            answer = asked(page, method, path, origin=own)
            assert (answer.status_code, answer.headers.get("allow")) == (405, "GET, HEAD"), (method, path)
    for call in (*MESSAGES, "items", "load"):
        answer = asked(page, "GET", f"/api/{call}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec_websocket_key": "eA==", "sec_websocket_version": "13"}
    assert asked(page, "GET", "/api/fit", **upgrade).status_code == 405


def head_of(page: Page, path: str, *more: str) -> bytes:
    own = f"127.0.0.1:{page.port}"
    return "\r\n".join([f"POST {path} HTTP/1.1", f"Host: {own}", f"Origin: http://{own}", *more, "", ""]).encode()


@pytest.mark.parametrize("path", ["/api/items?learner=own", "/api/load", "/api/fit"])
def test_what_says_that_it_is_too_large_is_refused_before_it_is_read(page: Page, path: str) -> None:
    for length in (2**31, 10**30):
        found = raw(page, head_of(page, path, f"Content-Length: {length}", "Connection: close"), wait=0.5)
        assert found == b"" or b" 413 " in found or b" 400 " in found  # it may still wait for what it forgets
    assert b" 400 " in raw(page, head_of(page, path, "Content-Length: -5"))


def test_what_is_too_large_is_counted_while_it_is_read(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def much() -> Iterator[bytes]:
        for _ in range(65):
            yield bytes(2**20)

    tracemalloc.start()
    try:
        for path in ("/api/items?learner=own&name=a.png", "/api/fit", "/nothing", "/"):
            answer = page.client.post(path, content=much())  # in chunks, without a length
            if path.startswith("/api"):
                error = refused(answer, 413, "too_large", "MiB")
                assert error["most"] == (12 if path == "/api/fit" else 64) * 2**20
            else:
                assert answer.status_code in (404, 405)
            declared = page.client.post(path, content=bytes(65 * 2**20))
            assert declared.status_code == 413
        assert tracemalloc.get_traced_memory()[1] < 400 * 2**20
    finally:
        tracemalloc.stop()
    assert page.facts()["limits"]["file"] == 64 * 2**20
    accepted(page.send_file(IMAGE))


def test_chunks_are_read_as_a_whole_message(page: Page) -> None:
    answer = page.client.post("/api/items?learner=own", content=iter([IMAGE[:50], IMAGE[50:]]))
    assert accepted(answer)["id"] == accepted(page.send_file(IMAGE))["id"]


def test_slow_and_broken_connections_hold_nobody_up(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "_PATIENCE", 0.5)
    start = head_of(page, "/api/items?learner=own", "Content-Length: 1000") + IMAGE[:10]
    slow = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(12)]
    for sock in slow:
        sock.sendall(start)
    begun = time.monotonic()
    accepted(page.send_file(IMAGE))
    assert time.monotonic() - begun < 5
    slow[0].settimeout(10)
    assert b" 408 " in slow[0].recv(4096).split(b"\r\n")[0]
    for sock in slow:
        sock.close()
    for path in ("/api/items?learner=own", "/api/load", "/api/fit"):
        with socket.create_connection(("127.0.0.1", page.port)) as sock:
            sock.sendall(head_of(page, path, "Content-Length: 1000") + b"{")
    accepted(page.send_file(IMAGE))


VALID: dict[str, dict[str, Any]] = {
    "fit": {"learner": "own", "tab": "a", "classes": [{"name": "a", "items": ["x"]}, {"name": "b", "items": ["x"]}]},
    "answer": {"learner": "own", "tab": "a", "fit": 1, "items": ["x"], "unknown": None, "steps": False},
    "save": {"learner": "own", "tab": "a", "fit": 1},
    "graph": {"learner": "own", "tab": "a", "fit": 1},
    "pixels": {"learner": "own", "items": []},
}
STRANGE = (None, True, 1, -1, 1.5, 10**40, "", "x" * 10_000, "\ud800", "a\nb", [], {}, [[]], [None], {"a": 1}, [1] * 1001)
# Messages as bytes, since no JSON library writes them.
BROKEN = [
    b"", b"{", b"[]", b"null", b"5", b'"text"', b"\xff\xfe", b"\x00", b"NaN", b"[" * 200_000, b'{"a":' * 100_000,
    b'{"learner": NaN}', b'{"learner": 1e999}', b'{"learner": ' + b"9" * 10_000 + b"}",
    b'{"learner": "own", "learner": "own"}',
]  # fmt: skip


@pytest.mark.parametrize("call", MESSAGES)
def test_no_message_breaks_the_server(page: Page, call: str, capfd: pytest.CaptureFixture[str]) -> None:
    valid = VALID[call]
    assert page.post(call, valid).status_code in (200, 409, 410)
    for content in BROKEN:
        refused(page.client.post(f"/api/{call}", content=content), 400, "bad_input")
    for key in valid:
        refused(page.post(call, {name: value for name, value in valid.items() if name != key}), 400, "bad_input", key)
        for strange in STRANGE:
            answer = page.client.post(f"/api/{call}", content=json.dumps(valid | {key: strange}))
            assert answer.status_code in (400, 410) or (
                answer.status_code in (200, 409) and strange in ([], None, True, 1, "a\nb")
            )
            assert len(answer.content) < 5000
    refused(page.post(call, valid | {"more": 1}), 400, "bad_input", "more")
    assert capfd.readouterr().err == ""


def test_classes_that_cannot_be_learned_are_refused(page: Page) -> None:
    item = accepted(page.send_file(IMAGE))["id"]
    other = accepted(page.send_file(png(drawings(2)[1])))["id"]

    def fit(*classes: Any) -> httpx.Response:
        content = json.dumps({"learner": "own", "tab": "a", "classes": list(classes)})
        return page.client.post("/api/fit", content=content)

    good = {"name": "a", "items": [item]}
    refused(fit(), 400, "bad_input", "two classes")
    refused(fit(good), 400, "bad_input", "two classes")
    refused(fit(good, good), 400, "bad_input", "two classes are named 'a'")
    refused(fit(good | {"label": "1"}, {"name": "b", "label": "True", "items": [item]}), 400, "bad_input", "labelled")
    refused(fit(good, {"name": "b", "items": []}), 400, "bad_input", "no examples")
    refused(fit(*[{"name": str(place), "items": [item]} for place in range(1001)]), 400, "bad_input", "1,000")
    refused(fit(good, {"name": "b", "items": [item] * 10_000}), 400, "bad_input", "10,001 examples")
    for name in ("", "x" * 1001, None, 5, ["b"], {"b": 1}, "\ud800", "b\udfff"):
        refused(fit(good, {"name": name, "items": [item]}), 400, "bad_input", "class 1")
    written = ("print(1)", "[1]", "{1: 2}", "1 + 1j", "(" * 500, "'a' * 3", "'\ud800'", "__import__('os')", "b'x'", "")
    for label in ([1], {"a": 1}, 1, None, "x" * 1001, "\ud800", *written):
        refused(fit(good, {"name": "b", "label": label, "items": [item]}), 400, "bad_input", "class 1")
    refused(fit(good, {"name": "b", "items": [item], "more": 1}), 400, "bad_input", "'more'")
    whole = json.dumps({"learner": "own", "tab": "a", "classes": [good, {"name": "b", "items": [item], "more": 5}]})
    for number in ("1e999", "-1e999", "NaN", "Infinity", "-Infinity"):
        content = whole.replace(": 5", f": {number}")
        refused(page.client.post("/api/fit", content=content), 400, "bad_input", f"number {number}")
    twice = whole.replace('"tab"', '"learner": "own", "tab"')
    refused(page.client.post("/api/fit", content=twice), 400, "bad_input", "a key twice")
    assert fit(good, {"name": "b", "label": "(5, None)", "items": [item]}).status_code == 200
    for name in ("x" * 1000, "line\nbreak\x1b[31m", "\u202eright to left", "猫", "<script>alert(1)</script>", "__proto__"):
        assert fit(good, {"name": name, "items": [other]}).status_code == 200


def test_a_million_classes_are_refused_quickly(page: Page) -> None:
    def of(count: int) -> bytes:
        return b'{"learner":"own","tab":"a","classes":[' + b",".join([b'{"name":"a","items":["x"]}'] * count) + b"]}"

    begun = time.monotonic()
    refused(page.client.post("/api/fit", content=of(10**6)), 413, "too_large", "12 MiB")
    refused(page.client.post("/api/fit", content=of(10**5)), 400, "bad_input", "100,000")
    assert time.monotonic() - begun < 10


def bomb(side: int) -> bytes:
    """A small PNG that says that it has a side of so many pixels."""
    import struct

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_files_that_are_no_images_are_refused(page: Page) -> None:
    cut = IMAGE[: len(IMAGE) // 2]
    for content in (
        b"",
        b"text",
        b"\x00" * 1000,
        cut,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe",
        bomb(60_000),
    ):
        refused(page.send_file(content, "it.png"), 400, "unreadable", "it.png")
    refused(page.send_file(bomb(10**6), "it.png"), 400, "unreadable")
    error = refused(page.send_file(b"text", "a\nb\x1b[31m" + "n" * 10_000), 400, "unreadable", "a\\nb\\x1b[31mnnn")
    assert len(error["message"]) < 300
    refused(page.send_file(b"text", ""), 400, "unreadable", "the file")
    refused(page.client.post("/api/items", content=IMAGE), 400, "bad_input", "learner=")
    refused(page.send_file(IMAGE, learner="another"), 410, "no_learner")


@pytest.mark.long
def test_an_image_of_a_hundred_megapixels_is_read(page: Page) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((10_000, 10_000), 200, np.uint8)).save(file, "PNG")
    assert len(accepted(page.send_file(file.getvalue()))["pixels"]) == 1048


def test_an_error_of_our_own_is_printed_in_the_terminal_alone(
    page: Page, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from metashot.page import learners

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a secret of the server")

    monkeypatch.setattr(learners, "prepared_file", fail)
    error = refused(page.send_file(IMAGE), 500, "failed", "terminal")
    assert "secret" not in str(error)
    assert "ZeroDivisionError: a secret of the server" in capfd.readouterr().err
    monkeypatch.undo()
    accepted(page.send_file(IMAGE))
