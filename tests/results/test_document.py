"""RESULTS.md shows every cell with what is known of it, and says what is below the published value and why."""

from dataclasses import replace

from metashot.files.outputs import DOCUMENT_END
from metashot.results.document import Page
from metashot.results.storage import Cost, Kept
from metashot.results.tables import Plan, Published
from tests.results.made import cell, kept, plan, record, result

PROTONET, MAML, RELATION = cell("protonet"), cell("maml"), cell("relation")
SCORES = [0.5, 0.7, 0.6, 0.6]
OTHERS = [0.9, 1.0, 0.9, 1.0]


def published(score: float, interval: float | None = 0.4, transductive: bool = False, remark: str = "") -> Published:
    return Published(score, interval, "Finn et al. 2017, arXiv:1703.03400", "the paper", transductive, remark)


def text(of: Plan, kept: Kept, **by_row: Published) -> str:
    return Page(of, {"omniglot": {row: {"5w1s": one} for row, one in by_row.items()}}, kept).document()


def line(document: str, begin: str) -> list[str]:
    """The cells of the first line of a table that begins so."""
    found = next(line for line in document.splitlines() if line.startswith(f"| `{begin}`"))
    return [part.strip() for part in found.strip("|").split(" | ")]


def test_a_measured_cell_shows_all_that_is_promised() -> None:
    records = {PROTONET.name: record(PROTONET)}
    document = text(plan(PROTONET), kept(result(PROTONET, SCORES), records=records), protonet=published(59.5))
    assert line(document, "protonet") == [
        "`protonet`",
        *("5", "1", "59.5 ± 0.4 [1]", "60.00 ± 12.99", "+0.50", "4"),
        *("2 min A", "1.0 GiB", "`omniglot/protonet_5w1s`", "`c0ffeec0ffee`"),
    ]
    assert "1. Finn et al. 2017, arXiv:1703.03400" in document
    assert "- **A**: A processor" in document
    assert document.endswith(DOCUMENT_END)


def test_time_and_memory_that_are_not_known_are_shown_as_such() -> None:
    records = {PROTONET.name: record(PROTONET, seconds=None, processor_seconds=None, peak_memory=None)}
    page = Page(plan(PROTONET), {}, kept(result(PROTONET, SCORES), records=records))
    assert line(page.document(), "protonet")[7:9] == ["not known A", "not known"]
    assert page.headline().rstrip().endswith("| not known |")


def test_an_empty_cell_stays_in_its_table_with_what_it_would_cost() -> None:
    document = text(plan(PROTONET, MAML), kept(costs={MAML.name: Cost(9000.0, "A processor")}), maml=published(98.7))
    assert line(document, "protonet")[3:9] == ["", "", "", "", "", ""]
    assert line(document, "maml")[3:9] == ["98.7 ± 0.4 [1]", "", "", "", "(2.5 h A)", ""]
    assert "0 of 2 cells are measured." in document


def test_a_cell_that_shares_a_training_shows_its_checkpoint_and_not_its_time_again() -> None:
    shared = cell("protonet", "20w1s")
    tested = replace(result(shared, SCORES), training=PROTONET.name)
    document = text(
        plan(PROTONET, shared), kept(result(PROTONET, SCORES), tested, records={PROTONET.name: record(PROTONET)})
    )
    rows = [row for row in document.splitlines() if row.startswith("| `protonet`") and "GiB" not in row]
    assert [part.strip() for part in rows[0].strip("|").split("|")][7:] == [
        "",
        "",
        "`omniglot/protonet_20w1s`",
        "`c0ffeec0ffee`",
    ]


def test_the_checkpoint_is_the_one_that_was_tested_though_the_training_was_repeated() -> None:
    again = record(PROTONET, checkpoint="5ec0d" * 10)
    document = text(plan(PROTONET), kept(result(PROTONET, SCORES), records={PROTONET.name: again}))
    assert line(document, "protonet")[-1] == "`c0ffeec0ffee`"


def test_transductive_results_are_marked_on_both_sides() -> None:
    document = text(plan(MAML), kept(result(MAML, SCORES, transductive=True)), maml=published(60, None, transductive=True))
    assert line(document, "maml")[3:5] == ["60.0 *t* [1]", "60.00 ± 12.99 *t*"]


def test_a_cell_below_is_explained_with_its_learning_curve_and_the_longer_run() -> None:
    longer = cell("relation", arguments=("trainer.max_steps=9",), variant="long")
    given = plan(RELATION, longer, explanations={"omniglot/relation": "The schedule is too short."})
    known = kept(
        result(RELATION, SCORES), records={RELATION.name: record(RELATION)}, costs={longer.name: Cost(60.0, "A processor")}
    )
    document = text(given, known, relation=published(61.01))
    assert line(document, "relation")[5] == "−1.01"
    assert "- `relation` (5-way 1-shot): The schedule is too short." in document
    assert "  - Validation of `omniglot/relation_5w1s` after steps: 100: 50.0, 200: 62.5." in document
    queued = "python train.py experiment=omniglot/relation_5w1s trainer.max_steps=9"
    assert f"  - Queued: `{queued}`, about 1 min." in document
    assert "relation` (long)" not in document
    after = text(given, kept(*known.results.values(), result(longer, OTHERS)), relation=published(61.01))
    assert "`relation` (long)" in after
    assert "Queued" not in after


def test_a_cell_one_point_below_at_most_needs_no_explanation() -> None:
    page = Page(plan(RELATION), {"omniglot": {"relation": {"5w1s": published(60.99)}}}, kept(result(RELATION, SCORES)))
    assert page.below() == []
    assert "without the longer runs, 0 reach it, 1 fall short by at most one point, and 0 by more." in page.document()


def test_reached_and_missed_published_results_are_counted_without_the_longer_runs() -> None:
    longer = cell("maml", arguments=("trainer.max_steps=9",), variant="long")
    given = {"omniglot": {row: {"5w1s": published(60.0)} for row in ("protonet", "maml", "relation")}}
    results = (result(PROTONET, SCORES), result(MAML, [0.5, 0.69, 0.6, 0.6]), result(RELATION, [0.5, 0.6, 0.6, 0.6]))
    page = Page(plan(PROTONET, MAML, longer, RELATION), given, kept(*results, result(longer, OTHERS)))
    said = "Of the 3 measured cells with a published result on the same split, without the longer runs, "
    assert f"{said}1 reach it, 1 fall short by at most one point, and 1 by more." in page.document()


def test_a_longer_run_that_is_below_too_is_named_so() -> None:
    longer = cell("maml", arguments=("trainer.max_steps=9",), variant="long")
    page = Page(
        plan(MAML, longer),
        {"omniglot": {"maml": {"5w1s": published(70.0)}}},
        kept(result(MAML, SCORES), result(longer, SCORES)),
    )
    assert "- `maml` (5-way 1-shot, 5-way 1-shot long)" in page.document()


def test_tests_of_earlier_recipes_stay_below_the_table_with_what_was_changed() -> None:
    given = replace(plan(MAML, PROTONET), replaced={"omniglot/maml": "The number of channels"})
    known = replace(kept(result(MAML, OTHERS)), replaced={MAML.name: [result(MAML, SCORES)]})
    document = text(given, known)
    assert line(document, "maml")[4] == "95.00 ± 9.19"
    assert "| `maml` | 5 | 1 | 60.00 ± 12.99 | `c0ffeec0ffee` | The number of channels |" in document
    assert "Earlier tests, of recipes" in document
    assert "Earlier tests, of recipes" not in text(given, kept(result(MAML, OTHERS)))


def test_a_published_result_of_another_split_is_marked_and_not_counted() -> None:
    for other_split, counted in ((False, 1), (True, 0)):
        given = replace(published(60.0, interval=None), other_split=other_split)
        page = Page(plan(RELATION), {"omniglot": {"relation": {"5w1s": given}}}, kept(result(RELATION, SCORES)))
        assert f"Of the {counted} measured cells with a published result" in page.document()
        assert (line(page.document(), "relation")[3].startswith("60.0 *s* [")) is other_split


def test_what_a_stranger_calls_a_machine_is_shown_as_it_is() -> None:
    records = {PROTONET.name: record(PROTONET, machine="A | *B* <img src=x> [c](http://d)")}
    document = text(plan(PROTONET), kept(result(PROTONET, SCORES), records=records))
    assert r"- **A**: A \| \*B\* \<img src=x\> \[c\](http://d)" in document


def test_nothing_is_dropped_for_being_low() -> None:
    document = text(plan(RELATION, PROTONET), kept(result(RELATION, [0.0, 0.01])), relation=published(99))
    assert line(document, "relation")[5] == "−98.50"


def test_external_data_stand_in_a_table_of_their_own_and_are_compared_there() -> None:
    external = [result(cell(row), scores, external_data="weights") for row, scores in (("clip", OTHERS), ("dino", SCORES))]
    document = text(plan(PROTONET, cell("clip"), cell("dino")), kept(result(PROTONET, SCORES), *external))
    own, _, theirs = document.partition("### Omniglot, with external data")
    assert "| `protonet`" in own
    assert "`clip`" not in own
    assert "`protonet`" not in theirs
    assert "**5-way 1-shot**, on the same 4 episodes:" in theirs
    assert "on the same" not in own.partition("## Omniglot")[2]


def test_seeds_give_the_mean_and_its_standard_error_in_the_line_of_the_first() -> None:
    others = [cell("protonet", seed=seed) for seed in (1, 2)]
    scores = ([0.5, 0.5, 0.5, 0.5], [0.6, 0.6, 0.6, 0.6], [0.7, 0.7, 0.7, 0.7])
    known = kept(*(result(one, values) for one, values in zip((PROTONET, *others), scores, strict=True)))
    document = text(plan(PROTONET, *others), known)
    assert line(document, "protonet")[4].endswith("; 60.00 ± 5.77 over 3 seeds")
    assert document.count("| `protonet`") == 1


def test_algorithms_on_the_same_episodes_are_compared_below_their_table() -> None:
    document = text(plan(PROTONET, MAML), kept(result(PROTONET, SCORES), result(MAML, OTHERS)))
    assert "| 1 | `maml` | 95.00 ± 9.19 | 2 | – |" in document
    assert "| 2 | `protonet` | 60.00 ± 12.99 | – | – |" in document


def test_sources_are_numbered_once_and_remarks_make_another_one() -> None:
    cells = plan(PROTONET, MAML, RELATION)
    document = text(cells, kept(), protonet=published(1), maml=published(2), relation=published(3, remark="another split"))
    assert [line(document, row)[3][-3:] for row in ("protonet", "maml", "relation")] == ["[1]", "[1]", "[2]"]
    assert "2. Finn et al. 2017, arXiv:1703.03400. Another split. Seen: the paper." in document


def test_the_headline_has_a_command_and_both_numbers() -> None:
    known = kept(result(PROTONET, SCORES), records={PROTONET.name: record(PROTONET)})
    table = Page(plan(PROTONET, MAML), {"omniglot": {"protonet": {"5w1s": published(59)}}}, known).headline()
    expected = (
        "| `python train.py experiment=omniglot/protonet_5w1s` | Omniglot, 5-way 1-shot | 60.00 ± 12.99 | "
        "59.0 ± 0.4 (Finn et al. 2017) | false | 2 min |"
    )
    assert table.splitlines()[2:] == [expected]


def test_the_same_reports_give_the_same_page() -> None:
    known = kept(result(PROTONET, SCORES), result(MAML, OTHERS), records={MAML.name: record(MAML)})
    assert text(plan(PROTONET, MAML), known) == text(plan(PROTONET, MAML), known)
