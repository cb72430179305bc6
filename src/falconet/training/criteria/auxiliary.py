"""The assign-guidance branch: a second neck and a far larger head that learn beside a small detector.

RangiLyu/nanodet (Apache-2.0), `NanoDetPlus` and `SimpleConvHead`; PaddlePaddle/PaddleDetection (Apache-2.0),
`PPYOLOEWithAuxHead`, does the same. The branch lives in the criterion: the detector never holds it.
"""

import torch
from torch import nn

from falconet.models.simple_head import SimpleConvs
from falconet.models.types import ForwardOutputs, HeadOutputs


def guide(neck: nn.Module, head: SimpleConvs, outputs: ForwardOutputs, *, detached: bool = False) -> HeadOutputs:
    """What the branch predicts.

    Args:
        neck: the second one.
        head: on the features of both necks side by side.
        outputs: of the detector.
        detached: keep the branch's gradients from backbone and neck.
    """
    first, second = list(outputs.neck), list(outputs.backbone)
    if detached:
        first, second = [level.detach() for level in first], [level.detach() for level in second]
    both = [torch.cat(levels, dim=1) for levels in zip(first, neck(second), strict=True)]
    return HeadOutputs(*head(both), None, outputs.raw.priors)
