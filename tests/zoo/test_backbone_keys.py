"""Foreign names of backbones' weights. Their values are proven by the golden cases under tests/models/backbones."""

import numpy as np
import pytest

from falconet.core.errors import ModelError
from falconet.models.classifiers import CLASSIFIERS
from falconet.zoo.classifiers.keys import check_fit, convert


@pytest.fixture(scope="module")
def shapes():
    """{our name: shape} of a classifier by name."""
    built = {}

    def of(name):
        if name not in built:
            built[name] = {key: tuple(value.shape) for key, value in CLASSIFIERS[name].build(10).state_dict().items()}
        return built[name]

    return of


@pytest.mark.parametrize(
    ("classifier", "theirs", "ours"),
    [
        ("mobilenet-v2-1.0", "features.1.conv.0.0.weight", "backbone.stages.0.0.depthwise.conv.weight"),
        ("mobilenet-v2-1.0", "features.1.conv.2.bias", "backbone.stages.0.0.project.norm.bias"),
        ("mobilenet-v2-1.0", "features.4.conv.0.1.running_var", "backbone.stages.2.0.expand.norm.running_var"),
        ("mobilenet-v2-1.0", "features.17.conv.2.weight", "backbone.stages.6.0.project.conv.weight"),
        ("mobilenet-v2-1.0", "blocks.0.0.conv_pw.weight", "backbone.stages.0.0.project.conv.weight"),
        ("mobilenet-v2-1.0", "conv_head.weight", "backbone.last_conv.conv.weight"),
        ("mobilenet-v2-1.0", "module.classifier.1.bias", "output.bias"),
        ("mobilenet-v3-large", "features.4.block.2.fc1.weight", "backbone.stages.2.0.squeeze_excite.reduce.weight"),
        ("mobilenet-v3-large", "features.16.1.weight", "backbone.last_conv.norm.weight"),
        ("mobilenet-v3-large", "classifier.0.bias", "hidden.linear.bias"),
        ("mobilenet-v3-large", "classifier.3.bias", "output.bias"),
        ("mobilenet-v3-large", "conv_head.bias", "hidden.linear.bias"),
        ("mobilenet-v4-conv-s", "blocks.0.1.bn1.weight", "backbone.stages.0.1.norm.weight"),
        ("mobilenet-v4-conv-s", "norm_head.running_mean", "hidden.norm.running_mean"),
        ("mnasnet-1.0", "layers.3.weight", "backbone.stages.0.0.depthwise.conv.weight"),
        ("mnasnet-1.0", "layers.11.1.layers.7.weight", "backbone.stages.4.1.project.norm.weight"),
        ("mnasnet-1.0", "layers.15.bias", "backbone.last_conv.norm.bias"),
        ("efficientnet-b0", "features.2.1.block.2.fc2.bias", "backbone.stages.1.1.squeeze_excite.expand.bias"),
        ("efficientnet-b0", "bn2.weight", "backbone.last_conv.norm.weight"),
        ("efficientnet-lite0", "_conv_stem.weight", "backbone.stem.conv.weight"),
        ("efficientnet-lite0", "_blocks.2._bn0.weight", "backbone.stages.1.1.expand.norm.weight"),
        ("efficientnet-lite0", "backbone.stem.1.weight", "backbone.stem.norm.weight"),
        ("efficientnet-lite0", "_fc.weight", "output.weight"),
        ("lcnet-1.0", "blocks.0.0.conv_pw.weight", "backbone.stages.0.0.pointwise.conv.weight"),
        ("ghostnet-1.0", "blocks.8.3.se.conv_expand.bias", "backbone.stages.8.3.squeeze_excite.expand.bias"),
        ("ghostnet-1.0", "blocks.3.0.shortcut.3.weight", "backbone.stages.3.0.shortcut.1.norm.weight"),
        (
            "cspresnet-s",
            "stages.1.blocks.1.conv2.conv2.bn._variance",
            "backbone.stages.1.blocks.1.repvgg.point.norm.running_var",
        ),
        ("cspresnet-s", "backbone.stages.2.attn.fc.bias", "backbone.stages.2.attention.excite.bias"),
        ("cspresnet-50", "stages.2.conv_transition_b.bn.weight", "backbone.stages.2.block_transition.norm.weight"),
        ("darknet53", "layer5.residual_3.bn2.weight", "backbone.stages.4.4.conv.norm.weight"),
        ("darknet53", "stages.4.blocks.3.conv2.bn.weight", "backbone.stages.4.4.conv.norm.weight"),
        ("shufflenet-v2-1.0", "stage3.7.branch2.3.weight", "backbone.stages.1.units.6.branch.1.conv.weight"),
        ("shufflenet-v2-1.0", "fc.weight", "output.weight"),
    ],
)
def test_names(shapes, classifier, theirs, ours):
    converted = convert(CLASSIFIERS[classifier].backbone.name, {theirs: 1}, shapes(classifier))
    assert converted.weights == {ours: 1}
    assert converted.unused == ()
    assert ours not in converted.missing


def test_stages_that_are_cut_differently_are_counted_through(shapes):
    # timm's fifth stage of PP-LCNet is the tail of the fourth here.
    state = {f"blocks.{stage}.0.bn1.bias": stage for stage in range(3)} | {
        "blocks.3.1.bn1.bias": 3,
        "blocks.4.0.bn1.bias": 4,
    }
    state |= {"blocks.1.1.bn1.bias": 11, "blocks.2.1.bn1.bias": 21}
    weights = convert("lcnet", state, shapes("lcnet-1.0")).weights
    assert weights["backbone.stages.3.1.depthwise.norm.bias"] == 3
    assert weights["backbone.stages.3.2.depthwise.norm.bias"] == 4


def test_blocks_of_timm_are_counted_by_the_names_that_are_there(shapes):
    state = {f"blocks.{stage}.{block}.conv.weight": 0 for stage in (0, 1) for block in (0, 1)}
    state |= {"blocks.2.0.dw_start.bn.weight": 1, "blocks.2.0.pw_proj.conv.weight": 2}
    weights = convert("mobilenet-v4", state, shapes("mobilenet-v4-conv-s")).weights
    assert weights["backbone.stages.2.0.start.norm.weight"] == 1
    assert weights["backbone.stages.2.0.project.conv.weight"] == 2
    assert len(weights) == len(state)


def test_what_has_no_place_is_reported(shapes):
    state = {"features.99.conv.0.0.weight": 1, "something": 2, "features.1.conv.9.weight": 3, "optimizer.step": 4}
    converted = convert("mobilenet-v2", state, shapes("mobilenet-v2-1.0"))
    assert converted.weights == {}
    assert set(converted.unused) == set(state)
    assert "output.bias" in converted.missing
    assert not any(name.endswith("num_batches_tracked") for name in converted.missing)


def test_nothing_gives_nothing(shapes):
    converted = convert("darknet53", {}, shapes("darknet53"))
    assert converted.weights == {}
    assert converted.unused == ()


def test_halves_of_cspresnet50_and_the_layer_after_pooling(shapes):
    values = np.arange(512, dtype=np.float32)
    weights = convert("cspresnet", {"stages.1.conv_exp.bn.bias": values}, shapes("cspresnet-50")).weights
    np.testing.assert_array_equal(weights["backbone.stages.1.bypass.norm.bias"], values[:256])
    np.testing.assert_array_equal(weights["backbone.stages.1.entry.norm.bias"], values[256:])
    matrix = convert("ghostnet", {"conv_head.weight": np.zeros((1280, 960, 1, 1))}, shapes("ghostnet-1.0")).weights
    assert matrix["hidden.linear.weight"].shape == (1280, 960)


def test_unknown_family():
    with pytest.raises(
        ModelError, match=r"no foreign weights are known for 'resnet'; expected one of: shufflenet-v2, "
    ):
        convert("resnet", {}, [])


def test_weights_of_another_width_are_refused(shapes):
    own = shapes("mobilenet-v2-0.75")
    state = {
        "features.0.0.weight": np.zeros((32, 3, 3, 3)),
        "features.0.1.weight": np.zeros(32),
        "head.weight": np.zeros(3),
    }
    converted = convert("mobilenet-v2", state, own)
    with pytest.raises(ModelError) as error:
        check_fit(converted, own, source="mine.pth")
    message = str(error.value)
    assert message.startswith(
        "mine.pth: these are the weights of another network: backbone.stem.norm.bias is missing; "
    )
    assert " more" in message
    assert message.endswith("; it also holds head.weight")
    complete = {name: np.zeros(shape) for name, shape in own.items()}
    complete["backbone.stem.conv.weight"] = np.zeros((32, 3, 3, 3))
    with pytest.raises(ModelError) as error:
        check_fit(type(converted)(complete, (), ()), own, source="mine.pth")
    assert str(error.value) == (
        "mine.pth: these are the weights of another network: "
        "backbone.stem.conv.weight is [32, 3, 3, 3], expected [24, 3, 3, 3]"
    )
    complete["backbone.stem.conv.weight"] = np.zeros((24, 3, 3, 3))
    check_fit(type(converted)(complete, (), ()), own, source="mine.pth")


def test_a_head_of_other_classes_does_not_matter_for_a_backbone(shapes):
    own = shapes("mobilenet-v2-1.0")
    complete = {name: np.zeros(shape) for name, shape in own.items()} | {"output.bias": np.zeros(1000)}
    converted = type(convert("mobilenet-v2", {}, own))(complete, (), ())
    check_fit(converted, own, source="mine.pth")
    with pytest.raises(ModelError, match=r"output\.bias is \[1000\], expected \[10\]"):
        check_fit(converted, own, source="mine.pth", prefix="")
