"""The trained network behind learners, read from a checkpoint or a fitted learner's file. It never changes, and clones of a
learner share it."""

import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.generative.learner import GenerativeLearner
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.applied.estimating import Deadline, Estimate, estimated, refuse_estimate
from metashot.applied.forking import lock_for_forks
from metashot.applied.labelling import Suggestions, refuse_labelling, suggested
from metashot.applied.texts import TextReader
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.checkpoints.reading import read_checkpoint
from metashot.checkpoints.restoring import Origin, origin_of, trained_algorithm
from metashot.checkpoints.stored import BEST, OURS, checked_fitted, find_checkpoint, items_of
from metashot.configuration.buildable import TARGET, target_of
from metashot.configuration.plugins import enable, enabled
from metashot.engines.learn2learn import is_installed
from metashot.episodes import Episode, Examples
from metashot.files.archives import Unusable, read_archive
from metashot.files.outputs import FITTED, holds_fit
from metashot.sources.getting.files import printable
from metashot.sources.source import TOKENS
from metashot.version import __version__

FORMAT = 1  # version of the fitted learner's file

_AT_ONCE = 256  # queries in a batch, where queries are answered independently
_PATIENCE = 10.0  # seconds after which the user is told what takes so long
_BUILT = ("backbone", "engine", "algo")  # the configuration groups that define a learner
_LEARN2LEARN, _AUTO = "metashot.engines.learn2learn.Learn2Learn", "metashot.engines.choice.Auto"
_COMPILED = ("compile", "cuda_graph")
_NOUNS = {TOKENS: "text"}


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs of an algorithm, of which some are made at a time: those of many queries may not fit into memory together."""

    count: int
    made: Callable[[slice], Tensor]  # [n, ...] of the places of a slice

    def __len__(self) -> int:
        return self.count

    def parts(self, size: int) -> Iterator[Tensor]:
        yield from (self.made(slice(first, first + size)) for first in range(0, self.count, size))


@dataclass(eq=False)
class Support:
    """A support set whose features are computed once: before the fit, by it, where it embeds the examples anyway, or when
    needed."""

    inputs: Callable[[], Tensor]  # makes [S, ...], which is not kept
    y: Tensor  # [S], or [S, outputs]
    features: Tensor | None = None  # [S, features], set while the network is locked


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """An algorithm with its weights, its configuration, and the data that it was trained on.

    Only one thread at a time adapts or answers, and others wait: layers keep track of the inner step, and engines
    temporarily replace the weights by a task's.
    """

    algorithm: Algorithm
    config: dict[str, Any]
    origin: Origin
    device: torch.device
    path: Path  # the file that it was read from
    _used: threading.Lock = field(default_factory=lock_for_forks, repr=False)
    _announced_kinds: set[str] = field(default_factory=set, repr=False)

    @property
    def name(self) -> str:
        """The name of the algorithm."""
        return str(self.config["algo"]["name"])

    @property
    def trained_on(self) -> str:
        """The data that its weights come from: those of a frozen backbone, and its own where more was trained."""
        backbones = [module for module in self.algorithm.modules() if isinstance(module, Backbone)]
        public = next((one.external_data for one in backbones if one.frozen and one.external_data), None)
        if public is None:
            return str(self.origin["name"])
        return f"{public} and {self.origin['name']}" if self.algorithm.trains_for_tasks else public

    @property
    def noun(self) -> str:
        """What messages call an item."""
        return _NOUNS.get(items_of(self.origin), "image")

    @cached_property
    def reader(self) -> TextReader:
        """How a learner of texts reads them.

        Raises:
            BadInput: The tokenizer of its checkpoint cannot be used, or is not that of its backbone.
        """
        try:
            wanted = next((module.wants for module in self.algorithm.modules() if isinstance(module, Backbone)), None)
            return TextReader(self.origin, wanted)
        except BadInput as error:
            raise BadInput(f"{printable(self.path)} cannot be used: {error}") from error

    @property
    def dtype(self) -> torch.dtype:
        dtype = self.algorithm.dtype
        assert isinstance(dtype, torch.dtype)
        return dtype

    @contextmanager
    def held(self, what: str | None = None) -> Iterator[Algorithm]:
        """The algorithm for one thread, without gradients.

        Args:
            what: The work, which is announced where it takes long.
        """
        with self._used, _own_modes(), nullcontext() if what is None else self._announced(what):
            yield self.algorithm

    def weights(self) -> dict[str, Tensor]:
        with self._used:
            return {name: value.cpu() for name, value in self.algorithm.state_dict().items()}

    def learn(self, support: Support, classes: Sequence[Hashable]) -> Any:
        """Adapt to a support set.

        Args:
            support: The support set, whose features are kept where they are computed.
            classes: The labels that the targets stand for; empty for regression.

        Returns:
            The algorithm's adapted state.
        """
        y, algorithm = support.y.to(self.device), self.algorithm
        y = y.to(self.dtype) if y.is_floating_point() else y
        names = (tuple(classes),) if classes else None
        if support.features is not None:
            assert isinstance(algorithm, FeatureLearner)
            with self._used, _own_modes(), self._announced(f"learning {len(y):,} examples"):
                return algorithm.summary(Examples(support.features[None], y[None], names=names))
        x = support.inputs()
        examples = Examples(x[None], y[None], names=names)
        with self._used, _own_modes(), self._announced(f"learning {len(x):,} examples"):
            # Where there are more examples, adapting embeds them in one batch, which may round features differently.
            if len(x) > _AT_ONCE or not isinstance(algorithm, FeatureLearner) or not algorithm.embeds_independently:
                return algorithm.adapt(examples)
            features = _embedded(algorithm, torch.split(x, _AT_ONCE))
            learned = algorithm.summary(replace(examples, x=features))
            self._keep(support, features[0])
            return learned

    def answers(self, learned: Any, x: Inputs) -> NDArray[np.float64]:
        """The outputs [N, outputs] for N queries, from the adapted state; logits are calibrated."""
        size = len(x) if self.algorithm.transductive else _AT_ONCE
        parts = []
        with self._announced(f"answering {len(x):,} queries"):
            for part in x.parts(size):
                with self._used, _own_modes():
                    parts.append(self.algorithm.answer_queries(learned, part[None])[0])
        return self._calibrated(torch.cat(parts))

    def answers_to_features(self, learned: Any, features: Tensor) -> NDArray[np.float64]:
        """Like `answers`, for queries that `embedded` has embedded."""
        algorithm = self._embedding()
        size = len(features) if algorithm.transductive else _AT_ONCE
        with self._announced(f"answering {len(features):,} queries"):
            parts = []
            for part in torch.split(features, size):
                with self._used, _own_modes():
                    parts.append(algorithm.answer(learned, part[None])[0])
        return self._calibrated(torch.cat(parts))

    def answers_after_steps(self, support: Support, x: Inputs) -> NDArray[np.float64]:
        """The outputs [N, steps, outputs] for N queries after each of the inner steps that `watched_steps` names."""
        queries = torch.cat(list(x.parts(_AT_ONCE)))
        y = support.y.to(self.device)[None]
        nothing = y.new_zeros(1, len(queries))
        with self._used, _own_modes(), self._announced(f"answering {len(x):,} queries after each step"):
            examples = Examples(support.inputs()[None], y)
            episode = Episode(examples, Examples(queries[None], nothing), y.new_zeros(1), y.new_zeros(1, 0))
            answers = self.algorithm.answers_after_steps(episode)[0]
        return self._calibrated(answers.transpose(0, 1))

    @property
    def watched_steps(self) -> tuple[int, ...]:
        """The numbers of inner steps after which `answers_after_steps` answers; empty without an inner loop."""
        return self.algorithm.watched_steps

    @property
    def embeds_independently(self) -> bool:
        """Whether the answers follow from features, and those of an image depend on no other image."""
        return isinstance(self.algorithm, FeatureLearner) and self.algorithm.embeds_independently

    @property
    def has_similarities(self) -> bool:
        """Whether it has features of which those of queries and of examples can be compared."""
        return self.embeds_independently or isinstance(self.algorithm, GradientLearner)

    def embedded(self, x: Inputs) -> Tensor:
        """The features [N, features] of N images, each by itself."""
        algorithm = self._embedding()
        with self._announced(f"embedding {len(x):,} {self.noun}s"):
            parts = []
            for part in x.parts(_AT_ONCE):
                with self._used, _own_modes():
                    parts.append(algorithm.embed(part[None], support=0)[0])
        return torch.cat(parts)

    def similarities(self, learned: Any, support: Support, queries: Inputs | Tensor) -> NDArray[np.float64]:
        """The cosine similarity [N, S] of the features of queries and of support examples.

        Args:
            learned: The adapted state, whose features gradient-based learners compare.
            support: The support set.
            queries: The queries, or their features where they are embedded independently.
        """
        algorithm = self.algorithm
        with self._used, _own_modes(), self._announced("comparing queries"):
            if isinstance(algorithm, GradientLearner):
                assert isinstance(queries, Inputs)
                x = torch.cat(list(queries.parts(_AT_ONCE)))
                both = algorithm.features_after(learned, x[None])[0]
                known, asked = torch.split(both, [len(support.y), len(x)])
            else:
                assert isinstance(queries, Tensor)
                known, asked = self._known(support).x, queries
            similar = normalize(asked.double(), dim=-1) @ normalize(known.double(), dim=-1).T
        return np.asarray(similar.detach().cpu().numpy())

    def _embedding(self) -> FeatureLearner:
        assert isinstance(self.algorithm, FeatureLearner)
        assert self.embeds_independently
        return self.algorithm

    def _calibrated(self, outputs: Tensor) -> NDArray[np.float64]:
        answers = self.algorithm.calibration(outputs.detach().cpu().double()).numpy()
        if not np.isfinite(answers).all():
            raise BadInput(
                f"this {self.name} gives non-finite answers: the training of its checkpoint or its fit to these "
                "examples has diverged; take another checkpoint or other examples"
            )
        return np.asarray(answers)

    def are_unknown(self, support: Support, queries: Inputs | Tensor, rate: float, together: bool) -> NDArray[np.bool_]:
        """Whether each of N queries, or of the features of N, is of no class of a support set, at a rate of false alarms.

        Raises:
            BadInput: This learner cannot tell.
        """
        algorithm = self.algorithm
        algorithm.refuse_strangers()
        assert isinstance(algorithm, FeatureLearner)
        with self._used, _own_modes(), self._announced(f"comparing {len(queries):,} queries"):
            known = self._known(support)
            asked = queries[None] if isinstance(queries, Tensor) else _embedded(algorithm, queries.parts(_AT_ONCE))
            shown = Examples(known.x[None], known.y[None])
            familiar, threshold = algorithm.judge(shown, asked, rate, together)
        return np.asarray((familiar[0] < threshold[0]).cpu().numpy())

    def estimate(self, support: Support, names: list[str], deadline: Deadline) -> Estimate:
        """Estimate the accuracy on further queries from a support set, whose classes have these names, until a deadline.

        Raises:
            BadInput: It cannot be estimated.
        """
        algorithm = self._comparing("an estimate", "score it on labelled queries")
        refuse_estimate(algorithm, support.y, names)
        with self._locked(deadline), _own_modes(), self._announced(f"leaving out each of {len(support.y):,} examples"):
            known = self._known(support, deadline)
            found = estimated(algorithm, known.x, known.y, deadline)
        if not np.isfinite(found).all():
            raise BadInput(
                f"this {self.name} gives non-finite answers to left-out examples or to the validation classes that its "
                "checkpoint keeps: take another checkpoint, or score it on labelled queries"
            )
        return found

    def next_to_label(self, support: Support, pool: Inputs, n: int) -> Suggestions:
        """Choose n of the unlabelled items of a pool to label next, given a support set.

        Raises:
            BadInput: This learner cannot compare items, or its checkpoint has no validation classes.
        """
        algorithm = self._comparing("next_to_label()", "label any images")
        refuse_labelling(algorithm, self.noun)
        with self._used, _own_modes(), self._announced(f"comparing {len(pool):,} {self.noun}s"):
            features = _embedded(algorithm, pool.parts(_AT_ONCE))[0]
            return suggested(algorithm, self._known(support), features, n, self.noun)

    def generate(self, support: Support, n: int) -> NDArray[np.float64]:
        """Make n examples of each class of a support set, class by class: [classes * n, ...].

        Raises:
            BadInput: This learner makes none.
        """
        algorithm = self.algorithm
        if not isinstance(algorithm, GenerativeLearner):
            raise BadInput(
                f"this {self.name} makes no examples: use a learner that was trained with algo=vae, gan or vae_images"
            )
        with self._used, _own_modes(), self._announced(f"making {n:,} examples of each class"):
            made = algorithm.generated(self._known(support), n).x.detach().cpu().double()
        if not made.isfinite().all():
            raise BadInput(
                f"this {self.name} makes examples that are not finite, since the training of its checkpoint has diverged; "
                "take another checkpoint"
            )
        return np.asarray((made.view(-1, *self.origin["input_shape"]) if algorithm.needs_pixels else made).numpy())

    def _comparing(self, what: str, otherwise: str) -> FeatureLearner:
        """The algorithm, which is refused if it does not compare features."""
        if not isinstance(self.algorithm, FeatureLearner):
            raise BadInput(
                f"{what} is for learners that compare features, and this {self.name} changes its network for each task: "
                f"use one such as protonet, or {otherwise}"
            )
        return self.algorithm

    def _known(self, support: Support, deadline: Deadline | None = None) -> Examples:
        """The features [S, features] of a support set and its labels, while the network is locked."""
        features = support.features
        if features is None:
            assert isinstance(self.algorithm, FeatureLearner)
            features = _embedded(self.algorithm, torch.split(support.inputs(), _AT_ONCE), deadline)[0]
            self._keep(support, features)
        return Examples(features, support.y.to(self.device))

    def _keep(self, support: Support, features: Tensor) -> None:
        """Keep the features of a support set, unless the user's autocast has rounded them for this call."""
        if not torch.is_autocast_enabled(self.device.type):
            support.features = features

    @contextmanager
    def _locked(self, deadline: Deadline) -> Iterator[None]:
        """Wait for other threads, until a deadline."""
        used = self._used
        while not used.acquire(timeout=deadline.timeout):
            deadline.check()
        try:
            yield
        finally:
            used.release()

    @contextmanager
    def _announced(self, what: str) -> Iterator[None]:
        """Print a message where the work takes long: a file from an unknown source may ask for thousands of steps.

        It is printed once for each kind of work, which is the first word of `what`.
        """
        steps = (
            f", in the {self.algorithm.task_steps:,} steps that its configuration asks for,"
            if self.algorithm.task_steps
            else ""
        )
        message = f"{self.name} from {printable(self.path)}: still {what}{steps} after {_PATIENCE:.0f} s; Ctrl-C stops it"

        def announce() -> None:
            if (kind := what.split()[0]) not in self._announced_kinds:
                self._announced_kinds.add(kind)
                print(message, file=sys.stderr, flush=True)

        timer = threading.Timer(_PATIENCE, announce)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def __deepcopy__(self, memo: dict[int, Any]) -> "TrainedNetwork":
        return self

    def __reduce__(self) -> Any:
        """A lock cannot be pickled: the other process builds the network again, with a lock of its own."""
        return made, (self.config, self.origin, self.weights(), self.path, str(self.device), enabled())


def _embedded(algorithm: FeatureLearner, batches: Iterable[Tensor], deadline: Deadline | None = None) -> Tensor:
    """The features of inputs [n, ...] in batches, each by itself: [1, N, features]."""
    parts = []
    for part in batches:
        if deadline is not None:
            deadline.check()
        parts.append(algorithm.embed(part[None], support=0))
    return torch.cat(parts, dim=1)


def read_network(checkpoint: str | os.PathLike[str], device: str | torch.device) -> TrainedNetwork:
    """Read the network from a checkpoint, the folder of a run (its best checkpoint), or a fitted learner's file."""
    path = find_checkpoint(checkpoint, "checkpoint", BEST)
    if holds_fit(path):
        content = fitted_content(path)
        return made(content["config"], content["origin"], content["weights"], path, device)
    stored = read_checkpoint(path)
    return made(stored[OURS]["config"], origin_of(stored, path), stored["state_dict"], path, device)


def made(
    config: dict[str, Any],
    origin: Origin,
    weights: dict[str, Tensor],
    path: Path,
    device: Any,
    plugins: Sequence[str] = (),
) -> TrainedNetwork:
    """Build the network that a configuration describes.

    Args:
        config: The configuration that it was trained with.
        origin: The data that it was trained on.
        weights: Its state dict.
        path: The file that all this was read from, for messages.
        device: As in `metashot.load`.
        plugins: Packages to enable first; when unpickling, the plugins of the process that pickled the network.

    Raises:
        BadInput: The configuration or the weights cannot be used, or this machine lacks the device.
    """
    enable(plugins)
    place = _device(device)
    for group in (*_BUILT, "data"):
        if not isinstance(config.get(group), dict):
            raise BadInput(f"{printable(path)}: its configuration has no {group}; it was not written by metashot")
    # Compiling takes minutes, which does not pay off for one task.
    engine = {key: key not in _COMPILED and value for key, value in config["engine"].items()}
    # Networks trained with learn2learn also work without it: the other engines give the same answers.
    if engine.get(TARGET) == _LEARN2LEARN and not is_installed():
        engine = {TARGET: _AUTO}
    config = config | {"engine": engine}
    try:
        configuration.check({"seed": 0, **{group: config[group] for group in _BUILT}})
        target_of(config["data"].get("source"), "data.source")
    except BadInput as error:
        raise BadInput(f"{printable(path)}: {error}") from error
    with _own_modes(), torch.random.fork_rng(devices=[]):
        double = any(value.dtype == torch.float64 for value in weights.values())
        algorithm = trained_algorithm(config, origin, weights, path, double)
        algorithm.to(place).eval()
    network = TrainedNetwork(algorithm, config, origin, place, path)
    if items_of(origin) == TOKENS:
        _ = network.reader  # a tokenizer that cannot be used is refused here, and not when something is fitted
    return network


def fitted_content(path: Path) -> dict[str, Any]:
    """Read and check the content of a file that `learner.save` wrote."""
    if not path.is_file():
        raise BadInput(f"there is no fitted learner {printable(path)}")
    try:
        content = read_archive(path)
        if isinstance(content, dict) and OURS in content:
            raise BadInput(f"{printable(path)} is a checkpoint: read it with metashot.load, and fit it")
        if not isinstance(content, dict) or FITTED not in content:
            raise BadInput(f"{printable(path)} is not a fitted learner; allowed: a file that learner.save wrote")
        if type(content[FITTED]) is not int or content[FITTED] != FORMAT:
            raise BadInput(
                f"{printable(path)} was written by metashot {printable(str(content.get('version'))[:50])} in a form that "
                f"this one, {__version__}, cannot read: save it again with this one"
            )
        return checked_fitted(content)
    except Unusable as error:
        raise BadInput(
            f"the fitted learner {printable(path)} cannot be used: {error}; allowed: a file that learner.save wrote"
        ) from error


@contextmanager
def _own_modes() -> Iterator[None]:
    """Leave the user's inference mode, in which engines could not compute the gradients that they need."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _device(given: Any) -> torch.device:
    if isinstance(given, str) and given == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(given)
        if device.type in ("cpu", "cuda", "mps"):
            torch.zeros(1, device=device)
            return device
        why = "it is of another kind"
    except (RuntimeError, AssertionError, TypeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
    raise BadInput(
        f"device={given} cannot be used ({why}); allowed: auto, cpu, cuda, cuda:1 or mps, where this machine has it"
    )
