"""PP-YOLOE and PP-YOLOE+: arXiv:2203.16250; PaddlePaddle/PaddleDetection (Apache-2.0), `CSPResNet`, `CustomCSPPAN`,
`PPYOLOEHead`.

Backbone, then a path aggregation network (arXiv:1803.01534) of cross-stage-partial stages with RepVGG convolutions
and spatial pyramid pooling at its top, then the "efficient task-aligned" head: on each level one branch for classes
and one for boxes, each a gate over channels (effective squeeze-excite) and a 1x1 convolution, then a 3x3
convolution. Boxes are distributions over `reg_max` + 1 distances per side, in strides ("Generalized Focal Loss",
arXiv:2006.04388, section 3.2), measured from the centre of a cell: at (index + 0.5) * stride.

PP-YOLOE+ is the same network with a learnt factor in the backbone's RepVGG convolutions (`backbone.alpha`) and pixels
that are only divided by 255. Its size t has as many channels on every level (`neck.growth`), and RepVGG convolutions
behind the gates or, with ReLU, none (`head.branch`).

What trains it (ATSS, then task-aligned assignment; varifocal loss) is in `falconet.training.criteria.ppyoloe`.

Where we differ from the source:
* Levels run from the finest to the coarsest, everywhere.
* Sides that are not multiples of 32 work: what doubling makes too much is cut off.
* The pooling windows of 9 and 13 are two and three windows of 5 in a row: the same maxima in a third of the time.
* The projection of a distribution to its mean is arithmetic, not a convolution with constant weights.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.core.manifest import IMAGENET_MEAN, IMAGENET_STD, Preprocess, Selection
from falconet.models.backbones import BackboneConfig, CSPResNetConfig
from falconet.models.backbones.blocks import EffectiveSqueezeExcite, RepVGGBlock
from falconet.models.backbones.cspresnet import CSPStage
from falconet.models.detector import Detector, check_levels_halve
from falconet.models.distances import decode_distances
from falconet.models.layers import CLASS_PRIOR, Activation, ConvNormAct, flatten_level, init_prior_bias
from falconet.models.priors import make_priors
from falconet.models.types import Decoded, Features, HeadOutputs

Branch = Literal["conv", "repvgg", "none"]

POOLING_WINDOW = 5
POOLINGS = 3

INPUT = Preprocess(height=640, width=640, channels="rgb", mean=IMAGENET_MEAN, std=IMAGENET_STD)
"""Of PP-YOLOE: red-green-blue, ImageNet mean and standard deviation, stretched."""

SELECTION = Selection(iou_threshold=0.7, max_detections=300)
"""As published, but for the score threshold, which there is that of an evaluation (0.01)."""

PLUS_INPUT = Preprocess(height=640, width=640, channels="rgb", mean=(0, 0, 0), std=(255, 255, 255))
"""Of PP-YOLOE+: red-green-blue, 0..1, stretched."""


class CSPPANConfig(Config):
    """The neck of PP-YOLOE."""

    channels: int = Field(default=96, ge=8, le=1024, description="of the finest level")
    growth: Literal[1, 2] = Field(default=2, description="channels of a level over those of the next finer one")
    blocks: int = Field(default=1, ge=1, le=12, description="per stage: a 3x3 and a RepVGG convolution each")
    pooling: bool = Field(default=True, description="spatial pyramid pooling on the coarsest level")
    alpha: bool = Field(default=False, description="a learnt factor for the 1x1 branch of each RepVGG convolution")
    activation: Activation = "silu"


class PPYOLOEHeadConfig(Config):
    """The head of PP-YOLOE."""

    reg_max: int = Field(default=16, ge=1, le=64, description="largest distance of a side, in strides")
    branch: Branch = Field(default="conv", description="behind each gate: a 1x1 or a RepVGG convolution, or nothing")
    activation: Activation = "silu"

    @model_validator(mode="before")
    @classmethod
    def _without_class_loss(cls, tree: Any) -> Any:
        """Weights files of version 0.1 name here what they were trained with; run files have `criterion.class_loss`."""
        return {key: value for key, value in tree.items() if key != "class_loss"} if isinstance(tree, dict) else tree


class PPYOLOEConfig(Config):
    """PP-YOLOE. The defaults are those of PP-YOLOE-s at 640 x 640."""

    name: Literal["ppyoloe"] = "ppyoloe"
    input: Preprocess = INPUT
    backbone: BackboneConfig = CSPResNetConfig()
    neck: CSPPANConfig = CSPPANConfig()
    head: PPYOLOEHeadConfig = PPYOLOEHeadConfig()
    selection: Selection = SELECTION

    def build(self, num_classes: int) -> Detector:
        """The detector, with fresh weights.

        Raises:
            ConfigError: the backbone's levels do not each halve the resolution.
        """
        backbone = self.backbone.build()
        check_levels_halve(backbone.strides, self.backbone.name)
        neck = CSPPAN(
            backbone.channels,
            self.neck.channels,
            strides=backbone.strides,
            growth=self.neck.growth,
            blocks=self.neck.blocks,
            pooling=self.neck.pooling,
            alpha=self.neck.alpha,
            activation=self.neck.activation,
        )
        head = PPYOLOEHead(
            neck.channels,
            num_classes,
            strides=neck.strides,
            reg_max=self.head.reg_max,
            branch=self.head.branch,
            activation=self.head.activation,
        )
        return Detector(backbone, neck, head)


def ppyoloe(variant: Literal["s", "m", "l", "x"], *, plus: bool) -> PPYOLOEConfig:
    """The published model of a size: width and depth are those of its backbone."""
    width, depth = {"s": (0.5, 0.33), "m": (0.75, 0.67), "l": (1.0, 1.0), "x": (1.25, 1.33)}[variant]
    return PPYOLOEConfig(
        input=PLUS_INPUT if plus else INPUT,
        backbone=CSPResNetConfig(variant=variant, alpha=plus),
        neck=CSPPANConfig(channels=round(192 * width), blocks=max(1, round(3 * depth))),
    )


def ppyoloe_tiny(*, side: int, relu: bool) -> PPYOLOEConfig:
    """PP-YOLOE+ t as published at a height and width of 640 or 320, with SiLU or ReLU."""
    activation: Activation = "relu" if relu else "silu"
    return PPYOLOEConfig(
        input=replace(PLUS_INPUT, height=side, width=side),
        backbone=CSPResNetConfig(width=0.375, depth=0.33, alpha=True, activation=activation),
        neck=CSPPANConfig(channels=144, growth=1, activation=activation),
        head=PPYOLOEHeadConfig(branch="none" if relu else "repvgg", activation=activation),
    )


class PyramidPooling(nn.Module):
    """The input beside its maxima over windows of 5, 9 and 13, then a 1x1 convolution (arXiv:1406.4729)."""

    def __init__(self, channels: int, *, activation: Activation) -> None:
        super().__init__()
        # A window of 5 over maxima of windows of 5 sees 9 places, one more 13.
        self.pool = nn.MaxPool2d(POOLING_WINDOW, stride=1, padding=POOLING_WINDOW // 2)
        self.conv = ConvNormAct((POOLINGS + 1) * channels, channels, activation=activation)

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B I H W"]:
        maxima = [features]
        for _ in range(POOLINGS):
            maxima.append(self.pool(maxima[-1]))
        return self.conv(torch.cat(maxima, dim=1))


class CSPPAN(nn.Module):
    """Features of a backbone to as many levels.

    Args:
        in_channels: of each input, finest level first.
        channels: of the finest output.
        strides: of each input, pixels per cell.
        growth: channels of a level over those of the next finer one.
        blocks: per stage.
        pooling: put `PyramidPooling` in the middle of the blocks of the coarsest stage on the way down.
        alpha: of the RepVGG convolutions.
        activation: of all convolutions.

    Attributes:
        channels, strides: of what is returned.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        strides: Sequence[int],
        growth: int = 2,
        blocks: int = 1,
        pooling: bool = True,
        alpha: bool = False,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.channels = tuple(channels * growth**level for level in range(len(self.strides)))

        def stage(count: int, out_channels: int, *, pooled: bool = False) -> CSPStage:
            middle = out_channels // 2
            parts: list[nn.Module] = [
                nn.Sequential(
                    ConvNormAct(middle, middle, 3, activation=activation),
                    RepVGGBlock(middle, middle, activation=activation, alpha=alpha),
                )
                for _ in range(blocks)
            ]
            if pooled:
                parts.insert((blocks - 1) // 2 + 1, PyramidPooling(middle, activation=activation))
            return CSPStage(
                count,
                out_channels,
                down_channels=None,
                split_channels=middle,
                blocks=parts,
                split_activation=activation,
                activation=activation,
            )

        # In the order of use: top_down and reduce start at the coarsest level, downsample and bottom_up at the finest.
        coarse_first = list(zip(reversed(in_channels), reversed(self.channels), strict=True))
        self.top_down = nn.ModuleList([stage(*coarse_first[0], pooled=pooling)])
        self.reduce = nn.ModuleList()
        for (_, coarser), (count, out_channels) in pairwise(coarse_first):
            self.reduce.append(ConvNormAct(coarser, coarser // 2, activation=activation))
            self.top_down.append(stage(count + coarser // 2, out_channels))
        self.downsample = nn.ModuleList()
        self.bottom_up = nn.ModuleList()
        for finer, coarser in pairwise(self.channels):
            self.downsample.append(ConvNormAct(finer, finer, 3, stride=2, activation=activation))
            self.bottom_up.append(stage(finer + coarser, coarser))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, features: Features) -> list[Tensor]:
        inner = [self.top_down[0](features[-1])]
        for reduce, merge, finer in zip(self.reduce, self.top_down[1:], reversed(features[:-1]), strict=True):
            inner.insert(0, merge(torch.cat((_doubled(reduce(inner[0]), finer), finer), dim=1)))
        outputs = inner[:1]
        for halve, merge, level in zip(self.downsample, self.bottom_up, inner[1:], strict=True):
            outputs.append(merge(torch.cat((halve(outputs[-1]), level), dim=1)))
        return outputs


def _doubled(features: Tensor, like: Tensor) -> Tensor:
    """Each cell as four, cut to the height and width of `like` (a level of an odd side has half a cell too many)."""
    height, width = like.shape[-2:]
    return F.interpolate(features, scale_factor=2.0, mode="nearest")[..., :height, :width]


class PPYOLOEHead(nn.Module):
    """Per level two branches of a channel gate and a convolution; the class branch adds its input back.

    Args:
        in_channels: of each level, finest first.
        num_classes: C.
        strides: of the levels, pixels per cell.
        reg_max: largest distance of a side in strides; K = 4 * (reg_max + 1).
        branch: the convolution: "conv" for 1x1, "repvgg", or "none".
        activation: of it.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        strides: Sequence[int],
        reg_max: int = 16,
        branch: Branch = "conv",
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.reg_max = reg_max
        self.strides = tuple(strides)

        def convolution(count: int) -> nn.Module:
            if branch == "none":
                return nn.Identity()
            return (ConvNormAct if branch == "conv" else RepVGGBlock)(count, count, activation=activation)

        def branches() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(EffectiveSqueezeExcite(count, gate="sigmoid"), convolution(count))
                for count in in_channels
            )

        def outputs(channels: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(count, channels, 3, padding=1) for count in in_channels)

        self.class_branches, self.box_branches = branches(), branches()
        self.class_predictions, self.box_predictions = outputs(num_classes), outputs(4 * (reg_max + 1))
        self._initialise()

    def forward(self, features: Features, size: tuple[int, int]) -> HeadOutputs:
        """Raw predictions of features for an input of `size` (height, width) pixels.

        Box codes are the logits of left's bins, then top's, right's and bottom's.
        """
        logits = [
            flatten_level(output(branch(level) + level))
            for branch, output, level in zip(self.class_branches, self.class_predictions, features, strict=True)
        ]
        codes = [
            flatten_level(output(branch(level)))
            for branch, output, level in zip(self.box_branches, self.box_predictions, features, strict=True)
        ]
        joined = torch.cat(logits, dim=1)
        dtype = torch.promote_types(joined.dtype, torch.float32)
        priors = make_priors(size, self.strides, offset=0.5, device=joined.device, dtype=dtype)
        return HeadOutputs(joined, torch.cat(codes, dim=1), None, priors)

    def decode(self, raw: HeadOutputs) -> Decoded:
        """Boxes xyxy in network-input pixels, not clipped, and scores 0..1, in at least float32."""
        return decode_distances(raw)

    def class_outputs(self) -> dict[str, slice]:
        """Parameters, by name within the head, of which the rows in the slice belong to classes."""
        rows = slice(0, self.num_classes)
        return {
            f"class_predictions.{level}.{kind}": rows
            for level in range(len(self.strides))
            for kind in ("weight", "bias")
        }

    def _initialise(self) -> None:
        for gate, convolution in (*self.class_branches, *self.box_branches):
            nn.init.normal_(gate.excite.weight, std=0.001)
            nn.init.zeros_(gate.excite.bias)
            for part in convolution.modules():
                if isinstance(part, nn.Conv2d):
                    nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
        # Outputs start independent of the picture: every class scores CLASS_PRIOR, every distance is equally likely.
        for output in (*self.class_predictions, *self.box_predictions):
            nn.init.zeros_(output.weight)
        for output in self.class_predictions:
            init_prior_bias(CLASS_PRIOR, output.bias)
        for output in self.box_predictions:
            nn.init.ones_(output.bias)
