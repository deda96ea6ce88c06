"""The tables of all heads, made of the reports and of the commands that wrote them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.heads.rows import HEADS, SHOTS, TITLES, TRAINING, Head, measurements, place
from benchmarks.measuring import Measurement, noted, report_of
from metashot.evaluation.report import score_with_interval

MISSING, FAILED = "not measured", "**failed**"
Report = dict[str, Any]


def tables(folder: Path) -> str:
    """The tables of all backbones in Markdown, those with external data apart from the others."""
    return "\n\n".join(_of_backbone(backbone, folder) for backbone in TRAINING)


def failures(folder: Path) -> list[str]:
    """A line for each command that failed."""
    return [
        f"{measurement.folder}: {note['message']}"
        for measurement in every_planned(folder)
        if (note := noted(measurement)) is not None and note["code"] != 0
    ]


def every_planned(folder: Path) -> list[Measurement]:
    """The measurements of all backbones."""
    return [measurement for backbone in TRAINING for measurement in _planned(backbone, folder)]


def _planned(backbone: str, folder: Path) -> list[Measurement]:
    """The measurements of a backbone. Their folders are those of any number of episodes and any data."""
    return measurements(backbone, HEADS, SHOTS, 0, folder, ())


def _of_backbone(backbone: str, folder: Path) -> str:
    found = {measurement.folder: measurement for measurement in _planned(backbone, folder)}
    reports = [report for measurement in found.values() if (report := report_of(measurement)) is not None]
    names = ["head", *_columns(), "transductive", "external data", "1,000 tasks"]
    lines = [
        f"## {TITLES[backbone]}",
        "",
        f"| {' | '.join(names)} |",
        f"|---|{'---|' * (len(names) - 1)}",
        *(_row(head, backbone, folder, found) for head in HEADS),
    ]
    return "\n".join([*lines, *_described(reports), *_commands(backbone, list(found.values()))])


def _columns() -> list[str]:
    return [f"{shots}-shot{unequal}" for shots in SHOTS for unequal in ("", ", unequal queries")]


def _row(head: Head, backbone: str, folder: Path, found: dict[Path, Measurement]) -> str:
    runs = [place(folder, backbone, head, shots) for shots in SHOTS]
    pairs = [(found[run], found[run.with_name(f"{run.name}-unequal")]) for run in runs]
    cells = [_cell(measurement) for pair in pairs for measurement in pair]
    reports = [report_of(run) for run, _ in pairs]
    known = [report for report in reports if report is not None]
    times = " / ".join("–" if report is None else _seconds(report) for report in reports)
    return f"| {' | '.join([f'`{head.name}`', *cells, _same(known, 'transductive'), _external(known), times])} |"


def _cell(measurement: Measurement) -> str:
    if (report := report_of(measurement)) is not None:
        return score_with_interval("accuracy", report["accuracy"], report["ci95"])
    return MISSING if noted(measurement) is None else FAILED


def _same(reports: Sequence[Report], key: str) -> str:
    return ", ".join(sorted({str(report[key]).lower() for report in reports})) or "–"


def _external(reports: Sequence[Report]) -> str:
    """The data that the weights have seen: every row says that they share classes with the test split."""
    names = sorted({report["external_data"] or "none" for report in reports})
    return ", ".join(name if name == "none" else f"{name}, which shares classes" for name in names) or "–"


def _seconds(report: Report) -> str:
    seconds = 1000 * report["seconds_of_a_task"]["in_the_test"]
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"


def _described(reports: Sequence[Report]) -> list[str]:
    if not reports:
        return []

    def values(key: str) -> str:
        return " and ".join(sorted({str(report[key]) for report in reports}))

    seen = ", ".join(sorted({str(report["seen_classes"]["seen"]) for report in reports if report["seen_classes"]}))
    shape = f"{values('ways')} ways with {values('queries')} queries a class, seed {values('episode_seed')}"
    return [
        "",
        f"{values('data')}, {values('episodes')} episodes of {shape}; test classes seen in training: {seen or 'unknown'}.",
    ]


def _commands(backbone: str, found: Sequence[Measurement]) -> list[str]:
    """The commands as they were typed, with what they share written once."""
    notes = [(measurement, note) for measurement in found if (note := noted(measurement)) is not None]
    trained = [note["command"][1:-1] for measurement, note in notes if not measurement.needs and TRAINING[backbone]]
    heads = [
        note["command"][1:-1]
        for measurement, note in notes
        if measurement.script == "train.py" and measurement.folder.name != "backbone"
    ]
    if not heads:
        return []
    shared = [argument for argument in heads[0] if all(argument in command for command in heads)]
    mark = backbone.upper().rstrip("0123456789")
    meaning = " ".join(map(_anonymous, shared))
    start = ", where BACKBONE is the run of the first command" if trained else ""
    lines = ["", f"`{mark}` stands for `{meaning}`{start}."]
    lines += ["", "```"]
    lines += [f"python train.py {' '.join(map(_anonymous, command))}" for command in trained]
    for command in heads:
        lines.append(f"python train.py {' '.join(argument for argument in command if argument not in shared)} {mark}")
    evaluations = sorted(
        {" ".join(note["command"][2:-1]) for measurement, note in notes if measurement.script != "train.py"}
    )
    lines += [f"python evaluate.py ckpt=RUN {arguments}" for arguments in evaluations]
    machines = sorted({note["machine"] for _, note in notes})
    return [*lines, "```", "", *(f"{machine}." for machine in machines)]


def _anonymous(argument: str) -> str:
    """Without folders of the machine."""
    key, _, value = argument.partition("=")
    names = {"data.root": "FOLDER", "data.banks": "BANKS", "init_from": "BACKBONE"}
    return f"{key}={names.get(key, value)}"
