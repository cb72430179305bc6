"""Names of weights: those of torchvision, timm and the original repositories to our classifiers'. Needs no torch.

A foreign name is `module.leaf`. The leaf is the same everywhere but in PaddlePaddle; for the module every family
has rules, a pattern and what it becomes. Where an upstream names layers by their place in a sequence, whether a
block has an expansion or squeeze-excite decides what a place means: the names of the model to be filled tell.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from falconet.core.errors import ModelError
from falconet.zoo.nanodet_keys import backbone_key as shufflenet_v2_key

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
_CONV_NORM = ("conv", "norm")
_PARTS = ("expand", "depthwise", "squeeze_excite", "project")


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


class _Model:
    """The modules of the model to be filled, and where its blocks lie."""

    def __init__(self, names: Collection[str]) -> None:
        self.modules = {name.rpartition(".")[0].removeprefix("backbone.") for name in names}
        blocks = {(int(m[1]), int(m[2])) for m in map(re.compile(r"stages\.(\d+)\.(\d+)\.").match, self.modules) if m}
        self.blocks = sorted(blocks)

    def has(self, module: str) -> bool:
        return any(name == module or name.startswith(f"{module}.") for name in self.modules)

    def place(self, index: int) -> str | None:
        """`stages.s.b` of the block with the given number, counted over all stages."""
        if index >= len(self.blocks):
            return None
        return "stages.{}.{}".format(*self.blocks[index])

    def parts(self, place: str) -> list[str]:
        """What the inverted residual at `place` consists of, in order."""
        return [part for part in _PARTS if self.has(f"{place}.{part}")]


Rule = tuple[str, Callable[[_Model, "re.Match[str]"], str | None]]


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
    if name not in _FAMILIES:
        raise ModelError(f"no foreign weights are known for '{name}'; expected one of: {', '.join(_FAMILIES)}")
    model = _Model([key for key in target if key.startswith(("backbone.", "hidden.", "output."))])
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


def _convert_key(name: str, key: str, model: _Model, counts: list[int]) -> str | None:
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
    for pattern, becomes in _FAMILIES[name]:
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


def _to(template: str) -> Callable[[_Model, "re.Match[str]"], str]:
    """Ours is `template`, with {1}, {2} for the groups of the pattern."""
    return lambda _model, found: template.format(*(found[i] for i in range(len(found.groups()) + 1)))


def _layer(template: str) -> Callable[[_Model, "re.Match[str]"], str]:
    """Ours is `template` followed by conv or norm, by the last group: 0 or 1."""
    return lambda _model, found: f"{template}.{_CONV_NORM[int(found[found.re.groups])]}"


def _torchvision_part(model: _Model, place: str | None, index: int, layer: str) -> str | None:
    """`layer` 0, 1 of a convolution or fc1, fc2 of squeeze-excite, in the part with `index`."""
    parts = [] if place is None else model.parts(place)
    if index >= len(parts):
        return None
    inner = {"0": "conv", "1": "norm", "fc1": "reduce", "fc2": "expand"}[layer]
    return f"{place}.{parts[index]}.{inner}"


def _linear_bottleneck(model: _Model, place: str | None, rest: str) -> str | None:
    """torchvision's MobileNetV2: nested pairs, but convolution and norm of the projection lie flat behind them."""
    parts = [] if place is None else model.parts(place)
    if found := re.fullmatch(r"(\d)\.([01])", rest):
        return _torchvision_part(model, place, int(found[1]), found[2])
    index = int(rest) - len(parts) + 1
    return f"{place}.project.{_CONV_NORM[index]}" if parts and index in (0, 1) else None


def _timm_part(model: _Model, found: "re.Match[str]") -> str | None:
    """timm's inverted residuals and separable convolutions, by the number of the block."""
    layer = found[2]
    place = model.place(int(found[1]))
    if place is None:
        return "last_conv.conv" if layer == "conv" else "last_conv.norm" if layer == "bn1" else None
    if model.has(f"{place}.pointwise"):
        return f"{place}.{_TIMM_SEPARABLE[layer]}" if layer in _TIMM_SEPARABLE else None
    table = _TIMM_INVERTED if model.has(f"{place}.expand") else _TIMM_PLAIN
    return f"{place}.{table[layer]}" if layer in table else None


_TIMM_SQUEEZE = {"se.conv_reduce": "squeeze_excite.reduce", "se.conv_expand": "squeeze_excite.expand"}
_TIMM_SEPARABLE = {
    "conv_dw": "depthwise.conv",
    "bn1": "depthwise.norm",
    "conv_pw": "pointwise.conv",
    "bn2": "pointwise.norm",
    **_TIMM_SQUEEZE,
}
_TIMM_PLAIN = {
    "conv_dw": "depthwise.conv",
    "bn1": "depthwise.norm",
    "conv_pw": "project.conv",
    "bn2": "project.norm",
    **_TIMM_SQUEEZE,
}
_TIMM_INVERTED = {
    "conv_pw": "expand.conv",
    "bn1": "expand.norm",
    "conv_dw": "depthwise.conv",
    "bn2": "depthwise.norm",
    "conv_pwl": "project.conv",
    "bn3": "project.norm",
    **_TIMM_SQUEEZE,
}
_TENSORFLOW_STYLE = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_se_reduce": "squeeze_excite.reduce",
    "_se_expand": "squeeze_excite.expand",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


def _tensorflow_part(model: _Model, found: "re.Match[str]") -> str | None:
    place = model.place(int(found[1]))
    return None if place is None else f"{place}.{_TENSORFLOW_STYLE[found[2]]}"


def _ghost_part(_model: _Model, found: "re.Match[str]") -> str:
    module = {"ghost1": "expand", "ghost2": "project"}[found[3]]
    kind = {"primary_conv": "primary", "cheap_operation": "cheap"}[found[4]]
    return f"stages.{found[1]}.{found[2]}.{module}.{kind}.{_CONV_NORM[int(found[5])]}"


def _ghost_shortcut(_model: _Model, found: "re.Match[str]") -> str:
    index = int(found[3])
    return f"stages.{found[1]}.{found[2]}.shortcut.{index // 2}.{_CONV_NORM[index % 2]}"


def _mnasnet_stem(_model: _Model, found: "re.Match[str]") -> str | None:
    blocks = {
        0: "stem",
        3: "stages.0.0.depthwise",
        6: "stages.0.0.project",
        14: "last_conv",
    }
    index = int(found[1])
    for first, block in blocks.items():
        if index in (first, first + 1):
            return f"{block}.{_CONV_NORM[index - first]}"
    return None


def _mnasnet_part(_model: _Model, found: "re.Match[str]") -> str:
    index = int(found[3])
    part = {0: "expand", 3: "depthwise", 6: "project"}[index // 3 * 3]
    return f"stages.{int(found[1]) - 7}.{found[2]}.{part}.{_CONV_NORM[index % 3]}"


def _universal(model: _Model, found: "re.Match[str]") -> str | None:
    """timm's MobileNetV4."""
    place = model.place(int(found[1]))
    if place is None:
        return {"conv": "last_conv.conv", "bn1": "last_conv.norm"}.get(found[2])
    if found[2] in ("conv", "bn1"):
        return f"{place}.{'conv' if found[2] == 'conv' else 'norm'}"
    part, _, layer = found[2].partition(".")
    parts = {"dw_start": "start", "pw_exp": "expand", "dw_mid": "middle", "pw_proj": "project"}
    return f"{place}.{parts[part]}.{'conv' if layer == 'conv' else 'norm'}"


_BN = {"conv": "conv", "bn": "norm"}


def _csp_place(_model: _Model, found: "re.Match[str]") -> str:
    parts = {
        "conv_down": "down",
        "conv1": "bypass",
        "conv2": "entry",
        "conv3": "transition",
        "conv_transition": "transition",
        "conv_transition_b": "block_transition",
    }
    return f"stages.{found[1]}.{parts[found[2]]}.{_BN[found[3]]}"


def _csp_block(model: _Model, found: "re.Match[str]") -> str:
    stage, block, index, inner, layer = found.groups()
    place = f"stages.{stage}.blocks.{block}"
    if model.has(f"{place}.convs"):
        return f"{place}.convs.{int(index) - 1}.{_BN[layer]}"
    if inner is None:
        return f"{place}.conv.{_BN[layer]}"
    return f"{place}.repvgg.{'wide' if inner == '1' else 'point'}.{_BN[layer]}"


def _darknet_timm(_model: _Model, found: "re.Match[str]") -> str:
    part = {"1": "reduce", "2": "conv"}[found[3]]
    return f"stages.{found[1]}.{int(found[2]) + 1}.{part}.{_BN[found[4]]}"


def _darknet_yolo(_model: _Model, found: "re.Match[str]") -> str:
    stage = int(found[1]) - 1
    part = {"1": "reduce", "2": "conv"}[found[4]]
    return f"stages.{stage}.{int(found[2]) + 1}.{part}.{_BN[found[3]]}"


_TIMM_RULES: list[Rule] = [
    (r"conv_stem", _to("stem.conv")),
    (r"bn1", _to("stem.norm")),
    (r"blocks\.(\d+)\.((?:se\.)?\w+)", _timm_part),
    (r"bn2", _to("last_conv.norm")),
    (r"classifier", _to("output")),
]
_TORCHVISION_STEM: list[Rule] = [
    (r"features\.0\.([01])", _layer("stem")),
    (r"features\.\d+\.([01])", _layer("last_conv")),
    (r"classifier\.[13]", _to("output")),
]
_TIMM_LAST_CONV: Rule = (r"conv_head", _to("last_conv.conv"))
_TIMM_HIDDEN: Rule = (r"conv_head", _to("hidden.linear"))

_FAMILIES: dict[str, list[Rule]] = {
    "shufflenet-v2": [],
    "ghostnet": [
        (r"conv_stem", _to("stem.conv")),
        (r"bn1", _to("stem.norm")),
        (r"blocks\.(\d+)\.(\d+)\.(ghost[12])\.(primary_conv|cheap_operation)\.([01])", _ghost_part),
        (r"blocks\.(\d+)\.(\d+)\.conv_dw", _to("stages.{1}.{2}.depthwise.conv")),
        (r"blocks\.(\d+)\.(\d+)\.bn_dw", _to("stages.{1}.{2}.depthwise.norm")),
        (r"blocks\.(\d+)\.(\d+)\.se\.conv_(reduce|expand)", _to("stages.{1}.{2}.squeeze_excite.{3}")),
        (r"blocks\.(\d+)\.(\d+)\.shortcut\.([0-3])", _ghost_shortcut),
        (r"blocks\.(\d+)\.(\d+)\.conv", _to("stages.{1}.{2}.conv")),
        (r"blocks\.(\d+)\.(\d+)\.bn1", _to("stages.{1}.{2}.norm")),
        _TIMM_HIDDEN,
        (r"classifier", _to("output")),
    ],
    "mobilenet-v2": [
        *_TORCHVISION_STEM,
        (
            r"features\.(\d+)\.conv\.(\d(?:\.[01])?)",
            lambda model, found: _linear_bottleneck(model, model.place(int(found[1]) - 1), found[2]),
        ),
        (r"first_layer\.([01])", _layer("stem")),
        (r"stage\d+\.\d+\.([01])", _layer("last_conv")),
        (
            r"stage(\d+)\.(\d+)\.conv\.(\d(?:\.[01])?)",
            lambda model, found: _linear_bottleneck(model, f"stages.{found[1]}.{found[2]}", found[3]),
        ),
        *_TIMM_RULES,
        _TIMM_LAST_CONV,
    ],
    "mobilenet-v3": [
        (r"classifier\.0", _to("hidden.linear")),
        *_TORCHVISION_STEM,
        (
            r"features\.(\d+)\.block\.(\d)\.(0|1|fc1|fc2)",
            lambda model, found: _torchvision_part(model, model.place(int(found[1]) - 1), int(found[2]), found[3]),
        ),
        *_TIMM_RULES,
        _TIMM_HIDDEN,
    ],
    "mobilenet-v4": [
        (r"conv_stem", _to("stem.conv")),
        (r"bn1", _to("stem.norm")),
        (r"blocks\.(\d+)\.(conv|bn1|(?:dw_start|pw_exp|dw_mid|pw_proj)\.(?:conv|bn))", _universal),
        _TIMM_HIDDEN,
        (r"norm_head", _to("hidden.norm")),
        (r"classifier", _to("output")),
    ],
    "mnasnet": [
        (r"layers\.(\d+)", _mnasnet_stem),
        (r"layers\.(\d+)\.(\d+)\.layers\.([013467])", _mnasnet_part),
        (r"classifier\.1", _to("output")),
        *_TIMM_RULES,
        _TIMM_LAST_CONV,
    ],
    "efficientnet": [
        *_TORCHVISION_STEM,
        (
            r"features\.(\d+)\.(\d+)\.block\.(\d)\.(0|1|fc1|fc2)",
            lambda model, found: _torchvision_part(
                model, f"stages.{int(found[1]) - 1}.{found[2]}", int(found[3]), found[4]
            ),
        ),
        (r"_?stem\.([01])", _layer("stem")),
        (r"_?blocks\.(\d+)\.(_\w+)", _tensorflow_part),
        (r"_conv_stem", _to("stem.conv")),
        (r"_bn0", _to("stem.norm")),
        (r"_conv_head", _to("last_conv.conv")),
        (r"_bn1", _to("last_conv.norm")),
        (r"_fc", _to("output")),
        *_TIMM_RULES,
        _TIMM_LAST_CONV,
    ],
    "lcnet": [*_TIMM_RULES, _TIMM_HIDDEN],
    "cspresnet": [
        (r"stem\.conv(\d)\.conv", lambda _model, found: f"stem.{int(found[1]) - 1}.conv"),
        (r"stem\.conv(\d)\.bn", lambda _model, found: f"stem.{int(found[1]) - 1}.norm"),
        (r"stages\.(\d)\.(conv_down|conv[123]|conv_transition|conv_transition_b)\.(conv|bn)", _csp_place),
        (r"stages\.(\d)\.blocks\.(\d+)\.conv(\d)(?:\.conv([12]))?\.(conv|bn)", _csp_block),
        (r"stages\.(\d)\.blocks\.(\d+)\.conv2", _to("stages.{1}.blocks.{2}.repvgg")),
        (r"stages\.(\d)\.attn\.fc", _to("stages.{1}.attention.excite")),
        (r"head\.fc", _to("output")),
    ],
    "darknet53": [
        (r"stem\.conv1\.conv|conv1", _to("stem.conv")),
        (r"stem\.conv1\.bn|bn1", _to("stem.norm")),
        (r"stages\.(\d)\.conv_down\.conv", _to("stages.{1}.0.conv")),
        (r"stages\.(\d)\.conv_down\.bn", _to("stages.{1}.0.norm")),
        (r"stages\.(\d)\.blocks\.(\d+)\.conv([12])\.(conv|bn)", _darknet_timm),
        (r"layer(\d)\.ds_(conv|bn)", lambda _model, found: f"stages.{int(found[1]) - 1}.0.{_BN[found[2]]}"),
        (r"layer(\d)\.residual_(\d+)\.(conv|bn)([12])", _darknet_yolo),
        (r"head\.fc", _to("output")),
    ],
}
_FAMILIES["efficientnet-lite"] = _FAMILIES["efficientnet"]
