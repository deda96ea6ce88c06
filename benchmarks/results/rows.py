"""What is measured: questions about algorithms, and the commands of a user that answer them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measuring import Measurement

CIFARFS, OMNIGLOT, GLOSSES, LANGUAGES = "cifarfs", "omniglot", "glosses", "languages"
_FOLDERS = {CIFARFS: "cifar-fs", OMNIGLOT: "omniglot", GLOSSES: "text", LANGUAGES: "text"}  # below the folder of all data


@dataclass(frozen=True)
class Question:
    """Learners that are trained and tested on the same data.

    Attributes:
        name: The folder of its runs.
        title: The heading of its table.
        wanted: What the first learner should reach.
        learners: By name, the arguments of train.py that only this one has.
        shared: Those that all of them have.
        data: The real data set, such as `CIFARFS`; None for data that are made.
        starts: Arguments of train.py for a run whose backbone the learners start from; none if they start from nothing.
        compared: Arguments of evaluate.py, where learners are tested differently otherwise.
    """

    name: str
    title: str
    wanted: str
    learners: Mapping[str, tuple[str, ...]]
    shared: tuple[str, ...] = ()
    data: str | None = None
    starts: tuple[str, ...] = field(default=())
    compared: tuple[str, ...] = field(default=())


_FEATURES = ("backbone=pretrained",)
_PROTONETS = {
    f"protonet{'' if kind == 'none' else f' {kind}'}": ("algo=protonet", f"algo.normalise={kind}", "trainer.max_steps=0")
    for kind in ("none", "l2", "centre_l2")
}
_COSINE = ("algo.normalise=l2", "algo.distance=cosine")
_VECTORS = ("backbone=wordvectors",)
_FIVE_WAYS = ("data.train.ways=5",)  # of 12 classes
_NGRAMS = ("backbone=ngrams", "backbone.buckets=2048", "backbone.features=null")
_GRADIENTS = {  # in worlds whose trajectories are short
    name: (f"algo={name}", "trainer.max_steps=200", "trainer.validate_every=50") for name in ("maml_rl", "pretrained")
}
_ENDS = {"oracle": ("algo=oracle",), "random": ("algo=random",)}  # of every comparison
_CONV4 = ("backbone=conv4", "backbone.normalisation=transductive", "trainer.max_steps=3000", "trainer.validate_every=1000")
QUESTIONS = (
    Question(
        "navigation",
        "The point robot of Finn et al. 2017",
        "after one update clearly above before it, and above `pretrained`",
        {
            "maml_rl": ("experiment=navigation",),
            "maml_rl by PPO": ("experiment=navigation", "algo.outer=ppo"),
            **{name: ("experiment=navigation", f"algo={name}") for name in ("pretrained", "oracle")},
            "random": ("algo=random",),
        },
        ("data=navigation",),
    ),
    Question(
        "bandits",
        "Bandits with 5 arms and 10 pulls, as in Duan et al. 2016",
        "6.6 or more (published: 6.7 for RL2, 6.6 for Gittins indices, 5.0 by chance)",
        {
            "rl2": ("experiment=bandits",),
            **{rule: (f"algo={rule}",) for rule in ("gittins", "thompson", "ucb1")},
            **_GRADIENTS,
            **_ENDS,
        },
        ("data=bandits",),
    ),
    Question(
        "mazes",
        "Random mazes with 10 states and 5 actions, trials of 10 episodes, as in Duan et al. 2016",
        "a return of whole trials towards the published one (156.2 for RL2, 100.1 by chance)",
        {"rl2": ("experiment=mazes",), **_GRADIENTS, **_ENDS},
        ("data=mazes",),
        compared=("data.queries=20",),
    ),
    *(
        Question(
            data,
            title,
            "a return that rises with the updates",
            {"maml_rl": (f"experiment={data}",)},
            (f"data={data}",),
        )
        for data, title in (
            ("cartpole", "CartPole with a length, masses and gravity of its own"),
            ("halfcheetah_direction", "HalfCheetah forwards and backwards, as far as 20 minutes go"),
        )
    ),
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
    *(
        Question(
            f"glosses-{shots}shot",
            f"Definitions of nouns, 5-way {shots}-shot",
            "a meta-trained learner on the same word vectors above their mean; the best of all heads",
            {
                "learned attention": (
                    *("algo=protonet", "backbone=signatures", *_COSINE, "algo.temperature=0.1", "algo.optimizer.lr=0.003"),
                    *("data.train.ways=5", "data.train.queries=10", "trainer.max_steps=600", "trainer.validate_every=150"),
                ),
                "learned attention from statistics": (
                    *("algo=protonet", *_VECTORS, "backbone.pooling=statistics", *_COSINE, "algo.temperature=0.1"),
                    *("algo.optimizer.lr=0.003", *_FIVE_WAYS, "data.train.queries=10"),
                    *("trainer.max_steps=600", "trainer.validate_every=150"),
                ),
                "mean": ("algo=protonet", *_VECTORS, *_COSINE),
                "centred mean": (
                    *("algo=protonet", *_VECTORS, "algo.normalise=centre_l2", "algo.distance=cosine"),
                    *_FIVE_WAYS,
                ),
                "inverse frequency": ("algo=protonet", *_VECTORS, "backbone.pooling=frequency", *_COSINE),
                "character n-grams": ("algo=protonet", *_NGRAMS, *_COSINE, "trainer.max_steps=0"),
                "signatures": ("experiment=signatures",),
                "r2d2": ("algo=r2d2", *_VECTORS, *_FIVE_WAYS),
                **{head: (f"algo={head}", *_VECTORS) for head in ("logistic", "svm", "tim", "ptmap", "laplacianshot")},
            },
            (f"data.shots={shots}",),
            GLOSSES,
        )
        for shots in (1, 5)
    ),
    Question(
        "languages-100way",
        "Which language is it? 100-way 5-shot",
        "a meta-trained encoder above n-grams",
        {
            "weighted n-grams with ridge regression": (
                *("algo=r2d2", *_NGRAMS, "backbone.weighted=true", "algo.regularisation=0.002", "algo.scale=20"),
                *("algo.optimizer.lr=0.01", "data.train.ways=80", "data.train.queries=5", "data.tasks_per_step=1"),
                *("trainer.max_steps=200", "trainer.validate_every=100"),
            ),
            "n-grams with ridge regression": (
                *("algo=r2d2", *_NGRAMS, "algo.regularisation=0.002", "algo.scale=20", "trainer.max_steps=0"),
            ),
            "character n-grams": ("algo=protonet", *_NGRAMS, *_COSINE, "trainer.max_steps=0"),
        },
        (
            "data.shots=5",
            "data.val.ways=79",
            "data.val.episodes=30",
            "data.test.ways=100",
            "data.tasks_per_evaluation_step=4",
        ),
        LANGUAGES,
    ),
    Question(
        "languages-20way",
        "Which language is it? 20-way 1-shot",
        "a meta-trained encoder above n-grams",
        {
            "weighted n-grams with class means": (
                *("algo=protonet", *_NGRAMS, "backbone.weighted=true", *_COSINE, "algo.temperature=0.05"),
                *("algo.optimizer.lr=0.01", "data.train.ways=60", "data.tasks_per_step=1"),
                *("trainer.max_steps=200", "trainer.validate_every=100"),
            ),
            "character n-grams": ("algo=protonet", *_NGRAMS, *_COSINE, "trainer.max_steps=0"),
        },
        ("data.ways=20",),
        LANGUAGES,
    ),
    Question(
        "languages-maml",
        "Which language is it? MAML from scratch, 5-way 1-shot",
        "at least 95 %",
        {
            "maml": (
                *("algo=maml", "backbone=ngrams", "backbone.features=256", "backbone.weighted=true", "algo.inner_lr=1.0"),
                *("data.tasks_per_step=8", "trainer.max_steps=900", "trainer.validate_every=300"),
            ),
            "maml on a text CNN": ("algo=maml", "trainer.validate_every=600"),
            "character n-grams": ("algo=protonet", *_NGRAMS, *_COSINE, "trainer.max_steps=0"),
        },
        (),
        LANGUAGES,
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
        real: tuple[str, ...] = ()
        if question.data is not None:
            real = (f"data={question.data}", f"data.root={(data or Path('data')) / _FOLDERS[question.data]}")
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
    arguments = (checkpoints, *question.compared, f"episodes={episodes}", "pictures=none", "curve=2")
    return Measurement("evaluate.py", arguments, folder / question.name / "compared", tuple(runs))
