"""What a measurement depends on, in a line."""

import pytest
import torch

from metashot.bad_input import BadInput
from metashot.results.machine import machine


def test_line_names_threads_and_versions_and_no_path() -> None:
    line = machine(2, "cpu")
    assert "2 threads on " in line
    assert f"torch {torch.__version__.partition('+')[0]}" in line
    assert "/" not in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="device=gpu cannot be used"):
        machine(1, "gpu")


def test_gpu_stands_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    assert machine(1, "gpu").startswith("A GPU, ")
