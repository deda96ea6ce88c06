"""The banks of a configuration's data, built before anything needs torch: what is missing or damaged is known at once."""

import os

from metashot.configuration.building import build
from metashot.configuration.checking import Container
from metashot.files.paths import given_path
from metashot.sources.building import build_bank
from metashot.sources.source import DataSource

_OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SUBMITIT_EXECUTOR")  # set where several processes begin together


def build_banks(data: Container) -> None:
    """Build the banks of a data set, if it has files.

    Args:
        data: the checked `data` group of a configuration.

    Raises:
        BadInput: if files are missing or damaged.
    """
    if "banks" not in data or any(name in os.environ for name in _OF_LAUNCHERS):
        return  # several processes refuse together, once they have joined
    source: DataSource = build(data["source"])
    build_bank(source, given_path(data["root"], "data.root"), given_path(data["banks"], "data.banks"))
