"""A network's layers in groups: shapes, parameters, multiply-adds, activations; and its file with the groups in it."""

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import onnx
import torch
from torch import Tensor, nn

from falconet.models.deployable import Deployable, DeployableClassifier

INPUT, OUTPUT, OTHER = "input", "output", "layout and other"
"""Groups of what is no layer: from pixels to the network, from the network to answers, what a runtime adds."""

_SCOPES = "pkg.torch.onnx.name_scopes"
_TAG = re.compile(r"g(\d{3})_")
FLOAT_BYTES = 4


@dataclass(slots=True)
class Group:
    """What the layers of a group add up to, for one picture.

    Attributes:
        name: as in the network: "backbone.stages.2".
        shape: of what leaves the last convolution or linear layer, without the batch.
        parameters: numbers in all weights and biases, norms folded.
        macs: multiply-adds of convolutions and linear layers, one per use of a weight; all else is not counted.
        activations: numbers that leave convolutions and linear layers.
        moved: bytes that these read and write at least: their inputs, outputs and weights, once each.
    """

    name: str
    shape: tuple[int, ...] = ()
    parameters: int = 0
    macs: int = 0
    activations: int = 0
    moved: int = 0

    @property
    def weight_bytes(self) -> int:
        """Bytes of the parameters as float32."""
        return FLOAT_BYTES * self.parameters


@dataclass(slots=True)
class _Counter:
    groups: dict[str, Group] = field(default_factory=dict)

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(name))


def count_layers(module: Deployable | DeployableClassifier, *, height: int, width: int) -> list[Group]:
    """The groups of a deployable network, in the order in which they run.

    Args:
        module: fused, in eval mode.
        height, width: of the picture, pixels.
    """
    counter = _Counter()
    with _watched(module, counter), torch.inference_mode():
        module(torch.zeros(1, height, width, 3, dtype=torch.uint8))
    counted: set[int] = set()
    for name, parameter in module.named_parameters():
        if id(parameter) not in counted:
            counted.add(id(parameter))
            counter.group(group_of(name.rpartition(".")[0])).parameters += parameter.numel()
    return list(counter.groups.values())


def group_of(path: str) -> str:
    """The group of a module by its path in a deployable network: stages of the backbone apart, all else by part."""
    parts = [part for part in path.split(".") if part]
    if parts[:1] in (["detector"], ["classifier"]):
        parts = parts[1:]
        if not parts:
            return OUTPUT
        if parts[0] == "backbone" and len(parts) > 1:
            numbered = len(parts) > 2 and parts[2].isdigit() and parts[1] == "stages"
            return ".".join(parts[: 3 if numbered else 2])
        return parts[0]
    return INPUT if parts[:1] == ["normalize"] else OUTPUT


def tag(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """A copy of a traced model whose nodes and values begin with "gNNN_", and the names of the groups NNN.

    A runtime that fuses or replaces nodes names the result after the node or after the value it makes, so that times
    can be told apart by group. A node that was made by a rewrite belongs to what its first known input belongs to.
    """
    tagged = onnx.ModelProto()
    tagged.CopyFrom(model)
    names: list[str] = []
    makers: dict[str, str] = {}
    renamed: dict[str, str] = {}
    outputs = {value.name for value in tagged.graph.output}
    for number, node in enumerate(tagged.graph.node):
        group = _group(node) or next((makers[name] for name in node.input if name in makers), INPUT)
        if group not in names:
            names.append(group)
        prefix = f"g{names.index(group):03d}_"
        node.name = f"{prefix}{number}"
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
        for position, name in enumerate(node.output):
            if not name:
                continue
            new = name if name in outputs else f"{prefix}{number}_{position}"
            renamed[name], makers[name], makers[new] = new, group, group
            node.output[position] = new
    del tagged.graph.value_info[:]
    return tagged, names


def tagged_group(name: str, groups: list[str]) -> str:
    """The group in the name of a node of a runtime; `OTHER` where there is none."""
    found = _TAG.search(name)
    return groups[int(found[1])] if found and int(found[1]) < len(groups) else OTHER


def _group(node: onnx.NodeProto) -> str | None:
    """The group that the exporter's note of the module tells."""
    text = next((one.value for one in node.metadata_props if one.key == _SCOPES), None)
    if text is None:
        return None
    scopes = ast.literal_eval(text)
    return group_of(scopes[-2] if len(scopes) > 1 else "")


@contextmanager
def _watched(module: nn.Module, counter: _Counter) -> Iterator[None]:
    """While the network runs, each convolution and linear layer is counted."""
    hooks = []
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):

            def count(
                layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, group: str = group_of(path)
            ) -> None:
                _count(counter.group(group), layer, inputs[0], output)

            hooks.append(layer.register_forward_hook(count))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _count(group: Group, layer: nn.Module, entry: Tensor, output: Tensor) -> None:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    per_output = weight[0].numel()
    group.macs += output.numel() * per_output
    group.activations += output.numel()
    group.moved += FLOAT_BYTES * (entry.numel() + output.numel() + weight.numel())
    group.shape = tuple(output.shape[1:])
