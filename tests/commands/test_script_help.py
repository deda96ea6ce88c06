"""--help: real groups only, every key with its explanation, in lines that a terminal has room for."""

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from hydra.core.global_hydra import GlobalHydra

from metashot.commands.script_help import comments_of, explanations, help_text
from metashot.configuration.buildable import CONF
from metashot.configuration.overrides import choices_of, groups_of, read_yaml
from metashot.configuration.signatures import alias, parameters_of

SPLIT, PICTURES, INK = map(
    alias, ("metashot.sources.splitting.Split", "metashot.evaluation.gallery.Pictures", "metashot.applied.images.Ink")
)
TOP = {"split": SPLIT, "pictures": PICTURES, "ink": INK}


def one_of_each_folder(choices: list[str]) -> list[str]:
    """Recipes of results set the same keys, so the first one of each folder stands for it."""
    return list({choice.partition("/")[0] if "/" in choice else (choice,): choice for choice in reversed(choices)}.values())


def combinations() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each file of conf/ once at least, but for recipes in folders; those for photographs lie over an algorithm's own."""
    others = {
        group: [f"{group}={choice}" for choice in choices_of(CONF, group) if choice not in ("sinusoid", "curves")]
        for group in ("backbone", "data", "engine", "trainer", "logger")
    }
    for algorithm in choices_of(CONF, "algo"):
        of_photographs = (CONF / "paper" / "photographs" / f"{algorithm}.yaml").exists()
        riding = [choices.pop() for group, choices in others.items() if choices and not (of_photographs and group == "data")]
        yield "train", (f"algo={algorithm}", *(["data=cifarfs"] if of_photographs else []), *riding)
    assert not any(others.values())
    yield from (
        ("train", (f"experiment={experiment}",)) for experiment in one_of_each_folder(choices_of(CONF, "experiment"))
    )
    yield from ((script, ()) for script in ("evaluate", "look", "predict", "results"))


COMBINATIONS = list(combinations())


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
            found[last] = f"{found[last]} {line.strip()}".strip()
    return found


@pytest.mark.parametrize("script", ["train", "evaluate", "look", "predict", "page"])
def test_groups_are_those_that_can_be_chosen(script: str) -> None:
    text = text_of(script)
    listed = set(re.findall(r"^([a-z]+): \w+,", text.partition("== Keys")[0], re.MULTILINE))
    groups = set(groups_of(read_yaml(CONF / f"{script}.yaml")))
    assert listed == groups if script == "train" else listed < groups
    for internal in ("data/base", "sweep", "_target_", "$"):
        assert internal not in text.replace("${now", "").replace("${algo", "").replace("${data", "")


def leaves(node: Any, above: str = "", target: str = "") -> Iterator[tuple[str, str, str]]:
    """Each key that help lists, its own name, and the class that it is an argument of."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{name}.", value.get("_target_", ""))
        elif name != "_target_" and not re.fullmatch(r"\w+\.name", f"{above}{name}"):
            yield f"{above}{name}", name, target


def allowed_by(hint: Any) -> set[str]:
    """The choices of an argument that has choices, as they are written on the command line."""
    if get_origin(hint) is Literal:
        return {str(option) for option in get_args(hint)}
    if get_origin(hint) in (Union, types.UnionType):
        options = set().union(*map(allowed_by, get_args(hint)))
        return options | ({"null"} if options and type(None) in get_args(hint) else set())
    return set()


def choices_told(meaning: str) -> list[set[str]]:
    """All of "a, b (which is so), c or d", and of other such lists."""
    lists = re.findall(r"(?:[\w-]+, )*[\w-]+ or [\w-]+", re.sub(r" \([^()]*\)", "", meaning))
    return [set(re.split(", | or ", told)) for told in lists]


@pytest.mark.parametrize(("script", "choices"), COMBINATIONS)
def test_every_key_has_one_explanation_that_names_all_choices(script: str, choices: tuple[str, ...]) -> None:
    GlobalHydra.instance().clear()
    config, explained = explanations(choices, CONF, script)
    own = read_yaml(CONF / f"{script}.yaml")
    listed = {name: value for name, value in config.items() if name in {*own, *groups_of(own)}}
    for key, name, target in leaves(listed):
        said = explained[key]
        assert said.meaning, f"{key} is not explained"
        assert not re.match(r"or |as |likewise|here ", said.meaning), f"{key}: {said.meaning} leans on another explanation"
        assert "; here " not in str(said), f"{key}: {said}"
        assert said.meaning not in said.remark
        hint = parameters_of(target)[name].annotation if target else TOP.get(key)
        if allowed := allowed_by(hint):
            lists = [told for told in choices_told(said.meaning) if told & allowed]
            assert set().union(*lists) == allowed, f"{key}: {said.meaning}, but allowed are {allowed}"


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of no terminal, whatever the one is like in which the tests run."""
    monkeypatch.setenv("COLUMNS", "100")


def test_a_remark_goes_with_the_value_that_it_is_about() -> None:
    def said(*arguments: str) -> tuple[str, str]:
        keys = keys_of(text_of("train", *arguments))
        return keys["algo.inner_lr"], keys["data.train.queries"]

    step = "step size of the inner loop"
    assert said("algo=maml") == (
        step,
        "null: data.queries (a third of the usual number costs a third of the time and little accuracy)",
    )
    assert said("algo=reptile")[0].startswith(f"{step} (in the paper 0.001,")
    assert said("algo=reptile", "algo.inner_lr=0.02", "data.train.queries=3") == (step, "null: data.queries")
    assert said("experiment=reptile_omniglot") == (step, "null: data.queries")
    meaning = "algo.optimizer.*: the optimiser of training; with an inner loop, the outer optimiser"
    of_outer = [line for line in text_of("train", "algo=reptile").splitlines() if line.startswith("algo.optimizer.*")]
    assert of_outer[0].startswith(f"{meaning} (phi + epsilon")
    changed = text_of("train", "algo=reptile", "algo.optimizer.schedule=constant").splitlines()
    assert meaning in changed


@pytest.mark.parametrize("script", ["train", "evaluate", "look", "predict", "page"])
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


DECIDED = ("backbone", "data", "engine", "algo")


def test_evaluation_shows_the_values_of_a_checkpoint_only_where_they_are_given() -> None:
    plain = text_of("evaluate", of_checkpoint=DECIDED)
    assert re.search(r"^data\.ways {2}", plain, re.MULTILINE)
    assert "data.source" not in plain
    assert "third of the usual" not in plain  # of a value that is not shown
    chosen = keys_of(text_of("evaluate", "data=omniglot", "trainer.precision=64-true", of_checkpoint=DECIDED))
    assert "data.source.rotations" in chosen
    assert {"data.root", "data.ways", "data.test.seed", "data.tasks_per_evaluation_step"} <= chosen.keys()
    assert re.search(r"^data\.ways=20 ", text_of("evaluate", "data.ways=20", of_checkpoint=DECIDED), re.MULTILINE)


@pytest.mark.parametrize(
    ("script", "of_checkpoint", "groups", "shown", "hidden"),
    [
        (
            "evaluate",
            DECIDED,
            {"data", "engine", "logger", "trainer"},
            {"trainer.accelerator", "trainer.devices", "trainer.precision", "trainer.channels_last", "data.test.seed"},
            {
                "algo",
                "backbone",
                "data.presentation.augmentation",
                "data.train.batch",
                "data.tasks_per_step",
                "data.test.episodes",
            }
            | {"trainer.max_steps", "trainer.validate_every", "trainer.gradient_clip", "trainer.early_stopping"},
        ),
        (
            "look",
            (),
            {"data"},
            {"data.presentation.augmentation.flip", "seed"},
            {"data.presentation.mean", "data.test.seed", "data.tasks_per_step"},
        ),
        ("predict", ("backbone", "algo"), {"engine"}, {"ckpt", "ink"}, {"algo", "backbone"}),
    ],
)
def test_a_script_shows_what_it_can_use(
    script: str, of_checkpoint: tuple[str, ...], groups: set[str], shown: set[str], hidden: set[str]
) -> None:
    choices, _, keys = text_of(script, of_checkpoint=of_checkpoint).partition("== Keys")
    assert set(re.findall(r"^([a-z]+): \w+", choices, re.MULTILINE)) == groups
    listed = set(re.findall(r"^([a-z_.]+)(?:=| {2})", keys, re.MULTILINE))
    assert shown <= listed
    assert [key for key in listed for other in hidden if key == other or key.startswith(f"{other}.")] == []


def test_comments_are_found_behind_values_and_above_keys(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text('# head\na: "#1" # first\nb: # second\n  # above\n  c: [1, 2] # third\n  d: null\n')
    assert comments_of(path, "x") == {"x.a": "first", "x.b": "second", "x.b.c": "above third", "x.b.d": ""}


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "data"), ("", "data"), ("/sets", "/sets"), ("/\udcff${x", r"/\udcff${x")]
)
def test_help_shows_the_folder_that_the_variable_names(
    value: str | None, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("METASHOT_DATA", raising=False)
    else:
        monkeypatch.setenv("METASHOT_DATA", value)
    for script in ("train", "look"):
        text = text_of(script, "data=omniglot")
        assert f"data.root={shown} " in text
        assert "METASHOT_DATA sets another default" in " ".join(text.split())
        assert "${METASHOT" not in text
