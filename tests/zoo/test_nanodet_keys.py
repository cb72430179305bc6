"""Names of weights: each upstream name has its place or is reported."""

import pytest

from falconet.zoo.nanodet.keys import backbone_key, convert, convert_key
from tests.golden.case import Case


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.conv1.1.running_var", "backbone.stem.norm.running_var"),
        ("backbone.stage2.0.branch1.2.weight", "backbone.stages.0.down.shortcut.1.conv.weight"),
        ("backbone.stage2.0.branch2.6.bias", "backbone.stages.0.down.branch.2.norm.bias"),
        ("backbone.stage3.7.branch2.3.weight", "backbone.stages.1.units.6.branch.1.conv.weight"),
        ("backbone.stage4.conv5.0.weight", "backbone.last_conv.conv.weight"),
        ("fpn.reduce_layers.2.bn.num_batches_tracked", "neck.reduce.2.norm.num_batches_tracked"),
        (
            "fpn.top_down_blocks.0.blocks.0.ghost2.cheap_operation.1.weight",
            "neck.top_down.0.ghosts.1.cheap.norm.weight",
        ),
        ("fpn.bottom_up_blocks.1.blocks.0.shortcut.2.weight", "neck.bottom_up.1.shortcut.1.conv.weight"),
        ("aux_fpn.downsamples.1.pwnorm.bias", "auxiliary_neck.downsample.1.pointwise.norm.bias"),
        ("aux_fpn.extra_lvl_in_conv.0.depthwise.weight", "auxiliary_neck.extra_in.0.depthwise.conv.weight"),
        ("head.cls_convs.3.1.dwnorm.weight", "head.convs.3.1.depthwise.norm.weight"),
        ("head.gfl_cls.0.bias", "head.outputs.0.bias"),
        ("aux_head.cls_convs.1.conv.weight", "auxiliary_head.class_convs.1.conv.weight"),
        ("aux_head.reg_convs.0.gn.bias", "auxiliary_head.box_convs.0.norm.bias"),
        ("aux_head.gfl_cls.weight", "auxiliary_head.class_output.weight"),
        ("aux_head.gfl_reg.bias", "auxiliary_head.box_output.bias"),
        ("aux_head.scales.3.scale", "auxiliary_head.scales.3"),
    ],
)
def test_by_hand(theirs, ours):
    assert convert_key(theirs) == ours


@pytest.mark.parametrize(
    "key",
    [
        "head.distribution_project.project",
        "backbone.stage5.0.branch1.0.weight",
        "backbone.stage2.1.branch1.0.weight",
        "backbone.stage2.0.branch2.2.weight",
        "backbone.fc.weight",
        "fpn.reduce_layers.2.gn.weight",
        "fpn.top_down_blocks.0.blocks.0.ghost3.primary_conv.0.weight",
        "head.gfl_reg.0.weight",
        "aux_head.scales.scale",
        "epoch",
        "",
    ],
)
def test_what_has_no_place_is_reported(key):
    assert convert_key(key) is None
    assert convert({key: 1, "head.gfl_cls.0.bias": 2}) == type(convert({}))({"head.outputs.0.bias": 2}, {}, (key,))


def test_torchvision_names():
    assert backbone_key("conv5.0.weight") == "last_conv.conv.weight"
    assert backbone_key("fc.weight") is None


def test_whole_state_dict():
    case = Case("nanodet_plus_m_320")
    keys = [key for key, _ in case.meta["state"]]
    converted = convert(dict.fromkeys(keys, 0))
    assert converted.unused == ("head.distribution_project.project",)
    assert len(converted.detector) + len(converted.auxiliary) + 1 == len(keys)  # no two share a place
    assert all(key.startswith(("backbone.", "neck.", "head.")) for key in converted.detector)
    assert len([key for key in converted.auxiliary if key.startswith("auxiliary_neck.")]) == len(
        [key for key in converted.detector if key.startswith("neck.")]
    )
