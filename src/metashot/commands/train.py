"""train.py: a run from its configuration to its report."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from rich.console import Console

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.bad_input import BadInput, GaveUp
from metashot.checkpoints.compatibility import refuse_another_experiment
from metashot.checkpoints.initial_weights import begin_from
from metashot.checkpoints.reading import read_checkpoint, write_checkpoint
from metashot.checkpoints.run_folder import METRICS, REPORT, RunFolder, refuse_lost
from metashot.checkpoints.stored import BEST, CONFIG, LAST, OURS, configuration_of_folder, of_run
from metashot.commands.refusals import RUN_KEYS
from metashot.commands.sweeping import Score
from metashot.data.class_episodes import ClassEpisodes
from metashot.data.module import EpisodicDataModule, tasks_of_each_device
from metashot.data.seen_classes import TrainingClasses
from metashot.evaluation.embedding import EmbedOnce
from metashot.evaluation.gallery import write_evaluation
from metashot.evaluation.protocol import Scoring
from metashot.evaluation.report import score_with_interval
from metashot.evaluation.testing import Tested, refuse_other_ways, test
from metashot.evaluation.timing import Timing
from metashot.files.paths import given_path, shown
from metashot.process.interruption import STOP
from metashot.sources.splitting import SPLITS, Split
from metashot.tracking.csv_file import CsvLogger, read_rows
from metashot.tracking.evaluations import finish, keep_evaluation
from metashot.training.finiteness import Finiteness
from metashot.training.interruption import StopsTest
from metashot.training.measurements import Measurements, log
from metashot.training.memory import enough_memory
from metashot.training.processes import Processes, ending_together, in_all_processes, is_first_process
from metashot.training.progress import ProgressBar
from metashot.training.saving import Saving
from metashot.training.trainer import TrainerOptions


@in_all_processes
def train_and_test(composed: DictConfig, processes: Processes) -> float:
    """Train, test the best checkpoint, write the report; the result is the best validation score, for sweeps."""
    config = configuration.plain(composed)
    experiment = {key: value for key, value in config.items() if key not in RUN_KEYS}
    start = Start.of(config["resume"], experiment)
    pl.seed_everything(config["seed"], verbose=False)
    console = Console(quiet=not is_first_process(), soft_wrap=True)

    with ExitStack() as stack:
        options: TrainerOptions = configuration.build(config["trainer"])
        options.refuse_what_is_not_there()
        logger = configuration.build(config["logger"])
        data: EpisodicDataModule = configuration.build(config["data"], seed=config["seed"])
        tasks_of_each_device(data.tasks_per_step, options.all_devices)
        data.setup()
        backbone = configuration.build(config["backbone"], input_shape=data.input_shape)
        presented = data.present_for(backbone.wants)
        algorithm: Algorithm = configuration.build_algorithm(config, backbone=backbone, problem=data.problem)
        for split in SPLITS:
            refuse_other_ways(algorithm, data, split, config["algo"]["name"])

        options.arrange(algorithm)
        if config["freeze_backbone"]:
            algorithm.freeze_backbone()
        refuse_nothing_to_train(algorithm, options, config)
        refuse_other_batches(algorithm, data, config["algo"]["name"])
        start.refuse_other_images(data)
        classes = start.classes(config["init_from"])
        if options.max_steps:  # else nothing is trained on them
            classes |= TrainingClasses.of(data)
        if not config["allow_seen_classes"]:
            refuse_seen_classes(classes, data, config["init_from"])
        lines = [f"episodes: {data.described()}", *algorithm.described(options.device_type), *options.described()]
        lines += [presented] if presented else []
        if config["init_from"] is not None and start.checkpoint is None:
            lines.append(begin_from(config["init_from"], algorithm, config["backbone"]))
        STOP.waits_for = "what is being set up"
        folder = stack.enter_context(processes.run_folder(lambda: start.folder(config["folder"], experiment)))
        stack.enter_context(enough_memory(folder.checkpoints))
        STOP.message = f"stopped; go on with: python train.py resume={folder.path}"
        loggers, line = [], ""
        if is_first_process():
            loggers, line = logger.loggers(folder.path)
            stack.callback(finish, loggers)
        lines = [f"run: {shown(folder.path)}", *lines, *([line] if line else [])]
        console.print(*lines, sep="\n", highlight=False, markup=False)
        scoring = Scoring()
        measurements = Measurements(scoring, data.problem.metric, data.tasks_per_step, options.log_every)
        origin = data.origin() | {"classes": classes.plain()}
        saving = Saving(folder.checkpoints, experiment, origin, scoring, options)
        progress = ProgressBar(scoring, console, measurements, saving, options.heartbeat)
        finiteness = Finiteness(console, folder, options.stop_after_non_finite)
        embed_once, timing = EmbedOnce(progress.part), Timing()
        trainer = options.trainer(
            [embed_once, scoring, timing, saving, finiteness, measurements, progress, StopsTest()], loggers
        )
        stack.enter_context(ending_together(trainer))
        for logger in loggers:
            logger.log_hyperparams(experiment)
            if isinstance(logger, CsvLogger):
                logger.continue_from(start.step)

        STOP.check()
        STOP.waits_for = "this step and a checkpoint"
        with saving.resuming(start.checkpoint):
            if options.max_steps:
                trainer.fit(algorithm, data, ckpt_path=start.checkpoint)
            else:
                trainer.validate(algorithm, data, ckpt_path=start.checkpoint, verbose=False)
        STOP.check()  # for a signal after the last step
        STOP.waits_for = "these episodes"

        refuse_lost(folder.path)
        refuse_no_best(folder.checkpoints)
        best = read_checkpoint(folder.checkpoints / BEST)
        algorithm.load_state_dict(best["state_dict"])
        tested = Tested(config["algo"]["name"], folder.checkpoints / BEST, best["global_step"], config["seed"], classes)
        evaluation = test(trainer, algorithm, data, scoring, timing, "test", config["curve"], tested)
        STOP.check()
        STOP.waits_for = "the report"
        report = evaluation.report
        refuse_lost(folder.path)
        if is_first_process():
            pictures = write_evaluation(evaluation, algorithm, data, config["pictures"], folder.path)
            # Not to W&B, whose first screen curves of one point would fill: there they are in the summary.
            log([logger for logger in loggers if isinstance(logger, CsvLogger)], report.metrics(), trainer.global_step)
            keep_evaluation(evaluation, pictures, loggers, folder.checkpoints / BEST)
            paths = {"checkpoint": folder.checkpoints / BEST, "report": folder.path / REPORT}
            console.print(report.lines(paths), highlight=False, markup=False)
        assert saving.best_score is not None
        said = f"test {report.metric} {score_with_interval(report.metric, report.score, report.ci95)}"
        return Score(saving.best_score, said, folder.path)


@dataclass(frozen=True)
class Start:
    """Where a run begins: at nothing, or at a checkpoint; in a new folder, or in the one it was stopped in."""

    checkpoint: Path | None = None
    step: int = 0
    origin: dict[str, Any] | None = None
    continued: Path | None = None

    @classmethod
    def of(cls, resume: str | None, experiment: dict[str, Any]) -> "Start":
        if resume is None:
            return cls()
        path = given_path(resume, "resume")
        if path.is_dir() and (path / CONFIG).is_file() and not list((path / "checkpoints").glob("*.ckpt")):
            refuse_another_experiment(experiment, configuration_of_folder(path))
            return cls(continued=path)  # it was killed before its first checkpoint
        file = of_run(resume, "resume", LAST)
        checkpoint = read_checkpoint(file)
        refuse_another_experiment(experiment, checkpoint[OURS]["config"])
        folder = file.resolve().parent.parent if not path.is_dir() else path
        in_place = file.name == LAST and file.parent.name == "checkpoints" and (folder / CONFIG).is_file()
        if in_place and "algo" not in configuration_of_folder(folder):
            raise BadInput(f"{folder / CONFIG} is not the configuration of a run: give the folder of a run with resume=")
        return cls(file, checkpoint["global_step"], checkpoint[OURS].get("origin"), folder if in_place else None)

    def classes(self, init_from: str | None) -> TrainingClasses:
        """Those that were trained on before the first step that is taken now. A resumed run has noted them itself, unless it
        began before they were noted."""
        if self.checkpoint is not None and ("classes" in (self.origin or {}) or init_from is not None):
            return TrainingClasses.noted_in(self.origin, self.checkpoint)
        if self.checkpoint is not None or init_from is None:
            return TrainingClasses()
        path = of_run(init_from, "init_from", BEST)
        return TrainingClasses.noted_in(read_checkpoint(path)[OURS].get("origin"), path)

    def refuse_other_images(self, data: EpisodicDataModule) -> None:
        noted = {key: value for key, value in (self.origin or {}).items() if key != "classes"}  # `images` stands for them
        if self.origin is not None and noted != data.origin():
            raise BadInput(
                f"the images of data={data.name} are not those that {self.checkpoint} was trained on, and a resumed run "
                "goes on as it was: give their folder with data.root, or start a new run with repeat= instead of resume="
            )

    def folder(self, wanted: str, experiment: dict[str, Any]) -> RunFolder:
        if self.continued is not None:
            read_rows(self.continued / METRICS)  # refused before anything in the folder is changed
            return RunFolder.reopen(self.continued, experiment)
        folder = RunFolder.claim(wanted, experiment)
        best = self.checkpoint.with_name(BEST) if self.checkpoint is not None else None
        if best is not None and best.is_file():
            write_checkpoint(read_checkpoint(best), folder.checkpoints / BEST)  # still the one to beat
        return folder


def refuse_seen_classes(classes: TrainingClasses, data: EpisodicDataModule, init_from: str | None) -> None:
    """Validation and testing are about classes that were not seen in training, here or where the run begins from."""
    splits: tuple[Split, Split] = ("val", "test")
    for split in splits:
        classes.refuse_seen(data, split, "this run" if init_from is None else f"init_from={init_from}, or this run,")


def refuse_no_best(folder: Path) -> None:
    """A run whose validations all had answers that are not finite has no checkpoint to test."""
    if (folder / BEST).is_file():
        return
    last = folder / LAST
    raise GaveUp(
        f"no validation had a finite score, so that there is no best checkpoint, and nothing was tested: {last} holds the "
        f"last weights, which python evaluate.py ckpt={last} split=val looks at; try a lower algo.optimizer.lr or "
        "algo.inner_lr, trainer.gradient_clip, or trainer.precision=32-true"
    )


def refuse_nothing_to_train(algorithm: Algorithm, options: TrainerOptions, config: dict[str, Any]) -> None:
    name = config["algo"]["name"]
    if options.max_steps and not any(parameter.requires_grad for parameter in algorithm.parameters()):
        backbone = config["backbone"]["_target_"].rpartition(".")[2].lower()
        what, advice = (
            ("freeze_backbone=true", "leave it out")
            if config["freeze_backbone"]
            else (
                f"backbone={backbone}",
                "choose another one, such as backbone=mlp",
            )
        )
        raise BadInput(
            f"{what} leaves algo={name} nothing to train: {advice}, or give trainer.max_steps=0 to test it as it is"
        )


def refuse_other_batches(algorithm: Algorithm, data: EpisodicDataModule, name: str) -> None:
    """Algorithms are trained on episodes or on shuffled images of all classes."""
    if algorithm.supervised and not data.shuffled:
        raise BadInput(f"data.train.batch=null makes episodes, but algo={name} is trained on shuffled images: give a number")
    if data.shuffled and not algorithm.supervised:
        raise BadInput(
            f"data.train.batch shuffles images, but algo={name} is trained on episodes: use data.train.batch=null"
        )
    sampler = data.shuffled_sampler if isinstance(data, ClassEpisodes) else None
    if sampler is not None and sampler.size > len(sampler.labels):
        raise BadInput(
            f"data.train.batch={sampler.size} cannot be used: the training split of data={data.name} has "
            f"{len(sampler.labels)} images; give at most as many"
        )
