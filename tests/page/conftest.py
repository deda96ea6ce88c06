"""A headless Chromium for the tests of the page: the system's own, which Playwright drives and never downloads."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUIRED = "METASHOT_NEEDS_CHROMIUM"  # set by .ci/run: a browser that is missing fails the tests instead of skipping them


def found_chromium() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, with a camera that shows a test picture. A test opens a context of its own in it."""
    path = found_chromium()
    missing = "Chromium" if path is None else "playwright" if importlib.util.find_spec("playwright") is None else None
    if missing is not None:
        why = f"{missing} is not installed: apt-get install chromium; pip install -r requirements-dev.txt"
        if os.environ.get(REQUIRED):
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    given = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=given)
        yield browser
        browser.close()
