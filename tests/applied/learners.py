"""Checkpoints of tiny learners with random weights, and images to learn from."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.checkpoints.reading import metashot_part, write_checkpoint
from metashot.problems import PROBLEMS
from tests.configuration.test_configuration import composed

SHAPE = (1, 28, 28)
WAYS = 4
MEAN, STD = 0.2, 0.4
# Each algorithm with what its tiny form needs beside small settings.
OWN: dict[str, list[str]] = {
    "protonet": [],
    "matching": [],
    "full context": ["algo=matching", "algo.full_context=true"],
    "relation": [],
    "r2d2": [],
    "svm": [],
    "simpleshot": ["algo=protonet", "algo.normalise=centre_l2"],
    "siamese": [],
    "triplet": ["algo=siamese", "algo.loss=triplet"],
    "snail": ["algo.keys=[4,8]", "algo.values=[4,8]", "algo.filters=4", "algo.embedding=8"],
    "mann": ["algo.units=16", "algo.places=8", "algo.width=8"],
    "baseline": ["data.train.batch=16"],
    "baselinepp": ["data.train.batch=16"],
    "logistic": ["data.train.batch=16"],
    "ptmap": ["data.train.batch=16"],
    "laplacianshot": ["data.train.batch=16"],
    "tim": ["data.train.batch=16", "algo.steps=5"],
    "feat": [],
    "leo": ["algo.latents=8"],
    "cnaps": [],
    "cnaps in blocks": ["algo=cnaps", "algo.film=blocks"],
    "hyper": [],
    "metabaseline": [],
    "maml": [],
    "anil": [],
    "metasgd": [],
    "metalstm": [],
    "mamlpp": [],
    "reptile": [],
    "average": [],
    "finetune": [],
    "vae": ["algo.hidden=8", "algo.code=3", "algo.made=4"],
    "gan": ["algo.hidden=8", "algo.made=4"],
    "vae_images": ["algo.channels=4", "algo.code=3", "algo.made=4"],
}


def settings(algo: str, protocol: str, *more: str) -> configuration.Container:
    own = OWN[algo]
    chosen = [] if any(setting.startswith("algo=") for setting in own) else [f"algo={algo}"]
    protocols = [] if "backbone=identity" in more else [f"backbone.normalisation={protocol}"]
    if algo == "mamlpp" and protocol != "running":
        protocols.append("algo.averages_per_step=false")
    small = [] if {"backbone=mlp", "backbone=identity"} & set(more) else ["backbone.channels=6"]
    return composed("train", *chosen, *own, *more, *protocols, *small)


def built(config: configuration.Container, origin: dict[str, Any]) -> Algorithm:
    backbone = configuration.build(config["backbone"], input_shape=tuple(origin["input_shape"]))
    problem = PROBLEMS[origin["problem"]](origin["outputs"])
    algorithm: Algorithm = configuration.build_algorithm(config, backbone=backbone, problem=problem)
    return algorithm


def tiny(folder: Path, algo: str, protocol: str = "support", *more: str, **origin: Any) -> Path:
    """A checkpoint of a learner whose weights and averages are away from where training begins."""
    config = settings(algo, protocol, *more)
    of = {"name": "glyphs", "problem": "Classification", "outputs": WAYS, "input_shape": list(SHAPE), "images": "x"}
    whole = of | {"mean": [MEAN], "std": [STD]} | origin
    torch.manual_seed(0)
    algorithm = built(config, whole)
    with torch.no_grad():
        for parameter in algorithm.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
        for name, buffer in algorithm.named_buffers():
            if "running" in name:
                buffer.mul_(0.1).add_(0.05)
    path = folder / f"{algo} {protocol} {len(list(folder.iterdir()))}.ckpt"
    write_checkpoint(
        {"global_step": 0, "state_dict": algorithm.state_dict(), "metashot": metashot_part(config, whole)}, path
    )
    return path


def drawings(count: int, seed: int = 0, side: int = 28) -> NDArray[np.uint8]:
    """Bright strokes on dark ground: [count, side, side]."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, side, side), np.uint8)
    for image in images:
        for _ in range(3):
            row, column = random.integers(4, side - 8, 2)
            image[row : row + random.integers(2, 5), 4 : side - 4] = random.integers(120, 255)
            image[4 : side - 4, column : column + 2] = random.integers(120, 255)
    return images
