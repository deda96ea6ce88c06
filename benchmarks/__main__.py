"""Run the benchmarks and print one table.

Some are commands of their own: `python -m benchmarks compare --help` is about other libraries, `growth --help` about how
cost grows, `profile --help` about what a step spends its time on, `heads --help` about all heads on the same features,
`learners --help` about the ready-made learners, `estimates --help` about what learners say of themselves,
`presentations --help` about learners with a memory, `enlarged_support --help` about augmented copies of support images,
`curve --help` about how returns rise in training, `blurred --help` about what made drawings are worth, `worlds --help` about
steps in environments, `page --help` about the page in a browser, and `accelerator --help` about steps on a GPU.
"""

import argparse
import importlib
import os
import sys

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import augmentation, engines, episodes, inner_memory, memory_format, normalisation

BENCHMARKS = {
    "episodes": episodes.measure,
    "normalisation": normalisation.measure,
    "augmentation": augmentation.crop_and_flip,
    "augmentation-colours": augmentation.crop_flip_and_jitter,
    "engines-conv4-pool": engines.conv4_pool,
    "engines-conv4-stride": engines.conv4_stride,
    "engines-mlp": engines.mlp,
    "engines-sinusoid": engines.sinusoid,
    "inner-memory": inner_memory.measure,
    "memory-format": memory_format.measure,
}


# Imported on their own, since some need packages that others do not.
COMMANDS = {
    "compare": "benchmarks.compare.command",
    "profile": "benchmarks.profile",
    "accelerator": "benchmarks.accelerator",
    "growth": "benchmarks.growth",
    "heads": "benchmarks.heads.command",
    "learners": "benchmarks.learners",
    "estimates": "benchmarks.estimates",
    "presentations": "benchmarks.presentations",
    "enlarged_support": "benchmarks.enlarged_support",
    "blurred": "benchmarks.blurred",
    "curve": "benchmarks.curve",
    "worlds": "benchmarks.worlds",
    "page": "benchmarks.page",
}


def main() -> None:
    if sys.argv[1:] and sys.argv[1] in COMMANDS:
        importlib.import_module(COMMANDS[sys.argv[1]]).run(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(BENCHMARKS)} (default: all)")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"unknown benchmark {unknown[0]}; allowed: {', '.join(BENCHMARKS)}")
    table = Table("benchmark", "what", "median ms", "against the first", "peak MB")
    for name in names:
        rows = BENCHMARKS[name]()
        first = rows[0].milliseconds
        for row in rows:
            memory = "" if row.megabytes is None else f"{row.megabytes:.1f}"
            table.add_row(name, row.what, f"{row.milliseconds:.2f}", f"{row.milliseconds / first:.2f} x", memory)
        table.add_section()
    console = Console()
    console.print(table)
    count = torch.get_num_threads()
    console.print(f"torch {torch.__version__}, {count} thread{'s' if count > 1 else ''} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
