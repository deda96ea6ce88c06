"""evaluate.py: a checkpoint, the episodes it is scored on, and its report."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.arguments import Count, check_value
from metashot.bad_input import BadInput
from metashot.checkpoints import BEST, OURS, of_run, read_checkpoint
from metashot.data.images import ImageEpisodes
from metashot.data.module import EpisodicDataModule, Split
from metashot.episodes import shown
from metashot.evaluation.embedding import EmbedOnce
from metashot.evaluation.protocol import Scoring
from metashot.evaluation.report import Report
from metashot.evaluation.testing import refuse_other_ways, test
from metashot.problems import PROBLEMS
from metashot.run_folder import CONFIG, REPORT
from metashot.training.processes import Processes, in_all_processes, is_first_process
from metashot.training.progress import ProgressBar
from metashot.training.trainer import TrainerOptions


def stored_configuration(given: str) -> dict[str, Any]:
    """The configuration that a checkpoint was trained with."""
    config: dict[str, Any] = read_checkpoint(of_run(given, "ckpt", BEST))[OURS]["config"]
    return config


@in_all_processes
def evaluate_checkpoint(composed: DictConfig, processes: Processes) -> float:
    """Answer the episodes, print the table and write the report; the result is the score."""
    config = configuration.plain(composed)
    if config["ckpt"] is None:
        raise BadInput("missing key ckpt: give a checkpoint or the folder of a run, as in ckpt=runs/...")
    configuration.check(config)
    check_value(config["episodes"], Count, "episodes")
    check_value(config["split"], Split, "split")
    check_value(config["out"], str | None, "out")
    path = of_run(config["ckpt"], "ckpt", BEST)
    checkpoint = read_checkpoint(path)
    options: TrainerOptions = configuration.build(config["trainer"])
    options.refuse_what_is_not_there()
    split: Split = config["split"]
    origin = checkpoint[OURS].get("origin")
    if origin is None:
        raise BadInput(f"{path} was written by an older version of metashot, which did not note what it was trained on")

    data: EpisodicDataModule = configuration.build(config["data"], seed=config["seed"])
    change = adapted(data, origin)
    if data.name == origin["name"]:
        refuse_hidden_overrides(config["data"], checkpoint[OURS]["config"]["data"], split)
    data.episodes[split] = config["episodes"]
    data.setup()
    # The network has the shape it was trained with, whatever is asked for now.
    backbone = configuration.build(config["backbone"], input_shape=tuple(origin["input_shape"]))
    problem = PROBLEMS[origin["problem"]](origin["outputs"])
    algorithm: Algorithm = configuration.build_algorithm(config, backbone=backbone, problem=problem)
    refuse_other_ways(algorithm, data, split, config["algo"]["name"])
    load_weights(algorithm, checkpoint["state_dict"], path)
    options.arrange(algorithm)
    processes.agree()

    console = Console(quiet=not is_first_process(), soft_wrap=True)
    for line in [*([change] if change else []), *algorithm.described(options.device_type)]:
        console.print(line, highlight=False, markup=False)
    scoring = Scoring()
    with processes.stop_request():
        progress = ProgressBar(scoring, console)
        trainer = options.trainer([EmbedOnce(progress.part), scoring, progress], [])
        report = test(trainer, algorithm, data, scoring, split, config["algo"]["name"], path, checkpoint["global_step"])
    changes = changed_settings(config, checkpoint[OURS]["config"])
    folder = Path(config["out"]) if config["out"] else beside(path) / (described(report) + changes)
    if is_first_process():
        report.write(folder / REPORT)
        console.print(report.lines({"checkpoint": path, "report": folder / REPORT}), highlight=False)
    return report.score


def adapted(data: EpisodicDataModule, origin: dict[str, Any]) -> str | None:
    """Let data look as those a learner was trained on, which may be another data set; a line says what that changes."""
    if data.asks.__name__ != origin["problem"]:
        raise BadInput(
            f"data={data.name} is a {data.asks.__name__.lower()} problem, but the checkpoint was trained on "
            f"{origin['name']}, a {origin['problem'].lower()} problem: choose other data"
        )
    if not isinstance(data, ImageEpisodes):
        return None
    for override in HydraConfig.get().overrides.task:
        key = override.partition("=")[0].lstrip("+")
        if key in ("data.mean", "data.std"):
            raise BadInput(
                f"{override} has no effect, because a learner keeps the constants it was trained with: leave it out"
            )
    return data.look_like(origin)


def refuse_hidden_overrides(now: dict[str, Any], stored: dict[str, Any], split: Split) -> None:
    """A key for all splits that was changed, while the stored configuration has one for this split, would do nothing."""
    for key in ("ways", "shots", "queries", "unequal_support", "unequal_queries"):
        if key not in now:  # regression has no classes
            continue
        own = now[split][key]
        if now[key] != stored.get(key) and own is not None:
            raise BadInput(
                f"data.{key}={now[key]} has no effect, because data.{split}.{key}={own} stands for the {split} split: "
                f"set data.{split}.{key} instead"
            )


def load_weights(algorithm: Algorithm, weights: dict[str, Any], path: Path) -> None:
    try:
        algorithm.load_state_dict(weights)
    except RuntimeError as error:
        first = next(line.strip() for line in str(error).splitlines()[1:] if line.strip())
        raise BadInput(
            f"the weights in {path} do not fit the network that algo.*, backbone.* and data.* describe: {first}; "
            "leave these keys as the checkpoint has them"
        ) from error


def beside(checkpoint: Path) -> Path:
    """Where the evaluations of a checkpoint are kept: in its run's folder, or next to it."""
    run = checkpoint.parent.parent
    return (run if (run / CONFIG).is_file() else checkpoint.parent) / "evaluations"


def changed_settings(now: dict[str, Any], stored: dict[str, Any]) -> str:
    """What the name of a report's folder adds for a learner that was not scored as it was trained."""
    changes = [
        f"_{key}-{value}"
        for group in ("algo", "backbone")
        for key, value, _ in configuration.differences(now[group], stored[group])
        if value is None or isinstance(value, bool | int | float | str)
    ]
    return "".join(changes).replace("/", "-")


def described(report: Report) -> str:
    """The name of a report's folder: what was scored, and on what if that is not plain."""
    ways = "" if report.ways is None else f"{shown(report.ways)}w"
    unequal = "_unequal" if report.unequal_support or report.unequal_queries else ""
    shape = f"{ways}{shown(report.shots)}s{shown(report.queries)}q{unequal}"
    return f"{Path(report.checkpoint).stem}_{report.data}_{report.split}_{shape}_{report.episodes}_seed{report.seed}"
