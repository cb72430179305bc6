"""Detector: backbone -> neck -> head. A network is only a network; what trains or exports it wraps it."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from falconet.core.errors import ConfigError
from falconet.models.types import Decoded, ForwardOutputs, HeadOutputs


def check_levels_halve(strides: Sequence[int], backbone: str) -> None:
    """Make sure that each level has half of the resolution of the one before, where a neck needs that.

    Args:
        strides: of what the backbone returns, pixels per cell.
        backbone: its name, for the message.

    Raises:
        ConfigError: some level has not.
    """
    if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
        raise ConfigError(
            f"model.backbone.out_stages: the backbone {backbone} returns levels of strides "
            f"{', '.join(map(str, strides))}, but this neck needs each twice the one before; choose other stages"
        )


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
        height, width = map(int, images.shape[-2:])  # plain numbers, also where torch.jit traces
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
