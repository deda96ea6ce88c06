"""Command lines that Hydra would answer wrongly, in several lines or not at all are refused in one line with advice."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.configuration.buildable import CONF
from metashot.configuration.overrides import choices_of, refuse_unreadable, summary_of, unknown_choice

ADVICE = "has several values, which need -m (a run for each), as in -m"


def refusal(arguments: Sequence[str], script: str = "train") -> str:
    with pytest.raises(BadInput) as refused:
        refuse_unreadable(arguments, CONF, script)
    said = str(refused.value)
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("algo=maml,protonet", f"algo=maml,protonet {ADVICE} algo=maml,protonet"),
        ("algo=a,b", f"algo=a,b {ADVICE} algo=a,b"),
        ("trainer=cpu,gpu", f"trainer=cpu,gpu {ADVICE} trainer=cpu,gpu"),
        ("trainer.max_steps=1,2", f"trainer.max_steps=1,2 {ADVICE} trainer.max_steps=1,2"),
        ("seed=range(1,3)", f"seed=range(1,3) {ADVICE} 'seed=range(1,3)'"),
        ("data.ways=1,2", f"data.ways=1,2 {ADVICE} data.ways=1,2; one run with all of them has data.ways=[1,2]"),
        ("+algo=maml", "+algo=maml cannot be used: algo has a choice already; give algo=maml to change it"),
        ("++data=omniglot", "++data=omniglot cannot be used: data has a choice already; give data=omniglot to change it"),
        ("hydra=1", "hydra=1 cannot be used: give a key below it, as in hydra.sweep.dir=FOLDER"),
        ("/algo=maml", "/algo=maml cannot be read as key=value: /algo is not a key such as data.ways"),
        ("data..ways=1", "data..ways=1 cannot be read as key=value: data..ways is not a key such as data.ways"),
        ("seed", "seed cannot be read as key=value: it has no = (a space ends it)"),
        ("", "an argument is empty: give key=value, or leave it out"),
        ("--multirun=1", "--multirun takes no value, but was given '1': leave the value out"),
        ("--config-dir=/no/such", "--config-dir=/no/such is not a folder; allowed: a folder with configuration files"),
        ("--config-path=/no/such", "--config-path=/no/such is not a folder; allowed: a folder with configuration files"),
        ("--package=algo", "--package=algo needs --cfg, whose output it selects: give --cfg job, or leave it out"),
    ],
)
def test_a_strange_argument_is_refused_in_one_line(given: str, said: str) -> None:
    assert refusal([given]) == said


@pytest.mark.parametrize(
    ("given", "begins", "meant"),
    [
        ("algo=[maml,anil]", "algo=[maml,anil] cannot be used; allowed: anil, ", ""),
        ("algo={a:1}", "algo={a:1} cannot be used; allowed: anil, ", ""),
        ("trainer=[cpu,gpu]", "trainer=[cpu,gpu] cannot be used; allowed: cpu, ddp, gpu", ""),
        ("algo@x=maml", "unknown key algo@x; allowed at the top: algo, ", "algo"),
        ("ALGO=maml", "unknown key ALGO; allowed at the top: algo, ", "algo"),
        ("algo=MAML", "algo=MAML cannot be used; allowed: anil, ", "maml"),
        ("algo=conf/algo/maml.yaml", "algo=conf/algo/maml.yaml cannot be used; allowed: anil, ", "maml"),
        ("--config-name=nonexist", "--config-name=nonexist was not found in ", ""),
    ],
)
def test_a_refusal_names_what_was_meant(given: str, begins: str, meant: str) -> None:
    said = refusal([given])
    assert said.startswith(begins)
    assert said.endswith(f" (did you mean {meant}?)") if meant else "did you mean" not in said


def test_help_is_of_one_choice() -> None:
    assert refusal(["--help", "-m", "algo=maml,anil"]).startswith("algo=maml,anil has several values, and --help shows")


def test_several_values_are_read_where_they_can_be() -> None:
    for arguments in (
        ["-m", "seed=0,1"],
        ["hydra.mode=MULTIRUN", "seed=0,1"],
        ["data.ways=[5,20]"],
        ["-sc", "install=bash"],
    ):
        refuse_unreadable(arguments, CONF, "train")


def test_hydras_rerun_is_refused_because_it_would_load_a_pickle(tmp_path: Path) -> None:
    assert "repeat=RUN" in refusal([f"--experimental-rerun={tmp_path / 'config.pickle'}"])


def test_recipes_in_folders_are_choices_of_the_experiment_alone() -> None:
    assert "omniglot/protonet_20w1s" in choices_of(CONF, "experiment")
    assert not [choice for choice in choices_of(CONF, "data") if "/" in choice]
    assert "omniglot/..." in summary_of(choices_of(CONF, "experiment"))
    assert "navigation" in summary_of(choices_of(CONF, "experiment"))


def test_unknown_recipe_is_refused_with_those_of_its_folder_and_the_closest_one() -> None:
    message = unknown_choice("experiment", "omniglot/protonet_20w2s", choices_of(CONF, "experiment"))
    assert message.startswith("experiment=omniglot/protonet_20w2s cannot be used; allowed: omniglot/anil_20w1s, ")
    assert message.endswith(("(did you mean omniglot/protonet_20w5s?)", "(did you mean omniglot/protonet_20w1s?)"))
    assert "cifarfs" not in message
    assert "cifarfs/..., " in unknown_choice("experiment", "nothing", choices_of(CONF, "experiment"))
