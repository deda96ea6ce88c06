"""What a browser computes from features: a plain description of a learner's head, and the same head as nodes of a graph.

A browser has the features of single images and the numbers of the head. With them it computes prototypes (ProtoNet),
attention to each example (matching networks without full context) and nearest neighbours (siamese networks), with the
temperature of the calibration, and how familiar a query looks.

In the graph, terms that are the same for all classes are left out, since the softmax does not change by them.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.metric.matching import Matching
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.algorithms.metric.siamese import Siamese
from metashot.applied.class_learner import ClassLearner
from metashot.applied.export import OUTPUT
from metashot.applied.learner import Learner
from metashot.bad_input import BadInput

FEATURES = "features"  # the output of the graph of a backbone

_FAMILIARITY = ("mean", "background", "share", "shots", "expected", "slope", "table")  # of queries that are judged alone
_WHICH = "protonet, matching (without full context) and siamese, with backbone.normalisation=running"
_SMALLEST = 1e-12  # length of a feature, as in torch.nn.functional.normalize
_LEAST = 1e-38  # probability whose logarithm is finite in 32 bits


@dataclass
class Numbers:
    """Arrays in one file, and where each of them is."""

    parts: list[NDArray[np.float64]] = field(default_factory=list)
    count: int = 0

    def keep(self, values: Tensor) -> dict[str, Any]:
        """Add an array; where a browser finds it."""
        array = values.detach().cpu().double().numpy().ravel()
        place = {"offset": self.count, "shape": list(values.shape)}
        self.parts.append(array)
        self.count += array.size
        return place

    def content(self) -> bytes:
        """All numbers in 64 bits, the least significant byte first."""
        content: bytes = np.concatenate([np.zeros(0), *self.parts]).astype("<f8").tobytes()
        return content


def refuse_head(learner: Learner) -> None:
    """Raise `BadInput` unless a browser can compute the answers of a learner."""
    algorithm, name = learner.algorithm, learner.name
    if not isinstance(learner, ClassLearner):
        raise BadInput(
            f"export=page is for learners that name the classes of images, and this {name} was trained on "
            f"{learner.origin['name']}: use another ckpt; allowed: {_WHICH}"
        )
    if not isinstance(algorithm, FeatureLearner):
        raise BadInput(
            f"export=page is for learners that a browser can compute, and this {name} changes its network for each task: "
            f"leave export out, and python -m metashot.page serves it; allowed: {_WHICH}"
        )
    if not algorithm.embeds_independently:
        raise BadInput(
            "export=page is for learners whose features of an image depend on no other image, and this one normalises "
            f"images by others (backbone.normalisation={algorithm.backbone.normalisation}): leave export out, and "
            f"python -m metashot.page serves it; allowed: {_WHICH}"
        )
    if type(algorithm) not in (ProtoNet, Matching, Siamese) or getattr(algorithm, "full_context", None) is not None:
        full = "with algo.full_context=true " if isinstance(algorithm, Matching) else ""
        raise BadInput(
            f"export=page is for learners that a browser can compute, which this {name} {full}is not: leave export out, and "
            f"python -m metashot.page serves it; allowed: {_WHICH}"
        )


def head_of(algorithm: FeatureLearner, numbers: Numbers) -> dict[str, Any]:
    """Describe the head of a learner that `refuse_head` allows.

    Args:
        algorithm: The algorithm of the learner.
        numbers: The file that takes its arrays.

    Returns:
        A JSON value, with the place of each array.
    """
    temperature = algorithm.calibration.temperature
    told: dict[str, Any] = {"calibration": 1.0 if temperature is None else float(temperature)}
    if isinstance(algorithm, ProtoNet):
        kind = algorithm.normalised.kind
        told |= {"kind": "prototypes", "distance": algorithm.distance, "normalise": kind}
        told |= {"temperature": float(algorithm.log_temperature.detach().exp())}
        if kind == "centre_l2":
            told["mean"] = numbers.keep(algorithm.normalised.mean)
    elif isinstance(algorithm, Matching):
        told |= {"kind": "attention", "temperature": float(algorithm.log_temperature.detach().exp())}
    else:
        assert isinstance(algorithm, Siamese)
        told |= {"kind": "neighbours", "neighbours": algorithm.neighbours, "loss": algorithm.loss}
        if algorithm.hidden is not None:
            told |= {"weight": numbers.keep(algorithm.hidden.weight), "bias": numbers.keep(algorithm.hidden.bias)}
        if algorithm.loss == "verification":
            told["alpha"] = numbers.keep(algorithm.alpha)
    return told


def familiarity_of(algorithm: FeatureLearner, numbers: Numbers) -> dict[str, Any] | None:
    """Describe what looks familiar to a learner; None where it has not learned that. Arguments are as in `head_of`."""
    learned = algorithm.familiarity
    if not learned.has_learned:
        return None
    return {name: numbers.keep(getattr(learned, name)) for name in _FAMILIARITY}


def graph_of_head(head: Mapping[str, Any], numbers: NDArray[np.float64]) -> Any:
    """The nodes of a graph that map features to class probabilities, with all initializers but those of a fit.

    A fit adds, in 32 bits:
    - prototypes: `head_weights` [features, classes] and, for distances, `head_offsets` [classes];
    - attention: `head_weights` [features, examples] and `head_members` [examples, classes];
    - neighbours: `head_weights` [features, examples] and `head_offsets` [examples], or `head_examples`
      [examples, features] where similarities are weighted absolute differences; `head_outsiders` [classes, examples],
      which is 1e30 at the examples of other classes, `head_k` [1] in 64-bit integers, `head_present` [classes, k] and
      `head_scales` [classes].
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [], "head", [], [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["images", "classes"])]
    )
    kept: dict[bytes, str] = {}

    def constant(values: Any, dtype: type = np.float32) -> str:
        array: NDArray[Any] = np.asarray(values, dtype)
        name = kept.setdefault(array.tobytes() + str((array.shape, dtype)).encode(), f"head_constant_{len(kept)}")
        if len(graph.initializer) < len(kept):
            graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def array(place: Mapping[str, Any]) -> NDArray[np.float64]:
        size: int = math.prod(place["shape"])
        values: NDArray[np.float64] = numbers[place["offset"] : place["offset"] + size].reshape(place["shape"])
        return values

    names: Iterator[str] = (f"head_value_{number}" for number in range(100))

    def node(kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        made = [next(names) for _ in range(outputs)]
        graph.node.append(helper.make_node(kind, list(inputs), made, name=f"node_{made[0]}", **attributes))
        return made[0]

    def unit(x: str) -> str:
        length = node("ReduceL2", x, constant([1], np.int64), keepdims=1)
        return node("Div", x, node("Max", length, constant(_SMALLEST)))

    x = FEATURES
    if head["kind"] == "prototypes":
        if head["normalise"] == "centre_l2":
            x = node("Sub", x, constant(array(head["mean"])))
        x = unit(x) if head["normalise"] != "none" else x
        if head["distance"] == "cosine":
            logits = node("MatMul", unit(x), "head_weights")
        else:
            logits = node("Add", node("MatMul", x, "head_weights"), "head_offsets")
    elif head["kind"] == "attention":
        attention = node("Softmax", node("MatMul", unit(x), "head_weights"), axis=1)
        of_classes = node("MatMul", attention, "head_members")
        logits = node("Div", node("Log", node("Max", of_classes, constant(_LEAST))), constant(head["calibration"]))
    else:
        if "weight" in head:
            x = node("Sigmoid", node("Gemm", x, constant(array(head["weight"])), constant(array(head["bias"])), transB=1))
        if head["loss"] == "verification":
            pairs = node("Abs", node("Sub", node("Unsqueeze", x, constant([1], np.int64)), "head_examples"))
            weighted = node("MatMul", pairs, constant(array(head["alpha"])[:, None]))
            similar = node("Squeeze", weighted, constant([2], np.int64))
        else:
            x = unit(x) if head["loss"] == "triplet" else x
            similar = node("Add", node("MatMul", x, "head_weights"), "head_offsets")
        by_class = node("Sub", node("Unsqueeze", similar, constant([1], np.int64)), "head_outsiders")
        nearest = node("TopK", by_class, "head_k", outputs=2, axis=2)
        present = node("Mul", nearest, "head_present")
        total = node("ReduceSum", present, constant([2], np.int64), keepdims=0)
        logits = node("Mul", total, "head_scales")
    graph.node.append(helper.make_node("Softmax", [logits], [OUTPUT], name="node_probabilities", axis=1))
    return graph
