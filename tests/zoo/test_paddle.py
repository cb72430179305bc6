"""PP-YOLOE weights of Paddle: written the way `paddle.save` writes them, read without Paddle, wrong files named."""

import itertools
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess
from falconet.models import PRESETS, build
from falconet.models.backbones import CSPResNetConfig
from falconet.models.ppyoloe import PLUS_INPUT, CSPPANConfig, PPYOLOEConfig, PPYOLOEHeadConfig
from falconet.models.weights import load_weights
from falconet.zoo.formats.paddle_files import NAMES, PIECES, read_paddle
from falconet.zoo.imported import ImportOptions
from falconet.zoo.importing import import_files
from falconet.zoo.ppyoloe.keys import CONSTANT, convert
from tests.golden import fill
from tests.golden.case import Case
from tests.training.criterion import make_criterion

CLASSES = ["apple", "banana", "cherry"]
TINY = PPYOLOEConfig(
    input=PLUS_INPUT,
    backbone=CSPResNetConfig(variant="s", width=0.125, alpha=True),
    neck=CSPPANConfig(channels=16),
    head=PPYOLOEHeadConfig(reg_max=5),
)


def original_names(config: PPYOLOEConfig) -> dict[str, str]:
    """{our name: the original's} of every weight, from a golden case of PP-YOLOE+-s, which has the same structure."""
    assert config.backbone.alpha
    keys = [key for key, _ in Case("ppyoloe_train_step_s_s1").meta["state"]]
    return convert({key: key for key in keys}).detector


def original_state(config: PPYOLOEConfig = TINY, count: int = len(CLASSES)) -> dict[str, np.ndarray]:
    """Weights by the original's names, filled by the golden rule."""
    shapes = {name: tuple(value.shape) for name, value in build(config, count).state_dict().items()}
    state = {theirs: fill.fill(theirs, shapes[ours]) for ours, theirs in original_names(config).items()}
    state[CONSTANT] = np.arange(config.head.reg_max + 1, dtype=np.float32).reshape(1, -1, 1, 1)
    return state


def save(path: Path, state: dict[str, Any], *, protocol: int = 4, pairs: bool = False) -> Path:
    """What `paddle.save` writes: a pickle of {name: array} and a table of Paddle's own names."""
    tree: dict[str, Any] = {key: _Pair(key, value) if pairs else value for key, value in state.items()}
    tree[NAMES] = {key: f"param_{number}" for number, key in enumerate(state)}
    path.write_bytes(pickle.dumps(tree, protocol=protocol))
    return path


class _Pair:
    """Pickles as Paddle's tensors do: as the tuple of a name and an array."""

    def __init__(self, name: str, value: np.ndarray) -> None:
        self.content = (name, value)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return tuple, (self.content,)


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return original_state()


@pytest.mark.parametrize("pairs", [False, True], ids=["arrays", "pairs"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_read_without_paddle(state: dict[str, np.ndarray], tmp_path: Path, protocol: int, pairs: bool) -> None:
    found = read_paddle(save(tmp_path / "m.pdparams", state, protocol=protocol, pairs=pairs))
    assert found.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(found[key], value)


def test_a_tiny_model_is_told_from_its_shapes(state: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = save(tmp_path / "m.pdparams", state)
    imported = import_files(
        [path], ImportOptions(preprocess=Preprocess(height=96, width=64), classes=CLASSES, source="here")
    )
    config = imported.card.model
    assert isinstance(config, PPYOLOEConfig)
    assert config == TINY.model_copy(update={"input": replace(PLUS_INPUT, height=96, width=64)})
    assert imported.card.classes == tuple(CLASSES)
    assert imported.card.selection.iou_threshold == 0.7
    assert imported.left_over == ()
    assert imported.matched == len(state) - 1
    imported.save(tmp_path / "m.safetensors")
    detector, card = load_weights(tmp_path / "m.safetensors")
    assert card.source == "here"
    own = detector.state_dict()
    for ours, theirs in original_names(TINY).items():
        np.testing.assert_array_equal(own[ours].numpy(), state[theirs])


@pytest.mark.parametrize(
    ("name", "preset"), [("ppyoloe_s", "ppyoloe-s"), ("ppyoloe_plus_s", "ppyoloe-plus-s"), ("ppyoloe_s_small_stem", "")]
)
def test_the_published_sizes(tmp_path: Path, name: str, preset: str) -> None:
    case = Case(name)
    weights = case.weights()
    weights[CONSTANT] = np.arange(17, dtype=np.float32).reshape(1, 17, 1, 1)
    imported = import_files([save(tmp_path / "m.pdparams", weights)])
    if preset:
        assert imported.card.model == PRESETS[preset]
    else:
        assert imported.card.model.backbone == CSPResNetConfig(variant="s", stem="small")
    assert imported.card.classes[:2] == ("person", "bicycle")
    images = torch.from_numpy(case.input("nonsq"))
    with torch.no_grad():
        neck = imported.detector.forward_outputs(images).neck
    for level in range(3):
        case.check(f"nonsq/neck.{level}", neck[2 - level])


@pytest.mark.parametrize("branch", ["repvgg", "none"])
def test_the_tiny_size_with_its_auxiliary_branch(tmp_path: Path, branch: str) -> None:
    """Names by the original's code: equal levels, RepVGG or nothing behind the gates, a second neck, a wide head."""
    activation = "relu" if branch == "none" else "silu"
    backbone = CSPResNetConfig(variant="s", width=0.125, alpha=True, activation="relu" if branch == "none" else None)
    config = PPYOLOEConfig(
        input=PLUS_INPUT,
        backbone=backbone,
        neck=CSPPANConfig(channels=16, growth=1, activation=activation),
        head=PPYOLOEHeadConfig(reg_max=5, branch=branch, activation=activation),
    )
    detector = build(config, len(CLASSES))
    criterion = make_criterion(config, detector, num_classes=len(CLASSES), auxiliary="keep")
    own = {name: tuple(value.shape) for name, value in detector.state_dict().items()}
    state = {}
    for ours, theirs in original_names(TINY).items():
        if ".conv." not in theirs or not theirs.startswith("yolo_head.stem"):
            state[theirs] = fill.fill(theirs, own[ours])
    if branch == "repvgg":
        for kind, part in itertools.product(("cls", "reg"), ("conv1.conv.weight", "conv2.conv.weight")):
            for level in range(3):
                shape = (16, 16, 3, 3) if part.startswith("conv1") else (16, 16, 1, 1)
                key = f"yolo_head.stem_{kind}.{level}.conv.{part}"
                state[key] = fill.fill(key, shape)
                for leaf in ("weight", "bias", "_mean", "_variance"):
                    norm = key.replace("conv.weight", f"bn.{leaf}")
                    state[norm] = fill.fill(norm, (16,))
    detector_keys = len(state)
    state |= {f"aux_{key}": value + 1 for key, value in state.items() if key.startswith("neck.")}
    for kind, count in (("cls", len(CLASSES)), ("reg", 24)):
        state[f"aux_head.{kind}_convs.0.conv.weight"] = fill.fill(kind, (32, 32, 3, 3))
        state |= {f"aux_head.{kind}_convs.0.norm.{leaf}": fill.fill(leaf, (32,)) for leaf in ("weight", "bias")}
        state[f"aux_head.gfl_{kind}.weight"] = fill.fill(f"{kind} out", (count, 32, 3, 3))
        state[f"aux_head.gfl_{kind}.bias"] = fill.fill(f"{kind} bias", (count,))
    state |= {f"aux_head.scales.{level}.scale": np.array([level + 2], np.float32) for level in range(3)}
    imported = import_files([save(tmp_path / "m.pdparams", state)], ImportOptions(classes=CLASSES))
    assert imported.card.model == config
    assert (imported.left_over, imported.matched) == ((), detector_keys)
    assert imported.notes[0].startswith(
        f"activations are not told by weights: {'ReLU' if activation == 'relu' else 'SiLU'}"
    )
    learnt = {name for name in criterion.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(imported.extra) == learnt
    assert [float(imported.extra[f"auxiliary_head.scales.{level}"]) for level in range(3)] == [4, 3, 2]
    criterion.load_state_dict(imported.extra, strict=False)


def test_what_lies_beside_is_left_out(state: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = save(tmp_path / "m.pdparams", state)
    (tmp_path / "m.pdopt").write_bytes(b"anything")
    imported = import_files([tmp_path / "m.pdopt", path], ImportOptions(classes=CLASSES))
    assert imported.notes[-1] == "m.pdopt was left out: the state of an optimiser"
    with pytest.raises(ModelError) as error:
        import_files([tmp_path / "m.pdopt"], ImportOptions(classes=CLASSES))
    assert str(error.value) == (
        f"{tmp_path}/m.pdopt: holds the state of an optimiser, not a model; expected m.pdparams"
    )


def _import(tmp_path: Path, state: dict[str, Any], classes: list[str] | None = CLASSES) -> str:
    path = save(tmp_path / "m.pdparams", state)
    with pytest.raises(ModelError) as error:
        import_files([path], ImportOptions(classes=classes))
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_partial_files_say_what_is_missing(state: dict[str, np.ndarray], tmp_path: Path) -> None:
    part = {key: value for key, value in state.items() if key.startswith("backbone.")}
    assert _import(tmp_path, part) == (
        "is no complete PP-YOLOE: a CustomCSPPAN neck (neck.fpn_stages.0.0.conv1.conv.weight), a PPYOLOEHead "
        "(yolo_head.pred_cls.0.weight) missing; its weights belong to backbone.stages, backbone.stem"
    )
    part = {key: value for key, value in state.items() if not key.startswith("yolo_head.stem_cls.0.conv")}
    assert _import(tmp_path, part) == (
        "5 weights are missing; by our names: head.class_branches.2.1.conv.weight [64, 64, 1, 1], "
        "head.class_branches.2.1.norm.weight [64], head.class_branches.2.1.norm.bias [64], "
        "head.class_branches.2.1.norm.running_mean [64], head.class_branches.2.1.norm.running_var [64]"
    )
    part = {key: value for key, value in state.items() if not key.startswith("backbone.stem.")}
    assert _import(tmp_path, part) == "backbone.stem is missing or incomplete, so the network's size cannot be told"


def test_wrong_shapes_and_surplus_weights_are_named(state: dict[str, np.ndarray], tmp_path: Path) -> None:
    key = "neck.pan_stages.0.0.conv1.conv.weight"
    assert _import(tmp_path, {**state, key: state[key][:, :5]}) == (
        f"1 weights have another shape than the model's: {key} is {[32, 5, 1, 1]}, expected {[32, 96, 1, 1]}"
    )
    extra = {"backbone.stages.0.attn2.fc.weight": np.zeros((2, 2), np.float32)}
    assert _import(tmp_path, {**state, **extra}) == (
        "1 weights have no place in the model: backbone.stages.0.attn2.fc.weight [2, 2]"
    )
    bad = state[key].copy()
    bad[0] = np.nan
    assert "holds numbers that are not finite" in _import(tmp_path, {**state, key: bad})


def test_networks_of_other_kinds_are_refused(state: dict[str, np.ndarray], tmp_path: Path) -> None:
    reg_range = np.arange(-2, 4, dtype=np.float32).reshape(1, 6, 1, 1)
    assert _import(tmp_path, {**state, CONSTANT: reg_range}) == (
        "its distances run from -2 to 3 (reg_range); ours start at 0"
    )
    second = {"neck.fpn_stages.0.1.conv1.conv.weight": np.zeros((1, 1, 1, 1), np.float32)}
    assert "several stages per level (stage_num)" in _import(tmp_path, {**state, **second})
    deep = {"backbone.stages.0.blocks.8.conv1.conv.weight": np.zeros((1, 1, 3, 3), np.float32)}
    assert "stages of [9, 2, 2, 1] blocks, which is no depth known here" in _import(tmp_path, {**state, **deep})
    other = {"yolo_head.pred_reg.0.bias": np.zeros(7, np.float32)}
    assert "tell of 3 classes and 7 / 4 bins per side" in _import(tmp_path, {**state, **other})
    assert "has 3 classes" in _import(tmp_path, state, None)


def test_weights_left_over_that_are_no_part_of_the_detector(state: dict[str, np.ndarray], tmp_path: Path) -> None:
    places = {"yolo_head.anchor_points": np.zeros((84, 2), np.float32)}
    path = save(tmp_path / "m.pdparams", {**state, **places, "aux_head.conv.weight": np.zeros((1, 1), np.float32)})
    assert import_files([path], ImportOptions(classes=CLASSES)).left_over == ("aux_head.conv.weight",)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "m.pdparams"
    path.write_bytes(b"\n\x08MobileNet")
    with pytest.raises(
        ModelError, match=r"is not a file of paddle\.save: it starts with b'\\n\\x08Mo', expected a pickle"
    ):
        read_paddle(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ModelError, match="expected a mapping from names to arrays, but found a list"):
        read_paddle(path)
    path.write_bytes(pickle.dumps({"epoch": 3}))
    with pytest.raises(ModelError, match="holds no arrays; its entries are epoch"):
        read_paddle(path)
    path.write_bytes(pickle.dumps({PIECES: {"a": 1}}))
    with pytest.raises(ModelError, match="has arrays in pieces"):
        read_paddle(path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_paddle(tmp_path / "none.pdparams")


class Runs:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return print, ("this would run",)


def test_nothing_is_run(state: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.pdparams"
    path.write_bytes(pickle.dumps({**state, "x": Runs()}))
    with pytest.raises(ModelError, match=r"asks for 'builtins\.print'.*nothing was run"):
        read_paddle(path)
    assert capsys.readouterr().out == ""


def test_half_precision_and_other_types(tmp_path: Path) -> None:
    values = np.array([1.5, -2.0, 0.0], np.float32)
    found = read_paddle(save(tmp_path / "m.pdparams", {"w": (values.view(np.uint32) >> 16).astype(np.uint16)}))
    np.testing.assert_array_equal(found["w"], values)
    with pytest.raises(ModelError, match="w holds bool instead of numbers"):
        read_paddle(save(tmp_path / "n.pdparams", {"w": np.array([True])}))
