"""Freed memory stays with the process, which saves asking for it again."""

import subprocess
import sys

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
