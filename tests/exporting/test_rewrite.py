"""Each rewrite keeps the function; it happens where it should and nowhere else."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from falconet.exporting.rewrite import rewrite

RANDOM = np.random.default_rng(0)


def model(nodes, constants, shape, *outputs):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs or ("y",)]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        values,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def same(before, shape):
    """The rewritten model, after comparing it with the one before."""
    after = rewrite(before)
    onnx.checker.check_model(after, full_check=True)
    x = RANDOM.normal(size=shape).astype(np.float32)
    results = [
        onnxruntime.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
        for one in (before, after)
    ]
    for old, new in zip(*results, strict=True):
        # Another order of additions rounds in proportion to the largest value.
        np.testing.assert_allclose(old, new, atol=1e-6 * max(10.0, float(np.abs(old).max())))
    return after


def operators(made):
    return Counter(node.op_type for node in made.graph.node)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def conv(source, name, weight, target, **attributes):
    return helper.make_node("Conv", [source, weight, f"{weight}_bias"], [target], name=name, **attributes)


@pytest.mark.parametrize("axis", [-1, 2])
def test_weighted_sum_is_a_product(axis):
    nodes = [
        helper.make_node("Mul", ["x", "steps"], ["m"]),
        helper.make_node("ReduceSum", ["m", "axes"], ["y"], keepdims=0),
    ]
    constants = {"steps": np.arange(8, dtype=np.float32), "axes": np.array([axis])}
    after = same(model(nodes, constants, ["batch", 5, 8]), (2, 5, 8))
    assert operators(after) == {"MatMul": 1, "Squeeze": 1}


def test_sum_over_another_axis_stays():
    nodes = [
        helper.make_node("Mul", ["x", "steps"], ["m"]),
        helper.make_node("ReduceSum", ["m", "axes"], ["y"], keepdims=0),
    ]
    constants = {"steps": np.arange(8, dtype=np.float32), "axes": np.array([1])}
    assert operators(same(model(nodes, constants, [2, 5, 8]), (2, 5, 8))) == {"Mul": 1, "ReduceSum": 1}


def resize(mode, rule, size, **rounding):
    node = helper.make_node(
        "Resize", ["x", "", "", "sizes"], ["y"], mode=mode, coordinate_transformation_mode=rule, **rounding
    )
    return model([node], {"sizes": np.array([1, 3, *size])}, [1, 3, 4, 5])


@pytest.mark.parametrize("size", [(8, 10), (12, 5)])
@pytest.mark.parametrize(("mode", "rule"), [("linear", "pytorch_half_pixel"), ("nearest", "half_pixel")])
def test_whole_multiples_become_scales(mode, rule, size):
    after = same(resize(mode, rule, size), (1, 3, 4, 5))
    assert len(after.graph.node[0].input) == 3


@pytest.mark.parametrize("size", [(8, 10), (12, 5), (4, 15)])
def test_nearest_as_torch_exports_it_becomes_a_scale(size):
    after = same(resize("nearest", "asymmetric", size, nearest_mode="floor"), (1, 3, 4, 5))
    assert len(after.graph.node[0].input) == 3
    other = same(resize("nearest", "asymmetric", size, nearest_mode="ceil"), (1, 3, 4, 5))
    assert len(other.graph.node[0].input) == 4


@pytest.mark.parametrize(("rule", "size"), [("half_pixel", (6, 10)), ("align_corners", (8, 10))])
def test_other_sizes_and_rules_stay(rule, size):
    assert len(same(resize("linear", rule, size), (1, 3, 4, 5)).graph.node[0].input) == 4


def shapes(made):
    return {entry.name: list(entry.dims) for entry in made.graph.initializer}


def bottleneck(channels, *, users=()):
    nodes = [
        conv("x", "first", "a", "first"),
        helper.make_node("LeakyRelu", ["first"], ["act"], alpha=0.1),
        helper.make_node("MaxPool", ["act"], ["pool"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        conv("pool", "depthwise", "d", "middle", group=channels, pads=[1, 1, 1, 1]),
        conv("middle", "last", "z", "y"),
        *users,
    ]
    constants = {"a": normal(channels, 4, 1, 1), "d": normal(channels, 1, 3, 3), "z": normal(6, channels, 1, 1)}
    biases = {f"{name}_bias": normal(value.shape[0]) for name, value in constants.items()}
    return nodes, constants | biases


def test_hidden_channels_are_filled_up_to_whole_blocks():
    nodes, constants = bottleneck(10)
    after = same(model(nodes, constants, ["batch", 4, 7, 7]), (2, 4, 7, 7))
    found = sorted(tuple(shape) for shape in shapes(after).values())
    assert found == sorted([(16, 4, 1, 1), (16,), (16, 1, 3, 3), (16,), (6, 16, 1, 1), (6,)])
    groups = [
        one.i for node in after.graph.node for one in node.attribute if node.op_type == "Conv" and one.name == "group"
    ]
    assert groups == [16]


@pytest.mark.parametrize(
    ("users", "outputs"),
    [
        ([helper.make_node("Concat", ["act", "act"], ["other"], axis=1)], ("y", "other")),
        ([helper.make_node("Sigmoid", ["middle"], ["other"])], ("y", "other")),
        ([], ("y", "middle")),
    ],
)
def test_channels_that_others_see_stay(users, outputs):
    nodes, constants = bottleneck(10, users=users)
    after = same(model(nodes, constants, [1, 4, 7, 7], *outputs), (1, 4, 7, 7))
    assert [16] not in shapes(after).values()


def test_whole_blocks_stay():
    nodes, constants = bottleneck(32)
    assert shapes(same(model(nodes, constants, [1, 4, 7, 7]), (1, 4, 7, 7))) == shapes(
        model(nodes, constants, [1, 4, 7, 7])
    )


def test_pointwise_pairs_stay():
    nodes = [conv("x", "first", "a", "h"), conv("h", "last", "z", "y")]
    constants = {"a": normal(10, 4, 1, 1), "z": normal(6, 10, 1, 1), "a_bias": normal(10), "z_bias": normal(6)}
    assert shapes(same(model(nodes, constants, [1, 4, 7, 7]), (1, 4, 7, 7)))["a"] == [10, 4, 1, 1]


def test_a_constant_that_two_convolutions_share():
    """Each gets its own filled-up copy; nothing else of the shared one changes."""
    nodes, constants = bottleneck(10)
    nodes += [
        conv("x", "second", "a", "second"),
        conv("second", "other", "z", "other"),
    ]
    after = same(model(nodes, constants, [1, 4, 7, 7], "y", "other"), (1, 4, 7, 7))
    assert shapes(after)["a"] == [10, 4, 1, 1]
    assert [16, 4, 1, 1] in shapes(after).values()
