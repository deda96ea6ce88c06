"""Tests that need an accelerator: `pytest --device cuda`."""

import pytest
import torch

from tests.accelerator import device


@pytest.fixture
def accelerator() -> torch.device:
    return torch.device(device())
