"""What a classifier learns from: cross-entropy with label smoothing (arXiv:1512.00567, section 7)."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from falconet.core.config import Config
from falconet.models.classifier import Classifier, ClassifierConfig
from falconet.training.batch import Targets
from falconet.training.progress import Progress


class ClassifierCriterionConfig(Config):
    """How classifiers learn."""

    name: Literal["classifier"] = "classifier"
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="share of the truth that is spread over all classes"
    )


def build(
    settings: ClassifierCriterionConfig,
    model: ClassifierConfig,  # noqa: ARG001
    network: Classifier,  # noqa: ARG001
    *,
    num_classes: int,  # noqa: ARG001 (of every criterion's builder; this one has no weights of its own)
) -> "ClassifierCriterion":
    """The criterion for every classifier."""
    return ClassifierCriterion(label_smoothing=settings.label_smoothing)


class ClassifierCriterion(nn.Module):
    """Term "class".

    Args:
        label_smoothing: share of the truth that is spread evenly over all classes.
    """

    def __init__(self, *, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Float[Tensor, "B C"], targets: Targets, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """The mean over the pictures, a scalar in float32; the class of a picture is that of its first box."""
        with torch.autocast(logits.device.type, enabled=False):
            loss = F.cross_entropy(logits.float(), targets.labels[:, 0], label_smoothing=self.label_smoothing)
        return {"class": loss}
