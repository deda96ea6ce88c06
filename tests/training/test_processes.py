"""Two devices compute what one does, whatever the algorithm; and who started the processes of a run is recognised."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.training.processes import Launch, refuse_other_processes

from ..cli.processes import free_port
from .fits import ALGORITHMS, NUMBERS, PROTOCOLS, Kept

ROOT = Path(__file__).resolve().parents[2]
Pair = tuple[Kept, Kept]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Gradients and weights of one device, and of two that share the work."""
    folder = tmp_path_factory.mktemp("fits")
    port = str(free_port())
    together = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    together["TORCHELASTIC_RUN_ID"] = "fits"
    alone: dict[str, str] = {}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.fits", str(folder / name)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | own,
        )
        for name, own in (
            ("one", alone),
            ("two", together | {"RANK": "0", "LOCAL_RANK": "0"}),
            ("two", together | {"RANK": "1", "LOCAL_RANK": "1"}),
        )
    ]
    try:
        assert [process.wait(300) for process in started] == [0, 0, 0]
    finally:
        for process in started:
            process.kill()
    one, two = (torch.load(folder / name) for name in ("one", "two"))
    return {what: (one[what], two[what]) for what in one}


def largest_difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    assert list(one) == list(two)
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("algo", [*ALGORITHMS, *NUMBERS])
def test_outer_gradient_of_two_devices_is_that_of_one(kept: dict[str, Pair], algo: str, protocol: str) -> None:
    one, two = (gradients[f"{algo} {protocol}"] for gradients in kept["gradients"])
    assert all(gradient.dtype is torch.float64 for gradient in one.values())
    assert max(float(gradient.abs().max()) for gradient in one.values()) > 1e-4
    assert largest_difference(one, two) < 1e-6


@pytest.mark.parametrize("algo", [*ALGORITHMS, *NUMBERS])
def test_weights_of_two_devices_after_ten_steps_are_those_of_one(kept: dict[str, Pair], algo: str) -> None:
    one, two = (weights[algo] for weights in kept["weights"])
    assert all(weight.dtype is torch.float32 for weight in one.values())
    assert largest_difference(one, two) < 1e-4


# Of one of four processes on each of two machines.
STARTED = {
    "torchrun": {"TORCHELASTIC_RUN_ID": "1", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"},
    "SLURM": {
        "SLURM_JOB_ID": "1234567",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "8",
        "SLURM_NNODES": "2",
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1",
        "SLURM_STEP_ID": "0",
        "SLURM_NODELIST": "machine[3,7]",
    },
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ.update(STARTED[request.param])
    return str(request.param)


@pytest.mark.parametrize("started", STARTED, indirect=True)
def test_processes_on_several_machines_are_recognised(started: str) -> None:
    launch = Launch.detect()
    assert launch is not None
    assert (launch.by, launch.processes, launch.machines) == (started, 8, 2)
    assert (launch.environment.global_rank(), launch.environment.local_rank()) == (5, 1)
    assert launch.environment.creates_processes_externally
    refuse_other_processes(devices=4, nodes=2)
    launch.environment.validate_settings(num_devices=4, num_nodes=2)


@pytest.mark.parametrize("started", STARTED, indirect=True)
@pytest.mark.parametrize(("devices", "nodes"), [(8, 1), (1, 8), (4, 1), (1, 1), (8, 2)])
def test_other_processes_than_were_asked_for_are_refused(started: str, devices: int, nodes: int) -> None:
    with pytest.raises(BadInput, match=f"^{started} started 8 processes on 2 .*trainer.devices=4 trainer.nodes=2"):
        refuse_other_processes(devices, nodes)


def test_a_process_that_was_started_alone_is_for_lightning_to_multiply() -> None:
    assert Launch.detect() is None
    refuse_other_processes(devices=2, nodes=1)
    with pytest.raises(BadInput, match=r"trainer\.nodes=2"):
        refuse_other_processes(devices=2, nodes=2)
