"""Without the extra `page`, everything but the page's server is there."""

import subprocess
import sys

CODE = """
import sys
for name in ("starlette", "uvicorn", "torch"):  # torch would take seconds, and nothing here needs it
    sys.modules[name] = None
import metashot.commands.scripts, metashot.page.checks
print(*sorted(metashot.commands.scripts.COMMANDS))
"""


def test_commands_are_imported_without_starlette_and_uvicorn() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["data", "evaluate", "page", "predict", "results", "train"]
