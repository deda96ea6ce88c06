"""The answers as tables, made of the reports and of the commands that wrote them."""

from pathlib import Path
from typing import Any

from benchmarks.measuring import Measurement, noted, report_of
from benchmarks.results.rows import QUESTIONS, Question, measurements
from metashot.evaluation.report import score_with_interval

MISSING, FAILED = "not measured", "**failed**"
_HEADER = ["learner", "measured", "the first minus this", "`transductive`", "total time"]
_OF_BANDS = ["log-likelihood", "points in the 95 % band"]
_OF_MADE = ["without made examples", "gain", "made examples alone", "told from real ones", "copies"]
Report = dict[str, Any]


def tables(folder: Path) -> str:
    """The tables of all questions in Markdown."""
    return "\n\n".join(_table(question, folder) for question in QUESTIONS)


def failures(folder: Path) -> list[str]:
    """A line for each command that failed."""
    planned = measurements(QUESTIONS, folder, None, 0)
    notes = [(measurement, noted(measurement)) for measurement in planned]
    return [f"{one.folder}: {note['message']}" for one, note in notes if note is not None and note["code"] != 0]


def _table(question: Question, folder: Path) -> str:
    planned = {one.folder.name: one for one in measurements([question], folder, None, 0)}
    runs = {name: planned[name.replace(" ", "-")] for name in question.learners}
    reports = {name: report for name, run in runs.items() if (report := report_of(run)) is not None}
    differences = _differences(planned.get("compared"), len(runs))
    has_bands = any("log_likelihood" in report for report in reports.values())
    has_made = any(report.get("made") for report in reports.values())
    header = [*_HEADER, *(_OF_BANDS if has_bands else []), *(_OF_MADE if has_made else [])]
    lines = [f"### {question.title}", "", f"Wanted: {question.wanted}.", "", _line(header), _line(["---"] * len(header))]
    for (name, run), difference in zip(runs.items(), differences, strict=True):
        report = reports.get(name)
        if report is None:
            lines.append(_line([f"`{name}`", MISSING if noted(run) is None else FAILED, *["–"] * (len(header) - 2)]))
            continue
        cells = [f"`{name}`", _score(report), difference, str(report["transductive"]).lower(), _time(run)]
        cells += _band(report) if has_bands else []
        lines.append(_line([*cells, *(_made(report) if has_made else [])]))
    return "\n".join([*lines, *_commands(list(planned.values()))])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _score(report: Report) -> str:
    if "mse" in report:
        return f"{report['mse']:.3f} ± {report['ci95']:.3f} squared error"
    return score_with_interval("accuracy", report["accuracy"], report["ci95"])


def _differences(compared: Measurement | None, learners: int) -> list[str]:
    """Of the first learner from each of them."""
    report = None if compared is None else report_of(compared)
    if report is None:
        return ["–"] * learners
    scale, unit = (1, "") if "mse" in report["checkpoints"][0] else (100, " points")
    found = {pair["other"]: pair for pair in report["of_checkpoints"]["pairs"] if pair["one"] == 1}
    places = 3 if scale == 1 else 2
    return [
        "–" if number not in found else _signed(found[number]["difference"], found[number]["ci95"], scale, places) + unit
        for number in range(1, learners + 1)
    ]


def _signed(value: float, ci95: float, scale: float, places: int) -> str:
    return f"{scale * value:+.{places}f} ± {scale * ci95:.{places}f}".replace("-", "\N{MINUS SIGN}")


def _band(report: Report) -> list[str]:
    if "log_likelihood" not in report:
        return ["–", "–"]
    held = score_with_interval("accuracy", report["coverage"], report["coverage_ci95"])
    return [f"{report['log_likelihood']:.3f} ± {report['log_likelihood_ci95']:.3f}".replace("-", "\N{MINUS SIGN}"), held]


def _made(report: Report) -> list[str]:
    made = report["made"]
    gain = _signed(made["gain"]["mean"], made["gain"]["ci95"], 100, 2) + " points"
    without, alone, told, copies = (
        f"{100 * made[key]['mean']:.1f} %" for key in ("without", "alone", "two_sample", "copies")
    )
    return [without, gain, alone, told, copies]


def _time(run: Measurement) -> str:
    note = noted(run)
    assert note is not None
    minutes, seconds = divmod(round(note["seconds"]), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _commands(planned: list[Measurement]) -> list[str]:
    """The commands as they were typed."""
    notes = [note for measurement in planned if (note := noted(measurement)) is not None]
    lines = [" ".join(["python", note["command"][0], *map(_anonymous, note["command"][1:-1])]) for note in notes]
    machines = sorted({note["machine"] for note in notes})
    return ["", "```", *lines, "```", "", *(f"{machine}." for machine in machines)] if notes else []


def _anonymous(argument: str) -> str:
    """Without folders of the machine."""
    key, _, value = argument.partition("=")
    if key == "ckpt":
        return f"ckpt=[{','.join(Path(run).name.upper() for run in value.strip('[]').split(','))}]"
    names = {"data.root": "FOLDER", "init_from": "START"}
    return f"{key}={names.get(key, value)}"
