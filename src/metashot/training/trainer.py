"""The `trainer` group, and the Lightning Trainer that is built from it."""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger

from metashot.algorithms.base import Algorithm
from metashot.algorithms.features import FeatureLearner
from metashot.arguments import AtLeast, AtMost, Count, Positive
from metashot.bad_input import BadInput
from metashot.checkpoints.reading import WholeCheckpointIO
from metashot.training.interruption import TrainerWithoutSignals
from metashot.training.memory import keep_freed_memory
from metashot.training.processes import JOIN_WITHIN, Launch, refuse_other_processes

_PROCESSES = 8  # allowed on any CPU, to try a run before it moves to a larger machine


class TrainerOptions:
    """The `trainer` group: the devices of a run, its length, and its intervals."""

    def __init__(
        self,
        accelerator: Literal["cpu", "gpu"],
        devices: Count,
        nodes: Count,
        strategy: Literal["auto", "ddp"],
        precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"],
        max_steps: Annotated[int, AtLeast(0), AtMost(10**9)],
        validate_every: Count,
        checkpoint_every: Count,
        log_every: Count,
        gradient_clip: Positive | None,
        stop_after_non_finite: Count,
        early_stopping: Count | None,
        channels_last: bool,
        deterministic: bool,
        # Runs trained before these keys existed are resumed with these values.
        heartbeat: Count = 30,
        join_within: Count = JOIN_WITHIN,
    ) -> None:
        self.accelerator = accelerator
        self.devices = devices
        self.nodes = nodes
        self.strategy = strategy
        self.precision = precision
        self.max_steps = max_steps
        self.validate_every = validate_every
        self.checkpoint_every = checkpoint_every
        self.log_every = log_every
        self.gradient_clip = gradient_clip
        self.stop_after_non_finite = stop_after_non_finite
        self.early_stopping = early_stopping
        self.channels_last = channels_last
        self.deterministic = deterministic
        self.heartbeat = heartbeat
        self.join_within = join_within

    @property
    def device_type(self) -> str:
        """The device type in torch's terms: cpu, cuda or mps."""
        if self.accelerator == "cpu":
            return "cpu"
        return "cuda" if CUDAAccelerator.is_available() else "mps"

    @property
    def all_devices(self) -> int:
        """The number of devices on all machines."""
        return self.devices * self.nodes

    def arrange(self, algorithm: Algorithm) -> None:
        """Use the precision of the weights, and channels-last memory if asked for where all tasks share the same weights.

        An algorithm that takes its optimisation steps itself also clips its gradients, which Lightning refuses to do for it.
        """
        if not algorithm.automatic_optimization:
            algorithm.gradient_clip, self.gradient_clip = self.gradient_clip, None
        if self.precision == "16-mixed" and not algorithm.answers_queries:
            raise BadInput(
                "trainer.precision=16-mixed scales gradients, and a learner that acts in worlds takes steps that are not "
                "gradients alone: give trainer.precision=32-true, bf16-mixed or 64-true"
            )
        if self.precision == "64-true":
            algorithm.double()  # as Lightning would later, after the algorithm has been described
        if self.channels_last and isinstance(algorithm, FeatureLearner):
            algorithm.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def trainer(self, callbacks: Sequence[pl.Callback], loggers: Sequence[Logger]) -> pl.Trainer:
        _quieten_lightning()
        launch = Launch.detect()
        keep_freed_memory()
        # Filling uninitialised memory guards against reads of unwritten values, but costs a pass over every new tensor.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        return TrainerWithoutSignals(
            callbacks,
            loggers,
            accelerator=self.accelerator,
            devices=self.devices,
            num_nodes=self.nodes,
            strategy=self.strategy if self.all_devices > 1 else "auto",
            precision=self.precision,
            max_steps=self.max_steps,
            # Training has no epochs: the validation interval is counted in steps.
            val_check_interval=self.validate_every,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            gradient_clip_val=self.gradient_clip,
            deterministic=self.deterministic,
            inference_mode=False,  # inner loops need gradients in validation and testing
            use_distributed_sampler=False,  # the data module distributes the episodes over the devices
            # Without an explicit environment, Lightning would trust stale variables of another launch.
            plugins=[WholeCheckpointIO(), LightningEnvironment() if launch is None else launch.environment],
            enable_checkpointing=any(
                isinstance(callback, Checkpoint) for callback in callbacks
            ),  # else Lightning adds its own
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def description(self) -> list[str]:
        """Notes for the user on the chosen options."""
        if (
            self.device_type == "cpu"
            and self.precision == "bf16-mixed"
            and not computes_in_bf16(torch.cpu.get_capabilities())
        ):
            return [
                "note: this processor has no instructions for bf16, and trainer.precision=bf16-mixed imitates them: 8 times "
                "slower than 32-true where it was measured"
            ]
        return []

    def refuse_unavailable(self) -> None:
        """Check that this machine supports the chosen devices and precision, and that all processes were launched.

        Raises:
            BadInput: if a device or the precision is not available, or processes are missing.
        """
        refuse_other_processes(self.devices, self.nodes)
        if self.accelerator == "cpu":
            if self.precision == "16-mixed":
                raise BadInput("trainer.precision=16-mixed needs a GPU; on the CPU use 32-true or bf16-mixed")
            most = max(os.cpu_count() or 1, _PROCESSES)
            if self.devices > most:
                raise BadInput(
                    f"trainer.devices={self.devices} on a CPU would start as many processes, but this machine has "
                    f"{os.cpu_count()} cores; allowed: at most {most}"
                )
            return
        available = torch.cuda.device_count() if CUDAAccelerator.is_available() else int(MPSAccelerator.is_available())
        if self.devices > available:
            raise BadInput(
                f"trainer.accelerator=gpu with trainer.devices={self.devices} was asked for, but this machine has "
                f"{available} usable GPUs: use trainer=cpu, or at most that many devices"
            )


def computes_in_bf16(capabilities: Mapping[str, Any]) -> bool:
    """Whether an x86 or ARM processor has bf16 instructions, according to torch's list of its capabilities."""
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def _quieten_lightning() -> None:
    """Silence Lightning's warnings that a user of metashot cannot act on."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("PYTORCH_LIGHTNING_SUPPRESS_ADVICE", "1")
    for message in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        ".*smaller than the logging interval.*",
        ".*recommended to use `self.log.*sync_dist=True.*",  # the values are already averaged over the devices
        ".*Checkpoint directory.*exists and is not empty.*",
        ".*`srun` command is available.*",
        ".*module\\(s\\) in eval mode at the start of training.*",  # a frozen backbone is
    ):
        warnings.filterwarnings("ignore", message)
