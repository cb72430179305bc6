"""Names of weights: those of torchvision, timm and the original repositories to our classifiers'. Needs no torch.

A foreign name is `module.leaf`. The leaf is the same everywhere but in PaddlePaddle; for the module every family
has rules (`falconet.zoo.classifiers.rules`).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from falconet.core.errors import ModelError
from falconet.zoo.classifiers.rules import FAMILIES, ModelNames
from falconet.zoo.nanodet.keys import backbone_key as shufflenet_v2_key

Value = TypeVar("Value")

_LEAVES = {
    "weight": "weight",
    "bias": "bias",
    "running_mean": "running_mean",
    "running_var": "running_var",
    "num_batches_tracked": "num_batches_tracked",
    "_mean": "running_mean",
    "_variance": "running_var",
    "alpha": "alpha",
}


@dataclass(frozen=True, slots=True)
class Converted(Generic[Value]):
    """A state dict in our names.

    Attributes:
        weights: of a `falconet.models.classifier.Classifier`; those of its backbone begin with "backbone.".
        unused: upstream names that have no place in the model.
        missing: names of the model that no upstream name became, those of running statistics' counters excepted.
    """

    weights: dict[str, Value]
    unused: tuple[str, ...]
    missing: tuple[str, ...]


def convert(name: str, state: Mapping[str, Value], target: Collection[str]) -> Converted[Value]:
    """`state` in the names of our classifier.

    Args:
        name: of the backbone's configuration, a key of `falconet.models.backbones.BACKBONES`.
        state: weights by the names of torchvision, timm, the original repository, or RangiLyu/nanodet.
        target: names in the state dict of the classifier to be filled (or of a detector; then only the names that
            begin with "backbone." count).

    Raises:
        ModelError: no rules for `name`.
    """
    if name not in FAMILIES:
        raise ModelError(f"no foreign weights are known for '{name}'; expected one of: {', '.join(FAMILIES)}")
    model = ModelNames([key for key in target if key.startswith(("backbone.", "hidden.", "output."))])
    counts = _stage_sizes(state)
    weights: dict[str, Value] = {}
    unused = []
    for key, value in _split_csp(name, state).items():
        ours = _convert_key(name, key, model, counts)
        if ours is None or ours not in target:
            unused.append(key)
        else:
            weights[ours] = _as_matrix(ours, value)
    missing = [key for key in target if key not in weights and not key.endswith("num_batches_tracked")]
    return Converted(weights, tuple(unused), tuple(missing))


def check_fit(
    converted: Converted[Any], shapes: Mapping[str, tuple[int, ...]], *, source: str, prefix: str = "backbone."
) -> None:
    """Make sure that every weight of the model under `prefix` is there in the right shape.

    Args:
        converted: what `convert` returned.
        shapes: of the model's own weights, by our names.
        source: file name for the message.
        prefix: "backbone." for the backbone alone, "" for the whole classifier.

    Raises:
        ModelError: with the first names that are missing or differ in shape.
    """
    problems = [f"{name} is missing" for name in converted.missing if name.startswith(prefix) and name in shapes]
    for name, value in converted.weights.items():
        if name.startswith(prefix) and tuple(value.shape) != tuple(shapes[name]):
            problems.append(f"{name} is {list(value.shape)}, expected {list(shapes[name])}")
    if problems:
        shown = "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        unused = f"; it also holds {', '.join(converted.unused[:3])}" if converted.unused else ""
        raise ModelError(f"{source}: these are the weights of another network: {shown}{unused}")


def _convert_key(name: str, key: str, model: ModelNames, counts: list[int]) -> str | None:
    key = re.sub(r"^(?:(?:module|model|backbone)\.)+", "", key)
    if name == "shufflenet-v2":
        found = shufflenet_v2_key(key)
        if found is not None:
            return f"backbone.{found}"
        return f"output.{key.removeprefix('fc.')}" if key.startswith("fc.") else None
    module, _, leaf = key.rpartition(".")
    if leaf not in _LEAVES:
        return None
    nested = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(.+)", module)
    if nested and name != "ghostnet":  # stages may be cut differently: count through
        stage, block = int(nested[1]), int(nested[2])
        module = f"blocks.{sum(counts[:stage]) + block}.{nested[3]}"
    for pattern, becomes in FAMILIES[name]:
        found = re.fullmatch(pattern, module)
        if found:
            ours = becomes(model, found)
            if ours is None:
                return None
            top = "" if ours.startswith(("hidden.", "output")) else "backbone."
            return f"{top}{ours}.{_LEAVES[leaf]}"
    return None


def _stage_sizes(state: Collection[str]) -> list[int]:
    """Blocks per stage of an upstream that names them `blocks.stage.block`."""
    sizes: dict[int, int] = {}
    for key in state:
        if found := re.match(r"(?:\w+\.)*?blocks\.(\d+)\.(\d+)\.", key):
            sizes[int(found[1])] = max(sizes.get(int(found[1]), 0), int(found[2]) + 1)
    return [sizes.get(stage, 0) for stage in range(max(sizes, default=-1) + 1)]


def _as_matrix(name: str, value: Value) -> Value:
    """A 1x1 convolution of pooled features as the matrix of a linear layer."""
    shape = getattr(value, "shape", ())
    if name == "hidden.linear.weight" and len(shape) == 4:
        matrix: Value = value.reshape(shape[0], shape[1])  # type: ignore[attr-defined]  # arrays and tensors alike
        return matrix
    return value


def _split_csp(name: str, state: Mapping[str, Value]) -> dict[str, Value]:
    """timm's CSPResNet makes both halves of a stage with one convolution; ours has one for each."""
    if name != "cspresnet":
        return dict(state)
    split: dict[str, Value] = {}
    for key, value in state.items():
        if ".conv_exp." not in key:
            split[key] = value
            continue
        shape = getattr(value, "shape", ())
        half = shape[0] // 2 if len(shape) else None
        split[key.replace("conv_exp", "conv1")] = value if half is None else value[:half]  # type: ignore[index]
        split[key.replace("conv_exp", "conv2")] = value if half is None else value[half:]  # type: ignore[index]
    return split
