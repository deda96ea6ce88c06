"""Mistakes of an author in tables.yaml and published.yaml are told in one message that names the place."""

from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.results.plan_files import read_plan, read_published, refuse_unknown_table

TABLES = """
tables:
  omniglot: {title: Omniglot, short: O, about: About., columns: [5w1s, 20w1s], published: omniglot}
  sinusoid: {title: Sinusoids, short: S, about: About.}
queue:
  - {table: omniglot, rows: [protonet, maml], cells: [5w1s], seeds: [0, 1]}
  - {table: omniglot, rows: [maml], cells: [5w1s], variant: long, arguments: [trainer.max_steps=9]}
  - {table: sinusoid, rows: [maml]}
starts: {omniglot/maml: omniglot/protonet_5w1s}
headline: [omniglot/maml_5w1s]
explanations: {omniglot/maml: It is short.}
"""
PUBLISHED = """
omniglot:
  maml: {source: A paper, checked: there, transductive: true, 5w1s: [98.7, 0.4], 20w1s: [95.8, null]}
bandits:
  rl2: {source: A paper, checked: there, transductive: false, measure: trial_return, other_split: true, score: [7, 1]}
"""


def test_a_plan_is_read(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path, TABLES))
    first = ["omniglot/protonet_5w1s", "omniglot/protonet_5w1s-seed1", "omniglot/maml_5w1s", "omniglot/maml_5w1s-seed1"]
    assert [cell.name for cell in plan.cells] == [*first, "omniglot/maml_5w1s-long", "sinusoid/maml"]
    assert [cell.starts_from for cell in plan.cells] == [None, None, *3 * ["omniglot/protonet_5w1s"], None]


def test_published_results_are_read(tmp_path: Path) -> None:
    published = read_published(written(tmp_path, PUBLISHED))
    assert [(one.score, one.interval) for one in published["omniglot"]["maml"].values()] == [(98.7, 0.4), (95.8, None)]
    (one,) = published["bandits"]["rl2"].values()
    assert (one.score, one.measure, one.other_split) == (7, "trial_return", True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Omniglot, ", "", "tables.omniglot: missing key title"),
        ("title: Omniglot", "title: 3", "tables.omniglot.title=3 cannot be used; allowed: text"),
        ("short: O,", "shor: O,", "tables.omniglot: missing key short"),
        ("published: omniglot", "publish: o", "tables.omniglot: unknown key publish; .*did you mean published"),
        ("[5w1s, 20w1s]", "[5w1s, 20w]", "tables.omniglot.columns=20w cannot be used; allowed: ways and shots, as in 5w1s"),
        ("{table: sinusoid, rows", "{table: sinusoids, rows", "entry 3 of the queue: unknown table=sinusoids; .*sinusoid"),
        (
            "cells: [5w1s], seeds",
            "cells: [5w2s], seeds",
            "entry 1 of the queue: cells=5w2s cannot be used; allowed: 5w1s, 20",
        ),
        ("cells: [5w1s], seeds", "seeds", "entry 1 of the queue: cells=null cannot be used; allowed: 5w1s, 20w1s"),
        (
            "sinusoid, rows: [maml]",
            "sinusoid, rows: [maml], cells: [5w1s]",
            "cells=5w1s cannot be used; allowed: none, since",
        ),
        ("rows: [protonet, maml]", "rows: protonet", "entry 1 of the queue.rows=protonet cannot be used; allowed: a list"),
        ("rows: [protonet, maml], ", "", "entry 1 of the queue: missing key rows"),
        ("seeds: [0, 1]", "seeds: [-1]", "entry 1 of the queue.seeds=.* cannot be used"),
        ("variant: long, ", "", "entry 2 of the queue: variant, the name of a change, and arguments"),
        ("[protonet, maml]", "[protonet, protonet, maml]", "omniglot/protonet_5w1s is in the queue 2 times"),
        ("omniglot/maml: omniglot", "omniglot/mam: omniglot", "starts names omniglot/mam, a row that is not .*did you mean"),
        ("omniglot/protonet_5w1s}", "omniglot/protonet}", "starts names omniglot/protonet, a recipe that is not"),
        ("[omniglot/maml_5w1s]", "[omniglot/maml_5w5s]", "headline names omniglot/maml_5w5s, a recipe that is not"),
        ("{omniglot/maml: It", "{omniglot/mamml: It", "explanations names omniglot/mamml, a row that is not"),
        ("It is short.", "3", "explanations=.* cannot be used"),
        ("headline: [omniglot/maml_5w1s]\n", "", "missing key headline"),
        ("starts:", "starts: {}\nstarts:", "line 10: starts is given twice"),
        ("queue:", "queue: {", "line 6: "),
        ("title: Omniglot", "? [a]\n    : b, title: Omniglot", "line 3: a key is a list"),
        ("tables:", "? {a: b}\n: 1\ntables:", "line 2: a key is a list"),
        ("tables:", "1.5: 1\ntables:", "unknown key 1.5"),
        ("tables:", "tables: 3\nothers:", "tables is not a list of keys and values"),
        (TABLES, "", "the file has no rows"),
        ("title: Omniglot", "title: 2024-13-45", "cannot be read: month must be in"),
        ("title: Omniglot", "title: !!bool x", "cannot be read: "),
        ("title: Omniglot", "title: " + "[" * 20_000, "cannot be read: "),
        ("  omniglot: {title", "  5: {title", "tables=5 cannot be used; allowed: names of letters"),
        ("rows: [protonet, maml]", "rows: [../protonet, maml]", "entry 1 of the queue: the name=../protonet cannot be used"),
        ("variant: long", "variant: ../long", "entry 2 of the queue: the name=../long cannot be used"),
        ("seeds: [0, 1]", "seeds: []", r"entry 1 of the queue: seeds=\[\] names none"),
        ("[omniglot/maml_5w1s]", "[omniglot/maml_5w1s, omniglot/maml_5w1s]", "headline names a recipe twice"),
        ("published: omniglot}", "external: [mam]}", "tables.omniglot.external names mam, a row that is not in the queue"),
        ("omniglot/maml: omniglot/protonet", "omniglot/protonet: omniglot/maml", "starts from .*, which is not before it"),
        (
            "omniglot/maml: omniglot/protonet",
            "omniglot/maml: omniglot/maml",
            "maml_5w1s starts from omniglot/maml_5w1s, which",
        ),
    ],
)
def test_a_mistake_in_the_plan_is_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TABLES
    with pytest.raises(BadInput, match=rf"^made\.yaml.*{message}"):
        read_plan(written(tmp_path, TABLES.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("transductive: true, ", "", "omniglot.maml: missing key transductive"),
        ("transductive: true", "transductive: maybe", "omniglot.maml.transductive=maybe cannot be used; allowed: true or"),
        ("source: A paper, checked: there, transductive: true", "transductive: true", "omniglot.maml: missing key source"),
        ("[98.7, 0.4]", "98.7", "omniglot.maml.5w1s is not a list"),
        ("[98.7, 0.4]", "[98.7]", r"omniglot.maml.5w1s=\[98.7\] cannot be used; allowed: \[mean, half-width"),
        ("[98.7, 0.4]", "[98,7, 0.4]", "omniglot.maml.5w1s=.* cannot be used; allowed"),
        ("[98.7, 0.4]", "[high, 0.4]", r"omniglot.maml.5w1s\[0\]=high cannot be used; allowed: a number"),
        ("[98.7, 0.4]", "[-98.7, 0.4]", r"omniglot.maml.5w1s\[0\]=-98.7 cannot be used"),
        ("[98.7, 0.4]", "[98.7, -0.4]", r"omniglot.maml.5w1s\[1\]=-0.4 cannot be used"),
        ("5w1s: [98.7, 0.4], 20w1s: [95.8, null]", "remark: none", "omniglot.maml has no number; allowed: ways and shots"),
        ("5w1s:", "5w_1s:", "omniglot.maml: unknown key 5w_1s"),
        ("omniglot:", "? [a]\n: 1\nomniglot:", "line 2: a key is a list"),
        ("omniglot:", "1.5:", "the name of a table=1.5 cannot be used; allowed: letters"),
        ("omniglot:", "null:", "the name of a table=null cannot be used"),
        ("maml:", "2024-01-01:", "omniglot: the name of a row=2024-01-01 cannot be used"),
        ("5w1s:", "5:", "omniglot.maml: unknown key 5"),
        ("score: [7, 1]", "score: [.inf, 1]", r"bandits.rl2.score\[0\]=.* cannot be used"),
        ("20w1s:", "5w1s:", "5w1s is given twice"),
        ("omniglot:\n  maml: {", "omniglot: 3\nothers:\n  maml: {", "omniglot has no rows"),
        ("maml: {source", "maml: 3 #", "omniglot.maml is not a list of keys and values"),
        ("A paper", "!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_a_mistake_in_a_published_result_is_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in PUBLISHED
    with pytest.raises(BadInput, match=rf"^made\.yaml.*{message}"):
        read_published(written(tmp_path, PUBLISHED.replace(old, new, 1)))


def test_a_table_of_published_results_that_are_not_there_is_told(tmp_path: Path) -> None:
    published = read_published(written(tmp_path, PUBLISHED))
    refuse_unknown_table(read_plan(written(tmp_path, TABLES)), published)
    plan = read_plan(written(tmp_path, TABLES.replace("published: omniglot", "published: omniglt")))
    with pytest.raises(BadInput, match=r"tables.omniglot.published=omniglt is not in published.yaml.*did you mean omniglot"):
        refuse_unknown_table(plan, published)


def test_published_results_that_a_table_of_their_name_leaves_out_are_told(tmp_path: Path) -> None:
    published = read_published(written(tmp_path, PUBLISHED))
    plan = read_plan(written(tmp_path, TABLES.replace(", published: omniglot}", "}")))
    with pytest.raises(BadInput, match=r"^tables.yaml: tables.omniglot has no key published, .* add published: omniglot$"):
        refuse_unknown_table(plan, published)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"made\.yaml cannot be read"):
        read_plan(tmp_path / "made.yaml")


def written(folder: Path, text: str) -> Path:
    path = folder / "made.yaml"
    path.write_text(text)
    return path
