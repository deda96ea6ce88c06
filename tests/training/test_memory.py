"""Too little memory is one message; freed memory stays with the process, which saves asking for it again."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from metashot.bad_input import BadInput, GaveUp
from metashot.checkpoints.reading import write_checkpoint
from metashot.training.memory import enough_memory

PROGRAM = """
import resource, torch
from metashot.training.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        torch.ones(4_000_000)  # 16 MB, about 4,000 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
assert keep_freed_memory()
torch.ones(4_000_000)
print(given_back, faults())
"""


def test_a_tensor_takes_the_memory_of_the_one_before() -> None:
    answer = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    given_back, kept = map(int, answer.stdout.split())
    assert kept < given_back / 10


def nested() -> None:
    """As Hydra wraps what fails while something is built."""
    try:
        torch.empty(2**50)
    except RuntimeError as error:
        raise ValueError("Error in call to target") from error


ALLOCATIONS: dict[str, Callable[[], object]] = {
    "torch": lambda: torch.empty(2**50),
    "numpy": lambda: np.empty(2**50),
    "python": lambda: bytearray(2**62),
    "wrapped": nested,
}


@pytest.mark.parametrize("what", ALLOCATIONS)
def test_allocation_that_fails_is_bad_input_until_there_is_a_checkpoint(tmp_path: Path, what: str) -> None:
    with pytest.raises(BadInput, match=r"^too little memory: .*lower data\.tasks_per_step") as refused, enough_memory():
        ALLOCATIONS[what]()
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(BadInput), enough_memory(tmp_path / "checkpoints"):
        ALLOCATIONS[what]()
    write_checkpoint(
        {"state_dict": {"x": torch.zeros(1)}, "global_step": 5, "metashot": {"config": {}}}, tmp_path / "last.ckpt"
    )
    kept = f"lower data.tasks_per_step.*the last intact checkpoint is {tmp_path}/last.ckpt"
    with pytest.raises(GaveUp, match=kept), enough_memory(tmp_path):
        ALLOCATIONS[what]()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), enough_memory():
        raise RuntimeError("shapes do not fit")
