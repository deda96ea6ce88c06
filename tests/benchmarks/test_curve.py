"""A training curve is drawn from what a run has logged, and nothing else is taken for one."""

from pathlib import Path

import pytest

from benchmarks import curve

HEAD = "step,train/return,train/return_before,val/return,val/ci95\n"


def test_a_curve_is_drawn_from_the_metrics_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(HEAD + "1,2.0,1.0,,\n2,4.0,1.5,,\n2,,,3.0,0.5\n")
    curve.run([str(tmp_path), "--picture", str(tmp_path / "curve.png")])
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    rows = curve.read(tmp_path / "metrics.csv")
    assert curve.column(rows, "train/return") == ([1, 2], [2.0, 4.0])
    assert curve.column(rows, "val/return") == ([2], [3.0])
    assert curve.averaged([1.0, 3.0, 5.0], 2) == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("content", [None, "step,train/accuracy\n1,0.5\n", HEAD, "\0"])
def test_what_is_no_run_in_worlds_is_refused(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(SystemExit) as left:
        curve.run([str(tmp_path), "--picture", str(tmp_path / "curve.png")])
    assert left.value.code == 2
    assert "trained with logger=csv" in capsys.readouterr().err
    assert not (tmp_path / "curve.png").exists()
