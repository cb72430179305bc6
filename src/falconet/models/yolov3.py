"""YOLOv3: Redmon, Farhadi, "YOLOv3: An Incremental Improvement" (arXiv:1804.02767); layers as in the configuration
files of https://github.com/pjreddie/darknet (cfg/yolov3.cfg, yolov3-spp.cfg, yolov3-tiny.cfg).

Backbone, then from the coarsest level to the finest: five convolutions, alternately 1x1 and 3x3 (the neck); two more
to the predictions (the head); a 1x1 convolution and nearest upsampling towards the next finer level, joined to the
backbone's features there. Each cell predicts one box for each of its level's anchors: the place of the centre within
the cell, the logarithms of width and height over those of the anchor, whether there is an object at all, and classes
that do not exclude one another. A box scores objectness times class.

What trains it is in `falconet.training.criteria.yolov3`.

Variants: spatial pyramid pooling in the coarsest level (yolov3-spp); two levels of few convolutions on a small
backbone (yolov3-tiny); depthwise-separable 3x3 convolutions in neck and head (lite, as SSDLite in MobileNetV2,
arXiv:1801.04381, section 6.2).

Where we differ from the source:
* Any backbone, any input side: upsampling goes to the size of the finer level instead of doubling.
* Our own presets let a centre lie up to half a cell outside its cell (`center_reach`), so that centres on a border
  are reached without infinite logits: "Scaled-YOLOv4" (arXiv:2011.08036); the classic is 1.
* The last convolution makes all classes, then all boxes, then all objectnesses of a cell; darknet interleaves them
  anchor by anchor.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.core.errors import ConfigError
from falconet.core.manifest import Preprocess, Selection
from falconet.models.backbones import BackboneConfig, Darknet53Config
from falconet.models.detector import Detector
from falconet.models.layers import Activation, ConvNormAct, SeparableConv, flatten_level, init_prior_bias, kaiming_init
from falconet.models.priors import make_priors
from falconet.models.types import Decoded, Features, HeadOutputs, Priors

OBJECTNESS_PRIOR = 0.01
"""Objectness of every prediction before training."""

LARGEST_LOG = 10.0
"""Largest log of a side over its anchor's. A box 20,000 times as wide as its anchor lies outside every picture; beyond,
areas soon are no numbers any more."""

Side = Annotated[float, Field(gt=0, le=65536)]
Anchor = tuple[Side, Side]
"""Width and height, network-input pixels."""

COCO_ANCHORS: tuple[Anchor, ...] = (
    (10, 13),
    (16, 30),
    (33, 23),
    (30, 61),
    (62, 45),
    (59, 119),
    (116, 90),
    (156, 198),
    (373, 326),
)
"""The paper's, section 2.3: nine clusters of COCO's boxes at 416 x 416."""

TINY_ANCHORS: tuple[Anchor, ...] = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))

UNIT_RGB = Preprocess(resize="letterbox", pad_value=128, channels="rgb", mean=(0, 0, 0), std=(255, 255, 255))
"""Darknet's input: red, green, blue from 0 to 1, letterboxed on grey."""


SELECTION = Selection(iou_threshold=0.45)
"""As darknet selects."""


class YOLOv3NeckConfig(Config):
    """The neck of YOLOv3."""

    channels: int = Field(default=128, ge=8, le=1024, description="of the finest level; doubles from level to level")
    convs: Literal[1, 3, 5, 7] = Field(default=5, description="in the coarsest level")
    merged_convs: Literal[0, 1, 3, 5, 7] = Field(default=5, description="in each other level, after the joining")
    spp: bool = Field(default=False, description="spatial pyramid pooling in the coarsest level")
    depthwise: bool = Field(default=False, description="3x3 convolutions are depthwise-separable")
    activation: Activation = "leaky-relu"


class YOLOv3HeadConfig(Config):
    """The head of YOLOv3."""

    anchors: tuple[Anchor, ...] = Field(
        default=COCO_ANCHORS, min_length=1, max_length=64, description="[width, height] in input pixels"
    )
    masks: tuple[tuple[int, ...], ...] = Field(
        default=((0, 1, 2), (3, 4, 5), (6, 7, 8)),
        min_length=1,
        description="the anchors of each level, finest first: positions in `anchors`, from 0",
    )
    center_reach: float = Field(
        default=1.0, ge=1, le=3, description="in cells: where within, and around, its cell a box may have its centre"
    )
    depthwise: bool = Field(default=False, description="3x3 convolutions are depthwise-separable")
    activation: Activation = "leaky-relu"

    @model_validator(mode="after")
    def _masks_fit(self) -> "YOLOv3HeadConfig":
        wrong = [index for mask in self.masks for index in mask if not 0 <= index < len(self.anchors)]
        if wrong:
            raise ValueError(f"masks name anchor {wrong[0]}, but there are only 0..{len(self.anchors) - 1}")
        if len({len(mask) for mask in self.masks}) > 1 or not self.masks[0]:
            raise ValueError("expected equally many anchors, at least one, in every level's mask")
        return self


class YOLOv3Config(Config):
    """YOLOv3. The defaults are the classic network at 320 x 320."""

    name: Literal["yolov3"] = "yolov3"
    input: Preprocess = UNIT_RGB
    backbone: BackboneConfig = Darknet53Config()
    neck: YOLOv3NeckConfig = YOLOv3NeckConfig()
    head: YOLOv3HeadConfig = YOLOv3HeadConfig()
    selection: Selection = SELECTION

    @model_validator(mode="before")
    @classmethod
    def _without_criterion(cls, tree: Any) -> Any:
        """Weights files of version 0.1 name here what they were trained with; run files have `criterion.kind`."""
        return {key: value for key, value in tree.items() if key != "criterion"} if isinstance(tree, dict) else tree

    def build(self, num_classes: int) -> Detector:
        """The detector, with fresh weights.

        Raises:
            ConfigError: the masks are not as many as the backbone's levels.
        """
        backbone = self.backbone.build()
        levels = len(backbone.strides)
        if len(self.head.masks) != levels:
            raise ConfigError(
                f"model.head.masks: has {len(self.head.masks)} entries, but the backbone {self.backbone.name} returns "
                f"{levels} levels (strides {', '.join(map(str, backbone.strides))}); expected one mask for each"
            )
        neck = YOLOv3Neck(
            backbone.channels,
            self.neck.channels,
            strides=backbone.strides,
            convs=self.neck.convs,
            merged_convs=self.neck.merged_convs,
            spp=self.neck.spp,
            depthwise=self.neck.depthwise,
            activation=self.neck.activation,
        )
        head = YOLOv3Head(
            neck.channels,
            num_classes,
            strides=neck.strides,
            channels=neck.wide_channels,
            anchors=[[self.head.anchors[index] for index in mask] for mask in self.head.masks],
            center_reach=self.head.center_reach,
            depthwise=self.head.depthwise,
            activation=self.head.activation,
        )
        return Detector(backbone, neck, head)


def _wide_conv(in_channels: int, out_channels: int, *, depthwise: bool, activation: Activation) -> nn.Module:
    if depthwise:
        return SeparableConv(in_channels, out_channels, 3, activation=activation)
    return ConvNormAct(in_channels, out_channels, 3, activation=activation)


class PyramidPooling(nn.Module):
    """The features beside their maxima over windows of 13, 9 and 5 cells; four times the channels.

    He et al., "Spatial Pyramid Pooling" (arXiv:1406.4729), in the form of yolov3-spp.cfg.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.MaxPool2d(side, stride=1, padding=side // 2) for side in (13, 9, 5))

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O H W"]:
        return torch.cat([*(pool(features) for pool in self.pools), features], dim=1)


class YOLOv3Neck(nn.Module):
    """Features of a backbone to as many levels, each coarser one joined to the next finer.

    Args:
        in_channels: of each input, finest level first.
        channels: of the finest level; twice as many in each coarser one.
        strides: of each input, pixels per cell.
        convs: in the coarsest level: 1x1 to the level's channels, 3x3 to twice as many, and so on.
        merged_convs: in every other level, after the coarser one was joined; 0 returns the joined features.
        spp: pool after the third convolution of the coarsest level (the last, where there are fewer), and reduce.
        depthwise: 3x3 convolutions are depthwise-separable.
        activation: of all convolutions.

    Attributes:
        channels, strides: of what is returned, finest level first.
        wide_channels: twice a level's channels, as the head uses them.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        strides: Sequence[int],
        convs: int = 5,
        merged_convs: int = 5,
        spp: bool = False,
        depthwise: bool = False,
        activation: Activation = "leaky-relu",
    ) -> None:
        super().__init__()
        levels = len(in_channels)
        narrow = [channels * 2**level for level in range(levels)]

        def stack(count: int, inputs: int, level: int, pooled: bool) -> nn.Sequential:
            layers = nn.Sequential()
            for index in range(count):
                if index % 2:
                    layers.append(
                        _wide_conv(narrow[level], 2 * narrow[level], depthwise=depthwise, activation=activation)
                    )
                else:
                    before = 2 * narrow[level] if index else inputs
                    layers.append(ConvNormAct(before, narrow[level], activation=activation))
                if pooled and index == min(2, count - 1):
                    layers.append(PyramidPooling())
                    layers.append(ConvNormAct(4 * narrow[level], narrow[level], activation=activation))
            return layers

        # In the order of use, coarsest level first.
        sets, laterals, outputs = [stack(convs, in_channels[-1], levels - 1, spp)], [], [narrow[-1]]
        for level in range(levels - 2, -1, -1):
            laterals.append(ConvNormAct(outputs[-1], narrow[level + 1] // 2, activation=activation))
            joined = narrow[level + 1] // 2 + in_channels[level]
            sets.append(stack(merged_convs, joined, level, False))
            outputs.append(narrow[level] if merged_convs else joined)
        self.sets = nn.ModuleList(sets)
        self.laterals = nn.ModuleList(laterals)
        self.strides = tuple(strides)
        self.channels = tuple(reversed(outputs))
        self.wide_channels = tuple(2 * count for count in narrow)
        kaiming_init(self)

    def forward(self, features: Features) -> list[Tensor]:
        outputs = [self.sets[0](features[-1])]
        for convs, lateral, finer in zip(list(self.sets)[1:], self.laterals, reversed(features[:-1]), strict=True):
            coarser = F.interpolate(lateral(outputs[0]), size=finer.shape[-2:], mode="nearest")
            outputs.insert(0, convs(torch.cat((coarser, finer), dim=1)))
        return outputs


class YOLOv3Head(nn.Module):
    """Per level: a 3x3 convolution, then a 1x1 convolution to classes, boxes and objectness of each anchor.

    Predictions go level after level, row after row, cell after cell, anchor after anchor.

    Args:
        in_channels: of each level, finest first.
        num_classes: C.
        strides: of the levels, pixels per cell.
        channels: of the 3x3 convolution of each level.
        anchors: of each level, equally many: (width, height) in network-input pixels.
        center_reach: side of the square, in cells and about the cell's middle, in which a centre may lie.
        depthwise: 3x3 convolutions are depthwise-separable.
        activation: after them.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        strides: Sequence[int],
        channels: Sequence[int],
        anchors: Sequence[Sequence[Anchor]],
        center_reach: float = 1.0,
        depthwise: bool = False,
        activation: Activation = "leaky-relu",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_anchors = len(anchors[0])
        self.strides = tuple(strides)
        self.center_reach = center_reach
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)
        self.convs = nn.ModuleList(
            _wide_conv(inputs, outputs, depthwise=depthwise, activation=activation)
            for inputs, outputs in zip(in_channels, channels, strict=True)
        )
        self.outputs = nn.ModuleList(nn.Conv2d(count, self.num_anchors * (num_classes + 5), 1) for count in channels)
        self._initialise()

    def forward(self, features: Features, size: tuple[int, int]) -> HeadOutputs:
        """Raw predictions of features for an input of `size` (height, width) pixels.

        Box codes are x and y of the centre before the sigmoid, then the logarithms of width and height over those
        of the anchor.
        """
        levels = [
            flatten_level(output(conv(level)))
            for conv, output, level in zip(self.convs, self.outputs, features, strict=True)
        ]
        A, C = self.num_anchors, self.num_classes
        cells = torch.cat(levels, dim=1)
        logits, box_code, objectness = (
            part.unflatten(-1, (A, -1)).flatten(1, 2) for part in cells.split((A * C, A * 4, A), dim=-1)
        )
        dtype = torch.promote_types(cells.dtype, torch.float32)
        return HeadOutputs(logits, box_code, objectness, anchor_priors(size, self.strides, self.anchors.to(dtype)))

    def decode(self, raw: HeadOutputs) -> Decoded:
        """Boxes xyxy in network-input pixels, not clipped, and scores 0..1, in at least float32."""
        assert raw.objectness is not None, "this head predicts objectness"
        dtype = raw.priors.points.dtype
        boxes = decode_boxes(raw.box_code.to(dtype), raw.priors, center_reach=self.center_reach)
        return Decoded(boxes, raw.objectness.to(dtype).sigmoid() * raw.logits.to(dtype).sigmoid())

    def class_outputs(self) -> dict[str, slice]:
        """Parameters, by name within the head, of which the rows in the slice belong to classes."""
        rows = slice(0, self.num_anchors * self.num_classes)
        return {f"outputs.{level}.{kind}": rows for level in range(len(self.outputs)) for kind in ("weight", "bias")}

    def _initialise(self) -> None:
        """Predict nothing much anywhere: the anchor itself, in the middle of its cell, of any class alike."""
        kaiming_init(self.convs)
        for output in self.outputs:
            nn.init.normal_(output.weight, std=0.01)
            nn.init.zeros_(output.bias)
            nn.init.constant_(output.bias[: self.num_anchors * self.num_classes], -math.log(max(1, self.num_classes)))
            init_prior_bias(OBJECTNESS_PRIOR, output.bias[-self.num_anchors :])


def anchor_priors(size: tuple[int, int], strides: Sequence[int], anchors: Float[Tensor, "L A 2"]) -> Priors:
    """The top left corner of every cell of every level, once for each of its anchors.

    Args:
        size: (height, width) of the network input, pixels.
        strides: of the levels, pixels per cell.
        anchors: (width, height) of each level's anchors, network-input pixels.
    """
    grid = make_priors(size, strides, offset=0.0, device=anchors.device, dtype=anchors.dtype)
    per_cell = anchors.shape[1]
    cells = [-(-size[0] // stride) * -(-size[1] // stride) for stride in strides]
    return Priors(
        grid.points[:, None].expand(-1, per_cell, -1).flatten(0, 1),
        grid.strides[:, None].expand(-1, per_cell, -1).flatten(0, 1),
        torch.cat([level.repeat(count, 1) for level, count in zip(anchors, cells, strict=True)]),
    )


def decode_boxes(box_code: Float[Tensor, "*B P 4"], priors: Priors, *, center_reach: float) -> Float[Tensor, "*B P 4"]:
    """Boxes xyxy in network-input pixels, of centres within cells and of logarithms of sides over the anchors'."""
    assert priors.anchors is not None, "boxes of this code stand on anchors"
    within, logs = box_code.chunk(2, dim=-1)
    offset = within.sigmoid()
    if center_reach != 1:
        offset = offset * center_reach - (center_reach - 1) / 2
    centers = priors.points + offset * priors.strides
    half = logs.clamp(max=LARGEST_LOG).exp() * priors.anchors / 2
    return torch.cat((centers - half, centers + half), dim=-1)
