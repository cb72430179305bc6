"""Classifier: backbone -> pooled features -> logits. Proves a backbone against published classifiers."""

from jaxtyping import Float
from torch import Tensor, nn


class Classifier(nn.Module):
    """An image classifier.

    Args:
        backbone: images to features; its coarsest level is used.
        num_classes: C.
    """

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.output = nn.Linear(backbone.channels[-1], num_classes)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Logits of normalised images."""
        return self.output(self.backbone(images)[-1].mean((2, 3)))
