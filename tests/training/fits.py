"""One device among several, or alone: fits every algorithm to random episodes and keeps what it computed in a file.

`python -m tests.training.fits FILE`, with the variables of torchrun where there are several.
"""

import sys
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot import configuration
from metashot.data.module import EpisodicDataModule
from metashot.episodes import Batch, Episode, EpisodeSpec, Examples
from metashot.problems import Classification
from metashot.sources.splitting import SPLITS
from metashot.training import processes
from metashot.training.trainer import TrainerOptions

from ..accelerator import device as accelerator
from ..accelerator import placed
from ..configuration.test_configuration import composed

GRADIENT = ("maml", "fomaml", "anil", "boil", "metasgd", "mamlpp", "reptile", "average", "hyper", "metalstm")
FEATURES = (
    "protonet",
    "matching",
    "full context",
    "relation",
    "siamese",
    "r2d2",
    "svm",
    "snail",
    "mann",
    "baseline",
    "baselinepp",
    "logistic",
    "ptmap",
    "laplacianshot",
    "tim",
    "feat",
    "metabaseline",
    "leo",
    "cnaps",
    "vae",
    "gan",
)
NUMBERS = ("cnp", "anp")  # which learn curves
ALGORITHMS = GRADIENT + FEATURES
PROTOCOLS = ("transductive", "running")
SHAPE, WAYS, SHOTS, QUERIES = (1, 12, 12), 3, 2, 2
STEPS = 10
# Steps as large as its usual ones make rounding in 32 bits grow to what is seen; 64 bits agree with them too.
CALMER = {
    "mamlpp": ["algo.inner_lr=0.03"],
    # Adam divides by the size of a gradient: where one vanishes, its rounding decides the direction.
    "reptile": ["algo.inner_optimizer.name=sgd", "algo.inner_lr=0.1"],
    "hyper": ["algo.optimizer.name=sgd", "algo.optimizer.lr=0.01"],
    "cnaps": ["algo.optimizer.name=sgd", "algo.optimizer.lr=0.01"],
    "gan": ["algo.optimizer.name=sgd", "algo.optimizer.lr=0.000003"],
}
OWN = {
    "full context": ["algo=matching", "algo.full_context=true"],
    "feat": ["algo=feat", "algo.attention_dropout=0", "algo.dropout=0"],  # random numbers of a device are its own
    "relation": ["algo=relation", "backbone.halvings=1"],  # maps of such small images are too small otherwise
}
Kept = dict[str, dict[str, Tensor]]  # of each fit, gradients or weights by name


class RandomEpisodes(EpisodicDataModule):
    """Classes are random pictures, images are these with noise; all of it depends on an episode's number alone. Supervised
    learners are trained on the queries alone."""

    def __init__(self, tasks_per_step: int, supervised: bool) -> None:
        specs = dict.fromkeys(SPLITS, EpisodeSpec(WAYS, SHOTS, QUERIES))
        super().__init__("random", specs, {"val": 2, "test": 2}, tasks_per_step, tasks_per_evaluation_step=4, seed=0)
        self.problem = Classification(WAYS)
        self.supervised = supervised

    @property
    def input_shape(self) -> tuple[int, ...]:
        return SHAPE

    def batch(self, split: Any, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        images = torch.stack([self.images(int(number)) for number in numbers])
        labels = [torch.arange(WAYS).repeat_interleave(count).expand(len(numbers), -1) for count in (SHOTS, QUERIES)]
        support, query = images[:, :, :SHOTS].flatten(1, 2), images[:, :, SHOTS:].flatten(1, 2)
        classes = torch.arange(WAYS).expand(len(numbers), -1)
        numbered = torch.from_numpy(numbers)
        return [placed(Episode(Examples(support, labels[0]), Examples(query, labels[1]), numbered, classes), device)]

    def training_batch(self, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        (episode,) = self.batch("train", numbers, device)
        none = Examples(episode.support.x[:, :0], episode.support.y[:, :0])
        return [replace(episode, support=none)] if self.supervised else [episode]

    def images(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(number)
        return torch.rand(WAYS, 1, *SHAPE, generator=generator) + 0.5 * torch.rand(
            WAYS, SHOTS + QUERIES, *SHAPE, generator=generator
        )


class FirstGradient(pl.Callback):
    """Keeps the outer gradient of the first step."""

    def __init__(self) -> None:
        self.kept: dict[str, Tensor] = {}

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        if not self.kept:
            named = pl_module.named_parameters()
            self.kept = {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}


def _trainer(devices: int) -> str:
    alone = "cpu" if accelerator() == "cpu" else "gpu"
    return alone if devices == 1 else "ddp"


@cache
def settings(devices: int, *own: str) -> configuration.Container:
    """To compose a configuration takes longer than to fit such a learner."""
    return composed(
        "train",
        *own,
        "backbone.channels=8",
        "backbone.downsampling=stride",
        f"trainer={_trainer(devices)}",
        "trainer.validate_every=1000",
    )


@cache
def settings_of_curves(devices: int, algo: str) -> configuration.Container:
    return composed(
        "train",
        *(f"algo={algo}", "data=curves", "backbone=mlp", "backbone.hidden=[8]"),
        *("data.tasks_per_step=4", "data.train.shots=3", "data.train.queries=5"),
        f"trainer={_trainer(devices)}",
        "trainer.validate_every=1000",
    )


def fitted(algo: str, protocol: str, precision: str, steps: int, devices: int) -> tuple[FirstGradient, pl.LightningModule]:
    calmer = CALMER.get(algo, []) if steps > 1 else []
    if algo in NUMBERS:
        config = deepcopy(settings_of_curves(devices, algo))
    else:
        config = deepcopy(settings(devices, *OWN.get(algo, [f"algo={algo}"]), *calmer))
    config["backbone"]["normalisation"] = protocol
    config["trainer"] |= {"precision": precision, "max_steps": steps}
    if (algo, protocol) == ("mamlpp", "running"):
        config["algo"]["averages_per_step"] = True
    pl.seed_everything(0, verbose=False)
    data: EpisodicDataModule
    if algo in NUMBERS:
        data = configuration.build(config["data"], seed=0)
    else:
        data = RandomEpisodes(tasks_per_step=4, supervised=configuration.locate(config["algo"], "algo").supervised)
    backbone = configuration.build(config["backbone"], input_shape=data.input_shape)
    algorithm: pl.LightningModule = configuration.build_algorithm(config, backbone=backbone, problem=data.problem)
    options: TrainerOptions = configuration.build(config["trainer"])
    options.arrange(algorithm)  # type: ignore[arg-type]
    if algorithm.needs_features:
        algorithm.freeze_backbone()  # type: ignore[operator]
    gradient = FirstGradient()
    options.trainer([gradient], []).fit(algorithm, data)
    return gradient, algorithm


def main(file: Path) -> None:
    processes._join(timedelta(minutes=5))
    devices = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    gradients: Kept = {}
    weights: Kept = {}
    for algo in (*ALGORITHMS, *NUMBERS):
        for protocol in PROTOCOLS:
            gradients[f"{algo} {protocol}"] = fitted(algo, protocol, "64-true", 1, devices)[0].kept
        # Averages change the weights of no other fit: with them everything is compared that there is.
        weights[algo] = fitted(algo, "running", "32-true", STEPS, devices)[1].state_dict()
    if processes.is_first_process():
        torch.save({"gradients": gradients, "weights": weights}, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
