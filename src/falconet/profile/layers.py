"""A network's layers in groups: shapes, parameters, multiply-adds, activations; and its file with the groups in it."""

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import onnx
import torch
from torch import Tensor, nn

from falconet.models.deployable import Deployable, DeployableClassifier

INPUT, OUTPUT, OTHER = "input", "output", "layout and other"
"""Groups of what is no layer: from pixels to the network, from the network to answers, what a runtime adds."""

GroupOf = Callable[[str], str | None]
"""The group of a module by its path; None: that of what it follows."""

_SCOPES = "pkg.torch.onnx.name_scopes"
_TAG = re.compile(r"g(\d{3})_")
FLOAT_BYTES = 4


@dataclass(slots=True)
class Group:
    """What the layers of a group add up to, for one picture.

    Attributes:
        name: as in the network: "backbone.stages.2", or "backbone.stages.2.0.expand" where a group is one layer.
        kind: of the last convolution or linear layer: "conv 3x3 / 2", "depthwise 5x5", "linear".
        uses: how often its layers run.
        shape: of what leaves the last convolution or linear layer, without the batch.
        parameters: numbers in all weights and biases, norms folded.
        macs: multiply-adds of convolutions and linear layers, one per use of a weight; all else is not counted.
        activations: numbers that leave convolutions and linear layers.
        moved: bytes that these read and write at least: their inputs, outputs and weights, once each.
    """

    name: str
    kind: str = ""
    uses: int = 0
    shape: tuple[int, ...] = ()
    parameters: int = 0
    macs: int = 0
    activations: int = 0
    moved: int = 0

    @property
    def flops(self) -> int:
        """Operations: two per multiply-add."""
        return 2 * self.macs

    @property
    def weight_bytes(self) -> int:
        """Bytes of the parameters as float32."""
        return FLOAT_BYTES * self.parameters


@dataclass(slots=True)
class _Counter:
    groups: dict[str, Group] = field(default_factory=dict)

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(name))


def count_layers(module: nn.Module, entry: Tensor, group_of: GroupOf) -> list[Group]:
    """The groups of a network, in the order in which they run.

    Args:
        module: fused, in eval mode.
        entry: what goes in: uint8 [1, H, W, 3] of a deployable network.
        group_of: gives every layer its group.
    """
    counter = _Counter()
    with _watched(module, counter, group_of), torch.inference_mode():
        module(entry)
    counted: set[int] = set()
    for name, parameter in module.named_parameters():
        if id(parameter) not in counted:
            counted.add(id(parameter))
            counter.group(group_of(name.rpartition(".")[0]) or OTHER).parameters += parameter.numel()
    return list(counter.groups.values())


def part_of(path: str) -> str:
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


def layer_of(module: nn.Module) -> GroupOf:
    """Each convolution, linear layer and module with parameters of its own is a group; all else follows one.

    Args:
        module: a deployable network, fused, or a block.
    """
    outside = isinstance(module, Deployable | DeployableClassifier)
    names = {}
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) or list(layer.parameters(recurse=False)):
            inner = path.partition(".")[2] if outside and path.split(".")[0] in ("detector", "classifier") else path
            # A convolution in front of its activation is a block's first part, and bears the block's name.
            names[path] = inner.removesuffix(".0") if _is_fused(module, path) else inner

    def group(path: str) -> str | None:
        if path in names:
            return names[path]
        return part_of(path) if outside and part_of(path) in (INPUT, OUTPUT) else None

    return group


def _is_fused(module: nn.Module, path: str) -> bool:
    owner = module.get_submodule(path.rpartition(".")[0])
    return path.endswith(".0") and isinstance(owner, nn.Sequential) and not list(owner[1].parameters())


def tag(model: onnx.ModelProto, group_of: GroupOf) -> tuple[onnx.ModelProto, list[str]]:
    """A copy of a traced model whose nodes and values begin with "gNNN_", and the names of the groups NNN.

    A runtime that fuses or replaces nodes names the result after the node or after the value it makes, so that times
    can be told apart by group. A node that was made by a rewrite belongs to what its first known input belongs to.
    """
    tagged = onnx.ModelProto()
    tagged.CopyFrom(model)
    names: list[str] = []
    makers: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for number, node in enumerate(tagged.graph.node):
        path = _path(node)
        group = None if path is None else group_of(path)
        group = group or next((makers[name] for name in node.input if name in makers), INPUT)
        if group not in names:
            names.append(group)
        prefix = f"g{names.index(group):03d}_"
        node.name = f"{prefix}{number}"
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
        for position, name in enumerate(node.output):
            if not name:
                continue
            new = f"{prefix}{number}_{position}"
            renamed[name], makers[name], makers[new] = new, group, group
            node.output[position] = new
    for value in tagged.graph.output:
        value.name = renamed.get(value.name, value.name)
    del tagged.graph.value_info[:]
    return tagged, names


def tagged_group(name: str, groups: list[str]) -> str:
    """The group in the name of a node of a runtime; `OTHER` where there is none."""
    found = _TAG.search(name)
    return groups[int(found[1])] if found and int(found[1]) < len(groups) else OTHER


def _path(node: onnx.NodeProto) -> str | None:
    """The path of the module that the exporter's note tells."""
    text = next((one.value for one in node.metadata_props if one.key == _SCOPES), None)
    if text is None:
        return None
    scopes = ast.literal_eval(text)
    return str(scopes[-2]) if len(scopes) > 1 else ""


@contextmanager
def _watched(module: nn.Module, counter: _Counter, group_of: GroupOf) -> Iterator[None]:
    """While the network runs, each convolution and linear layer is counted."""
    hooks = []
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):

            def count(
                layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, group: str = group_of(path) or OTHER
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
    group.kind = _kind(layer)
    group.uses += 1


def _kind(layer: nn.Module) -> str:
    if not isinstance(layer, nn.Conv2d):
        return "linear"
    height, width = layer.kernel_size
    alone = layer.groups == layer.in_channels and layer.groups > 1
    name = f"{'depthwise' if alone else 'conv'} {height}x{width}"
    stride = f" / {layer.stride[0]}" if layer.stride[0] > 1 else ""
    return f"{name}{stride}" + (f", {layer.groups} groups" if layer.groups > 1 and not alone else "")
