"""Dense labelling (segmentation): each pixel of a query belongs to a class of its task.

The score is the mean intersection over union of an episode (Everingham et al. 2015, "The PASCAL Visual Object Classes
Challenge: A Retrospective", section 4.2): intersections and unions are summed over the pixels of all queries, divided for
each class, and averaged over the classes that occur in the episode's labels or predictions. It is not the mean over queries,
in which a few pixels of a class in one image would weigh as much as an image full of that class.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.problems.base import Loss, Problem

IGNORED = 255  # the label of pixels that belong to no class: neither trained on nor scored
MOST_CLASSES = 255  # labels are bytes, and the last value is `IGNORED`


def _losses(answers: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy of each query, averaged over its labelled pixels; 0 for a query without labelled pixels."""
    # With classes last, the loss is deterministic on GPUs; torch's kernel for 2D maps is not.
    logits, labels = answers.movedim(-3, -1).flatten(0, -2), y.long().flatten()
    of_pixels = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none").view(y.shape)  # 0 where ignored
    return of_pixels.flatten(-2).sum(-1) / (y != IGNORED).flatten(-2).sum(-1).clamp_min(1)


def _loss(answers: Tensor, y: Tensor) -> Tensor:
    return _losses(answers, y).mean()


class DenseLabels(Problem):
    """Answers are logits [T, Q, classes, height, width], targets are labels [T, Q, height, width], where pixels labelled
    `IGNORED` do not count. The score is the mean intersection over union; a task without labelled pixels has none (NaN)."""

    kind = "dense labelling"
    metric = "mean_iou"
    in_percent = True
    higher_is_better = True
    picture = "masks"
    has_classes = True
    inner_losses: ClassVar[Mapping[str, Loss]] = {"cross_entropy": _loss}

    def __init__(self, outputs: int) -> None:
        if outputs > MOST_CLASSES:
            raise BadInput(f"{outputs} classes were given for the pixels of a task; allowed: at most {MOST_CLASSES}")
        super().__init__(outputs)

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        return _losses(answers, y)

    def statistics(self, answers: Tensor, y: Tensor) -> Tensor:
        """The intersection and the union of each class, in pixels, as integers: [T, 2 * outputs]."""
        tasks, classes = len(answers), answers.shape[2]
        if classes > self.outputs:
            raise ValueError(f"answers have {classes} classes, and tasks have {self.outputs} at most")
        labelled = y != IGNORED
        if (labelled & ((y < 0) | (y >= classes))).any():  # would be counted as another class
            raise ValueError(f"a label is not one of the {classes} classes of its task, nor {IGNORED}")
        # One bin for each pair of classes of each task, and one more per task for ignored pixels.
        pair = torch.where(labelled, y.long() * classes + answers.argmax(2), classes**2).flatten(1)
        task = torch.arange(tasks, device=y.device).unsqueeze(1)
        counts = (pair + task * (classes**2 + 1)).flatten().bincount(minlength=tasks * (classes**2 + 1))
        confusion = counts.view(tasks, -1)[:, :-1].view(tasks, classes, classes)  # rows: labels; columns: predictions
        intersection = confusion.diagonal(dim1=1, dim2=2)
        union = confusion.sum(1) + confusion.sum(2) - intersection
        per_class = torch.stack([intersection, union], dim=2).flatten(1)
        return F.pad(per_class, (0, 2 * (self.outputs - classes)))  # pads with classes that occur nowhere

    def score_of(self, statistics: Tensor) -> Tensor:
        intersection, union = statistics.view(*statistics.shape[:-1], -1, 2).unbind(-1)
        per_class = intersection / union.clamp_min(1)
        return per_class.sum(-1) / (union > 0).sum(-1)
