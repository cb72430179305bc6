import json
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falconet.core.errors import ModelError
from falconet.core.manifest import EVALUATION, MANIFEST_KEY, Manifest, Preprocess, Selection, read_manifest

MINIMAL = {"model": "nanodet-plus", "classes": ["cat", "dog"], "preprocess": {}, "falconet_version": "0.1.0"}

positive = st.floats(0.1, 300)
triples = st.tuples(positive, positive, positive)
fractions = st.floats(0, 1)
manifests = st.builds(
    Manifest,
    model=st.text(min_size=1),
    classes=st.lists(st.text().filter(lambda name: name.splitlines() in ([], [name])), min_size=1, max_size=4).map(
        tuple
    ),
    preprocess=st.builds(
        Preprocess,
        height=st.integers(32, 4096),
        width=st.integers(32, 4096),
        resize=st.sampled_from(["stretch", "letterbox"]),
        pad_value=st.integers(0, 255),
        channels=st.sampled_from(["bgr", "rgb"]),
        mean=triples,
        std=triples,
    ),
    selection=st.builds(
        Selection,
        score_threshold=fractions,
        iou_threshold=fractions,
        max_candidates=st.integers(1, 10**5),
        max_detections=st.integers(1, 10**5),
    ),
    falconet_version=st.text(),
    source=st.text(),
    licence=st.text(),
)


@given(manifests)
def test_travels_as_json_without_loss(manifest):
    assert read_manifest(manifest.to_json(), "m.onnx") == manifest


def test_defaults():
    manifest = read_manifest(json.dumps(MINIMAL), "m.onnx")
    assert MANIFEST_KEY == "falconet"
    assert (manifest.format, manifest.task) == (1, "detect")
    assert manifest.preprocess == Preprocess(
        height=320,
        width=320,
        resize="stretch",
        pad_value=114,
        channels="bgr",
        mean=(103.53, 116.28, 123.675),
        std=(57.375, 57.12, 58.395),
    )
    assert manifest.selection == Selection(
        score_threshold=0.25, iou_threshold=0.6, max_candidates=1000, max_detections=100
    )
    assert (manifest.source, manifest.licence) == ("", "")


def test_the_protocol_of_evaluation():
    assert Selection(score_threshold=0.05, iou_threshold=0.6, max_candidates=1000, max_detections=100) == EVALUATION


def test_does_not_change():
    manifest = read_manifest(json.dumps(MINIMAL), "m.onnx")
    with pytest.raises(FrozenInstanceError):
        manifest.model = "other"


@pytest.mark.parametrize("text", [None, ""])
def test_a_file_without_one(text):
    with pytest.raises(ModelError) as caught:
        read_manifest(text, "foreign.onnx")
    assert str(caught.value) == (
        "foreign.onnx: carries no Falconet manifest, so its input size, classes and resize rule are unknown; "
        "expected a file written by 'falconet export'"
    )


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"format": 2}, "format: expected 1, but got 2"),
        ({"task": "segment"}, "task: expected 'detect' or 'classify', but got 'segment'"),
        ({"new": 1}, "new: unknown key; expected one of: format, task, model"),
        ({"classes": None}, "classes: expected a list, but got None"),
        ({"classes": ["a", 1]}, "classes.1: expected a text, but got 1"),
        ({"preprocess": {"height": 8}}, "preprocess.height: expected 32 or more, but got 8"),
        ({"preprocess": {"height": 64.0}}, "preprocess.height: expected a whole number, but got 64.0"),
        ({"preprocess": {"pad_value": 256}}, "preprocess.pad_value: expected 255 or less, but got 256"),
        ({"preprocess": {"mean": [1, 2, True]}}, "preprocess.mean.2: expected a number, but got True"),
        ({"preprocess": {"std": [1, 2]}}, "preprocess.std: expected 3 values, but got 2"),
        ({"preprocess": {"std": [1, 0, 1]}}, "preprocess.std: expected values above 0, but got [1.0, 0.0, 1.0]"),
        (
            {"preprocess": []},
            "preprocess: expected keys and values (height, width, resize, pad_value, channels, mean, std), but got []",
        ),
        ({"selection": {"score_threshold": 2}}, "selection.score_threshold: expected 1 or less, but got 2"),
        ({"selection": {"score": 1}}, "selection.score: unknown key; expected one of: score_threshold"),
        ({"selection": {"iou_threshold": float("nan")}}, "selection.iou_threshold: expected a number, but got nan"),
    ],
)
def test_one_that_cannot_be_used(changes, where):
    with pytest.raises(ModelError) as caught:
        read_manifest(json.dumps(MINIMAL | changes), "m.onnx")
    message = str(caught.value)
    assert message.startswith(f"m.onnx: its manifest cannot be read ({where}")
    assert message.endswith("); it may come from another version of Falconet: export the model again")


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"format": 1}', "\x00", "falconet"])
def test_one_that_is_no_manifest(text):
    with pytest.raises(ModelError, match=r"^m\.onnx: its manifest cannot be read \("):
        read_manifest(text, "m.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preprocess": {"height": 10**9}}, r"preprocess\.height: expected 8192 or less"),
        ({"preprocess": {"width": 40_000}}, r"preprocess\.width: expected 8192 or less"),
        ({"preprocess": {"std": [1e-300, 1, 1]}}, r"preprocess\.mean, std: expected values of pixels"),
        ({"selection": {"max_candidates": 10**30}}, r"selection\.max_candidates: expected 100000 or less"),
        ({"selection": {"max_detections": 10**30}}, r"selection\.max_detections: expected 100000 or less"),
        ({"classes": ["a", "\ud800"]}, r"classes\.1: expected a text, but got half of a character"),
        ({"classes": ["a\nb"]}, r"classes\.0: expected a name in one line, but got 'a\\nb'"),
        ({"classes": ["a", "b\r"]}, r"classes\.1: expected a name in one line"),
        ({"classes": []}, r"classes: expected 1 to 100000 names, but got 0"),
    ],
)
def test_numbers_and_names_that_no_model_has(change, message):
    tree = json.loads(Manifest(**MINIMAL).to_json())
    for key, value in change.items():
        tree[key] = tree[key] | value if isinstance(value, dict) else value
    with pytest.raises(ModelError, match=message):
        read_manifest(json.dumps(tree), "m.onnx")
