"""The answers as tables, made of the reports and of the commands that wrote them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import Measurement, noted, report_of
from benchmarks.results.rows import QUESTIONS, Question, measurements
from metashot.evaluation.report import score_with_interval

MISSING, FAILED = "not measured", "**failed**"
_HEADER = ["learner", "measured", "the first minus this", "`transductive`", "total time"]
_OF_BANDS = ["log-likelihood", "points in the 95 % band"]
_OF_WORLDS = ["learner", "return", "the first minus this", "as it adapts", "worst 5 %", "environment steps", "total time"]
_OF_TRIALS = "whole trials"
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
    if any("return" in report for report in reports.values()):
        return "\n".join([*_heading(question), *_of_worlds(runs, reports, differences), *_commands(list(planned.values()))])
    has_bands = any("log_likelihood" in report for report in reports.values())
    has_made = any(report.get("made") for report in reports.values())
    header = [*_HEADER, *(_OF_BANDS if has_bands else []), *(_OF_MADE if has_made else [])]
    lines = [*_heading(question), _line(header), _line(["---"] * len(header))]
    for (name, run), difference in zip(runs.items(), differences, strict=True):
        report = reports.get(name)
        if report is None:
            lines.append(_line([f"`{name}`", MISSING if noted(run) is None else FAILED, *["–"] * (len(header) - 2)]))
            continue
        cells = [f"`{name}`", _score(report), difference, str(report["transductive"]).lower(), _time(run)]
        cells += _band(report) if has_bands else []
        lines.append(_line([*cells, *(_made(report) if has_made else [])]))
    return "\n".join([*lines, *_commands(list(planned.values()))])


def _heading(question: Question) -> list[str]:
    return [f"### {question.title}", "", f"Wanted: {question.wanted}.", ""]


def _of_worlds(runs: Mapping[str, Measurement], reports: Mapping[str, Report], differences: Sequence[str]) -> list[str]:
    """The rows about learners that act in worlds, with the return as they adapt."""
    has_trials = any(report.get("trial_return", report["return"]) != report["return"] for report in reports.values())
    header = [*_OF_WORLDS[:3], *([_OF_TRIALS] if has_trials else []), *_OF_WORLDS[3:]]
    lines = [_line(header), _line(["---"] * len(header))]
    for (name, run), difference in zip(runs.items(), differences, strict=True):
        report = reports.get(name)
        if report is None:
            lines.append(_line([f"`{name}`", MISSING if noted(run) is None else FAILED, *["–"] * (len(header) - 2)]))
            continue
        trials = _number(report["trial_return"], report["trial_return_ci95"]) if "trial_return" in report else "–"
        adapting = report["inner_steps"]
        cells = [f"`{name}`", _number(report["return"], report["ci95"]), difference, *([trials] if has_trials else [])]
        cells.append(", ".join(_number(at["score"], at["ci95"]) for at in adapting) if len(adapting) > 1 else "–")
        cells.append(_number(report["worst_episodes"]))
        cells.append(f"{report['acting']['environment_steps_in_training']:,}")
        lines.append(_line([*cells, _time(run)]))
    return lines


def _number(value: float, ci95: float | None = None) -> str:
    interval = "" if ci95 is None else f" ± {ci95:.2f}"
    return f"{value:.2f}{interval}".replace("-", "\N{MINUS SIGN}")


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
    in_points = "accuracy" in report["checkpoints"][0]
    scale, unit = (100, " points") if in_points else (1, "")
    found = {pair["other"]: pair for pair in report["of_checkpoints"]["pairs"] if pair["one"] == 1}
    places = 3 if "mse" in report["checkpoints"][0] else 2
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
