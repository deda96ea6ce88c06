"""`python -m benchmarks heads`: all heads on one backbone, with 1 and 5 shots, and with unequal queries.

`python -m benchmarks heads backbone=conv4 data.root=FOLDER` measures, `python -m benchmarks heads table` writes the tables.
What has a report is not measured again, so a call that ran out of time is continued by the same call.
"""

import argparse
from pathlib import Path

from benchmarks.heads.rows import HEADS, SHOTS, TRAINING, measurements
from benchmarks.heads.table import every_planned, failures, tables
from benchmarks.measuring import measure_or_exit, refuse_unmeasured, told
from benchmarks.outputs import between

BEGIN, END = "<!-- heads -->", "<!-- end of heads -->"
PAGE = Path("docs/reference/heads.md")


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks heads", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/heads"), help="where runs and reports are kept (runs/heads)"
    )
    if arguments[:1] == ["table"]:
        _table(parser, arguments[1:])
        return
    names = {head.folder: head for head in HEADS}
    parser.add_argument("given", nargs="+", help=f"backbone={'|'.join(TRAINING)} and keys of train.py, such as data.root=")
    parser.add_argument("--heads", default=",".join(names), help=f"which, with commas: {', '.join(names)} (all)")
    parser.add_argument("--shots", type=int, choices=SHOTS, help="only these (1 and 5)")
    parser.add_argument("--episodes", type=int, default=1000, help="test episodes (1000)")
    parser.add_argument("--minutes", type=float, default=18, help="the time after which this call stops (18)")
    options = parser.parse_args(arguments)
    chosen = [argument.partition("=")[2] for argument in options.given if argument.startswith("backbone=")]
    if len(chosen) != 1 or chosen[0] not in TRAINING:
        parser.error(f"backbone= has to be given once; allowed: {', '.join(TRAINING)}")
    if unknown := [name for name in options.heads.split(",") if name not in names]:
        parser.error(f"--heads {options.heads}: {unknown[0]} is none of {', '.join(names)}")
    own = [argument for argument in options.given if not argument.startswith("backbone=")]
    wanted = [names[name] for name in options.heads.split(",")]
    shots = [options.shots] if options.shots else SHOTS
    planned = measurements(chosen[0], wanted, shots, options.episodes, options.folder, own)
    measure_or_exit(parser, planned, options.minutes, lambda: failures(options.folder))


def _table(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    parser.add_argument(
        "--markdown", type=Path, default=PAGE, help=f"a file whose part between {BEGIN} and {END} is replaced"
    )
    options = parser.parse_args(arguments)
    page = between(parser, options.markdown, BEGIN, END)
    assert page is not None
    refuse_unmeasured(parser, every_planned(options.folder), options.folder)
    page.replace(tables(options.folder))
    told(failures(options.folder))
