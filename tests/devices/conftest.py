"""Tests that need an accelerator: `pytest --device cuda`."""

from pathlib import Path

import pytest
import torch

from tests.accelerator import device

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if device() == "cpu":
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="an accelerator is needed: --device cuda"))


@pytest.fixture
def accelerator() -> torch.device:
    return torch.device(device())
