"""What YOLOv3 learns from: boxes, objectness and classes at predictions matched by the shapes of their anchors.

Two criteria, chosen by `kind`:

* "modern": every anchor like enough to a truth learns it, in each cell its centre can be reached from (see
  `falconet.training.assign.anchor_iou`). Boxes: complete IoU (arXiv:1911.08287). Objectness: quality focal loss
  (arXiv:2006.04388) towards the IoU that the box has, so that a score says how good the box is. Classes: binary
  cross entropy. Predictions without a truth that overlap one by more than `MODERN_IGNORE` are left out.
* "classic": one anchor per truth; https://github.com/bubbliiiing/yolo3-pytorch (MIT), `YOLOLoss`, which changes
  the paper's objectness (balanced over the levels) and boxes (GIoU). "classic-xywh" has the paper's boxes: cross
  entropy of the centre, squared error of the sides' logarithms, small boxes counting more.

Where the classic ones differ from the source: of a batch in which nothing is matched on a level, that level's boxes
and classes get gradients of zero instead of none; probabilities are not clipped to 1e-7 from 0 and 1.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.detector import Detector
from falconet.models.types import ForwardOutputs, HeadOutputs, Priors
from falconet.models.yolov3 import YOLOv3Config, YOLOv3Head, YOLOv3HeadConfig, decode_boxes
from falconet.training import losses
from falconet.training.assign.anchor_iou import AnchorGrid, Matches, Pairs, best_anchor, every_good_anchor, unique
from falconet.training.assign.matched import left_out
from falconet.training.batch import Targets
from falconet.training.distributed import mean_over_processes
from falconet.training.progress import Progress

BOX_WEIGHT, OBJECTNESS_WEIGHT, CLASS_WEIGHT = 4.0, 1.0, 1.0
LEAST_SHAPE_IOU = 0.25
"""Shape IoU from which on an anchor learns a truth; YOLOv4's 0.213 was chosen for one cell per truth."""
MODERN_IGNORE = 0.7

CLASSIC_BOX, CLASSIC_OBJECTNESS, CLASSIC_CLASS = 0.05, 5.0, 1.0
"""Weights at the reference input of 416 x 416 and 80 classes."""
CLASSIC_IGNORE = 0.5
CLASSIC_BALANCE = (4.0, 1.0, 0.4)
"""Weight of the objectness of each level, finest first; that of two levels takes the last two."""
CLASSIC_XYWH = 0.1


class YOLOv3CriterionConfig(Config):
    """How YOLOv3 learns."""

    name: Literal["yolov3"] = "yolov3"
    kind: Literal["modern", "classic", "classic-xywh"] = Field(
        default="modern", description="how boxes find anchors, and what they lose: see docs/models/yolov3.md"
    )


def build(
    settings: YOLOv3CriterionConfig,
    model: YOLOv3Config,
    detector: Detector,
    *,
    num_classes: int,  # noqa: ARG001 (of every criterion's builder; this one has no weights of its own)
) -> nn.Module:
    """The criterion for a detector built from `model`. It stays the same from the first step to the last."""
    head = detector.head
    assert isinstance(head, YOLOv3Head), "YOLOv3's criterion needs its head"
    if settings.kind == "modern":
        return ModernCriterion(head)
    return ClassicCriterion(head, model.head, xywh=settings.kind == "classic-xywh")


class ModernCriterion(nn.Module):
    """Terms "box", "objectness" and "class".

    Args:
        head: of the detector.
    """

    def __init__(self, head: YOLOv3Head) -> None:
        super().__init__()
        self.strides = head.strides
        self.center_reach = head.center_reach
        self.register_buffer("anchors", head.anchors.clone(), persistent=False)

    def forward(self, outputs: ForwardOutputs, targets: Targets, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """The weighted terms of the loss, scalars in float32; every parameter of the detector gets a gradient."""
        with torch.autocast(outputs.raw.logits.device.type, enabled=False):
            grid = _grid(outputs, self.strides, self.anchors)
            return modern_terms(outputs.raw, targets, grid, center_reach=self.center_reach)


class ClassicCriterion(nn.Module):
    """Terms "box", "objectness" and "class", added up over the levels.

    Args:
        head: of the detector.
        config: of the head: all anchors compete, also those in no mask.
        xywh: the paper's box loss instead of GIoU.
    """

    def __init__(self, head: YOLOv3Head, config: YOLOv3HeadConfig, *, xywh: bool) -> None:
        super().__init__()
        self.strides = head.strides
        self.center_reach = head.center_reach
        self.masks = config.masks
        self.xywh = xywh
        self.register_buffer("anchors", head.anchors.clone(), persistent=False)
        self.register_buffer("all_anchors", torch.tensor(config.anchors, dtype=torch.float32), persistent=False)

    def forward(self, outputs: ForwardOutputs, targets: Targets, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """The weighted terms of the loss, scalars in float32; every parameter of the detector gets a gradient."""
        with torch.autocast(outputs.raw.logits.device.type, enabled=False):
            grid = _grid(outputs, self.strides, self.anchors)
            pairs = best_anchor(targets, grid, anchors=self.all_anchors, masks=self.masks)
            levels = classic_terms(outputs.raw, targets, grid, pairs, center_reach=self.center_reach, xywh=self.xywh)
        return {name: values.sum() for name, values in levels.items()}


def modern_terms(raw: HeadOutputs, targets: Targets, grid: AnchorGrid, *, center_reach: float) -> dict[str, Tensor]:
    """Weighted terms of the modern loss, divided by the number of matched predictions (at least 1).

    The divisor is averaged over the processes of a distributed run.
    """
    assert raw.objectness is not None, "this head predicts objectness"
    matches = every_good_anchor(targets, grid, least_shape_iou=LEAST_SHAPE_IOU, center_reach=center_reach)
    boxes = _boxes_at(raw, matches, center_reach=center_reach)
    truths = targets.boxes[matches.images, matches.truths]
    labels = targets.labels[matches.images, matches.truths]

    quality = losses.iou(boxes.detach(), truths)
    objectness = losses.quality_focal_loss(
        raw.objectness.flatten(0, 1), matches.rows, torch.zeros_like(matches.rows), quality
    )
    counted = ~overlapping(raw, targets, center_reach=center_reach, threshold=MODERN_IGNORE).flatten()
    counted[matches.rows] = True
    counted = _without_ignored(counted, raw, targets, matches)
    logits = losses.at_least_float32(raw.logits.flatten(0, 1)[matches.rows])
    one_hot = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    classes = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum")
    box = losses.complete_iou_loss(boxes, truths).sum()

    divisor = mean_over_processes(quality.new_tensor(float(len(quality)))).clamp(min=1)
    return {
        "box": BOX_WEIGHT * (box + _nothing(raw.box_code)) / divisor,
        "objectness": OBJECTNESS_WEIGHT * (objectness * counted).sum() / divisor,
        "class": CLASS_WEIGHT * (classes + _nothing(raw.logits)) / divisor,
    }


def classic_terms(
    raw: HeadOutputs, targets: Targets, grid: AnchorGrid, pairs: Pairs, *, center_reach: float, xywh: bool
) -> dict[str, Float[Tensor, " L"]]:
    """Weighted terms of the classic loss for each level, finest first.

    Box and class terms are means over the level's matched predictions, the objectness term is one over its matched
    predictions and its background (neither matched nor ignored).
    """
    assert raw.objectness is not None, "this head predicts objectness"
    B, P, C = raw.logits.shape
    matches = unique(pairs, B * P, last=True)
    matched = torch.zeros(B * P, dtype=torch.bool, device=pairs.rows.device)
    matched[matches.rows] = True
    ignored = overlapping(raw, targets, center_reach=center_reach, threshold=CLASSIC_IGNORE).flatten()
    counted = _without_ignored(matched | ~ignored, raw, targets, matches)

    level = torch.arange(len(grid.sizes), device=pairs.rows.device)
    level = level.repeat_interleave(torch.tensor(grid.counts, device=level.device)).repeat(B)
    of_match = level[matches.rows]

    def mean(values: Float[Tensor, " N"], levels: Tensor) -> Float[Tensor, " L"]:
        sums, counts = values.new_zeros(2, len(grid.sizes)).unbind()
        sums, counts = sums.index_add(0, levels, values), counts.index_add(0, levels, torch.ones_like(values))
        return sums / counts.clamp(min=1)

    logits = losses.at_least_float32(raw.objectness.flatten())
    entropy = F.binary_cross_entropy_with_logits(logits, matched.to(logits.dtype), reduction="none")
    # What a prediction shall call a class: each of its truths leaves its mark.
    marks = logits.new_zeros(B * P, C)
    marks[pairs.rows, targets.labels[pairs.images, pairs.truths]] = 1
    class_logits = losses.at_least_float32(raw.logits.flatten(0, 1)[matches.rows])
    classes = F.binary_cross_entropy_with_logits(class_logits, marks[matches.rows], reduction="none").mean(1)
    if xywh:
        box = _xywh_loss(raw, targets, grid, matches, center_reach=center_reach)
    else:
        boxes = _boxes_at(raw, matches, center_reach=center_reach)
        box = losses.generalized_iou_loss(boxes, targets.boxes[matches.images, matches.truths])

    area = grid.sizes[0][0] * grid.sizes[0][1] * float(grid.strides[0]) ** 2
    balance = logits.new_tensor(CLASSIC_BALANCE[-len(grid.sizes) :])
    return {
        "box": CLASSIC_BOX * (mean(box, of_match) + _nothing(raw.box_code)),
        "objectness": CLASSIC_OBJECTNESS * area / 416**2 * balance * mean(entropy[counted], level[counted]),
        "class": CLASSIC_CLASS * C / 80 * (mean(classes, of_match) + _nothing(raw.logits)),
    }


@torch.no_grad()
def overlapping(raw: HeadOutputs, targets: Targets, *, center_reach: float, threshold: float) -> Bool[Tensor, "B P"]:
    """Whether the predicted box has an IoU above `threshold` with any truth of its image."""
    if targets.mask.shape[1] == 0:
        return torch.zeros(raw.logits.shape[:2], dtype=torch.bool, device=raw.logits.device)
    boxes = decode_boxes(losses.at_least_float32(raw.box_code), raw.priors, center_reach=center_reach)
    truths = targets.boxes.masked_fill(~targets.mask.unsqueeze(-1), 0)
    return losses.iou(truths.unsqueeze(2), boxes.unsqueeze(1)).amax(1) > threshold


def _without_ignored(
    counted: Bool[Tensor, " BP"], raw: HeadOutputs, targets: Targets, matches: Matches
) -> Bool[Tensor, " BP"]:
    """`counted` without predictions that have no truth and whose cell has its middle in an ignored area."""
    nothing = left_out(raw.priors.points + raw.priors.strides / 2, targets, matches.rows)
    return counted if nothing is None else counted & ~nothing


def _xywh_loss(
    raw: HeadOutputs, targets: Targets, grid: AnchorGrid, matches: Matches, *, center_reach: float
) -> Float[Tensor, " N"]:
    """Cross entropy of the centre, squared error of the logarithms of the sides; small boxes count up to twice."""
    code = losses.at_least_float32(raw.box_code.flatten(0, 1)[matches.rows])
    priors = _priors_at(raw, matches)
    assert priors.anchors is not None, "boxes of this code stand on anchors"
    truths = targets.boxes[matches.images, matches.truths]
    sides = truths[:, 2:] - truths[:, :2]
    within = ((truths[:, :2] + truths[:, 2:]) / 2 - priors.points) / priors.strides
    wanted = ((within + (center_reach - 1) / 2) / center_reach).clamp(0, 1)
    centre = F.binary_cross_entropy_with_logits(code[:, :2], wanted, reduction="none").sum(1)
    logs = (sides / priors.anchors).clamp(min=1e-6).log()
    squares = (code[:, 2:] - logs).square().sum(1)
    rows, columns = grid.sizes[0]
    share = sides.prod(1) / (rows * columns * grid.strides[0] ** 2)
    return CLASSIC_XYWH * (2 - share) * (centre + squares)


def _boxes_at(raw: HeadOutputs, matches: Matches, *, center_reach: float) -> Float[Tensor, "N 4"]:
    code = losses.at_least_float32(raw.box_code.flatten(0, 1)[matches.rows])
    return decode_boxes(code, _priors_at(raw, matches), center_reach=center_reach)


def _priors_at(raw: HeadOutputs, matches: Matches) -> Priors:
    place = matches.rows % raw.logits.shape[1]
    assert raw.priors.anchors is not None, "boxes of this code stand on anchors"
    return Priors(raw.priors.points[place], raw.priors.strides[place], raw.priors.anchors[place])


def _grid(outputs: ForwardOutputs, strides: tuple[int, ...], anchors: Float[Tensor, "L A 2"]) -> AnchorGrid:
    return AnchorGrid.of([(level.shape[2], level.shape[3]) for level in outputs.neck], strides, anchors)


def _nothing(values: Tensor) -> Tensor:
    """0 with a gradient of zeros: where nothing matched, the term still reaches every parameter."""
    return 0 * losses.at_least_float32(values).sum()
