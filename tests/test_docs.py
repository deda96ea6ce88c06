"""What README.md, CONTRIBUTING.md and docs/ say: links lead somewhere, and commands, keys and files that they name exist."""

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

import metashot
from metashot import configuration
from metashot.configuration.buildable import CONF
from metashot.configuration.composing import quoted_for_hydra
from metashot.configuration.overrides import FREE, choices_of, refuse_unreadable
from metashot.configuration.suggestions import suggestions_where_they_fit
from metashot.evaluation.checks import check_of_evaluation

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "data/README.md", *ROOT.glob(".github/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
STANDS_FOR = re.compile(r"`([A-Z]+)`\s+(?:stands\s+)?for\s+`([^`]+)`")  # a placeholder that the page explains
COMMAND = re.compile(
    r"(?:python (train|evaluate)\.py|torchrun\s.*?(train|evaluate)\.py|python -m metashot\.(predict|data|page|results)"
    r"|metashot (train|evaluate|predict|data|page|results))(?=\s|$)(.*)",
    re.DOTALL,
)
CONFIGURATION_OF = {"data": "look"}  # by default that of the script's own name
PATH = re.compile(r"(src|conf|tests|docs|benchmarks|\.ci|\.github)/[\w./-]+")
GROUPS = {path.name for path in CONF.iterdir() if path.is_dir()} - {"paper", "sweep"}


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for indent, language, content in FENCE.findall(page.read_text()):
        if language in languages:
            yield "".join(line.removeprefix(indent) for line in content.splitlines(keepends=True))


def spans(page: Path) -> list[str]:
    """What stands in backticks, each in one line."""
    return [" ".join(span.split()) for span in CODE.findall(prose(page))]


def anchors(page: Path) -> list[str]:
    """As GitHub makes them of headings."""
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(prose(page))]


@every_page
def test_relative_links_and_their_anchors_exist(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading; there are {anchors(target)}"


@every_page
def test_headings_have_anchors_of_their_own(page: Path) -> None:
    if page.name != "CHANGELOG.md":  # whose versions have the same headings, which nobody links to
        assert len(set(anchors(page))) == len(anchors(page))


def test_readme_has_at_most_200_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_every_page_is_in_the_table_of_contents() -> None:
    index = ROOT / "docs/index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    assert set(ROOT.glob("docs/**/*.md")) - linked == {index}


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The configurations' names, and the arguments that the page gives them, with its placeholders replaced."""
    placeholders = dict(STANDS_FOR.findall(prose(page)))
    lines = [line for block in blocks(page, "", "bash") for line in block.replace("\\\n", " ").splitlines()]
    for text in [*lines, *spans(page)]:
        text = re.sub(r"\s#(?!SBATCH).*", "", text)
        for name, meaning in placeholders.items():
            text = re.sub(rf"\b{name}\b", meaning, text)
        if found := COMMAND.search(text.replace("data=NAME", "data=glyphs")):
            script, given = next(filter(None, found.groups())), shlex.split(found[5])
            if not any(argument.startswith("plugins=[my_") for argument in given):  # run by test_tutorials.py
                yield CONFIGURATION_OF.get(script, script), given


WHERE: dict[tuple[str, tuple[str, ...]], list[str]] = {}  # the pages of each command
for one in PAGES:
    for name, arguments in commands(one):
        WHERE.setdefault((name, tuple(arguments)), []).append(one.name)
COMMANDS = sorted(WHERE)


def combinations(arguments: list[str]) -> Iterator[tuple[str, ...]]:
    """The command lines of the runs of a multirun."""
    overrides = OverridesParser.create().parse_overrides(arguments)
    yield from itertools.product(
        *(
            [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
            if override.is_sweep_override()
            else [str(override.input_line)]
            for override in overrides
        )
    )


def composed(script: str, overrides: tuple[str, ...]) -> configuration.Container:
    GlobalHydra.instance().clear()
    folder = ["folder=runs/test"] if script == "train" else []
    with suggestions_where_they_fit(), initialize_config_dir(str(CONF), version_base="1.3"):
        given = [quoted_for_hydra(override) for override in overrides]
        made = compose(script, overrides=[*folder, *given], return_hydra_config=True)
    own = OmegaConf.masked_copy(made, [str(key) for key in made if key != "hydra"])
    assert isinstance(own, DictConfig)
    return configuration.plain(own)


@pytest.mark.parametrize(
    ("script", "given"), COMMANDS, ids=[f"{WHERE[command][0]} {command[0]} {' '.join(command[1])}" for command in COMMANDS]
)
def test_command_composes_and_is_accepted(script: str, given: tuple[str, ...]) -> None:
    refuse_unreadable(given, CONF, script)
    for overrides in combinations([argument for argument in given if not argument.startswith("-")]):
        config = composed(script, overrides)
        if script not in ("predict", "page", "results"):  # whose groups are those of a checkpoint, or none
            check = check_of_evaluation if script == "evaluate" else configuration.check
            check(config)


def test_commands_are_found_in_blocks_tables_and_sentences() -> None:
    readme = {command for command, pages in WHERE.items() if "README.md" in pages}
    results = {command for command, pages in WHERE.items() if "results.md" in pages}
    assert ("train", ("-m", "algo=maml,protonet", "seed=0,1")) in readme
    assert ("train", ("algo=maml",)) in results
    assert {script for script, _ in COMMANDS} == {"train", "evaluate", "predict", "look", "page", "results"}


@cache
def keys() -> frozenset[str]:
    """Every key that a file of conf/ sets, and every node on the way."""

    def below(node: Any, key: str) -> Iterator[str]:
        for name, value in node.items() if isinstance(node, dict) else ():
            full = f"{key}.{name}" if key else str(name)
            yield full
            yield from below(value, full)

    found: set[str] = set()
    for path in CONF.rglob("*.yaml"):
        text, folders = path.read_text(), path.relative_to(CONF).parts[:-1]
        if folders[:1] != ("sweep",):
            whole = not folders or text.startswith("# @package _global_")
            found.update(below(yaml.safe_load(text), "" if whole else folders[0]))
    return frozenset(found)


@every_page
def test_keys_and_choices_in_sentences_and_tables_exist(page: Path) -> None:
    last_names = {key.rpartition(".")[2] for key in keys()}
    for token in [token for span in spans(page) for token in span.split()]:
        if token in ("group=choice", "key=value"):
            continue
        if not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*=[^=…]*|[a-z_]+(\.[a-z_]+)+", token):
            continue
        key, equals, value = token.partition("=")
        if key in GROUPS and equals:
            known = value in ("", "NAME") or set(value.split(",")) <= set(choices_of(CONF, key))
            assert known, f"{token}; allowed: {choices_of(CONF, key)}"
        elif key.partition(".")[0] in GROUPS and "." in key and not key.endswith((".py", ".md")):
            assert key in keys() or key.startswith(FREE), token
        elif equals and "." not in key:
            assert key in {*GROUPS, *last_names}, token


@every_page
def test_files_of_the_project_that_are_named_exist(page: Path) -> None:
    for span in spans(page):
        if PATH.fullmatch(span):
            assert (ROOT / span).exists(), span


def test_rooms_that_contributors_are_told_of_are_those_that_exist() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("The rooms of")[2].partition("**Imports go one way")[0]
    named = {name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in CODE.findall(row)}
    source = Path(metashot.__file__).parent
    assert named == {path.stem for path in source.iterdir() if path.suffix in ("", ".py") and not path.name.startswith("__")}


@every_page
def test_targets_of_make_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [line for block in blocks(page, "", "bash") for line in block.splitlines()]
    named = {found[1] for text in [*spans(page), *lines] if (found := re.match(r"make ([\w-]+)(?!\S)", text))}
    assert named <= targets


@every_page
def test_blocks_of_python_can_be_parsed(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


def test_citation_and_changelog_know_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == metashot.__version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert metashot.__version__ in sections


def test_every_change_is_checked_by_what_developers_run_themselves() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    hooks = [
        hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for hook in repo["hooks"]
    ]
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert lint
    expected = [line.strip().replace("$(BIN)", ".venv/bin") for line in lint[1].splitlines()]
    assert [hook["entry"] for hook in hooks] == expected


def test_templates_of_issues_can_be_read() -> None:
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert {form.stem for form in forms} >= {"bug_report", "feature_request"}
    for form in forms:
        content = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= content.keys()
        identifiers = [field["id"] for field in content["body"] if field["type"] != "markdown"]
        assert len(set(identifiers)) == len(identifiers) > 0
