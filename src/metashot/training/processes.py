"""The processes of one run: how they were launched, how they agree on decisions, and how they end together.

When a user starts a single process, Lightning launches the others. torchrun, srun and submitit launch every process with
the full command, so the process group is the only way for rank 0 to share its decisions.
"""

import atexit
import contextlib
import functools
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only
from torch import distributed
from torch.distributed import Store  # type: ignore[attr-defined]
from torch.distributed.constants import default_pg_timeout
from torch.distributed.rendezvous import rendezvous

from metashot.arguments import Count, check_value
from metashot.bad_input import BadInput, GaveUp
from metashot.checkpoints.run_folder import RunFolder
from metashot.process.exit_codes import BAD_INPUT, FAILED, INTERRUPTED
from metashot.process.interruption import STOP, Stopped
from metashot.process.leftovers import is_step_of_slurm
from metashot.training.memory import enough_memory

# Lightning sets these variables when it launches processes, and reads them as a sign that the processes are running.
_OF_A_JOB = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LAST_WORD = timedelta(seconds=5)  # how long processes wait for each other at exit
_ECHO = 1.0  # seconds
JOIN_WITHIN = 60  # seconds, for runs trained before trainer.join_within existed


@dataclass(frozen=True)
class Launch:
    """An external launch of all processes of a run, by torchrun, SLURM or submitit.

    Attributes:
        by: the name of the launcher.
        each: the launcher's option for the number of processes per machine.
        processes: the number of processes on all machines.
        machines: the number of machines.
        environment: Lightning's description of the launch.
    """

    by: str
    each: str
    processes: int
    machines: int
    environment: ClusterEnvironment

    @classmethod
    def detect(cls) -> "Launch | None":
        """Detect the launcher of this process from its environment; None if Lightning has to launch the processes."""
        if TorchElasticEnvironment.detect():
            processes = int(os.environ["WORLD_SIZE"])
            machines = processes // int(os.environ["LOCAL_WORLD_SIZE"])
            return cls("torchrun", "--nproc-per-node", processes, machines, TorchElasticEnvironment())
        if is_step_of_slurm():
            processes, machines = (int(os.environ.get(name, 1)) for name in ("SLURM_NTASKS", "SLURM_NNODES"))
            # Lightning needs this variable, which srun --ntasks does not set.
            os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(processes // machines))
            each = "hydra.launcher.tasks_per_node" if "SUBMITIT_EXECUTOR" in os.environ else "srun --ntasks-per-node"
            # With requeueing, Lightning would resume from a checkpoint of its own that the user did not ask for.
            return cls("SLURM", each, processes, machines, SLURMEnvironment(auto_requeue=False))
        if os.environ.get("SUBMITIT_EXECUTOR") == "local":
            rank, port = os.environ["SUBMITIT_LOCAL_GLOBALID"], 20_000 + int(os.environ["SUBMITIT_LOCAL_JOB_ID"]) % 40_000
            os.environ.update(LOCAL_RANK=rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            environment = LightningEnvironment()
            environment.set_global_rank(int(rank))
            return cls("submitit", "hydra.launcher.tasks_per_node", int(os.environ["SUBMITIT_LOCAL_NTASKS"]), 1, environment)
        return None


def refuse_other_processes(devices: int, nodes: int) -> None:
    """Check that the number of launched processes matches the number of devices, since each process uses one device.

    Args:
        devices: devices on each machine.
        nodes: number of machines.

    Raises:
        BadInput: if the launcher started a different number of processes or used a different number of machines.
    """
    launch = Launch.detect()
    if launch is None and nodes > 1:
        raise BadInput(
            f"trainer.nodes={nodes} was asked for, but this process was started alone: start one for each device on every "
            "machine, with torchrun or srun"
        )
    if launch is None or (launch.processes, launch.machines) == (devices * nodes, nodes):
        return
    raise BadInput(
        f"{launch.by} started {launch.processes} processes on {launch.machines} machines, but "
        f"trainer.devices={devices} and trainer.nodes={nodes} ask for {devices} on each of {nodes}: give trainer=ddp "
        f"trainer.devices={launch.processes // launch.machines} trainer.nodes={launch.machines}, or {launch.each}={devices}"
    )


def refuse_processes_of_a_notebook(devices: int) -> None:
    """Refuse several devices in an interactive session: launched processes rerun the script, and there is none to rerun."""
    if devices > 1 and hasattr(sys, "ps1"):
        raise BadInput(
            f"trainer.devices={devices} starts a script {devices} times, and this is an interactive session: put the "
            "experiment into a script, or give trainer.devices=1"
        )


def is_first_process() -> bool:
    """Whether this process has rank 0, the only rank that writes files and prints."""
    return int(getattr(rank_zero_only, "rank", None) or 0) == 0


class Processes:
    """The processes that run one call of a script together."""

    def __init__(self) -> None:
        self.agreed = False  # whether `agree` was called; before that, a refusal still has to be shared

    @classmethod
    def joined(cls, within: int) -> "Processes":
        """Join all processes that were launched together into a process group.

        Args:
            within: seconds that a process waits for the others, `trainer.join_within`.

        Raises:
            BadInput: if `within` is not a valid count.
            SystemExit: if the processes do not all connect in time.
        """
        check_value(within, Count, "trainer.join_within")
        _join(timedelta(seconds=within))
        STOP.quiet = not is_first_process()
        # A process launched by torchrun receives the same Ctrl-C twice, from the terminal and from torchrun.
        STOP.echo = 0.0 if Launch.detect() is None else _ECHO
        return cls()

    def run_folder(self, claim: Callable[[], RunFolder]) -> RunFolder:
        """Let rank 0 claim the run's folder, and share its path with all processes.

        Args:
            claim: creates or reopens the folder, on a file system that all processes share.

        Returns:
            The folder. Only rank 0 holds its lock.

        Raises:
            BadInput: on rank 0, if the folder cannot be claimed.
            SystemExit: on the other ranks, if the folder cannot be claimed.
        """
        self.agree()
        folder, refusal = None, None
        if is_first_process() or not distributed.is_initialized():
            try:
                folder = claim()
            except BadInput as error:
                refusal = error
        path = self.agree(refusal, folder.path if folder is not None else None)
        return folder or RunFolder(path, lock=None)

    def agree(self, refusal: BadInput | None = None, word: Any = None) -> Any:
        """Wait until every process has reached this point, and end them all if any of them refused its input.

        Args:
            refusal: why this process refuses its input, if it does.
            word: the value that rank 0 shares with the others.

        Returns:
            The value given by rank 0.

        Raises:
            BadInput: on rank 0, if any process refused its input.
            SystemExit: on the other ranks, if any process refused its input.
        """
        self.agreed = True
        if not distributed.is_initialized():
            if refusal is not None:
                raise refusal
            return word
        answers: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(answers, (None if refusal is None else str(refusal), socket.gethostname(), word))
        refusals = [(message, host) for message, host, _ in answers if message is not None]
        if not refusals:
            return answers[0][2]
        if not is_first_process():
            raise SystemExit(BAD_INPUT)
        message, host = refusals[0]
        raise refusal or BadInput(f"{message} (on {host})")


def in_all_processes(script: Callable[[DictConfig, Processes], float]) -> Callable[[DictConfig], float]:
    """Run a script in all processes: only rank 0 reports an error, and all end with the same exit code.

    Args:
        script: called with the configuration and the joined processes.

    Returns:
        The script as a function of the configuration alone.
    """

    @functools.wraps(script)
    def run(config: DictConfig) -> float:
        processes = Processes.joined(config["trainer"].get("join_within", JOIN_WITHIN))
        try:
            with _own_command(), enough_memory():
                return script(config, processes)
        except BadInput as error:
            if not processes.agreed:
                processes.agree(error)
            raise
        except (Stopped, GaveUp) as end:
            if is_first_process():
                raise
            raise SystemExit(INTERRUPTED if isinstance(end, Stopped) else FAILED) from None

    return run


@contextlib.contextmanager
def _own_command() -> Iterator[None]:
    """In a sweep, make the processes that Lightning launches run this job instead of the whole sweep, and end with it."""
    if Launch.detect() is not None or HydraConfig.get().mode is not RunMode.MULTIRUN:
        yield
        return
    whole, sys.argv = sys.argv, [sys.argv[0], *HydraConfig.get().overrides.task]
    try:
        yield
    finally:
        sys.argv = whole
        if distributed.is_initialized():
            distributed.destroy_process_group()
        for name in _OF_A_JOB:
            os.environ.pop(name, None)


@contextlib.contextmanager
def ending_together(trainer: pl.Trainer) -> Iterator[None]:
    """Kill the processes that Lightning launched if this process fails.

    A thread of Lightning kills this process when it sees that a launched process has failed; it stops when none are left.
    """
    try:
        yield
    except BaseException:
        started = getattr(trainer.strategy.launcher, "procs", [])
        for process in started:
            process.kill()
            process.wait()
        started.clear()
        raise


def _join(within: timedelta) -> None:
    """Create the process group early: Lightning would create it only after the run's folder is needed."""
    launch = Launch.detect()
    if launch is None or launch.processes == 1 or distributed.is_initialized():
        return
    environment = launch.environment
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    # Messages use gloo; gradients use the backend of the device that Lightning chooses by the local rank.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    rank_zero_only.rank = environment.global_rank()  # type: ignore[attr-defined]
    store = _meeting_place(launch, within)
    distributed.init_process_group(backend, store=store, rank=environment.global_rank(), world_size=launch.processes)
    atexit.register(_leave)


def _meeting_place(launch: Launch, within: timedelta) -> Store:
    """Open the store in which all processes meet. Stale variables or failed processes must not make this one wait long."""
    rank, processes = launch.environment.global_rank(), launch.processes
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    try:
        if rank != 0:  # torch would print a stack trace when the connection fails
            _wait_for_the_first(address, int(port), within)
        store: Store = next(rendezvous("env://", rank, processes, timeout=within))[0]
    except (distributed.DistError, OSError, ValueError) as error:
        # Every rank prints this message, because rank 0 may be missing.
        print(
            f"error: {launch.by} says that this is process {rank} of {processes} (from 0), but within {within.seconds} s "
            f"(trainer.join_within) they did not all meet at {address}:{port}: {str(error).splitlines()[0].rstrip('.')}; "
            f"start the others, or unset {_said_by(launch)}",
            file=sys.stderr,
            flush=True,
        )
        raise SystemExit(BAD_INPUT) from None
    store.set_timeout(default_pg_timeout)
    return store


def _wait_for_the_first(address: str, port: int, within: timedelta) -> None:
    last = time.monotonic() + within.seconds
    while True:
        try:
            with socket.create_connection((address, port), timeout=within.seconds):
                return
        except OSError as error:
            if time.monotonic() >= last:
                raise TimeoutError(f"the first process does not answer ({error.strerror or error})") from error
        time.sleep(0.1)


def _said_by(launch: Launch) -> str:
    return {"torchrun": "TORCHELASTIC_RUN_ID RANK WORLD_SIZE", "SLURM": "SLURM_NTASKS"}.get(launch.by, "SUBMITIT_EXECUTOR")


def _leave() -> None:
    """Wait for the other processes: a launcher kills them when one fails, perhaps before they have printed an error."""
    if distributed.is_initialized():
        with contextlib.suppress(RuntimeError):
            distributed.monitored_barrier(timeout=_LAST_WORD)
        distributed.destroy_process_group()
