"""A trained detector as the teacher of another one: what it predicts is learnt beside the boxes.

It sees the same augmented pixels in every step, so it answers where no annotation does: on pictures without labels, and
everywhere between the objects. Sources: "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531); class scores
with the quality focal loss of "Generalized Focal Loss" (arXiv:2006.04388, equation 3) against the teacher's; boxes as
in "Localization Distillation" (arXiv:2102.12252), whose temperature is 1 here, beside GIoU with the teacher's boxes,
which also holds between heads of different kinds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from falconet.core.errors import ConfigError
from falconet.core.run_files import find_weights
from falconet.core.suggest import listed
from falconet.models import Detector, Network
from falconet.models.class_rows import same_classes
from falconet.models.deployable import Normalize
from falconet.models.reparam import fuse
from falconet.models.types import HeadOutputs, Priors
from falconet.models.weights import load_weights
from falconet.training import losses
from falconet.training.distributed import mean_over_processes

CLASS_WEIGHT, BOX_WEIGHT, DISTRIBUTION_WEIGHT = 1.0, 1.0, 0.25

LEAST_SCORE = 0.05
"""Boxes of places that the teacher scores below this are not learnt from it."""

SHOWN = 10
"""Class names in a message."""


class Places(NamedTuple):
    """Where student and teacher predict for the same cell of the same level."""

    student: Int[Tensor, " M"]
    teacher: Int[Tensor, " M"]
    same_points: bool
    """whether distances mean the same in both: their points lie at the same place of the cell."""


class Teacher:
    """A trained detector that teaches.

    Args:
        weights: weights file or run folder.
        names: of the student's classes, which the teacher must know.
        student: what learns.

    Raises:
        ConfigError: no detector, a class that it does not know, or detectors that predict from anchors.
        ModelError: no weights there, or a broken file.
    """

    def __init__(self, weights: Path, names: Sequence[str], student: Network) -> None:
        path = find_weights(weights)
        network, card = load_weights(path)
        if not isinstance(network, Detector) or not isinstance(student, Detector):
            raise ConfigError(f"train.teacher={path}: a detector teaches a detector, and no classifier")
        places = same_classes(names, card.classes)
        unknown = [name for name, place in zip(names, places, strict=True) if place is None]
        if unknown:
            raise ConfigError(
                f"train.teacher={path}: does not know {listed(unknown, SHOWN)}; expected a detector trained on the "
                f"same classes (it knows {listed(card.classes, SHOWN)})"
            )
        self._columns = torch.tensor([place for place in places if place is not None])
        self._network = fuse(network).to(memory_format=torch.channels_last)
        self._normalize = Normalize(card.model.input)
        self._places: dict[tuple[int, ...], Places] = {}
        nothing = torch.zeros(1, 3, 64, 64)
        with torch.no_grad():
            ours = student.eval()(nothing.to(next(student.parameters()).device))
            its = self._network(nothing)
        student.train()
        if ours.priors.anchors is not None or its.priors.anchors is not None:
            raise ConfigError(
                f"train.teacher={path}: detectors that predict from anchors neither teach nor are taught; "
                "take NanoDet-Plus, NanoDet or PP-YOLOE for both"
            )

    def to(self, device: torch.device) -> "Teacher":
        """The same teacher, on a device."""
        self._network.to(device)
        self._normalize.to(device)
        self._columns = self._columns.to(device)
        return self

    @torch.no_grad()
    def __call__(self, pixels: UInt8[Tensor, "B H W 3"]) -> HeadOutputs:
        """What it predicts for a batch, as the loader delivers it."""
        return self._network.forward(self._normalize(pixels))

    def terms(self, student: Detector, raw: HeadOutputs, pixels: UInt8[Tensor, "B H W 3"]) -> dict[str, Tensor]:
        """The weighted terms "teacher_class", "teacher_box" and, between equal heads, "teacher_distribution".

        Args:
            student: what predicted `raw` for these pixels.
        """
        said = self(pixels)
        places = self._same_places(raw.priors, said.priors, tuple(pixels.shape[1:3]))
        with torch.autocast(pixels.device.type, enabled=False):
            logits = losses.at_least_float32(raw.logits)[:, places.student]
            scores = losses.at_least_float32(said.logits)[:, places.teacher][..., self._columns].sigmoid()
            sure = scores.amax(-1)
            taught = sure > LEAST_SCORE
            sums = mean_over_processes(torch.stack([sure.sum(), sure[taught].sum()])).clamp(min=1)
            entropy = F.binary_cross_entropy_with_logits(logits, scores, reduction="none")
            by_class = ((scores - logits.sigmoid()).square() * entropy).sum() / sums[0]
            weights = sure[taught] / sums[1]
            ours, its = _chosen(raw, places.student, taught), _chosen(said, places.teacher, taught)
            overlap = losses.generalized_iou_loss(student.decode(ours).boxes[0], self._network.decode(its).boxes[0])
            terms = {"teacher_class": CLASS_WEIGHT * by_class, "teacher_box": BOX_WEIGHT * (overlap * weights).sum()}
            # Neither box code of YOLOv3 gets here, so both are distributions.
            if places.same_points and ours.box_code.shape == its.box_code.shape:
                bins, wanted = (code.unflatten(-1, (4, -1)).log_softmax(-1) for code in (ours.box_code, its.box_code))
                difference = F.kl_div(bins, wanted, reduction="none", log_target=True).sum(-1).mean(-1)[0]
                terms["teacher_distribution"] = DISTRIBUTION_WEIGHT * (difference * weights).sum()
        return terms

    def _same_places(self, student: Priors, teacher: Priors, size: tuple[int, ...]) -> Places:
        """Predictions for the same cells; found once per size of the input."""
        if size not in self._places:
            ours, its = _cells(student), _cells(teacher)
            index = {cell: place for place, cell in enumerate(its)}
            pairs = [(place, index[cell]) for place, cell in enumerate(ours) if cell in index]
            first, second = (torch.tensor(side, device=student.points.device) for side in zip(*pairs, strict=True))
            same = bool(torch.equal(student.points[first], teacher.points[second].to(student.points.dtype)))
            self._places[size] = Places(first, second, same)
        return self._places[size]


def _cells(priors: Priors) -> list[tuple[int, int, int]]:
    """(stride, column, row) of each place."""
    cells = torch.cat([priors.strides, (priors.points / priors.strides).floor()], dim=1)
    return [tuple(row) for row in cells.long().tolist()]


def _chosen(raw: HeadOutputs, places: Int[Tensor, " M"], taught: Bool[Tensor, "B M"]) -> HeadOutputs:
    """The predictions of a batch that are `taught`, in float32, as those of a single image."""

    def pick(values: Float[Tensor, "B P X"]) -> Float[Tensor, "1 N X"]:
        return losses.at_least_float32(values[:, places][taught])[None]

    def pick_shared(values: Float[Tensor, "P X"]) -> Float[Tensor, "1 N X"]:
        return values[places].expand(len(taught), -1, -1)[taught][None]

    priors = Priors(pick_shared(raw.priors.points), pick_shared(raw.priors.strides))
    return HeadOutputs(pick(raw.logits), pick(raw.box_code), None, priors)
