"""PP-LCNet: Cui et al., "PP-LCNet: A Lightweight CPU Convolutional Neural Network" (arXiv:2109.15099), table 1
(PaddlePaddle/PaddleClas, Apache-2.0).

MobileNetV1's separable convolutions with hard swish; 5x5 filters and squeeze-excite only where they pay on a CPU,
which is at the end. There are no shortcuts.
"""

from typing import Literal

from pydantic import Field, model_validator

from falconet.core.config import Config
from falconet.models.backbones.blocks import StagedBackbone, stages_exist
from falconet.models.backbones.mobilenet_v1 import STRIDES, BlockSpec, separable
from falconet.models.layers import Activation

STEM_CHANNELS = 16
STAGES: tuple[tuple[BlockSpec, ...], ...] = (
    (BlockSpec(3, 32, 1),),
    (BlockSpec(3, 64, 2), BlockSpec(3, 64, 1)),
    (BlockSpec(3, 128, 2), BlockSpec(3, 128, 1)),
    (BlockSpec(3, 256, 2), *(BlockSpec(5, 256, 1) for _ in range(5))),
    (BlockSpec(5, 512, 2, True), BlockSpec(5, 512, 1, True)),
)


class LCNetConfig(Config):
    """PP-LCNet as a backbone."""

    name: Literal["lcnet"] = "lcnet"
    width: float = Field(default=1.0, gt=0, le=4, description="multiple of the number of channels")
    out_stages: tuple[Literal[0, 1, 2, 3, 4], ...] = Field(
        default=(2, 3, 4), min_length=1, description="stages that are returned: strides 2, 4, 8, 16, 32"
    )
    activation: Activation = "hard-swish"

    _stages_exist = model_validator(mode="after")(stages_exist(len(STRIDES)))

    def build(self) -> StagedBackbone:
        """The backbone, with fresh weights."""
        return separable(
            STAGES,
            stem_channels=STEM_CHANNELS,
            width=self.width,
            out_stages=self.out_stages,
            activation=self.activation,
        )
