"""`python -m benchmarks results`: learners beside those that they are held against, as tables with their commands.

`python -m benchmarks results --data FOLDER` measures everything, or the questions that are named, and
`python -m benchmarks results table` writes the tables. What has a report is not measured again, so a call that ran out of
time is continued by the same call.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.measuring import measure_or_exit, refuse_unmeasured, told
from benchmarks.outputs import between
from benchmarks.results.rows import QUESTIONS, measurements
from benchmarks.results.table import failures, tables

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
PAGE = Path("docs/reference/results.md")


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks results", description=__doc__)
    names = {question.name: question for question in QUESTIONS}
    parser.add_argument("questions", nargs="*", help=f"which: {', '.join(names)} (all), or table")
    parser.add_argument("--folder", type=Path, default=Path("runs/results"), help="where runs and reports are kept")
    parser.add_argument("--data", type=Path, help="the folder that has cifar-fs/, omniglot/ and text/")
    parser.add_argument("--episodes", type=int, default=600, help="test episodes (600)")
    parser.add_argument("--minutes", type=float, default=20, help="the time after which this call stops (20)")
    parser.add_argument(
        "--markdown", type=Path, default=PAGE, help=f"with table: a file whose part between {BEGIN} and {END} is replaced"
    )
    options = parser.parse_args(arguments)
    if options.questions == ["table"]:
        page = between(parser, options.markdown, BEGIN, END)
        assert page is not None
        refuse_unmeasured(parser, measurements(QUESTIONS, options.folder, None, 0), options.folder)
        page.replace(tables(options.folder))
        sys.exit(1 if told(failures(options.folder)) else 0)
    if "table" in options.questions:
        parser.error("table stands alone: measure first, then write the table")
    if unknown := [name for name in options.questions if name not in names]:
        parser.error(f"{unknown[0]} is none of {', '.join(names)}, table")
    chosen = [names[name] for name in options.questions] or list(QUESTIONS)
    if options.data is None and (real := [question.name for question in chosen if question.data]):
        parser.error(f"{real[0]} needs real data: --data FOLDER, which has cifar-fs/, omniglot/ and text/")
    planned = measurements(chosen, options.folder, options.data, options.episodes)
    measure_or_exit(parser, planned, options.minutes, lambda: failures(options.folder))
