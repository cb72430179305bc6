"""Everything between the pixels of a picture and its boxes or classes, as one module that exports as it stands."""

import copy
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from falconet.core.manifest import Preprocess
from falconet.models.classifier import Classifier
from falconet.models.detector import Detector
from falconet.models.types import Decoded


class Normalize(nn.Module):
    """uint8 pixels, blue-green-red, rows x columns x channels, to the network's input.

    One multiply-add on the NHWC pixels; the permuted result is in channels-last memory format.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.flip = preprocess.channels == "rgb"
        self.register_buffer("scale", 1.0 / torch.tensor(preprocess.std), persistent=False)
        self.register_buffer("shift", -torch.tensor(preprocess.mean) / torch.tensor(preprocess.std), persistent=False)

    def forward(self, pixels: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
        if self.flip:
            pixels = pixels.flip(-1)
        return torch.addcmul(self.shift, pixels.to(self.scale.dtype), self.scale).permute(0, 3, 1, 2)


class SubtractMean(nn.Module):
    """uint8 pixels, blue-green-red, rows x columns x channels, minus the mean; what `fold_input` leaves.

    Args:
        mean: [3] blue, green, red, 0..255.
    """

    def __init__(self, mean: Float[Tensor, " 3"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean[:, None, None].clone(), persistent=False)

    def forward(self, pixels: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
        return pixels.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean


class Deployable(nn.Module):
    """uint8 pixels in, clipped boxes and scores out; the same for every architecture.

    Only the best points are decoded: those whose best class scores highest. As NMS takes at most
    `max_points` (box, class) pairs, no detection is lost.

    Args:
        detector: in eval mode; fuse it first for speed.
        preprocess: input size and normalisation.
        max_points: decoded per image; keep it at least as large as `Selection.max_candidates`.
    """

    def __init__(self, detector: Detector, preprocess: Preprocess, *, max_points: int = 1000) -> None:
        super().__init__()
        self.normalize: nn.Module = Normalize(preprocess)
        self.detector = detector
        self.max_points = max_points

    def forward(self, pixels: UInt8[Tensor, "B H W 3"]) -> Decoded:
        """Boxes [B, N, 4] xyxy in network-input pixels, clipped to the input, and scores [B, N, C]."""
        raw = self.detector(self.normalize(pixels))
        if raw.logits.shape[1] > self.max_points:
            ranking = raw.logits.amax(-1)
            if raw.objectness is not None:
                ranking = ranking.sigmoid() * raw.objectness.squeeze(-1).sigmoid()
            raw = raw.take(ranking.topk(self.max_points, dim=1).indices)
        boxes, scores = self.detector.decode(raw)
        height, width = pixels.shape[1:3]
        limit = boxes.new_tensor([width, height, width, height])
        return Decoded(torch.minimum(boxes.clamp(min=0), limit), scores)


class DeployableClassifier(nn.Module):
    """uint8 pixels in, probabilities out; the same for every classifier.

    Args:
        classifier: in eval mode; fuse it first for speed.
        preprocess: input size and normalisation.
    """

    def __init__(self, classifier: Classifier, preprocess: Preprocess) -> None:
        super().__init__()
        self.normalize: nn.Module = Normalize(preprocess)
        self.classifier = classifier

    def forward(self, pixels: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B C"]:
        """Probabilities of the classes; each row adds up to 1."""
        return self.classifier(self.normalize(pixels)).softmax(-1)


Whole = TypeVar("Whole", Deployable, DeployableClassifier)


def fold_input(deployable: Whole) -> Whole:
    """A copy whose first convolution sees centred blue-green-red pixels: it does the scaling and the channel order.

    The mean stays a subtraction: the convolution pads with zeros after the normalisation, and a mean folded into its
    bias would be wrong along the border.

    Every network begins with one convolution; others may have three input channels too (a narrow squeeze-excite).
    """
    folded = copy.deepcopy(deployable)
    normalize = folded.normalize
    assert isinstance(normalize, Normalize), "the input is already folded"
    first = next(part for part in folded.modules() if isinstance(part, nn.Conv2d))
    assert first.in_channels == 3, f"expected a convolution of three channels, found one of {first.in_channels}"
    mean = -normalize.shift / normalize.scale
    weight = first.weight.detach() * normalize.scale[:, None, None]
    if normalize.flip:
        mean, weight = mean.flip(0), weight.flip(1)
    first.weight = nn.Parameter(weight, requires_grad=False)
    folded.normalize = SubtractMean(mean)
    return folded
