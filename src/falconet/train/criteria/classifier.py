"""What a classifier learns from: cross-entropy with label smoothing (arXiv:1512.00567, section 7)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from falconet.train.batch import Targets


class ClassifierCriterion(nn.Module):
    """Term "class".

    Args:
        label_smoothing: share of the truth that is spread evenly over all classes.
    """

    def __init__(self, *, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Float[Tensor, "B C"], targets: Targets, epoch: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The mean over the pictures, a scalar in float32; the class of a picture is that of its first box."""
        with torch.autocast(logits.device.type, enabled=False):
            loss = F.cross_entropy(logits.float(), targets.labels[:, 0], label_smoothing=self.label_smoothing)
        return {"class": loss}
