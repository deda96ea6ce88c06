"""One experiment from its configuration to its report, for train.py and for use from Python."""

import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytorch_lightning as pl
from rich.console import Console

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.applied.learner import Device, Learner
from metashot.applied.loading import load
from metashot.bad_input import BadInput
from metashot.checkpoints.initial_weights import load_initial_weights
from metashot.checkpoints.reading import read_checkpoint
from metashot.checkpoints.recipes import TRAINING
from metashot.checkpoints.run_folder import METRICS, RunFolder, refuse_missing_folder
from metashot.checkpoints.stored import BEST
from metashot.configuration import Container, signatures
from metashot.configuration.buildable import target_of
from metashot.configuration.composing import composed
from metashot.configuration.plugins import enable
from metashot.data.class_episodes import ClassEpisodes
from metashot.data.module import EpisodicDataModule, tasks_of_each_device
from metashot.data.seen_classes import TrainingClasses
from metashot.evaluation.embedding import EmbedOnce
from metashot.evaluation.gallery import write_evaluation
from metashot.evaluation.protocol import Scoring
from metashot.evaluation.report import Report
from metashot.evaluation.testing import Tested, refuse_other_ways, test
from metashot.evaluation.timing import Timing
from metashot.files.paths import printable
from metashot.process.interruption import STOP
from metashot.process.invocation import typed
from metashot.sources.splitting import SPLITS
from metashot.tracking.csv_file import CsvLogger, read_rows
from metashot.tracking.evaluations import finish, log_evaluation
from metashot.training.checks import experiment_of, refuse_training
from metashot.training.finiteness import Finiteness
from metashot.training.interruption import StopsTest
from metashot.training.measurements import Measurements, log
from metashot.training.memory import enough_memory
from metashot.training.processes import Processes, ending_together, is_first_process, refuse_processes_of_a_notebook
from metashot.training.progress import ProgressBar
from metashot.training.requirements import (
    leave_published_as_it_is,
    refuse_changing_features,
    refuse_nothing_to_train,
    refuse_other_batches,
    refuse_seen_classes,
)
from metashot.training.saving import Saving, random_state, refuse_no_best, restore_random_state
from metashot.training.start import Start
from metashot.training.trainer import TrainerOptions


def _is_relative(given: object) -> bool:
    """Whether a user gave a path, and it is relative to the working folder."""
    return isinstance(given, str) and not given.startswith(("/", "~"))


class Experiment:
    """An algorithm, its data and its training, described by the overrides of a command line.

    Example:
        ```python
        report = metashot.Experiment("algo=protonet", "data.shots=5", "trainer.max_steps=200").fit().test()
        print(report.score, report.ci95)
        ```

    Attributes:
        config: the resolved configuration.
        data: the data module, available once the experiment is built.
        algorithm: the algorithm, available once the experiment is built; after a test, with the best weights.
    """

    data: EpisodicDataModule
    algorithm: Algorithm

    def __init__(self, *overrides: str, plugins: Sequence[str] = ()) -> None:
        """Compose and check the configuration. Nothing is trained, and only the banks of the data are written.

        Args:
            *overrides: the arguments of `python train.py`: group=choice and key=value.
            plugins: packages to import, whose classes and conf/ the overrides may name.

        Raises:
            BadInput: if the configuration cannot be trained.
        """
        enable(plugins)
        config = composed(TRAINING, overrides)
        # Absolute paths keep the run in place if the program changes its working folder.
        config |= {key: os.path.abspath(config[key]) for key in ("folder", "resume") if _is_relative(config[key])}
        refuse_training(config)
        refuse_processes_of_a_notebook(config["trainer"]["devices"])
        self._begin(config, Processes.joined(config["trainer"]["join_within"]))

    @classmethod
    def of(cls, config: Container, processes: Processes) -> Self:
        """Create an experiment from a configuration that was already composed and checked.

        Args:
            config: the resolved configuration of a run.
            processes: the processes that run the experiment together.
        """
        experiment = cls.__new__(cls)
        experiment._begin(config, processes)
        return experiment

    def _begin(self, config: Container, processes: Processes) -> None:
        self.config = config
        self._processes = processes
        self._console = Console(quiet=not is_first_process(), soft_wrap=True)
        self._open = ExitStack()  # closed at the end of the run: the folder's lock, the loggers, the other processes
        weakref.finalize(self, self._open.close)
        self._folder: RunFolder | None = None
        self._built = self._trained = False
        self._report: Report | None = None

    def build(self) -> Self:
        """Build the data and the algorithm, and check that they fit together. `fit` calls this method if needed.

        Raises:
            BadInput: if parts of the configuration do not fit together, or this machine lacks what they need.
        """
        if self._built:
            return self
        config = self.config
        self._start = Start.of(config["resume"], experiment_of(config))
        pl.seed_everything(config["seed"], verbose=False)

        self._options: TrainerOptions = configuration.build(config["trainer"])
        self._options.refuse_unavailable()
        self._logger = configuration.build(config["logger"])
        self.data = configuration.build(config["data"], seed=config["seed"])
        share = tasks_of_each_device(self.data.tasks_per_step, self._options.all_devices)
        self.data.open()
        self.data.tell_tasks(signatures.constant(target_of(config["algo"], "algo"), "is_told"))
        backbone = configuration.build_backbone(config["backbone"], self.data.items, self.data.name, self.data.input_shape)
        if backbone.is_published and self._start.checkpoint is None:
            backbone.bring_back()
        presented = [self.data.present_for(backbone.wants)]
        if backbone.reads_frequencies:
            assert isinstance(self.data, ClassEpisodes)  # which have texts
            backbone.learn_frequencies(self.data.token_counts())
        self.algorithm = configuration.build_algorithm(config, backbone=backbone, problem=self.data.problem)
        for split in SPLITS:
            refuse_other_ways(self.algorithm, self.data, split, config["algo"]["name"])
            self.algorithm.refuse_names(self.data.class_names(split))
        if self._options.max_steps:
            self.algorithm.refuse_share(share)
        if self.data.spaces is not None:
            self.algorithm.refuse_spaces(self.data.spaces)

        self._options.arrange(self.algorithm)
        if config["freeze_backbone"]:
            self.algorithm.freeze_backbone()
        as_published = leave_published_as_it_is(self.algorithm, self._options, config)
        refuse_nothing_to_train(self.algorithm, self._options, config)
        self.data.refuse_undrawable(SPLITS if self._options.max_steps else ("val", "test"))  # without steps, nothing trains
        refuse_changing_features(self.algorithm, config["algo"]["name"])
        refuse_other_batches(self.algorithm, self.data, config["algo"]["name"])
        self._start.refuse_other_items(self.data)
        self._classes = self._start.classes(config["init_from"])
        if self._start.checkpoint is None:
            self._classes = self._classes.before(self.data)
        if self._options.max_steps or backbone.reads_frequencies:  # which are of training classes
            self._classes |= TrainingClasses.of(self.data)
        if not config["allow_seen_classes"]:
            refuse_seen_classes(self._classes, self.data, config["init_from"])
        tasks = "episodes" if self.algorithm.answers_queries else "worlds"
        self._lines = [
            f"{tasks}: {self.data.description(self.algorithm.tries_first)}",
            *filter(None, [*presented, as_published]),
        ]
        self._lines += self.algorithm.description(self._options.device_type)
        self._lines += self._options.description()
        if config["init_from"] is not None and self._start.checkpoint is None:
            self._lines.append(load_initial_weights(config["init_from"], self.algorithm, config["backbone"]))
        self._random_state = random_state()
        self._built = True
        return self

    def fit(self) -> Self:
        """Train, and keep the best and the last checkpoint in the run's folder. With `max_steps=0`, only validate.

        Raises:
            BadInput: if the experiment cannot be built, or its folder cannot be written to.
            GaveUp: if training cannot continue, for example after too many non-finite losses.
            KeyboardInterrupt: if the user interrupts it; the message says how to resume.
        """
        if self._trained or self._folder is not None:
            raise BadInput(
                f"this experiment was trained already, in {printable(self.folder)}: go on with another Experiment"
            )
        with self._whole():
            self.build()
            restore_random_state(self._random_state)  # undoes random draws made since `build`
            record = experiment_of(self.config)
            STOP.waits_for = "what is being set up"
            folder = self._folder = self._open.enter_context(self._processes.run_folder(lambda: self._claim(record)))
            self._open.enter_context(enough_memory(folder.checkpoints))
            STOP.message = f"stopped; go on with: {typed('train')} resume={folder.path}"
            self._loggers, line = self._logger.loggers(folder.path) if is_first_process() else ([], "")
            self._open.callback(finish, self._loggers)
            lines = [f"run: {printable(folder.path)}", *self._lines, *([line] if line else [])]
            self._console.print(*lines, sep="\n", highlight=False, markup=False)

            options, data, start = self._options, self.data, self._start
            self._scoring, self._timing = Scoring(), Timing()
            measurements = Measurements(self._scoring, data.problem.metric, data.tasks_per_step, options.log_every)
            origin = data.origin() | {"classes": self._classes.plain()}
            self._saving = saving = Saving(folder.checkpoints, record, origin, self._scoring, options)
            progress = ProgressBar(self._scoring, self._console, measurements, saving, options.heartbeat)
            finiteness = Finiteness(self._console, folder, options.stop_after_non_finite)
            callbacks = [EmbedOnce(progress.part), self._timing, self._scoring, saving, finiteness, measurements, progress]
            self._trainer = trainer = options.trainer([*callbacks, StopsTest()], self._loggers)
            self._open.enter_context(ending_together(trainer))
            for logger in self._loggers:
                logger.log_hyperparams(record)
                if isinstance(logger, CsvLogger):
                    logger.continue_from(start.step)

            STOP.check()
            STOP.waits_for = "this step and a checkpoint"
            with saving.resuming(start.checkpoint):
                if options.max_steps:
                    trainer.fit(self.algorithm, data, ckpt_path=start.checkpoint)
                else:
                    trainer.validate(self.algorithm, data, ckpt_path=start.checkpoint, verbose=False)
            STOP.check()  # a signal may arrive after the last step
            refuse_missing_folder(folder.path)
            refuse_no_best(folder.checkpoints)
            self._trained = True
        return self

    def test(self) -> Report:
        """Score the best checkpoint on the test episodes, and write the report to the run's folder.

        Returns:
            The report: `score` is the mean over episodes, and `ci95` the half-width of its 95 % confidence interval.

        Raises:
            BadInput: if `fit` was not called.
            GaveUp: if predictions are not finite.
            KeyboardInterrupt: if the user interrupts it.
        """
        if self._report is not None:
            return self._report
        if not self._trained:
            raise BadInput(
                "this experiment has not been trained: call fit() first (with trainer.max_steps=0 it only validates)"
            )
        with self._whole():
            STOP.waits_for = "these episodes"
            refuse_missing_folder(self.folder)
            config, checkpoint = self.config, self.folder / "checkpoints" / BEST
            best = read_checkpoint(checkpoint)
            self.algorithm.load_state_dict(best["state_dict"])
            algo, step = config["algo"]["name"], best["global_step"]
            tested = Tested(algo, checkpoint, step, config["seed"], self._classes, self.data.name)
            evaluation = test(
                self._trainer, self.algorithm, self.data, self._scoring, self._timing, "test", config["curve"], tested
            )
            STOP.check()
            STOP.waits_for = "the report"
            refuse_missing_folder(self.folder)
            if is_first_process():
                pictures = write_evaluation(evaluation, self.algorithm, self.data, config["pictures"], self.folder)
                # W&B gets the metrics in its summary: logged here, they would appear as curves with one point.
                csv = [logger for logger in self._loggers if isinstance(logger, CsvLogger)]
                log(csv, evaluation.report.metrics(), self._trainer.global_step)
                log_evaluation(evaluation, pictures, self._loggers, checkpoint)
            self._report = evaluation.report
            self._open.close()
        return self._report

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        if self._folder is None:
            raise BadInput("this experiment has no folder yet: call fit() first")
        return self._folder.path

    @property
    def best_score(self) -> float:
        """The validation score of the best checkpoint."""
        if not self._trained or self._saving.best_score is None:
            raise BadInput("this experiment has no score yet: call fit() first")
        return self._saving.best_score

    @property
    def learner(self) -> Learner:
        """The best checkpoint as a learner that can be fitted to new examples."""
        return self.learner_on("auto")

    def learner_on(self, device: Device) -> Learner:
        """The best checkpoint as a learner on a device.

        Args:
            device: a device such as "cpu".

        Raises:
            BadInput: if `fit` was not called.
        """
        if not self._trained:
            raise BadInput("this experiment has not been trained: call fit() first")
        return load(self.folder / "checkpoints" / BEST, device)

    def close(self) -> None:
        """Release the run's folder and finish its loggers. `test` does this as well."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        what = f"{self.config['algo']['name']} on {self.config['data']['name']}"
        state = "tested" if self._report else "trained" if self._trained else "built" if self._built else "not built yet"
        return f"<Experiment: {what}, {state}>"

    def _claim(self, record: Container) -> RunFolder:
        if self._start.continued is not None:
            read_rows(self._start.continued / METRICS)  # refuses a broken table before anything in the folder is changed
        return self._start.folder(self.config["folder"], record)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Keep the opened resources if the block succeeds, and close them if it raises an error."""
        with STOP.as_keyboard_interrupt(), ExitStack() as ends:
            ends.push(self._open)
            yield
            ends.pop_all()
