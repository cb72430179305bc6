"""Rules, one table per family of backbones, from the names of other repositories' modules to ours. Needs no torch.

A rule is a pattern and what a module that matches becomes. Where an upstream names layers by their place in a
sequence, whether a block has an expansion or squeeze-excite decides what a place means: the names of the model to
be filled tell.
"""

import re
from collections.abc import Callable, Collection

_CONV_NORM = ("conv", "norm")
_PARTS = ("expand", "depthwise", "squeeze_excite", "project")


class ModelNames:
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


Rule = tuple[str, Callable[[ModelNames, "re.Match[str]"], str | None]]


def _to(template: str) -> Callable[[ModelNames, "re.Match[str]"], str]:
    """Ours is `template`, with {1}, {2} for the groups of the pattern."""
    return lambda _model, found: template.format(*(found[i] for i in range(len(found.groups()) + 1)))


def _layer(template: str) -> Callable[[ModelNames, "re.Match[str]"], str]:
    """Ours is `template` followed by conv or norm, by the last group: 0 or 1."""
    return lambda _model, found: f"{template}.{_CONV_NORM[int(found[found.re.groups])]}"


def _torchvision_part(model: ModelNames, place: str | None, index: int, layer: str) -> str | None:
    """`layer` 0, 1 of a convolution or fc1, fc2 of squeeze-excite, in the part with `index`."""
    parts = [] if place is None else model.parts(place)
    if index >= len(parts):
        return None
    inner = {"0": "conv", "1": "norm", "fc1": "reduce", "fc2": "expand"}[layer]
    return f"{place}.{parts[index]}.{inner}"


def _linear_bottleneck(model: ModelNames, place: str | None, rest: str) -> str | None:
    """torchvision's MobileNetV2: nested pairs, but convolution and norm of the projection lie flat behind them."""
    parts = [] if place is None else model.parts(place)
    if found := re.fullmatch(r"(\d)\.([01])", rest):
        return _torchvision_part(model, place, int(found[1]), found[2])
    index = int(rest) - len(parts) + 1
    return f"{place}.project.{_CONV_NORM[index]}" if parts and index in (0, 1) else None


def _timm_part(model: ModelNames, found: "re.Match[str]") -> str | None:
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


def _tensorflow_part(model: ModelNames, found: "re.Match[str]") -> str | None:
    place = model.place(int(found[1]))
    return None if place is None else f"{place}.{_TENSORFLOW_STYLE[found[2]]}"


def _ghost_part(_model: ModelNames, found: "re.Match[str]") -> str:
    module = {"ghost1": "expand", "ghost2": "project"}[found[3]]
    kind = {"primary_conv": "primary", "cheap_operation": "cheap"}[found[4]]
    return f"stages.{found[1]}.{found[2]}.{module}.{kind}.{_CONV_NORM[int(found[5])]}"


def _ghost_shortcut(_model: ModelNames, found: "re.Match[str]") -> str:
    index = int(found[3])
    return f"stages.{found[1]}.{found[2]}.shortcut.{index // 2}.{_CONV_NORM[index % 2]}"


def _mnasnet_stem(_model: ModelNames, found: "re.Match[str]") -> str | None:
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


def _mnasnet_part(_model: ModelNames, found: "re.Match[str]") -> str:
    index = int(found[3])
    part = {0: "expand", 3: "depthwise", 6: "project"}[index // 3 * 3]
    return f"stages.{int(found[1]) - 7}.{found[2]}.{part}.{_CONV_NORM[index % 3]}"


def _universal(model: ModelNames, found: "re.Match[str]") -> str | None:
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


def _csp_place(_model: ModelNames, found: "re.Match[str]") -> str:
    parts = {
        "conv_down": "down",
        "conv1": "bypass",
        "conv2": "entry",
        "conv3": "transition",
        "conv_transition": "transition",
        "conv_transition_b": "block_transition",
    }
    return f"stages.{found[1]}.{parts[found[2]]}.{_BN[found[3]]}"


def _csp_block(model: ModelNames, found: "re.Match[str]") -> str:
    stage, block, index, inner, layer = found.groups()
    place = f"stages.{stage}.blocks.{block}"
    if model.has(f"{place}.convs"):
        return f"{place}.convs.{int(index) - 1}.{_BN[layer]}"
    if inner is None:
        return f"{place}.conv.{_BN[layer]}"
    return f"{place}.repvgg.{'wide' if inner == '1' else 'point'}.{_BN[layer]}"


def _darknet_timm(_model: ModelNames, found: "re.Match[str]") -> str:
    part = {"1": "reduce", "2": "conv"}[found[3]]
    return f"stages.{found[1]}.{int(found[2]) + 1}.{part}.{_BN[found[4]]}"


def _darknet_yolo(_model: ModelNames, found: "re.Match[str]") -> str:
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

FAMILIES: dict[str, list[Rule]] = {
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
FAMILIES["efficientnet-lite"] = FAMILIES["efficientnet"]
