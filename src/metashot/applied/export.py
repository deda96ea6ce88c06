"""Export of a fitted learner to ONNX, for programs without torch: images between 0 and 1 in, class probabilities out.

The adapted state is constant in the graph, and so are the support set's statistics where they normalise the queries.
"""

import copy
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from metashot.algorithms.features import FeatureLearner
from metashot.applied.class_learner import ClassLearner, VectorLearner
from metashot.applied.images import Form, as_inputs, normalised
from metashot.applied.learner import Learner
from metashot.applied.text_learner import TextLearner
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation, normalisations
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from metashot.files.outputs import PRODUCER, named_file, refuse_to_replace, write_output
from metashot.version import __version__

NEEDED = {"onnx": "1.23.2", "onnxruntime": "1.31.1", "onnxscript": "0.7.2"}
INPUT, OUTPUT = "images", "probabilities"
_TRACED, _OTHERS = 2, (1, 3, 17)  # batch sizes: of the traced batch, and of the batches that check the graph
_TOLERATED = 1e-3  # difference of a probability: distances between large features lose digits, in torch as elsewhere


def refuse_export(learner: Learner) -> None:
    """Raise `BadInput` where an export is known to fail before anything is fitted."""
    refuse_without_onnx()
    if isinstance(learner, VectorLearner | TextLearner):
        items = "texts" if isinstance(learner, TextLearner) else "vectors"
        raise BadInput(
            f"export is for learners of images, and this {learner.name} was trained on {items}: keep it with learner.save"
        )
    if not isinstance(learner, ClassLearner) or not isinstance(learner.algorithm, FeatureLearner):
        raise BadInput(
            f"export is for learners that compare features, and this {learner.name} changes its network for each task: use "
            "one such as protonet, matching, relation, siamese, snail or baseline, or keep it with learner.save"
        )
    if not learner.algorithm.answers_in_a_graph:
        raise BadInput(
            f"export is for learners whose graph answers any number of queries, which that of this {learner.name} does not: "
            "use one such as protonet, or keep it with learner.save"
        )
    if learner.algorithm.backbone.transductive:
        raise BadInput(
            "export is for learners that answer each image alone, and this one normalises all queries together "
            "(backbone.normalisation=transductive): train with running, support or support_later"
        )
    if learner.transductive:
        raise BadInput(
            f"export is for learners that answer each image alone, and this {learner.name} answers all queries together, "
            "whatever its normalisation: use one such as protonet or logistic, or keep it with learner.save"
        )


def refuse_without_onnx() -> None:
    """Raise `BadInput` where a package is missing that writes or checks graphs."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        # Without the bound on numpy, the dependencies of onnx would install numpy 2, which learn2learn does not support.
        wanted = " ".join([*(f"{name}=={version}" for name, version in NEEDED.items()), "'numpy<2'"])
        raise BadInput(f"export= needs {' and '.join(missing)}, which the extra onnx installs: pip install {wanted}")


def export(learner: Learner, path: str | Path, key: str = "path") -> Path:
    """Write a fitted learner as ONNX, after checking the graph's probabilities against PyTorch's.

    The graph takes float32 images [N, channels, height, width] between 0 and 1, already in the learner's form (its shape
    and, for drawings, bright ink), and returns float32 probabilities [N, classes]. The file's metadata has the class names.

    Args:
        learner: A fitted learner of images that compares features, such as ProtoNet.
        path: The file to write.
        key: The argument or configuration key that error messages name.

    Returns:
        The path of the file that was written.

    Raises:
        BadInput: The learner cannot be exported, the graph disagrees with PyTorch, or the file cannot be written.
    """
    refuse_export(learner)
    assert isinstance(learner, ClassLearner)
    assert isinstance(learner.algorithm, FeatureLearner)
    place = named_file(path, key, "pets.onnx")
    refuse_to_replace(place, key, "graph")
    content = _as_onnx(_graph_of(learner), learner)
    _refuse_other_answers(content, learner)
    write_output(place, content, key, "graph")
    return place


class _Graph(nn.Module):
    """Maps images between 0 and 1 to class probabilities."""

    def __init__(self, algorithm: FeatureLearner, learned: Any, form: Form, classes: int) -> None:
        super().__init__()
        self.algorithm = algorithm
        self.learned = learned
        self.form = form
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        x = normalised(images, self.form).to(next(self.algorithm.parameters()).dtype)
        answers: Tensor = self.algorithm.calibration(self.algorithm.answer_queries(self.learned, x[None])[0])  # [N, outputs]
        probabilities: Tensor = answers[:, : self.classes].softmax(-1)
        return probabilities.float()


class _Exportable(TorchFunctionMode):
    """Replaces operations that ONNX lacks with equivalent ones.

    Tracing cannot read the labels, but the number of classes is known and the support examples are sorted by label.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is F.one_hot and len(args) == 1 and "num_classes" not in given:
            return func(args[0], num_classes=self.classes)
        if func in (Tensor.sort, Tensor.argsort) and given.get("stable"):
            order = torch.arange(args[0].shape[-1]).expand_as(args[0])
            return order if func is Tensor.argsort else (args[0], order)
        if func is torch.cdist and given.get("p") == 1:
            a, b = args
            return (a.unsqueeze(-2) - b.unsqueeze(-3)).abs().sum(-1)
        return func(*args, **given)


def _graph_of(learner: ClassLearner) -> _Graph:
    algorithm = copy.deepcopy(learner.algorithm).cpu()
    assert isinstance(algorithm, FeatureLearner)
    kept = learner.examples
    dtype = next(algorithm.parameters()).dtype
    x = as_inputs(kept.x.numpy(), learner.form, torch.device("cpu"), dtype)
    support = Examples(x[None], kept.y[None], names=(tuple(learner.classes_.tolist()),))
    with torch.no_grad():
        _fix_statistics(algorithm, support)
        return _Graph(algorithm, algorithm.adapt(support), learner.form, len(learner.classes_)).eval()


def _fix_statistics(algorithm: FeatureLearner, support: Examples) -> None:
    """Store the support set's statistics, which are the same for all queries, as running averages."""
    found: dict[Normalisation, tuple[Tensor, Tensor]] = {}

    def note(layer: Normalisation, inputs: tuple[Tensor, int, int]) -> None:
        x, _, count = inputs
        variance, mean = torch.var_mean(x[:count], [d for d in range(x.dim()) if d != 1], correction=0)
        found[layer] = mean, variance

    hooks = [layer.register_forward_pre_hook(note) for layer in normalisations(algorithm) if layer.by_support]
    if not hooks:
        return
    algorithm(support, support.x[:, :1])
    for hook in hooks:
        hook.remove()
    for layer, (mean, variance) in found.items():
        layer.register_buffer("running_mean", mean)
        layer.register_buffer("running_var", variance)
        layer.protocol = "running"
    for module in algorithm.modules():
        if isinstance(module, Backbone):
            module.normalisation = "running"


def _as_onnx(graph: _Graph, learner: ClassLearner) -> bytes:
    classes = json.dumps([_as_json(label) for label in learner.classes_.tolist()], ensure_ascii=False)
    return bytes(graph_of_module(graph, learner, OUTPUT, graph.classes, {"classes": classes}).SerializeToString())


def graph_of_module(module: nn.Module, learner: ClassLearner, output: str, classes: int, told: Mapping[str, str]) -> Any:
    """A module that maps images between 0 and 1 as an ONNX model for any number of images.

    Args:
        module: The module, on the CPU.
        learner: The learner that it belongs to, which the metadata describe.
        output: The name of the graph's output.
        classes: The number of classes of the support set, where the module knows one.
        told: Further metadata.

    Raises:
        BadInput: It cannot be written as ONNX.
    """
    import onnx

    example = torch.zeros(_TRACED, *learner.form.shape)
    any_number = {INPUT: {0: torch.export.Dim(INPUT, min=1)}}
    try:
        with (
            _quietly(),
            torch.enable_grad(),
            _Exportable(classes),
        ):  # without gradients, a relation network splits its batch of tasks
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[output],
                dynamic_shapes=any_number,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise BadInput(
            f"this {learner.name} cannot be written as ONNX: {reason}; keep it with learner.save instead"
        ) from error
    assert program is not None
    model = program.model_proto
    model.producer_name, model.producer_version = PRODUCER, __version__
    channels, height, width = learner.form.shape
    onnx.helper.set_model_props(
        model,
        {
            **told,
            "input": json.dumps({"channels": channels, "height": height, "width": width, "range": [0, 1]}),
            "fit": learner.form.fit,
            "enlarging": learner.form.enlarging,
            "bright_ink": json.dumps(learner.form.inverted != "never"),
            "algorithm": learner.name,
            "trained_on": learner.network.trained_on,
            "metashot": __version__,
        },
    )
    return model


def session_of(content: bytes) -> Any:
    """A session of ONNX Runtime, which computes a graph on the CPU without printing anything."""
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _refuse_other_answers(content: bytes, learner: ClassLearner) -> None:
    """Raise `BadInput` where the graph and PyTorch disagree.

    They are compared on the support images and on blends of two of them, in batch sizes other than the traced one.
    """
    session = session_of(content)
    random, support = np.random.default_rng(0), learner.examples.x.numpy()
    pairs = [support[random.integers(0, len(support), (2, count))] for count in _OTHERS]
    batches = [support, *((first // 2 + second // 2) for first, second in pairs)]
    for pixels in batches:
        (found,) = session.run([OUTPUT], {INPUT: pixels.astype(np.float32) / 255})
        difference = float(np.abs(found - learner.probabilities(pixels)).max())
        if not difference <= _TOLERATED:
            raise BadInput(
                f"the ONNX graph of this {learner.name} gives other answers than PyTorch (probabilities differ by "
                f"{difference:.2g}) and was not written; keep the learner with learner.save instead"
            )


def _as_json(label: Any) -> Any:
    """The label as a JSON value."""
    return label if isinstance(label, str | int | float | bool | type(None)) else repr(label)


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporter's progress messages and warnings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
