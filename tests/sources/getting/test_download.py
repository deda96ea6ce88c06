"""Downloads from a real server on this machine: whole, checked, resumed, by one process at a time, and never a traceback."""

import contextlib
import fcntl
import functools
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.sources.getting import download as module
from metashot.sources.getting.download import OfficialFile, download
from tests.sources.getting.test_files import as_an_ordinary_user, open_folder  # noqa: F401

CONTENT = bytes(range(256)) * 8000  # 2 MB
HALF = len(CONTENT) // 2
TAG, DATE = '"version 1"', "Sat, 01 Jan 2000 00:00:00 GMT"


@dataclass
class Publisher:
    """How the server answers, and what it was asked."""

    content: bytes = CONTENT
    ranges: bool = True  # whether it can send the rest of the file
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/zip", "ETag": TAG})
    says_length: bool = True
    breaks: list[int] = field(default_factory=list)  # bytes after which each of the first answers ends
    breaks_always: int | None = None
    statuses: list[int] = field(default_factory=list)  # of the first answers, instead of the file; 0: no answer
    waits: float = 0.0  # seconds in the middle of the file
    requests: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)  # bytes of each answer
    address: str = ""

    def file(self, **other: object) -> OfficialFile:
        digest = hashlib.sha256(CONTENT).hexdigest()
        known = OfficialFile("file.zip", self.address, len(CONTENT), f"sha256:{digest}")
        return replace(known, **other)  # type: ignore[arg-type]


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    publisher = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            publisher.requests.append({key.lower(): value for key, value in self.headers.items()})
            publisher.paths.append(self.path)
            number = len(publisher.requests) - 1
            publisher.sent.append(0)
            if number < len(publisher.statuses):
                if publisher.statuses[number]:
                    self.send_error(publisher.statuses[number])
                return
            asked, current = self.headers.get("Range"), self.headers.get("If-Range")
            start, total = 0, len(publisher.content)
            versions = (None, publisher.headers.get("ETag"), publisher.headers.get("Last-Modified"))
            if asked and publisher.ranges and current in versions:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= total:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            if publisher.says_length:
                self.send_header("Content-Length", str(total - start))
            for key, value in publisher.headers.items():
                self.send_header(key, value)
            self.end_headers()
            end = total
            if number < len(publisher.breaks):
                end = start + publisher.breaks[number]
            elif publisher.breaks_always is not None:
                end = start + publisher.breaks_always
            with contextlib.suppress(OSError):  # the other side may leave
                if publisher.waits:
                    self.wfile.write(publisher.content[start:HALF])
                    time.sleep(publisher.waits)
                    start = HALF
                self.wfile.write(publisher.content[start:end])
            publisher.sent[number] = end - start

        def log_message(self, *_: object) -> None:
            pass

    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(module, "PAUSES", (0.01, 0.01, 0.01))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    publisher.address = f"http://127.0.0.1:{server.server_port}/file.zip"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield publisher
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "set"


def with_part(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "file.zip.part").write_bytes(content)
    return folder


def is_alone(path: Path) -> bool:
    return os.listdir(path.parent) == [path.name]


def program(file: OfficialFile, folder: Path) -> list[str]:
    return [
        sys.executable,
        "-c",
        f"""
from pathlib import Path
from metashot.sources.getting import download
from metashot.sources.getting.download import OfficialFile
download.PAUSES = (0.01,)
print(download.download({file!r}, Path({str(folder)!r})).read_bytes()[:4], flush=True)
""",
    ]


def wait_for(path: Path, size: int) -> None:
    limit = time.monotonic() + 10
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize("says_length", [True, False])
@pytest.mark.parametrize("known", [{}, {"size": None}, {"checksum": None}, {"size": None, "checksum": None}])
def test_a_file_is_fetched_whole_and_nothing_else_stays(
    publisher: Publisher, folder: Path, known: dict[str, None], says_length: bool
) -> None:
    publisher.says_length = says_length
    path = download(publisher.file(**known), folder)
    assert path == folder / "file.zip"
    assert path.read_bytes() == CONTENT
    assert is_alone(path)
    assert "range" not in publisher.requests[0]


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_both_kinds_of_checksum_are_checked(publisher: Publisher, folder: Path, kind: str) -> None:
    right = hashlib.new(kind, CONTENT).hexdigest()
    with pytest.raises(BadInput, match=rf"{kind} is {right} instead of 00ff"):
        download(publisher.file(checksum=f"{kind}:00ff"), folder)
    assert download(publisher.file(checksum=f"{kind}:{right.upper()}"), folder).read_bytes() == CONTENT


def test_a_file_that_is_there_is_used_without_a_question(publisher: Publisher, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "file.zip").write_bytes(b"put here by hand")
    assert download(publisher.file(), folder).read_bytes() == b"put here by hand"
    assert not publisher.requests


def test_a_part_goes_on_where_it_stopped(publisher: Publisher, folder: Path) -> None:
    path = download(publisher.file(), with_part(folder, CONTENT[:HALF]))
    assert path.read_bytes() == CONTENT
    assert publisher.requests[0]["range"] == f"bytes={HALF}-"
    assert publisher.sent == [len(CONTENT) - HALF]
    assert is_alone(path)


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({"ETag": TAG, "Last-Modified": DATE}, TAG),
        ({"ETag": f"W/{TAG}", "Last-Modified": DATE}, DATE),
        ({"ETag": f"W/{TAG}"}, None),
        ({}, None),
    ],
)
def test_a_connection_that_breaks_in_the_middle_goes_on_with_the_same_version(
    publisher: Publisher, folder: Path, headers: dict[str, str], version: str | None
) -> None:
    publisher.headers, publisher.breaks = headers, [1000, 1000]
    assert download(publisher.file(), folder).read_bytes() == CONTENT
    assert [request.get("range") for request in publisher.requests] == [None, "bytes=1000-", "bytes=2000-"]
    assert [request.get("if-range") for request in publisher.requests] == [None, version, version]
    assert publisher.sent == [1000, 1000, len(CONTENT) - 2000]
    assert is_alone(folder / "file.zip")


def test_a_file_that_changed_at_its_home_meanwhile_is_fetched_anew(publisher: Publisher, folder: Path) -> None:
    publisher.content, publisher.breaks_always, publisher.ranges = b"older" * 400_000, HALF, False
    with pytest.raises(BadInput, match=rf"connection broke after \d+ of {len(publisher.content)} bytes"):
        download(publisher.file(size=None, checksum=None), folder)
    publisher.content, publisher.headers, publisher.ranges, publisher.breaks_always = CONTENT, {"ETag": '"2"'}, True, None
    publisher.requests.clear()
    publisher.sent.clear()
    assert download(publisher.file(size=None, checksum=None), folder).read_bytes() == CONTENT
    assert publisher.requests[0]["if-range"] == TAG
    assert publisher.sent == [len(CONTENT)]


def test_a_server_that_cannot_go_on_starts_over(publisher: Publisher, folder: Path) -> None:
    publisher.ranges = False
    assert download(publisher.file(), with_part(folder, b"x" * HALF)).read_bytes() == CONTENT
    assert publisher.requests[0]["range"] == f"bytes={HALF}-"
    assert publisher.sent == [len(CONTENT)]


@pytest.mark.parametrize("known", [{}, {"size": None}])
def test_a_part_that_is_whole_is_not_fetched_again(publisher: Publisher, folder: Path, known: dict[str, None]) -> None:
    path = download(publisher.file(**known), with_part(folder, CONTENT))
    assert path.read_bytes() == CONTENT
    assert publisher.sent == ([0] if known else [])
    assert is_alone(path)


@pytest.mark.parametrize("known", [{}, {"size": None}, {"size": None, "checksum": None}])
def test_a_part_that_is_longer_than_the_file_starts_over(publisher: Publisher, folder: Path, known: dict[str, None]) -> None:
    path = download(publisher.file(**known), with_part(folder, CONTENT + b"more"))
    assert path.read_bytes() == CONTENT
    assert publisher.sent[-1] == len(CONTENT)


@pytest.mark.parametrize("size", [HALF, len(CONTENT)])
def test_a_wrong_checksum_after_pieces_starts_over_once(publisher: Publisher, folder: Path, size: int) -> None:
    assert download(publisher.file(), with_part(folder, b"x" * size)).read_bytes() == CONTENT
    assert "range" not in publisher.requests[-1]
    assert publisher.sent[-1] == len(CONTENT)


@pytest.mark.parametrize("started", [False, True])
def test_a_wrong_checksum_of_a_fresh_file_says_what_was_expected_and_found(
    publisher: Publisher, folder: Path, started: bool
) -> None:
    publisher.content = b"other" + CONTENT[5:]
    if started:
        with_part(folder, b"x" * HALF)
    file, found = publisher.file(), hashlib.sha256(publisher.content).hexdigest()
    assert file.checksum is not None
    with pytest.raises(BadInput, match=rf"{found} instead of {file.checksum[7:]}; the address may have changed"):
        download(file, folder)
    assert not folder.exists()
    assert len(publisher.requests) == 1 + started


def test_a_file_of_another_size_is_not_fetched_to_its_end(publisher: Publisher, folder: Path) -> None:
    with pytest.raises(BadInput, match=rf"{len(CONTENT)} bytes instead of {len(CONTENT) + 1}; the address may have"):
        download(publisher.file(size=len(CONTENT) + 1), folder)
    publisher.says_length = False
    with pytest.raises(BadInput, match=r"it has more than 1000 bytes; the address may have changed"):
        download(publisher.file(size=1000), folder)
    assert not folder.exists()


def test_a_file_that_cannot_be_had_is_one_message_with_all_a_user_needs(publisher: Publisher, folder: Path) -> None:
    publisher.statuses = [404]
    with pytest.raises(BadInput) as caught:
        download(publisher.file(), folder)
    assert str(caught.value) == (
        f"file.zip (2.0 MB) is not in {folder} and could not be downloaded from {publisher.address}: "
        f"it answered 404 Not Found; download it with a browser and put it there: {folder}/file.zip"
    )
    assert not folder.exists()
    publisher.statuses = [404, 403]
    with pytest.raises(BadInput, match=r"^file\.zip is not in .*: it answered 403 Forbidden; download it with a browser"):
        download(publisher.file(size=None), folder)


def test_a_server_in_trouble_is_asked_again_but_not_for_ever(publisher: Publisher, folder: Path) -> None:
    publisher.statuses = [503, 0, 429]
    assert download(publisher.file(), folder).read_bytes() == CONTENT
    publisher.statuses, publisher.requests = [503] * 10, []
    with pytest.raises(BadInput, match=r"it answered 503 Service Unavailable; download it with a browser"):
        download(publisher.file(name="other.zip"), folder)
    assert len(publisher.requests) == 1 + len(module.PAUSES)


def test_a_connection_that_always_breaks_ends_with_a_message_and_keeps_the_part(publisher: Publisher, folder: Path) -> None:
    publisher.breaks_always = 1000
    with pytest.raises(BadInput, match=rf"the connection broke after 4000 of {len(CONTENT)} bytes"):
        download(publisher.file(), folder)
    assert (folder / "file.zip.part").read_bytes() == CONTENT[:4000]
    publisher.breaks_always = None
    assert download(publisher.file(), folder).read_bytes() == CONTENT
    assert publisher.sent[-1] == len(CONTENT) - 4000


def test_breaks_that_let_enough_through_are_forgiven(
    publisher: Publisher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PROGRESS", 100_000)
    publisher.breaks_always = 150_000
    assert download(publisher.file(), folder).read_bytes() == CONTENT
    assert len(publisher.requests) > 2 * len(module.PAUSES)


@pytest.mark.parametrize("part", [b"", CONTENT[:HALF]])
def test_without_a_server_or_a_network_the_answer_comes_at_once(
    publisher: Publisher, folder: Path, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    monkeypatch.setattr(module, "PAUSES", (60.0,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/file.zip"
    with_part(folder, part)
    with pytest.raises(BadInput, match=r"Connection refused; download it with a browser"):
        download(publisher.file(address=nobody), folder)
    with pytest.raises(
        BadInput, match=r"could not be downloaded from http://no-such-host\.invalid/file\.zip: .*resol|known"
    ):
        download(publisher.file(address="http://no-such-host.invalid/file.zip"), folder)
    assert [path.read_bytes() for path in folder.glob("*")] == ([part] if part else [])


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(
    publisher: Publisher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.TIMEOUT <= 30
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    publisher.waits, publisher.ranges = 1.0, False
    with pytest.raises(BadInput, match=r"the connection broke: timed out"):
        download(publisher.file(), folder)


def test_a_web_page_in_place_of_the_file_is_bad_input(publisher: Publisher, folder: Path) -> None:
    publisher.headers = {"Content-Type": "text/html; charset=utf-8"}
    for name in ("file.zip", "file.TGZ", "file.tar.gz", "file.pkl", "file.pickle"):
        with pytest.raises(BadInput, match=r"it answered with a web page instead of the file"):
            download(publisher.file(name=name), folder)
    assert not folder.exists()
    assert download(publisher.file(name="page.html"), folder).read_bytes() == CONTENT


def test_the_proxy_of_the_environment_is_used(publisher: Publisher, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", publisher.address.removesuffix("/file.zip"))
    assert download(publisher.file(address="http://home.invalid/file.zip"), folder).read_bytes() == CONTENT
    assert publisher.paths == ["http://home.invalid/file.zip"]


def test_of_two_processes_one_downloads_and_the_other_uses_it(publisher: Publisher, folder: Path) -> None:
    publisher.waits = 1.0
    processes = [
        subprocess.Popen(program(publisher.file(), folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=20) for process in processes] == [(f"{CONTENT[:4]!r}\n", "")] * 2
    assert len(publisher.requests) == 1
    assert is_alone(folder / "file.zip")


def test_who_waited_in_vain_downloads_itself(publisher: Publisher, folder: Path) -> None:
    with_part(folder, CONTENT[:HALF])
    part = folder / "file.zip.part"
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=download, args=(publisher.file(), folder))
        thread.start()
        time.sleep(0.2)
        assert not publisher.requests
        part.unlink()  # as a process does whose part was wrong
    thread.join()
    assert (folder / "file.zip").read_bytes() == CONTENT
    assert is_alone(folder / "file.zip")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_download_that_is_stopped_keeps_its_part(publisher: Publisher, folder: Path, number: signal.Signals) -> None:
    publisher.waits = 1.0
    # A suite that runs in the background of a shell ignores Ctrl-C, and what it starts would too.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    arguments = program(publisher.file(), folder)
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    part = folder / "file.zip.part"
    wait_for(part, HALF // 2)
    process.send_signal(number)
    _, printed = process.communicate(timeout=10)
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in printed) == (number == signal.SIGINT)
    kept = part.stat().st_size
    assert CONTENT.startswith(part.read_bytes())
    publisher.waits = 0.0
    assert download(publisher.file(), folder).read_bytes() == CONTENT
    assert publisher.requests[-1]["range"] == f"bytes={kept}-"
    assert publisher.requests[-1]["if-range"] == TAG


def test_a_folder_that_cannot_be_written_is_bad_input(publisher: Publisher, open_folder: Path) -> None:  # noqa: F811
    open_folder.chmod(0o555)
    try:
        with as_an_ordinary_user():
            for folder in (open_folder, open_folder / "new"):
                with pytest.raises(
                    BadInput, match=rf"^file\.zip \(2\.0 MB\) cannot be written to {folder}: Permission denied"
                ):
                    download(publisher.file(), folder)
    finally:
        open_folder.chmod(0o755)
    (open_folder / "file").touch()
    (open_folder / "file.zip").touch()
    open_folder.chmod(0o555)
    with as_an_ordinary_user():
        assert download(publisher.file(), open_folder) == open_folder / "file.zip"
    open_folder.chmod(0o755)
    with pytest.raises(BadInput, match=r"cannot be written to .*/file: File exists"):
        download(publisher.file(), open_folder / "file")
    assert not publisher.requests


def test_a_full_disk_keeps_the_part_to_go_on_from(publisher: Publisher, folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, limits[1]))  # a write behind it fails as on a full disk
    try:
        with pytest.raises(BadInput, match=r"cannot be written to .*: File too large; make room and start again"):
            download(publisher.file(), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept = (folder / "file.zip.part").read_bytes()
    assert len(kept) > HALF // 2
    assert download(publisher.file(), folder).read_bytes() == CONTENT
    assert publisher.requests[-1]["range"] == f"bytes={len(kept)}-"


def test_a_damaged_note_of_the_version_is_no_obstacle(publisher: Publisher, folder: Path) -> None:
    with_part(folder, CONTENT[:HALF])
    (folder / "file.zip.part.json").write_text('{"version"')
    assert download(publisher.file(), folder).read_bytes() == CONTENT
    assert "if-range" not in publisher.requests[0]
    assert is_alone(folder / "file.zip")
