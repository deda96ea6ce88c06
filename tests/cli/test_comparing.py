"""evaluate.py scores several checkpoints on the same episodes, and one over a grid of ways and shots."""

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from .conftest import Command, Trained
from .processes import Outcome, contents
from .test_bad_input import refused
from .test_evaluate import without_finite_weights

DOCUMENTS = {"report.json", "report.md", "episodes.csv", "episode.png", "histogram.png", "reliability.png", "confusion.png"}


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def done(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome
    assert outcome.err == ""
    return outcome


@pytest.fixture(scope="module")
def other_seeds(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The run `first` with two other seeds."""
    command = anywhere.at(tmp_path_factory.mktemp("seeds"))
    for seed in (1, 2):
        done(command.train(f"seed={seed}", f"folder=seed{seed}"))
    return [command.folder / f"seed{seed}" for seed in (1, 2)]


@pytest.fixture(scope="module")
def compared(
    anywhere: Command, first: Trained, maml: Trained, other_seeds: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Outcome, Path]:
    command = anywhere.at(tmp_path_factory.mktemp("compared"))
    runs = ",".join(map(str, [first.run, maml.run, *other_seeds]))
    outcome = done(command.run("evaluate.py", f"ckpt=[{runs}]", "episodes=60", "out=together"))
    return outcome, command.folder / "together"


def test_each_checkpoint_is_scored_as_it_is_alone(compared: tuple[Outcome, Path], first: Trained, maml: Trained) -> None:
    content = read(compared[1] / "report.json")
    for place, run in enumerate((first.run, maml.run)):
        alone, together = read(run / "report.json"), content["checkpoints"][place]
        for of_one in (alone, together):
            of_one.pop("seconds"), of_one.pop("seconds_of_a_task"), of_one.pop("checkpoint"), of_one.pop("written_by", None)
        assert together == alone
    for name in ("1_protonet", "2_maml", "3_protonet", "4_protonet"):
        assert {path.name for path in (compared[1] / name).iterdir()} >= DOCUMENTS


def test_episodes_are_the_same_ones_and_stand_in_one_table(compared: tuple[Outcome, Path], maml: Trained) -> None:
    together, alone = rows_of(compared[1] / "episodes.csv"), rows_of(maml.run / "episodes.csv")
    assert [row["number"] for row in together] == [str(number) for number in range(60)]
    for of_all, of_one in zip(together, alone, strict=True):
        assert of_all["accuracy_2"] == of_one["accuracy"]
        assert of_all["loss_2"] == of_one["loss"]
        assert of_all["classes"] == of_one["classes"]
        assert len(of_one["classes"].split("; ")) == 5


def test_runs_of_all_training_seeds_are_tested_on_the_same_episodes_and_scored_alone_as_there(
    command: Command, first: Trained, other_seeds: list[Path]
) -> None:
    """So that a checkpoint has one score, and that of another seed differs by its training alone."""
    tested = [rows_of(run / "episodes.csv") for run in (first.run, *other_seeds)]
    assert [[row["classes"] for row in rows] for rows in tested] == [[row["classes"] for row in tested[0]]] * 3
    assert [row["loss"] for row in tested[1]] != [row["loss"] for row in tested[0]]
    done(command.evaluate(f"ckpt={other_seeds[0]}", "episodes=60", "out=alone"))
    assert rows_of(command.folder / "alone" / "episodes.csv") == tested[1]
    alone = read(command.folder / "alone" / "report.json")
    assert (alone["episode_seed"], alone["training_seed"]) == (0, 1)


def test_paired_differences_are_those_of_the_episodes_and_narrower_than_unpaired_ones(
    compared: tuple[Outcome, Path],
) -> None:
    content, rows = read(compared[1] / "report.json"), rows_of(compared[1] / "episodes.csv")
    pairs = content["of_checkpoints"]["pairs"]
    assert [(pair["one"], pair["other"]) for pair in pairs] == [
        (1, 2),
        (1, 3),
        (1, 4),
        (2, 3),
        (2, 4),
        (3, 4),
    ]
    for pair in pairs:
        one, other = ([float(row[f"accuracy_{pair[place]}"]) for row in rows] for place in ("one", "other"))
        differences = [a - b for a, b in zip(one, other, strict=True)]
        assert pair["difference"] == pytest.approx(statistics.mean(differences))
        assert pair["ci95"] == pytest.approx(2.0009953781 * statistics.stdev(differences) / math.sqrt(60))
        assert pair["training_seed_only"] is (2 not in (pair["one"], pair["other"]))
        if pair["training_seed_only"]:
            assert (pair["p"], pair["p_corrected"], pair["significant"]) == (None, None, None)
        else:
            assert pair["p"] <= pair["p_corrected"] <= 1
            assert pair["significant"] is (pair["p_corrected"] < 0.05)
        unpaired = math.hypot(*(content["checkpoints"][pair[place] - 1]["ci95"] for place in ("one", "other")))
        assert pair["ci95"] < unpaired


def test_seeds_have_a_standard_deviation_and_intervals_stay_those_of_episodes(compared: tuple[Outcome, Path]) -> None:
    content = read(compared[1] / "report.json")
    (seeds,) = content["of_algorithms"]["algorithms"]
    assert content["of_algorithms"]["pairs"] == []  # of the other algorithm there is one seed
    scores = [content["checkpoints"][place]["accuracy"] for place in (0, 2, 3)]
    assert seeds["checkpoints"] == [1, 3, 4]
    assert seeds["seeds"] == [0, 1, 2]
    assert seeds["mean"] == pytest.approx(statistics.mean(scores))
    assert seeds["standard_deviation"] == pytest.approx(statistics.stdev(scores))
    assert seeds["standard_error"] == pytest.approx(statistics.stdev(scores) / math.sqrt(3))
    assert seeds["ci95"] == pytest.approx(4.3026527297 * seeds["standard_error"])
    lines = compared[0].out.splitlines()
    said = next(place for place, line in enumerate(lines) if line.startswith("which of these algorithms is better"))
    assert "not compared; give checkpoints of another algorithm with several training seeds" in lines[said]
    assert lines[said + 2].startswith("A  protonet")
    assert lines[said + 2].endswith("0, 1, 2         1, 3, 4")
    assert {one["episode_seed"] for one in content["checkpoints"]} == {0}
    assert [one["training_seed"] for one in content["checkpoints"]] == [0, 0, 1, 2]


def test_table_and_the_report_for_people_say_what_the_report_says(compared: tuple[Outcome, Path]) -> None:
    content, people = read(compared[1] / "report.json"), (compared[1] / "report.md").read_text()
    for place, one in enumerate(content["checkpoints"], 1):
        said = f"{100 * one['accuracy']:.2f} % ± {100 * one['ci95']:.2f}"
        (line,) = [line for line in compared[0].out.splitlines() if line.startswith(f"{place}  {one['algo']}")]
        assert said in line
        assert str(one["transductive"]).lower() in line
        assert said in people
    for pair in content["of_checkpoints"]["pairs"]:
        said = f"{100 * pair['difference']:+.2f} % ± {100 * pair['ci95']:.2f}"
        assert said in compared[0].out
        assert said in people
    assert compared[0].out.splitlines()[-1] == "report: together/report.json"


def test_overrides_hold_for_all_checkpoints(command: Command, first: Trained, other_seeds: list[Path]) -> None:
    given = [f"ckpt=[{first.run},{other_seeds[0]}]", "data.ways=3", "data.shots=2", "episodes=4", "seed=9", "split=val"]
    outcome = done(command.evaluate(*given))
    folder = command.folder / Path(outcome.out.splitlines()[-1].removeprefix("report: ")).parent
    assert folder.name.endswith("_comparison")
    for one in read(folder / "report.json")["checkpoints"]:
        assert (one["ways"], one["shots"], one["episodes"], one["episode_seed"], one["split"]) == (3, 2, 4, 9, "val")


def test_grid_scores_every_number_of_classes_and_shots(command: Command, first: Trained, other_seeds: list[Path]) -> None:
    given = ["grid.ways=[3,6]", "grid.shots=[1,2]", "episodes=8"]
    outcome = done(command.evaluate(f"ckpt=[{first.run},{other_seeds[0]}]", *given, "out=grid"))
    cells = read(command.folder / "grid" / "report.json")["grid"]
    shapes = [{(one["ways"], one["shots"]) for one in cell["checkpoints"]} for cell in cells]
    assert shapes == [{(3, 1)}, {(3, 2)}, {(6, 1)}, {(6, 2)}]
    alone = done(command.evaluate(f"ckpt={first.run}", "data.ways=6", "data.shots=2", "episodes=8", "out=alone"))
    assert read(command.folder / "alone" / "report.json")["accuracy"] == cells[3]["checkpoints"][0]["accuracy"]
    score = alone.table["accuracy"].removesuffix(" (95 % interval)")
    assert any(line.startswith("6     2      ") and score in line for line in outcome.out.splitlines()), outcome
    assert score in (command.folder / "grid" / "report.md").read_text()


def test_what_cannot_be_compared_is_refused(command: Command, first: Trained, maml: Trained) -> None:
    ways = done(command.train("data.test.ways=7", "trainer.max_steps=1", "data.test.episodes=2", "folder=ways"))
    assert ways.code == 0
    before = contents(command.folder)
    cases: list[tuple[list[str], list[str]]] = [
        ([f"ckpt=[{first.run},{first.run}/checkpoints/best.ckpt]"], ["given twice"]),
        ([f"ckpt=[{first.run},nowhere]"], ["ckpt=nowhere", "no such file or folder"]),
        (["ckpt=[]"], ["ckpt=[]", "allowed"]),
        (["ckpt=[1,2]"], ["ckpt=[1, 2]", "allowed"]),
        ([f"ckpt=[{first.run},ways]"], ["same episodes", "data.test", "ways=7", "give data.test.ways="]),
        ([f"ckpt=[{first.run},{maml.run}]", "algo.temperature=2"], [f"ckpt={maml.run}", "algo.temperature"]),
        ([f"ckpt=[{first.run},{maml.run}]", "data.ways=7"], ["7 ways", "maml", "5 classes"]),
        ([f"ckpt={maml.run}", "grid.ways=[5,20]"], ["grid.ways has 20", "head for 5", "grid.ways=[5]"]),
        ([f"ckpt={first.run}", "curve=-1"], ["curve=-1", "at least 0"]),
        ([f"ckpt={first.run}", "pictures=some"], ["pictures=some", "all, episode, none"]),
        ([f"ckpt=[{first.run},{maml.run}]", "logger=wandb"], ["logger=", "one checkpoint"]),
        ([f"ckpt={first.run}", "grid.ways=[]"], ["grid.ways=[]", "nothing"]),
        ([f"ckpt={first.run}", "grid.shots=[0]"], ["grid.shots=[0]", "at least 1"]),
        ([f"ckpt={first.run}", "grid.ways=5"], ["grid.ways=5", "a list"]),
        ([f"ckpt={first.run}", "grid.ways=[5000]"], ["data.ways=5000 and the test split has 481"]),
    ]
    for given, said in cases:
        refused(command.run("evaluate.py", *given, "episodes=2"), said)
    assert contents(command.folder) == before


@pytest.mark.long
def test_number_of_devices_changes_nothing_that_is_compared(command: Command, first: Trained, maml: Trained) -> None:
    given = [f"ckpt=[{first.run},{maml.run}]", "episodes=9", "pictures=none"]
    done(command.run("evaluate.py", *given, "out=one"))
    done(command.run("evaluate.py", *given, "out=two", "trainer=ddp", "trainer.devices=2", fresh=True))
    assert rows_of(command.folder / "two" / "episodes.csv") == rows_of(command.folder / "one" / "episodes.csv")
    one, two = (read(command.folder / folder / "report.json") for folder in ("one", "two"))
    for place in range(2):
        for name in ("classes", "calibration_error", "inner_steps", "worst_episodes"):
            assert two["checkpoints"][place][name] == one["checkpoints"][place][name], name


def test_regression_has_its_own_pictures_and_differences(command: Command) -> None:
    for seed in (0, 1):
        given = ["experiment=sinusoid", "trainer.max_steps=2", "trainer.validate_every=2", "data.val.episodes=4"]
        outcome = command.run(
            "train.py", *given, "data.test.episodes=12", f"seed={seed}", f"folder=run{seed}", "logger=none"
        )
        assert outcome.code == 0, outcome
    drawn = {path.name for path in (command.folder / "run0").glob("*.png")}
    assert drawn == {"episode.png", "histogram.png", "adaptation.png"}
    outcome = done(command.run("evaluate.py", "ckpt=[run0,run1]", "episodes=12", "out=both"))
    content = read(command.folder / "both" / "report.json")
    for place in (0, 1):  # on the episodes that each was tested on
        assert content["checkpoints"][place]["mse"] == read(command.folder / f"run{place}" / "report.json")["mse"]
    assert content["of_algorithms"]["algorithms"][0]["seeds"] == [0, 1]
    assert content["of_checkpoints"]["pairs"][0]["training_seed_only"]
    assert content["of_checkpoints"]["pairs"][0]["difference"] == pytest.approx(
        content["checkpoints"][0]["mse"] - content["checkpoints"][1]["mse"]
    )
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("1  maml")]
    assert "%" not in line
    without_finite_weights(command.folder / "run0", command.folder / "nan.ckpt")
    outcome = command.run("evaluate.py", "ckpt=nan.ckpt", "episodes=12")
    assert outcome.code == 1, outcome
    assert "1200 of 1200 queries" in outcome.err
