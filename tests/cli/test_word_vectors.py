"""Word vectors, signatures and encoders as a user meets them: own texts and files, trained, tested and scored again."""

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backbones.texts.test_sentence import save
from tests.backbones.texts.vector_files import WORDS, write

from .conftest import Command
from .processes import Scripts, report
from .test_bad_input import refused

CLASSES, TEXTS = 10, 12
TINY = (
    *("data=texts", "data.ways=2", "data.train.ways=null", "data.shots=1", "data.train.shots=null", "data.queries=2"),
    *("data.train.queries=null", "data.val.episodes=3", "data.test.episodes=6", "data.tasks_per_step=2"),
    *("data.tasks_per_evaluation_step=4", "trainer.validate_every=2", "trainer.log_every=1", "logger=none", "curve=2"),
    *("pictures=none", "backbone.length=16"),
)
VECTORS = {
    "mean": ["algo=protonet", "backbone=wordvectors", "algo.normalise=l2"],
    "frequency": ["algo=protonet", "backbone=wordvectors", "backbone.pooling=frequency"],
    "attention": ["algo=matching", "backbone=wordvectors", "backbone.pooling=attention", "trainer.max_steps=2"],
    "statistics": ["algo=maml", "backbone=wordvectors", "backbone.pooling=statistics", "trainer.max_steps=2"],
    "projected": ["algo=setfit", "backbone=wordvectors", "backbone.features=4", "algo.lr=0.01"],
    "signatures": ["algo=signatures", "backbone=signatures", "trainer.max_steps=2"],
    "without labels": ["algo=protonet", "backbone=signatures", "trainer.max_steps=2"],
    "adapted": ["algo=anil", "backbone=signatures", "trainer.max_steps=2"],
}


@pytest.fixture(scope="module")
def anywhere(scripts: Scripts, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A folder with a user's texts, vectors and encoder."""
    folder = tmp_path_factory.mktemp("texts")
    draws = random.Random(0)
    with (folder / "texts.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for label in range(CLASSES):
            likely = draws.sample(WORDS[1:], 3)  # of this class
            for _ in range(TEXTS):
                words = [draws.choice(likely if draws.random() < 0.8 else WORDS[1:]) for _ in range(draws.randint(3, 12))]
                rows.writerow([" ".join(words), f"class {label}"])
    (folder / "vectors").mkdir()
    write(folder / "vectors")
    save(folder / "encoder", "bert")
    return Command(scripts, folder / "banks", folder)


def train(command: Command, *arguments: str) -> Any:
    texts = command.folder / "texts.csv"
    return command.run("train.py", *TINY, f"data.root={texts}", f"data.banks={command.banks}", *arguments)


def files(command: Command) -> list[str]:
    folder = command.folder / "vectors"
    return [f"backbone.weights={folder / 'vectors.safetensors'}", f"backbone.tokenizer={folder / 'tokenizer.json'}"]


def scored_again(command: Command, run: Path) -> None:
    outcome = command.run("evaluate.py", f"ckpt={run}", "episodes=6", "curve=2", "pictures=none", f"out={run}-again")
    assert outcome.code == 0, outcome
    first, again = report(run), report(Path(f"{run}-again"))
    assert np.isfinite(first["accuracy"])
    assert (first["accuracy"], first["loss"]) == (again["accuracy"], again["loss"])


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_of_ones_own(anywhere: Command, name: str) -> None:
    run = anywhere.folder / name.replace(" ", "_")
    outcome = train(anywhere, *VECTORS[name], *files(anywhere), f"folder={run}")
    assert outcome.code == 0, outcome
    scored_again(anywhere, run)
    assert "vectors.safetensors" in report(run)["external_data"]


@pytest.mark.parametrize("algo", ["protonet", "logistic", "setfit", "anil"])
def test_an_encoder_of_ones_own(anywhere: Command, algo: str) -> None:
    run = anywhere.folder / f"sentence_{algo}"
    own = {
        "setfit": ["algo.lr=0.01"],
        "anil": ["trainer.max_steps=2"],
        "logistic": ["trainer.max_steps=2", "data.train.batch=8"],
    }
    encoder = ["backbone=sentence", f"backbone.weights={anywhere.folder / 'encoder'}"]
    outcome = train(anywhere, f"algo={algo}", *encoder, *own.get(algo, []), f"folder={run}")
    assert outcome.code == 0, outcome
    scored_again(anywhere, run)
    assert (run / "checkpoints" / "best.ckpt").stat().st_size < 10**6


def test_long_texts_are_cut_and_counted(anywhere: Command) -> None:
    outcome = train(anywhere, "algo=protonet", "backbone=wordvectors", "backbone.length=4", *files(anywhere), "folder=cut")
    assert outcome.code == 0, outcome
    assert f"of {CLASSES * TEXTS} texts are longer than 4 tokens, and are cut" in outcome.out


def test_vectors_that_changed_are_refused(anywhere: Command, tmp_path: Path) -> None:
    outcome = train(anywhere, "algo=protonet", "backbone=wordvectors", *files(anywhere), "folder=first")
    assert outcome.code == 0, outcome
    other = write(tmp_path, seed=1)
    again = anywhere.run("evaluate.py", "ckpt=first", f"backbone.weights={other.weights}", "episodes=6", "out=second")
    refused(again, ["published weights", "and this one has"])


def test_images_are_not_for_word_vectors(anywhere: Command) -> None:
    outcome = anywhere.run(
        "train.py", "algo=protonet", "backbone=wordvectors", "data=glyphs", f"data.banks={anywhere.banks}"
    )
    refused(outcome, ["backbone=wordvectors reads texts, and data=glyphs has images"])
