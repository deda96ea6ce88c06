"""What is measured: which heads, on which backbones, and the commands of a user that measure them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measuring import Measurement

SHOTS = (1, 5)
UNEQUAL = 2  # concentration of the Dirichlet distribution of the queries, as in Veilleux et al. 2021, arXiv:2204.11181


@dataclass(frozen=True)
class Head:
    """A way to answer from features.

    Attributes:
        name: Its name in the table.
        arguments: The arguments of train.py.
        with_shots: Further ones where the paper's settings depend on the shots.
        with_backbone: The same where they also depend on the backbone.
        is_trained: Whether it has weights of its own that tasks depend on.
    """

    name: str
    arguments: tuple[str, ...]
    with_shots: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    with_backbone: Mapping[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)
    is_trained: bool = False

    @property
    def folder(self) -> str:
        return self.name.replace(" ", "-")


_LARGE = ("resnet12", "pretrained")  # for which FEAT has the settings of ResNet-12
HEADS = (
    Head("protonet", ("algo=protonet",)),
    Head("protonet l2", ("algo=protonet", "algo.normalise=l2")),
    Head("protonet centre_l2", ("algo=protonet", "algo.normalise=centre_l2")),
    Head("baseline", ("algo=baseline",)),
    Head("baselinepp", ("algo=baselinepp",)),
    Head("logistic", ("algo=logistic",)),
    Head("matching", ("algo=matching",), is_trained=True),
    Head("r2d2", ("algo=r2d2",), is_trained=True),
    Head("svm", ("algo=svm",), is_trained=True),
    Head(
        "feat",
        ("algo=feat",),
        with_backbone={
            ("conv4", 5): ("algo.temperature=32", "algo.contrastive_temperature=64", "algo.balance=0.1"),
            **{(name, 1): ("algo.contrastive_temperature=64", "algo.balance=0.01") for name in _LARGE},
            **{(name, 5): ("algo.contrastive_temperature=32", "algo.balance=0.1") for name in _LARGE},
        },
        is_trained=True,
    ),
    Head("laplacianshot", ("algo=laplacianshot",)),
    Head("tim", ("algo=tim",)),
    Head("ptmap", ("algo=ptmap",), {1: ("algo.rate=0.4",)}),
)

# How the backbones that are trained here are trained: to classify the training classes, chosen on validation episodes.
_CLASSIFIES = ("algo=logistic", "data.shots=5")
_FASTER = ("data.tasks_per_step=1", "trainer.precision=bf16-mixed")  # half as many images a step, of a slow network
TRAINING: dict[str, tuple[str, ...] | None] = {
    "pretrained": None,
    "conv4": (*_CLASSIFIES, "backbone=conv4", "trainer.max_steps=4000", "trainer.validate_every=1000"),
    "resnet12": (*_CLASSIFIES, "backbone=resnet12", *_FASTER, "trainer.max_steps=800", "trainer.validate_every=200"),
}
TITLES = {
    "pretrained": "EfficientNet-Lite0, pre-trained on ImageNet",
    "conv4": "conv4, trained on the training split",
    "resnet12": "ResNet-12, trained on the training split",
}


def place(folder: Path, backbone: str, head: Head, shots: int) -> Path:
    return folder / backbone / f"{shots}-shot" / head.folder


def with_unequal_queries(run: Path) -> Path:
    return run.with_name(f"{run.name}-unequal")


def measurements(
    backbone: str, heads: Sequence[Head], shots: Sequence[int], episodes: int, folder: Path, own: Sequence[str]
) -> list[Measurement]:
    """Everything that is measured on a backbone, in the order in which it is.

    Args:
        backbone: A key of `TRAINING`.
        heads: The heads.
        shots: The numbers of shots.
        episodes: The number of test episodes.
        folder: The folder of all reports.
        own: The data as arguments of train.py, such as data.root=FOLDER.
    """
    data = own if any(argument.startswith("data=") for argument in own) else ("data=cifarfs", *own)
    shared = (*data, f"data.test.episodes={episodes}", "logger=none", "pictures=none")
    found = []
    features: tuple[str, ...] = (f"backbone={backbone}",)
    starts: tuple[Path, ...] = ()
    if (training := TRAINING[backbone]) is not None:
        start = folder / backbone / "backbone"
        starts = (start,)
        found.append(Measurement("train.py", (*training, *shared), start))
        # Frozen features are kept, which augmented images would not allow.
        features = (*features, f"init_from={start}", "freeze_backbone=true", "data.presentation.augmentation.flip=0")
    for head in sorted(heads, key=lambda head: head.is_trained):  # others need no features of all training images
        for each in shots:
            own_settings = (*head.with_shots.get(each, ()), *head.with_backbone.get((backbone, each), ()))
            arguments = (*head.arguments, *own_settings, f"data.shots={each}")
            untrained = () if head.is_trained else ("trainer.max_steps=0",)
            run = place(folder, backbone, head, each)
            found.append(Measurement("train.py", (*arguments, *features, *untrained, *shared), run, starts))
            unequal = (f"ckpt={run}", f"data.test.unequal_queries={UNEQUAL}", f"episodes={episodes}", "pictures=none")
            found.append(Measurement("evaluate.py", unequal, with_unequal_queries(run), (run,)))
    return found
