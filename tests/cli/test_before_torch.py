"""What needs no tensor is refused, or done, before torch is imported, which takes many times as long as all the rest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Command, Trained
from .processes import ROOT, Scripts

CASES = [
    ("evaluate.py", [], "missing key ckpt"),
    ("evaluate.py", ["ckpt=nowhere"], "ckpt=nowhere: there is no such file or folder"),
    ("evaluate.py", ["ckpt={run}", "data.shots=five"], "data.shots=five cannot be used"),
    ("evaluate.py", ["ckpt={run}", "data.shotts=5"], "unknown key data.shotts"),
    ("evaluate.py", ["ckpt={run}", "episodes=0"], "episodes=0 cannot be used"),
    ("evaluate.py", ["ckpt={run}", "split=both"], "split=both cannot be used; allowed: train, val, test"),
    ("evaluate.py", ["ckpt={run}", "pictures=some"], "pictures=some cannot be used; allowed: all, episode, none"),
    ("evaluate.py", ["ckpt=[{run},nowhere]"], "ckpt=nowhere: there is no such file or folder"),
    ("evaluate.py", ["ckpt=[{run},{run}]"], "was given twice"),
    ("evaluate.py", ["ckpt={here}/text.ckpt"], "text.ckpt cannot be used: it is damaged"),
    ("train.py", ["data=folder", "data.root=nowhere"], "data.root=nowhere does not exist"),
    ("train.py", ["data=omniglot", "data.root=nowhere"], "data.root=nowhere is not a folder"),
    ("train.py", ["data.shots=five"], "data.shots=five cannot be used"),
    ("train.py", ["algo.inner_lr=-1"], "algo.inner_lr=-1 cannot be used; allowed: a number above 0"),
    ("train.py", ["algo=protonett"], "protonett"),
    ("train.py", ["algo=protonet", "data=sinusoid"], "algo=protonet cannot learn data=sinusoid, a regression problem"),
    ("train.py", ["resume={run}", "seed=3"], "seed=3 was given, but the run to resume has seed=0"),
    ("train.py", ["init_from={run}", "backbone=resnet12"], "holds the weights of another backbone, conv4"),
    ("train.py", ["algo=cnp", "data=glyphs"], "algo=cnp cannot learn data=glyphs, a classification problem"),
    ("train.py", ["algo=metabaseline"], "missing key init_from"),
    ("train.py", ["algo=finetune", "trainer.max_steps=5"], "trainer.max_steps=5 cannot be done by algo=finetune"),
    ("src/metashot/predict.py", [], "missing key query"),
    ("src/metashot/predict.py", ["query=."], "missing key support"),
    ("src/metashot/predict.py", ["ckpt=nowhere", "support=.", "query=."], "ckpt=nowhere: there is no such file or folder"),
    ("src/metashot/page/__main__.py", ["ckpt=nowhere"], "ckpt=nowhere: there is no such file or folder"),
    ("src/metashot/page/__main__.py", ["ckpt={here}/text.ckpt"], "text.ckpt cannot be used: it is damaged"),
    ("src/metashot/results/__main__.py", ["minutes=-1"], "minutes=-1 cannot be used; allowed: a number of at least 0"),
    ("src/metashot/results/__main__.py", ["threads=0"], "threads=0 cannot be used"),
    ("src/metashot/results/__main__.py", ["root=nowhere"], "root=nowhere is not a folder"),
    ("src/metashot/data/__main__.py", ["split=both"], "split=both cannot be used; allowed: train, val, test"),
]


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
    """Scripts that cannot import torch: a message that comes all the same did not need it."""
    started = Scripts(tmp_path_factory.mktemp("without torch"), "tests.cli.launcher_without_torch")
    yield started
    started.close()


@pytest.mark.parametrize(("script", "arguments", "message"), CASES, ids=[" ".join([s, *a]) for s, a, _ in CASES])
def test_a_message_that_needs_no_tensor_does_not_wait_for_torch(
    without_torch: Scripts, command: Command, first: Trained, tmp_path: Path, script: str, arguments: list[str], message: str
) -> None:
    (tmp_path / "text.ckpt").write_text("epoch 3: accuracy 0.5\n")
    given = [argument.format(run=first.run, here=tmp_path) for argument in arguments]
    outcome = Command(without_torch, command.banks, tmp_path).run(script, *given)
    assert outcome.code == 2, outcome
    assert message in outcome.err
    assert outcome.err.count("error: ") == 1
    assert outcome.out == ""


def test_the_page_of_results_is_written_without_torch(without_torch: Scripts, command: Command, tmp_path: Path) -> None:
    """From all reports that are kept, with what depends on the kind of a score."""
    outcome = Command(without_torch, command.banks, tmp_path).run(
        "src/metashot/results/__main__.py", f"results={ROOT / 'results'}"
    )
    assert outcome.code == 0, outcome
    assert (tmp_path / "RESULTS.md").read_text() == (ROOT / "RESULTS.md").read_text()
