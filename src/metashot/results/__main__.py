"""python -m metashot.results: measures results beside the published ones, and writes their tables."""

from metashot.commands.scripts import results
from metashot.process.invocation import note_script

if __name__ == "__main__":
    note_script()
    results()
