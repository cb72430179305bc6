"""Classifier: backbone -> mean over places -> hidden layer where the original has one -> logits."""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from falconet.core.config import Config
from falconet.core.manifest import Preprocess
from falconet.models.backbones import BackboneConfig
from falconet.models.layers import ACTIVATIONS, Activation


class ClassifierHeadConfig(Config):
    """What follows the pooled features."""

    hidden_channels: int | None = Field(default=None, ge=1, le=8192, description="of a hidden layer; null: none")
    hidden_norm: bool = Field(default=False, description="a norm instead of a bias in the hidden layer")
    activation: Activation = Field(default="relu", description="of the hidden layer")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="before the last layer, in training")


class ClassifierConfig(Config):
    """An image classifier of any backbone; of its levels the coarsest is used."""

    name: Literal["classifier"] = "classifier"
    input: Preprocess = Preprocess(height=224, width=224)
    backbone: BackboneConfig
    head: ClassifierHeadConfig = ClassifierHeadConfig()

    def build(self, num_classes: int) -> "Classifier":
        """The classifier, with fresh weights."""
        return Classifier(
            self.backbone.build(),
            num_classes,
            hidden_channels=self.head.hidden_channels,
            hidden_norm=self.head.hidden_norm,
            activation=self.head.activation,
            dropout=self.head.dropout,
        )


class HiddenLayer(nn.Module):
    """Linear layer with a bias or a norm, then an activation.

    Args:
        in_channels, out_channels: of the layer.
        norm: a batch norm instead of the bias.
        activation: a key of `ACTIVATIONS`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: bool, activation: Activation) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=not norm)
        self.norm = nn.BatchNorm1d(out_channels) if norm else nn.Identity()
        self.act = ACTIVATIONS[activation]()

    def forward(self, values: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        return self.act(self.norm(self.linear(values)))

    def fused(self) -> nn.Module:
        """The same function with the norm folded into the linear layer. Needs eval mode."""
        linear = self.linear if isinstance(self.norm, nn.Identity) else fuse_linear_bn_eval(self.linear, self.norm)
        return nn.Sequential(linear, self.act)


class Classifier(nn.Module):
    """An image classifier.

    Args:
        backbone: images to features; its coarsest level is used.
        num_classes: C.
        hidden_channels: of a layer between the pooled features and the logits; None leaves it out.
        hidden_norm: that layer has a batch norm instead of a bias.
        activation: of that layer.
        dropout: share of values zeroed before the last layer in training.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        hidden_channels: int | None = None,
        hidden_norm: bool = False,
        activation: Activation = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        channels = backbone.channels[-1]
        self.hidden: nn.Module = nn.Identity()
        if hidden_channels is not None:
            self.hidden = HiddenLayer(channels, hidden_channels, norm=hidden_norm, activation=activation)
            channels = hidden_channels
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(channels, num_classes)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Logits of normalised images."""
        pooled = self.backbone(images)[-1].mean((2, 3))
        return self.output(self.dropout(self.hidden(pooled)))

    def forward_outputs(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """What a criterion learns from: the logits."""
        return self(images)

    def class_outputs(self) -> dict[str, slice]:
        """Rows that belong to the classes, by name of the parameter that holds them: all of the last layer."""
        rows = slice(0, self.output.out_features)
        return {"output.weight": rows, "output.bias": rows}
