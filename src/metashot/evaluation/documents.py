"""The files of an evaluation: report.json for machines, a report in Markdown for people, and a CSV row per episode."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from metashot.checkpoints.run_folder import EPISODES, REGRET_CURVE, REPORT, REPORT_FOR_PEOPLE
from metashot.evaluation.acting import RegretCurve
from metashot.evaluation.markdown import table
from metashot.evaluation.report import plain_score, score_with_interval
from metashot.evaluation.testing import Evaluation
from metashot.files.outputs import DOCUMENT_END, write_output

_WORST_CLASSES = 10


def write_numbers(evaluation: Evaluation, folder: Path) -> None:
    """Write the JSON report and the CSV table of episodes, and of a policy that of its regret after each step."""
    write_output(folder / EPISODES, episodes_csv(evaluation).encode())
    if evaluation.regret is not None:
        write_output(folder / REGRET_CURVE, regret_csv(evaluation.regret).encode())
    evaluation.report.write(folder / REPORT)


def write_for_people(evaluation: Evaluation, folder: Path, pictures: Sequence[Path]) -> None:
    """Write the report as Markdown, with links to the pictures."""
    write_document(folder / REPORT_FOR_PEOPLE, for_people(evaluation, pictures))


def write_document(path: Path, text: str) -> None:
    """Write Markdown whose last line, which is not displayed, says that metashot wrote it."""
    write_output(path, f"{text}\n{DOCUMENT_END}".encode())


def episode_rows(evaluation: Evaluation) -> tuple[list[str], list[list[str | int | float]]]:
    """The columns, and a row per episode: its number, score, loss, and its class names in the order of their labels."""
    results, answers = evaluation.results, evaluation.answers
    names = evaluation.names
    rows: list[list[str | int | float]] = []
    for number, score, loss, *measured in zip(
        results.numbers, results.scores, results.losses, *results.measures.values(), strict=True
    ):
        classes = () if answers is None else answers.classes[number]
        named = [] if answers is None else ["; ".join(names[place] for place in classes)]
        rows.append([number, score, loss, *measured, *named])
    return ["number", results.problem.metric, "loss", *results.measures, *([] if answers is None else ["classes"])], rows


def episodes_csv(evaluation: Evaluation) -> str:
    """A CSV table with one row per episode."""
    columns, rows = episode_rows(evaluation)
    return as_csv([columns, *rows])


def regret_csv(regret: RegretCurve) -> str:
    """A CSV table with one row per step of a trajectory."""
    steps = enumerate(zip(*regret, strict=True), 1)
    return as_csv(
        [("step", "regret", "ci95"), *((step, mean, "" if ci95 is None else ci95) for step, (mean, ci95) in steps)]
    )


def as_csv(rows: Iterable[Sequence[str | int | float]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def for_people(evaluation: Evaluation, pictures: Sequence[Path]) -> str:
    """The report as Markdown."""
    report = evaluation.report
    score = score_with_interval(report.metric, report.score, report.ci95, report.over)
    parts = [
        f"# {report.algo} on {report.data}",
        f"**{report.metric} {score}**",
        table(["", ""], [[name, value] for name, value in report.rows().items()]),
    ]
    if report.acting is not None and len(report.inner_steps) > 1:
        rows = [
            [str(report.acting.place(at.steps)), score_with_interval(report.metric, at.score, at.ci95)]
            for at in report.inner_steps
        ]
        parts += [f"## {report.acting.heading}", table([report.acting.column, report.metric], rows)]
    elif report.inner_steps and report.acting is None:
        rows = [[str(at.steps), score_with_interval(report.metric, at.score, at.ci95)] for at in report.inner_steps]
        episodes = report.inner_steps[0].episodes
        parts += [f"## After inner steps, of the first {episodes} episodes", table(["steps", report.metric], rows)]
    if report.classes:
        worst = sorted(report.classes, key=lambda of_class: of_class.accuracy)[:_WORST_CLASSES]
        rows = [[of_class.name, plain_score("accuracy", of_class.accuracy), str(of_class.queries)] for of_class in worst]
        parts += ["## Classes that were hardest", table(["class", "accuracy", "queries"], rows)]
    if pictures:
        parts += ["## Pictures", *map(linked, pictures)]
    return "\n\n".join(parts) + "\n"


def linked(path: Path) -> str:
    """A picture is shown in the report, and a page is linked."""
    return f"{'' if path.suffix == '.html' else '!'}[{path.stem}]({path.name})"
