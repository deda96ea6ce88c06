"""Questions about model-based and generative learners are answered by commands of a user; what is missing stands there."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.measuring import measure
from benchmarks.results import command
from benchmarks.results.rows import QUESTIONS, measurements
from benchmarks.results.table import failures, tables

from .scripts import replaced

QUESTION = {question.name: question for question in QUESTIONS}
# Writes the reports that the real scripts write, or does as its arguments ask.
SCRIPT = """
import json, pathlib, sys
given = dict(argument.split("=", 1) for argument in sys.argv[1:])
if given.get("algo") == "cnp":
    sys.exit("error: no cnp here")
folder = pathlib.Path(given.get("folder") or given["out"])
folder.mkdir(parents=True)
report = dict(transductive=False, ci95=0.0125)
if "ckpt" in given:
    pairs = [dict(one=1, other=2, difference=-0.25, ci95=0.03), dict(one=2, other=3, difference=0.5, ci95=0.1)]
    report = dict(checkpoints=[dict(accuracy=0.5)], of_checkpoints=dict(pairs=pairs))
    if "navigation" in given["ckpt"]:
        report["checkpoints"] = [{"return": -5.0}]
elif given.get("data") == "navigation":
    adapting = [dict(steps=0, score=-40.0, ci95=1.5), dict(steps=1, score=-5.0, ci95=0.0125)]
    report |= {"return": -5.0, "inner_steps": adapting if given.get("algo") == "pretrained" else adapting[:1]}
    report |= dict(worst_episodes=-9.0, acting=dict(environment_steps_in_training=1234567))
elif given.get("algo") in ("vae", "gan"):
    shares = {key: dict(mean=0.75, ci95=0.01) for key in ("without", "alone", "two_sample", "copies")}
    report |= dict(accuracy=0.5, made=shares | dict(gain=dict(mean=-0.02, ci95=0.01)))
elif given.get("data") == "sinusoid":
    report |= dict(mse=0.25)
    if given.get("algo") == "anp":
        report |= dict(log_likelihood=-0.5, log_likelihood_ci95=0.1, coverage=0.94, coverage_ci95=0.01)
else:
    report |= dict(accuracy=0.5)
(folder / "report.json").write_text(json.dumps(report))
"""


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for reports, and scripts that train nothing."""
    replaced(SCRIPT, tmp_path, monkeypatch)
    return tmp_path / "results"


def test_every_question_has_its_commands() -> None:
    found = measurements(QUESTIONS, Path("runs"), Path("/private"), 600)
    assert len({one.folder for one in found}) == len(found)
    trained = [one for one in found if one.script == "train.py"]
    assert len(trained) == sum(len(question.learners) + bool(question.starts) for question in QUESTIONS)
    assert all("data.test.episodes=600" in one.command for one in trained)
    done: set[Path] = set()
    for one in found:
        assert set(one.needs) <= done
        done.add(one.folder)


def test_answers_stand_in_the_table_with_what_is_missing_and_what_failed(scripts: Path) -> None:
    asked = [QUESTION[name] for name in ("leo", "processes-sinusoid", "made-features")]
    said: list[str] = []
    measure(measurements(asked, scripts, Path("/private"), 600), 60, said.append)
    assert ["FAILED" in line for line in said].count(True) == 1
    folder = scripts / "processes-sinusoid"
    assert f"left out, since {folder / 'cnp'} has no report: {folder / 'compared'}" in said  # it compares all three
    text = tables(scripts)
    parts = {part.splitlines()[0]: part for part in text.split("### ")[1:]}
    leo, sinusoid, made, missing = (parts[QUESTION[name].title] for name in (*(q.name for q in asked), "metalstm"))
    assert "| `protonet` | 50.00 % ± 1.25 | −25.00 ± 3.00 points | false | 0 s |" in leo
    assert "| `protonet l2` | 50.00 % ± 1.25 | – | false | 0 s |" in leo
    assert "python train.py algo=leo data=cifarfs data.root=FOLDER backbone=pretrained" in leo
    assert "python evaluate.py ckpt=[LEO,PROTONET,PROTONET-L2,PROTONET-CENTRE_L2] episodes=600" in leo
    assert "| `anp` | 0.250 ± 0.013 squared error | – | false | 0 s | −0.500 ± 0.100 | 94.00 % ± 1.00 |" in sinusoid
    assert "| `cnp` | **failed** | – | – | – | – | – |" in sinusoid
    assert "| 75.0 % | −2.00 ± 1.00 points | 75.0 % | 75.0 % | 75.0 % |" in made
    assert "| `metalstm` | not measured |" in missing
    assert "/private" not in text
    assert str(scripts) not in text
    assert failures(scripts) == [f"{scripts / 'processes-sinusoid' / 'cnp'}: error: no cnp here"]


def test_worlds_have_a_table_of_returns_as_learners_adapt(scripts: Path) -> None:
    measure(measurements([QUESTION["navigation"]], scripts, None, 600), 60, lambda line: None)
    table = next(part for part in tables(scripts).split("### ") if part.startswith(QUESTION["navigation"].title))
    adapting = "−40.00 ± 1.50, −5.00 ± 0.01"
    assert f"| `pretrained` | −5.00 ± 0.01 | – | {adapting} | −9.00 | 1,234,567 | 0 s |" in table
    assert "| `oracle` | −5.00 ± 0.01 | – | – | −9.00 | 1,234,567 | 0 s |" in table
    assert "| `maml_rl by PPO` | −5.00 ± 0.01 | −0.25 ± 0.03 |" in table


def test_the_page_is_written_from_the_reports(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = scripts.with_name("page.md")
    page.write_text(f"before\n{command.BEGIN}\n{command.END}\nafter\n")
    with pytest.raises(SystemExit) as ended:
        command.run(["hyper-sinusoid", "--folder", str(scripts)])
    assert ended.value.code == 0, capsys.readouterr().out
    with pytest.raises(SystemExit):
        command.run(["table", "--folder", str(scripts), "--markdown", str(page)])
    assert "| `hyper` | 50.00 % ± 1.25 |" in page.read_text()
    note = json.loads((scripts / "hyper-sinusoid" / "hyper.json").read_text())
    assert note["code"] == 0


def test_what_was_deleted_is_measured_again(scripts: Path) -> None:
    planned = measurements([QUESTION["hyper-sinusoid"]], scripts, None, 600)
    measure(planned, 60, lambda line: None)
    shutil.rmtree(planned[-1].folder)
    said: list[str] = []
    assert measure(planned, 60, said.append) == []
    assert [line.split(",")[0] for line in said] == [str(planned[-1].folder)]


@pytest.mark.parametrize("given", [["other"], ["metalstm"], ["table", "--markdown", "missing.md"], ["leo", "table"]])
def test_what_cannot_be_measured_is_refused(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        command.run(given)
    assert ended.value.code == 2
    assert capsys.readouterr().err
