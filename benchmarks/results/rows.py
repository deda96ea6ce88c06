"""What is measured: questions about algorithms, and the commands of a user that answer them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measuring import Measurement

CIFARFS, OMNIGLOT = "cifar-fs", "omniglot"  # folders of the real data sets, below the folder of all data
_DATA = {CIFARFS: "data=cifarfs", OMNIGLOT: "data=omniglot"}


@dataclass(frozen=True)
class Question:
    """Learners that are trained and tested on the same data.

    Attributes:
        name: The folder of its runs.
        title: The heading of its table.
        wanted: What the first learner should reach.
        learners: By name, the arguments of train.py that only this one has.
        shared: Those that all of them have.
        data: `CIFARFS` or `OMNIGLOT`; None for data that are made.
        starts: Arguments of train.py for a run whose backbone the learners start from; none if they start from nothing.
    """

    name: str
    title: str
    wanted: str
    learners: Mapping[str, tuple[str, ...]]
    shared: tuple[str, ...] = ()
    data: str | None = None
    starts: tuple[str, ...] = field(default=())


_FEATURES = ("backbone=pretrained",)
_PROTONETS = {
    f"protonet{'' if kind == 'none' else f' {kind}'}": ("algo=protonet", f"algo.normalise={kind}", "trainer.max_steps=0")
    for kind in ("none", "l2", "centre_l2")
}
_CONV4 = ("backbone=conv4", "backbone.normalisation=transductive", "trainer.max_steps=3000", "trainer.validate_every=1000")
QUESTIONS = (
    Question(
        "hyper-sinusoid",
        "One step from generated parameters, on sinusoids",
        "a lower error than `maml` after one step",
        {"hyper": ("algo=hyper",), "maml": ("algo=maml",)},
        ("experiment=sinusoid",),
    ),
    Question(
        "hyper-cifarfs",
        "Generated parameters on CIFAR-FS, 5-way 1-shot, conv4-64",
        "at least the accuracy of `maml`",
        {"hyper": ("algo=hyper",), "maml": ("algo=maml",)},
        _CONV4,
        CIFARFS,
    ),
    Question(
        "leo",
        "Latent codes on the features of EfficientNet-Lite0, CIFAR-FS, 5-way 1-shot",
        "above `protonet`",
        {"leo": ("algo=leo",)} | _PROTONETS,
        _FEATURES,
        CIFARFS,
    ),
    Question(
        "cnaps",
        "A task encoder and Mahalanobis distances on the features of EfficientNet-Lite0, CIFAR-FS, 5-way 5-shot",
        "above `protonet`",
        {"cnaps": ("algo=cnaps",)} | _PROTONETS,
        (*_FEATURES, "data.shots=5"),
        CIFARFS,
    ),
    Question(
        "metalstm",
        "A learned update on Omniglot, 5-way 1-shot",
        "at least 95 %",
        {"metalstm": ("algo=metalstm",)},
        (
            *("backbone=conv4", "backbone.normalisation=support", "data.tasks_per_step=8"),
            *("trainer.max_steps=2500", "trainer.validate_every=500"),
        ),
        OMNIGLOT,
    ),
    Question(
        "mann",
        "An external memory on Omniglot, 5 classes (as a further presentation after one example of each class)",
        "the accuracies of later presentations in the [table below](#presentations)",
        {"mann": ("algo=mann", "freeze_backbone=true")},
        ("data.source.split=lake", "data.source.rotations=[]"),
        OMNIGLOT,
        ("algo=protonet", "trainer.max_steps=2000"),
    ),
    *(
        Question(
            f"processes-{data}",
            f"Neural processes on {title}",
            "a log-likelihood and an error beside those of `maml`; a 95 % band that holds 93 to 97 % of the points",
            {"anp": ("algo=anp",), "cnp": ("algo=cnp",), "maml": ("experiment=sinusoid", *own)},
            (f"data={data}",),
        )
        for data, title, own in (
            ("curves", "Gaussian-process curves", ("backbone.hidden=[128,128,128]",)),
            ("sinusoid", "sinusoids", ()),
        )
    ),
    Question(
        "made-features",
        "Made features on EfficientNet-Lite0, CIFAR-FS, 5-way 1-shot",
        "a higher accuracy with made examples than without",
        {"vae": ("algo=vae",), "gan": ("algo=gan",)},
        _FEATURES,
        CIFARFS,
    ),
    Question(
        "made-drawings",
        "Made drawings of glyphs, 5-way 1-shot, on pixels",
        "a higher accuracy with made examples than without",
        {"vae_images": ("experiment=made_drawings",)},
    ),
)


def measurements(questions: Sequence[Question], folder: Path, data: Path | None, episodes: int) -> list[Measurement]:
    """The commands that answer questions, in the order in which they are run.

    Args:
        questions: The questions.
        folder: The folder of all reports.
        data: The folder that has the real data sets; None where the commands are only needed for their folders.
        episodes: The number of test episodes.
    """
    found = []
    for question in questions:
        real = () if question.data is None else (_DATA[question.data], f"data.root={(data or Path('data')) / question.data}")
        shared = (*real, *question.shared)
        also = (f"data.test.episodes={episodes}", "logger=none", "pictures=none")
        starts: tuple[Path, ...] = (folder / question.name / "start",) if question.starts else ()
        found += [Measurement("train.py", (*question.starts, *shared, *also), start) for start in starts]
        init = [f"init_from={start}" for start in starts]
        runs = [folder / question.name / name.replace(" ", "-") for name in question.learners]
        for run, own in zip(runs, question.learners.values(), strict=True):
            found.append(Measurement("train.py", (*own, *shared, *init, *also), run, starts))
        if len(runs) > 1:
            found.append(compared(question, runs, folder, episodes))
    return found


def compared(question: Question, runs: Sequence[Path], folder: Path, episodes: int) -> Measurement:
    """All learners of a question on the same episodes."""
    checkpoints = f"ckpt=[{','.join(map(str, runs))}]"
    arguments = (checkpoints, f"episodes={episodes}", "pictures=none", "curve=2")
    return Measurement("evaluate.py", arguments, folder / question.name / "compared", tuple(runs))
