"""Streams that break under a program do not end it, however Python opened them."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from metashot.process.printing import output_error, tolerate_broken_streams
tolerate_broken_streams()
tolerate_broken_streams()
print("one")
print("two", file=sys.stderr)
print(output_error(), file=sys.stderr)
"""


@pytest.mark.parametrize("options", [[], ["-u"]])
def test_what_can_be_written_is(options: list[str]) -> None:
    done = subprocess.run([sys.executable, *options, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "two\nNone\n")


@pytest.mark.parametrize("options", [[], ["-u"]])
def test_what_cannot_be_written_is_told_at_the_end(options: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, *options, "-c", PROGRAM], stdout=full, stderr=subprocess.PIPE, text=True, check=True
        )
        assert "No space left on device" in done.stderr.splitlines()[-1]
        subprocess.run([sys.executable, *options, "-c", PROGRAM], stdout=subprocess.DEVNULL, stderr=full, check=True)
