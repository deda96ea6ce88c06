"""--help: real groups only, every key with its explanation, in lines that a terminal has room for."""

import re
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from metashot.command_line import CONF
from metashot.overrides import choices_of, groups_of, read_yaml
from metashot.script_help import comments_of, help_text

ALGORITHMS, DATA = choices_of(CONF, "algo"), choices_of(CONF, "data")


def text_of(script: str, *arguments: str, of_checkpoint: tuple[str, ...] = ()) -> str:
    GlobalHydra.instance().clear()
    return help_text(arguments, CONF, script, of_checkpoint)


def keys_of(text: str) -> dict[str, str]:
    """Each key that is listed, with its explanation."""
    found: dict[str, str] = {}
    for line in text.partition("== Keys")[2].splitlines():
        if key := re.match(r"([a-z_.]+)=(\S*)\s*(.*)", line):
            last = key[1]
            found[last] = key[3]
        elif line.startswith(" " * 30) and found:
            found[last] += line.strip()
    return found


@pytest.mark.parametrize("script", ["train", "evaluate", "look", "predict"])
def test_groups_are_those_that_can_be_chosen(script: str) -> None:
    text = text_of(script)
    listed = set(re.findall(r"^([a-z]+): \w+,", text.partition("== Keys")[0], re.MULTILINE))
    assert listed == (set(groups_of(read_yaml(CONF / f"{script}.yaml"))) if "== Groups" in text else set())
    for internal in ("data/base", "sweep", "_target_", "$"):
        assert internal not in text.replace("${now", "").replace("${algo", "").replace("${data", "")


@pytest.mark.parametrize("choice", [*(f"algo={name}" for name in ALGORITHMS), *(f"data={name}" for name in DATA)])
def test_every_key_is_explained(choice: str) -> None:
    extra = ["experiment=sinusoid"] if choice == "data=sinusoid" else [choice]
    text = text_of("train", *extra)
    explained_as_a_whole = re.findall(r"^([a-z_.]+)\.\*: ", text, re.MULTILINE)
    without = [
        key for key, comment in keys_of(text).items() if not comment and key.rpartition(".")[0] not in explained_as_a_whole
    ]
    assert without == []


@pytest.mark.parametrize("script", ["train", "evaluate", "look", "predict"])
def test_lines_fit_into_a_hundred_columns(script: str) -> None:
    below = text_of(script).partition("== ")[2]
    assert [line for line in below.splitlines() if len(line) > 100 and " " in line.strip()] == []


def test_keys_are_those_of_the_choice() -> None:
    protonet, maml = keys_of(text_of("train", "algo=protonet")), keys_of(text_of("train"))
    assert "algo.distance" in protonet
    assert "algo.inner_lr" not in protonet
    assert "step size" in maml["algo.inner_lr"]
    assert "algo.name" not in maml
    assert maml["algo.optimizer.name"]


def test_what_a_checkpoint_decides_is_shown_only_where_it_is_chosen() -> None:
    decided = ("algo", "backbone", "data", "engine")
    assert not any(key.startswith(decided) for key in keys_of(text_of("evaluate", of_checkpoint=decided)))
    chosen = keys_of(text_of("evaluate", "data=omniglot", of_checkpoint=decided))
    assert "data.source.rotations" in chosen
    assert not any(key.startswith(("algo", "backbone", "engine")) for key in chosen)


def test_comments_are_found_behind_values_and_above_keys(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text('# head\na: "#1" # first\nb: # second\n  # above\n  c: [1, 2] # third\n  d: null\n')
    assert comments_of(path, "x") == {"x.a": "first", "x.b": "second", "x.b.c": "above third"}
