"""Detector: backbone -> neck -> head. A network is only a network; what trains or exports it wraps it."""

from jaxtyping import Float
from torch import Tensor, nn

from falconet.models.types import Decoded, ForwardOutputs, HeadOutputs


class Detector(nn.Module):
    """A detection network.

    Args:
        backbone: images to features, finest level first.
        neck: features to features.
        head: features to `HeadOutputs`; its `decode` turns `HeadOutputs` into boxes and scores.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def forward_outputs(self, images: Float[Tensor, "B 3 H W"]) -> ForwardOutputs:
        """The forward pass with its intermediate features, for a criterion. Images are normalised."""
        backbone = self.backbone(images)
        neck = self.neck(backbone)
        height, width = images.shape[-2:]
        return ForwardOutputs(backbone, neck, self.head(neck, (height, width)))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> HeadOutputs:
        """Raw predictions of normalised images."""
        return self.forward_outputs(images).raw

    def class_outputs(self) -> dict[str, slice]:
        """Rows that belong to the classes, by name of the parameter that holds them."""
        return {f"head.{name}": rows for name, rows in self.head.class_outputs().items()}

    def decode(self, raw: HeadOutputs) -> Decoded:
        """Boxes and scores of raw predictions."""
        decoded: Decoded = self.head.decode(raw)
        return decoded
