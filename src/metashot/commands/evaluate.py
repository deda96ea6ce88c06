"""evaluate.py: scores checkpoints on episodes, and writes the reports."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.arguments import Seed, check_value
from metashot.bad_input import BadInput, in_one_line
from metashot.checkpoints.reading import read_checkpoint
from metashot.checkpoints.ready_made import is_ready_made
from metashot.checkpoints.restoring import Origin, origin_of, trained_algorithm
from metashot.checkpoints.run_folder import EPISODES, REPORT, REPORT_FOR_PEOPLE
from metashot.checkpoints.stored import CONFIG, OURS
from metashot.commands.sweeping import Score
from metashot.configuration import signatures
from metashot.configuration.buildable import target_of
from metashot.configuration.composing import explained
from metashot.data.class_episodes import ClassEpisodes
from metashot.data.module import EpisodicDataModule
from metashot.data.seen_classes import TrainingClasses
from metashot.episodes import format_amount
from metashot.evaluation.checks import check_of_evaluation, checkpoints_of, wants_grid
from metashot.evaluation.comparison import Comparison, Scored
from metashot.evaluation.documents import write_document
from metashot.evaluation.embedding import EmbedOnce
from metashot.evaluation.gallery import (
    Pictures,
    refuse_to_replace_evaluation,
    write_comparison_pictures,
    write_evaluation,
)
from metashot.evaluation.grid import Grid
from metashot.evaluation.protocol import Scoring
from metashot.evaluation.report import Report, as_json, score_with_interval
from metashot.evaluation.testing import Evaluation, Tested, refuse_other_ways, test
from metashot.evaluation.timing import Timing
from metashot.files.outputs import write_output
from metashot.files.paths import place_to_write
from metashot.problems import PROBLEMS
from metashot.process.interruption import STOP
from metashot.sources.splitting import Split
from metashot.tracking.evaluations import finish, log_evaluation, open_loggers
from metashot.training.interruption import StopsTest
from metashot.training.processes import Processes, ending_together, in_all_processes, is_first_process
from metashot.training.progress import ProgressBar
from metashot.training.trainer import TrainerOptions

GROUPS = ("backbone", "data", "engine", "algo")  # groups that a checkpoint's configuration provides
SHAPE_KEYS = ("ways", "shots", "queries", "unequal_support", "unequal_queries")  # of the data group
Stored = dict[str, Any]


@in_all_processes
def evaluate_checkpoints(composed: DictConfig, processes: Processes) -> float:
    """Score the checkpoints, print the results and write the report.

    Args:
        composed: the composed configuration.
        processes: the processes that run the command together.

    Returns:
        The score of the first checkpoint, for sweeps.

    Raises:
        BadInput: if a checkpoint, the data or the options cannot be used.
    """
    config = configuration.plain(composed)
    given = config["ckpt"] if isinstance(config["ckpt"], list) else [config["ckpt"]]
    paths = checkpoints_of(given)
    options: TrainerOptions = configuration.build(config["trainer"])
    options.refuse_unavailable()
    checkpoints = [Checkpoint.read(path, place, config) for place, path in enumerate(paths)]
    if config["out"]:
        refuse_to_replace_evaluation(named_folder(config["out"]))
    elif len(paths) == 1 and not wants_grid(config):
        beside(paths[0])  # refuses an unusable folder before the checkpoint is scored
    refuse_other_episodes(checkpoints, config["split"])
    console = Console(quiet=not is_first_process(), soft_wrap=True)
    with ExitStack() as stack:
        scorer = Scorer(config, options, console, checkpoints[0].trained)
        shapes = shapes_of_grid(config)
        scored = [[scorer.prepared(one, shape) for one in checkpoints] for shape in shapes]
        processes.agree()
        stack.enter_context(ending_together(scorer.trainer))
        if wants_grid(config):
            grid = Grid([Comparison.of([scorer.score(one) for one in of_shape]) for of_shape in scored])
            folder = folder_of_several(config, "grid")
            if is_first_process():
                write_document(folder / REPORT_FOR_PEOPLE, grid.for_people())
            write_several(grid, folder, console)
            return score_for_sweeps(grid.cells[0].scored[0].evaluation.report, folder)
        every = [scorer.score(prepared) for prepared in scored[0]]
        if len(checkpoints) == 1:
            (prepared,), (one,) = scored[0], every
            folder = folder_of_one(config, prepared, one.evaluation.report)
            keep_one(prepared, one.evaluation, folder, config, console)
            return score_for_sweeps(one.evaluation.report, folder)
        folder = folder_of_several(config, "comparison")
        for place, (prepared, one) in enumerate(zip(scored[0], every, strict=True), 1):
            own = folder / f"{place}_{prepared.checkpoint.config['algo']['name']}"
            write_one(prepared, one.evaluation, own, config["pictures"])
        comparison = Comparison.of(every)
        if is_first_process():
            write_output(folder / EPISODES, comparison.episodes_csv().encode())
            pictures = write_comparison_pictures(comparison, folder) if config["pictures"] == "all" else ()
            write_document(folder / REPORT_FOR_PEOPLE, comparison.for_people(pictures))
        write_several(comparison, folder, console)
        return score_for_sweeps(every[0].evaluation.report, folder)


def score_for_sweeps(report: Report, folder: Path) -> Score:
    summary = f"{report.split} {report.metric} {score_with_interval(report.metric, report.score, report.ci95)}"
    return Score(report.score, summary, folder)


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint, and the configuration that it is scored with."""

    path: Path
    weights: Stored
    step: int
    config: Stored
    trained: Stored  # the configuration that it was trained with
    origin: Origin
    classes: TrainingClasses

    @classmethod
    def read(cls, path: Path, place: int, config: Stored) -> "Checkpoint":
        content = read_checkpoint(path)
        origin = origin_of(content, path)
        trained = content[OURS]["config"]
        own = config if place == 0 else configuration_of_another(path, place, trained)
        check_value(trained.get("seed"), Seed | None, f"ckpt={path}: the seed of its training")
        classes = TrainingClasses.noted_in(origin, path)
        return cls(path, content["state_dict"], content["global_step"], own, trained, origin, classes)

    @property
    def acts(self) -> bool:
        """Whether it acts in worlds instead of answering queries."""
        return "spaces" in self.origin

    @property
    def takes_shots(self) -> bool:
        """Whether it learns a task from a support set; a policy may learn from the memory of a trial instead."""
        try:
            adapts_by: str = signatures.constant(target_of(self.config["algo"], "algo"), "adapts_by")
        except AttributeError:
            return True
        return adapts_by == "updates"

    @property
    def tested(self) -> Tested:
        algo, seed = self.config["algo"]["name"], self.trained.get("seed")
        return Tested(algo, self.path, self.step, seed, self.classes, self.origin["name"])


def configuration_of_another(path: Path, place: int, trained: Stored) -> Stored:
    """Apply the overrides of the command line to the configuration of a checkpoint after the first.

    Args:
        path: the checkpoint.
        place: its position among the given checkpoints.
        trained: the configuration that it was trained with.

    Raises:
        BadInput: if the resulting configuration cannot be evaluated.
    """
    name = f"stored{place}"
    for group in GROUPS:
        if not isinstance(trained.get(group), dict):
            raise BadInput(f"ckpt={path}: its configuration has no {group}; it was not written by metashot")
        ConfigStore.instance().store(group=group, name=name, node=trained[group])
    standing_for = {f"{group}=stored": f"{group}={name}" for group in GROUPS}
    overrides = [standing_for.get(override, override) for override in HydraConfig.get().overrides.task]
    try:
        config = configuration.plain(hydra.compose("evaluate", overrides=overrides))
        check_of_evaluation(config)
    except (BadInput, HydraException, OmegaConfBaseException) as error:
        raise BadInput(f"ckpt={path}: {error if isinstance(error, BadInput) else explained(error)}") from error
    return config


def refuse_other_episodes(checkpoints: Sequence[Checkpoint], split: Split) -> None:
    """Refuse checkpoints whose configurations describe different episodes, because only equal episodes can be compared."""
    # A policy that remembers a trial tries nothing before it, so that its `shots` do not matter.
    first = next((one for one in checkpoints if one.takes_shots), checkpoints[0])
    for other in (one for one in checkpoints if one is not first):
        ignored = () if other.takes_shots else ("shots",)
        for key in ("name", "source", *SHAPE_KEYS, split):
            values = [one.config["data"].get(key) for one in (first, other)]
            if key in ignored:
                continue
            if isinstance(values[0], dict) and key == split:
                values = [{k: v for k, v in value.items() if k in SHAPE_KEYS and k not in ignored} for value in values]
            if values[0] != values[1]:
                given = "data" if key in ("name", "source") else f"data.{key}"
                if key == split:
                    given += f".{next(k for k in values[0] if values[0][k] != values[1].get(k))}"
                same = "in the same worlds" if first.acts else "on the same episodes"
                raise BadInput(
                    f"{first.path} and {other.path} would not be scored {same}, because data.{key} is "
                    f"{_plainly(values[0])} for one and {_plainly(values[1])} for the other: give {given}=..., which "
                    "then holds for all"
                )


def _plainly(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={inner}" for name, inner in value.items() if not name.startswith("_"))
    return str(value)


def shapes_of_grid(config: Stored) -> list[Stored]:
    """The ways and shots of each cell of the grid. Without a grid, there is one empty cell: the data's own configuration."""
    given = {name: values for name, values in config["grid"].items() if values is not None}
    return [dict(zip(given, cell, strict=True)) for cell in product(*given.values())]


@dataclass(frozen=True)
class Prepared:
    """A checkpoint ready to be scored: its algorithm, and the data that draws its episodes."""

    checkpoint: Checkpoint
    algorithm: Algorithm
    data: EpisodicDataModule
    change: str | None  # how images are converted to look like the training data, if they have to be


class Scorer:
    """Scores checkpoints one after another on the same devices.

    Args:
        config: the configuration of the command.
        options: the devices and the precision.
        console: where progress is printed.
        first: the configuration that the first checkpoint was trained with.
    """

    def __init__(self, config: Stored, options: TrainerOptions, console: Console, first: Stored) -> None:
        self.split: Split = config["split"]
        self.episodes: int = config["episodes"]
        self.watched: int = config["curve"]
        self.strangers: int = config["strangers"]
        self.false_alarms: float = config["unknown"]
        self.seed: int | None = config["seed"]  # of the episodes; None for the seed of the split
        self.training_seed: int = first.get("seed", 0)
        # Choosing the training split asks for seen classes; the report states how many there are.
        self.allows_seen_classes: bool = config["allow_seen_classes"] or self.split == "train"
        self.data_config: Stored = config["data"]  # shared by all checkpoints
        self.options = options
        self.console = console
        self.scoring, self.timing = Scoring(), Timing()
        progress = ProgressBar(self.scoring, console, heartbeat=options.heartbeat)
        callbacks: list[pl.Callback] = [EmbedOnce(progress.part), self.timing, self.scoring, progress, StopsTest()]
        self.trainer = options.trainer(callbacks, [])
        self._printed: set[str] = set()

    def prepared(self, checkpoint: Checkpoint, shape: Stored) -> Prepared:
        """Build the data and the algorithm of a checkpoint, and check that they fit together.

        Args:
            checkpoint: the checkpoint to score.
            shape: ways and shots of the episodes, which override the data's configuration.

        Raises:
            BadInput: if the data does not fit the checkpoint, or contains classes seen in training.
        """
        config = checkpoint.config
        data_config = dict(self.data_config)
        if checkpoint.acts and checkpoint.takes_shots:  # which may differ from those of a first checkpoint that takes none
            own = config["data"]
            data_config["shots"] = own["shots"]
            data_config[self.split] = data_config[self.split] | {"shots": own[self.split]["shots"]}
        if "ways" in shape and "ways" not in data_config:
            name = data_config["name"]
            raise BadInput(f"grid.ways cannot be given for data={name}, whose tasks have no classes: leave it out")
        if shape:
            data_config |= shape | {self.split: data_config[self.split] | dict.fromkeys(shape)}
        data: EpisodicDataModule = configuration.build(data_config, seed=self.training_seed)
        if self.seed is not None:
            data.seeds[self.split] = self.seed
        change = match_training_data(data, checkpoint.origin)
        refuse_hidden_overrides(data_config, self.split)
        data.episodes[self.split] = self.episodes
        data.strangers = self.strangers
        data.evaluated_split = self.split
        data.setup("test")
        if self.strangers:
            _refuse_strangers(data, self.split)
        if not self.allows_seen_classes:
            checkpoint.classes.refuse_seen(data, self.split, f"ckpt={checkpoint.path}")
        double = self.options.precision == "64-true"  # before the weights are loaded, which would be rounded
        algorithm = trained_algorithm(config, checkpoint.origin, checkpoint.weights, checkpoint.path, double)
        if checkpoint.trained.get("freeze_backbone"):  # whose features are kept
            algorithm.freeze_backbone()
        if "ways" in shape and algorithm.fixed_ways not in (None, shape["ways"]):
            raise BadInput(
                f"grid.ways has {shape['ways']}, but {checkpoint.path} has a head for {algorithm.fixed_ways} classes: give "
                f"grid.ways=[{algorithm.fixed_ways}], or leave this checkpoint out"
            )
        refuse_other_ways(algorithm, data, self.split, config["algo"]["name"])
        algorithm.refuse_names(data.class_names(self.split))
        if self.strangers:
            try:
                algorithm.refuse_strangers()
            except BadInput as error:
                raise BadInput(f"ckpt={checkpoint.path}: {error}") from error
            algorithm.false_alarms = self.false_alarms
        self.options.arrange(algorithm)
        return Prepared(checkpoint, algorithm, data, change)

    def score(self, prepared: Prepared) -> Scored:
        checkpoint = prepared.checkpoint
        change = [prepared.change] if prepared.change else []
        for line in [*change, *prepared.algorithm.description(self.options.device_type)]:
            if line not in self._printed:
                self.console.print(line, highlight=False, markup=False)
            self._printed.add(line)
        STOP.waits_for = "these episodes"
        evaluation = test(
            self.trainer,
            prepared.algorithm,
            prepared.data,
            self.scoring,
            self.timing,
            self.split,
            self.watched,
            checkpoint.tested,
        )
        STOP.check()
        STOP.waits_for = "the report"
        return Scored(checkpoint.path, checkpoint.trained, evaluation)


def write_one(prepared: Prepared, evaluation: Evaluation, folder: Path, wanted: Pictures) -> Sequence[Path]:
    """Write the evaluation of one checkpoint on rank 0, and return the paths of its pictures."""
    if not is_first_process():
        return ()
    return write_evaluation(evaluation, prepared.algorithm, prepared.data, wanted, folder)


def keep_one(prepared: Prepared, evaluation: Evaluation, folder: Path, config: Stored, console: Console) -> None:
    """Write, print and log the evaluation of a single checkpoint."""
    pictures = write_one(prepared, evaluation, folder, config["pictures"])
    if not is_first_process():
        return
    loggers, line = open_loggers(config["logger"], folder)
    log_evaluation(evaluation, pictures, loggers)
    finish(loggers)
    paths = {"checkpoint": prepared.checkpoint.path, "report": folder / REPORT}
    lines = [*([line] if line else []), evaluation.report.lines(paths)]
    console.print(*lines, sep="\n", highlight=False, markup=False)


def write_several(several: Comparison | Grid, folder: Path, console: Console) -> None:
    if not is_first_process():
        return
    write_output(folder / REPORT, as_json(several.content()).encode())
    console.print(several.lines(), f"report: {in_one_line(str(folder / REPORT))}", sep="\n", highlight=False, markup=False)


def named_folder(given: str) -> Path:
    path = place_to_write(given, "out")
    if path.exists() and not path.is_dir():
        raise BadInput(f"out={given} is a file; allowed: the name of a folder for the report, such as out=scores")
    return path


def folder_of_one(config: Stored, prepared: Prepared, report: Report) -> Path:
    if config["out"]:
        return named_folder(config["out"])
    checkpoint = prepared.checkpoint
    return beside(checkpoint.path) / (
        described(report) + changed_settings(checkpoint.config, checkpoint.trained, checkpoint.acts)
    )


def folder_of_several(config: Stored, kind: str) -> Path:
    """The folder of a comparison or a grid, named by the time unless `out` is given.

    Rank 0 creates it at once, so that two calls in the same second get different folders.
    """
    if config["out"]:
        return named_folder(config["out"])
    wanted = Path("runs") / time.strftime("%Y-%m-%d") / f"{time.strftime('%H-%M-%S')}_{kind}"
    path, number = wanted, 1
    while is_first_process():
        try:
            path.mkdir(parents=True, exist_ok=False)
            break
        except FileExistsError:
            number += 1
            path = wanted.with_name(f"{wanted.name}-{number}")
        except OSError as error:
            raise BadInput(f"{path} cannot be made: {error.strerror or error}; choose another folder with out=") from error
    return path


def match_training_data(data: EpisodicDataModule, origin: Origin) -> str | None:
    """Present data in the form of a checkpoint's training data, which may be another data set.

    Args:
        data: the data to score on.
        origin: the description of the training data.

    Returns:
        A line that tells the user how the images are converted; None if they are not.

    Raises:
        BadInput: if the data poses another problem, or the command line overrides the presentation.
    """
    if data.asks.__name__ != origin["problem"]:
        raise BadInput(
            f"data={data.name} is a {data.asks.kind} problem, but the checkpoint was trained on "
            f"{origin['name']}, a {PROBLEMS[origin['problem']].kind} problem: choose other data"
        )
    data.refuse_other_worlds(origin)
    if not isinstance(data, ClassEpisodes):
        return None
    for override in HydraConfig.get().overrides.task:
        key = override.partition("=")[0].lstrip("+")
        if key in ("data.presentation.mean", "data.presentation.std"):
            raise BadInput(
                f"{override} has no effect, because a learner keeps the constants it was trained with: leave it out"
            )
    return data.look_like(origin)


def _refuse_strangers(data: EpisodicDataModule, split: Split) -> None:
    if not isinstance(data, ClassEpisodes):
        raise BadInput(f"strangers={data.strangers} are items of other classes, and data={data.name} has no classes")
    data.sampler(split).refuse_strangers(split, data.strangers)


def refuse_hidden_overrides(now: dict[str, Any], split: Split) -> None:
    """Refuse a key for all splits that has no effect because the split has its own value for the key."""
    given = {override.partition("=")[0].lstrip("+") for override in HydraConfig.get().overrides.task}
    for key in SHAPE_KEYS:
        if key not in now:  # regression has no ways
            continue
        own = now[split][key]
        if f"data.{key}" in given and own not in (None, now[key]):
            raise BadInput(
                f"data.{key}={now[key]} has no effect, because data.{split}.{key}={own} stands for the {split} split: "
                f"set data.{split}.{key} instead"
            )


def beside(checkpoint: Path) -> Path:
    """The folder for the evaluations of a checkpoint: in the folder of its run, or else next to the checkpoint.

    Those of a ready-made learner, which lies in the package, are kept with the runs of the working folder.
    """
    if is_ready_made(checkpoint):
        return Path("runs") / checkpoint.stem / "evaluations"
    run = checkpoint.parent.parent
    folder = (run if (run / CONFIG).is_file() else checkpoint.parent) / "evaluations"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "a link" if folder.is_symlink() else "not a folder"
        raise BadInput(f"{folder} is {what}, and a run keeps its files itself: choose a folder for the report with out=")
    return folder


def changed_settings(now: dict[str, Any], stored: dict[str, Any], acts: bool) -> str:
    """A suffix for the report's folder that lists the settings changed since training."""
    changes = [
        f"_{key}-{value}"
        for group in ("algo", "backbone")
        for key, value, _ in configuration.differences(now[group], stored[group])
        if value is None or isinstance(value, bool | int | float | str)
    ]
    if acts:  # the settings of a family decide which worlds a seed stands for
        families = (config["data"]["source"] for config in (now, stored))
        changes += [f"_{key}-{_in_a_name(value)}" for key, value, _ in configuration.differences(*families)]
    return "".join(changes).replace("/", "-")


def _in_a_name(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def described(report: Report) -> str:
    """The name of a report's folder: the checkpoint, the data, the split, the shape of the episodes, and their seed."""
    ways = "" if report.ways is None else f"{format_amount(report.ways)}w"
    shares = {"support": report.unequal_support, "queries": report.unequal_queries}
    unequal = "".join(f"_unequal_{name}-{value:g}" for name, value in shares.items() if value is not None)
    strange = "" if report.strangers is None else f"_{report.strangers.classes}strangers"
    shape = f"{ways}{format_amount(report.shots)}s{format_amount(report.queries)}q{unequal}{strange}"
    return f"{Path(report.checkpoint).stem}_{report.data}_{report.split}_{shape}_{report.episodes}_seed{report.episode_seed}"
