"""Builds the banks of a configuration's data before torch is imported, so that missing or damaged files are reported "
"early."""

import os

from metashot.configuration.building import build
from metashot.configuration.checking import Container
from metashot.files.paths import given_path
from metashot.sources.building import build_bank
from metashot.sources.root import given_root
from metashot.sources.source import DataSource

_LAUNCHER_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "SLURM_PROCID",
    "SUBMITIT_EXECUTOR",
)  # set by launchers


def build_banks(data: Container) -> None:
    """Build the banks of a data set, if it has files.

    Args:
        data: the checked `data` group of a configuration.

    Raises:
        BadInput: files are missing or damaged.
    """
    if "banks" not in data or any(name in os.environ for name in _LAUNCHER_VARIABLES):
        return  # several processes report errors together, once they have joined
    source: DataSource = build(data["source"])
    build_bank(source, given_root(data["root"]), given_path(data["banks"], "data.banks"))
