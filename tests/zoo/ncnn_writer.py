"""A NanoDet detector of ours as an ncnn pair, as the original's converter wrote it: one pair of outputs per stride."""

import torch
from torch import nn

from falconet.models.detector import Detector
from falconet.models.layers import ConvNormAct
from tests.zoo.files import flagged


class NcnnWriter:
    """Collects layers and weights."""

    def __init__(self, *, half: bool) -> None:
        self.half = half
        self.lines = ["Input data 0 1 data"]
        self.data: list[bytes] = []
        self.count = 0

    def layer(self, kind: str, inputs: list[str], options: str = "", *, outputs: int = 1, names: str = "") -> list[str]:
        """A layer; returns the names of its outputs."""
        self.count += 1
        made = names.split() or [f"b{self.count}_{index}" for index in range(outputs)]
        words = [kind, f"l{self.count}", str(len(inputs)), str(len(made)), *inputs, *made, options]
        self.lines.append(" ".join(words).strip())
        return made

    def convolution(self, conv: nn.Conv2d, source: str) -> str:
        """A convolution without activation."""
        kernel, groups = conv.kernel_size[0], conv.groups
        options = f"0={conv.out_channels} 1={kernel} 11={kernel} 3={conv.stride[0]} 4={kernel // 2} 5=1"
        options += f" 6={conv.weight.numel()}" + (f" 7={groups}" if groups > 1 else "")
        weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
        self.data += [flagged(weight.ravel(), half=self.half), bias.astype("<f4").tobytes()]
        return self.layer("ConvolutionDepthWise" if groups > 1 else "Convolution", [source], options)[0]

    def block(self, block: ConvNormAct, source: str) -> str:
        """A block with its norm folded; LeakyReLU is a layer of its own."""
        fused = block.fused()
        if isinstance(fused, nn.Conv2d):
            return self.convolution(fused, source)
        return self.layer("ReLU", [self.convolution(fused[0], source)], "0=1.000000e-01")[0]

    def split(self, source: str, count: int) -> list[str]:
        """Copies of a blob."""
        return self.layer("Split", [source], outputs=count)

    def sequence(self, blocks: nn.Module, source: str) -> str:
        """ConvNormAct blocks and separable pairs one after the other."""
        for block in blocks.children():
            if isinstance(block, ConvNormAct):
                source = self.block(block, source)
            else:
                source = self.block(block.pointwise, self.block(block.depthwise, source))
        return source

    def join(self, first: str, second: str) -> str:
        """Channels side by side, then interleaved."""
        return self.layer("ShuffleChannel", self.layer("Concat", [first, second], "0=0"), "0=2 1=0")[0]


@torch.no_grad()
def nanodet_pair(detector: Detector, *, half: bool) -> tuple[bytes, bytes]:
    """(`.param`, `.bin`) of a NanoDet with a ShuffleNetV2 backbone."""
    writer = NcnnWriter(half=half)
    backbone, neck, head = detector.backbone, detector.neck, detector.head
    source = writer.block(backbone.stem, "data")
    source = writer.layer("Pooling", [source], "0=0 1=3 2=2 3=1 5=1")[0]
    features = []
    for stage in backbone.stages:
        one, two = writer.split(source, 2)
        joined = writer.join(writer.sequence(stage.down.shortcut, one), writer.sequence(stage.down.branch, two))
        channels = stage.down.branch[-1].conv.out_channels
        for unit in stage.units:
            low, high = writer.layer("Slice", [joined], f"-23300=2,{channels},-233 1=0", outputs=2)
            joined = writer.join(low, writer.sequence(unit.branch, high))
        source, out = writer.split(joined, 2)
        features.append(out)
    _neck_and_head(writer, neck, head, features)
    # The last copy for a further stage is not used; ncnn has no such blob.
    text = "\n".join(writer.lines).replace(f" 1 2 {joined} {source} {features[-1]}", f" 1 1 {joined} {features[-1]}")
    header = f"7767517\n{len(writer.lines)} {2 * len(writer.lines)}\n"
    return (header + text + "\n").encode(), b"".join(writer.data)


def _neck_and_head(writer: NcnnWriter, neck: nn.Module, head: nn.Module, features: list[str]) -> None:
    levels = [writer.convolution(conv, level) for conv, level in zip(neck.reduce, features, strict=True)]
    for fine in (1, 0):
        copy, levels[fine + 1] = writer.split(levels[fine + 1], 2)
        larger = writer.layer("Interp", [copy], "0=2 1=2.000000e+00 2=2.000000e+00 3=0 4=0 6=0")[0]
        levels[fine] = writer.layer("BinaryOp", [levels[fine], larger], "0=0")[0]
    for coarse in (1, 2):
        copy, levels[coarse - 1] = writer.split(levels[coarse - 1], 2)
        smaller = writer.layer("Interp", [copy], "0=2 1=5.000000e-01 2=5.000000e-01 3=0 4=0 6=0")[0]
        levels[coarse] = writer.layer("BinaryOp", [levels[coarse], smaller], "0=0")[0]
    bins = 4 * (head.reg_max + 1)
    for stride, convs, output, level in zip(head.strides, head.convs, head.outputs, levels, strict=True):
        joined = writer.convolution(output, writer.sequence(convs, level))
        scores, code = writer.layer("Slice", [joined], f"-23300=2,{head.num_classes},-233 1=0", outputs=2)
        scores = writer.layer("Sigmoid", [scores])[0]
        for kind, value, rows in (("cls", scores, head.num_classes), ("dis", code, bins)):
            table = writer.layer("Reshape", [value], f"0=-1 1={rows}")
            writer.layer("Permute", table, "0=1", names=f"{kind}_pred_stride_{stride}")
