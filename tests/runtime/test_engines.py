from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import falconet
from falconet.core import cpus
from falconet.core.errors import ConfigError, ModelError
from falconet.runtime import engines
from falconet.runtime.onnx_engine import OnnxEngine
from tests.runtime import tiny_model
from tests.runtime.tiny_model import CELLS, NAMES, SIDE


def some_pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def expected_scores(pixels: np.ndarray) -> np.ndarray:
    cells = pixels.reshape(len(pixels), CELLS, 16, CELLS, 16, 3).mean((2, 4))
    return cells.reshape(len(pixels), -1, 3) / 255


def test_runs_any_number_of_pictures(model):
    engine = OnnxEngine(model)
    assert engine.manifest.classes == NAMES
    assert engine.batch is None
    for count in (1, 3):
        pixels = some_pixels(count)
        boxes, scores = engine(pixels).values()
        np.testing.assert_array_equal(boxes, np.stack([tiny_model.cell_boxes()] * count))
        np.testing.assert_allclose(scores, expected_scores(pixels), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_fixed_batch_runs_as_often_as_needed(tmp_path, batch, count):
    engine = OnnxEngine(tiny_model.write(tmp_path / "fixed.onnx", batch=batch))
    assert engine.batch == batch
    pixels = some_pixels(count)
    boxes, scores = engine(pixels).values()
    assert boxes.shape == (count, CELLS * CELLS, 4)
    np.testing.assert_allclose(scores, expected_scores(pixels), atol=1e-6)


def test_results_are_not_overwritten_by_the_next_run(model):
    engine = OnnxEngine(model)
    pixels = some_pixels(1)
    scores = engine(pixels)["scores"]
    before = scores.copy()
    engine(255 - pixels)
    np.testing.assert_array_equal(scores, before)


def test_pixels_need_not_be_contiguous(model):
    pixels = some_pixels(2)
    scores = OnnxEngine(model)(pixels[:, :, ::-1])["scores"]
    np.testing.assert_allclose(scores, expected_scores(pixels[:, :, ::-1]), atol=1e-6)


def sessions(engine: OnnxEngine) -> list:
    return [engine._free.get() for _ in range(engine.streams)]


def threads_of(engine: OnnxEngine) -> list[int]:
    return [session.get_session_options().intra_op_num_threads for session in sessions(engine)]


def test_threads_reach_the_session(model):
    assert threads_of(OnnxEngine(model, threads=3)) == [3]
    assert threads_of(OnnxEngine(model)) == [engines.default_threads()]
    assert threads_of(OnnxEngine(model, streams=2)) == [1, 1], "streams share the CPUs"


@pytest.mark.parametrize("options", [{"threads": "two"}, {"streams": 2.5}, {"streams": None}, {"threads": True}])
def test_what_is_no_number_of_runs(model, options):
    ((name, value),) = options.items()
    expected = f"{name}: expected a whole number from 1, but got {value!r}"
    assert error_of(model, kind=ConfigError, **options) == expected
    with pytest.raises(ConfigError, match=name):
        falconet.load(model, **options)


def test_more_than_there_are_cpus_is_told(model, monkeypatch, caplog):
    monkeypatch.setattr(engines, "usable_cpus", lambda: 2)
    OnnxEngine(model, threads=2)
    assert not caplog.messages
    OnnxEngine(model, threads=3)
    assert caplog.messages == ["threads 3: only 2 CPUs are usable here, and more threads than that are slower"]
    monkeypatch.setattr(engines, "usable_cpus", lambda: 1)
    OnnxEngine(model, streams=2)
    assert caplog.messages[1] == "streams 2: only 1 CPU is usable here, and more streams than that are slower"


def test_streams_of_one_thread_share_their_session(model):
    assert len({id(session) for session in sessions(OnnxEngine(model, streams=3))}) == 1
    assert len({id(session) for session in sessions(OnnxEngine(model, threads=2, streams=3))}) == 3


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("threads", [None, 2])
def test_streams_answer_as_one(model, name, threads):
    pytest.importorskip(name)
    engine = engines.ENGINES[name].open(model, engines.Use(threads, streams=4))
    pictures = np.random.default_rng(1).integers(0, 256, (64, 1, SIDE, SIDE, 3), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine, pictures))
    for pixels, outputs in zip(pictures, found, strict=True):
        np.testing.assert_allclose(outputs["scores"], expected_scores(pixels), atol=1e-6)


def test_bfloat16_only_where_the_processor_computes_in_it(model):
    openvino = pytest.importorskip("openvino")
    use = engines.Use(precision="bfloat16")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pixels = some_pixels(1)
        scores = engines.ENGINES["openvino"].open(model, use)(pixels)["scores"]
        np.testing.assert_allclose(scores, expected_scores(pixels), atol=0.02)
    else:
        with pytest.raises(ConfigError, match="precision bfloat16: this processor does not compute in it"):
            engines.ENGINES["openvino"].open(model, use)


def test_no_streams(model):
    assert error_of(model, streams=0, kind=ConfigError) == "streams: expected a whole number from 1, but got 0"


def test_default_threads_follow_the_cpus_of_the_process(monkeypatch):
    monkeypatch.setattr(cpus.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert engines.default_threads() == 2
    monkeypatch.setattr(cpus.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert engines.default_threads() == engines.MOST_THREADS
    monkeypatch.delattr(cpus.os, "sched_getaffinity")
    monkeypatch.setattr(cpus.os, "cpu_count", lambda: None)
    assert engines.default_threads() == 1


def error_of(path, *, kind=ModelError, **options) -> str:
    with pytest.raises(kind) as caught:
        OnnxEngine(path, **options)
    return str(caught.value)


def test_missing_file(tmp_path):
    path = tmp_path / "none.onnx"
    assert error_of(path) == f"{path}: no such file; expected a model written by 'falconet export --to onnx'"


def test_folder_and_weights_are_told_to_be_exported(tmp_path):
    assert error_of(tmp_path) == (
        f"{tmp_path}: is a folder, not an exported model; expected a .onnx file: write one with "
        f"'falconet export {tmp_path} --to onnx --out FOLDER'"
    )
    assert "is a weights file, not an exported model" in error_of(tmp_path / "best.safetensors")


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\xff\xd8\xff\xe0" + bytes(100)])
def test_a_file_that_is_no_model(tmp_path, content):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    message = error_of(path)
    assert message.startswith(f"{path}: is not a complete ONNX model (")
    assert message.endswith("expected a file written by 'falconet export --to onnx': copy or export it again")


def test_half_a_model(tmp_path, model):
    data = model.read_bytes()
    for length in range(0, len(data), 97):
        path = tmp_path / "half.onnx"
        path.write_bytes(data[:length])
        assert str(path) in error_of(path)


def test_a_foreign_model(tmp_path):
    path = tiny_model.write(tmp_path / "foreign.onnx", text="")
    assert error_of(path) == (
        f"{path}: carries no Falconet manifest, so its input size, classes and resize rule are unknown; "
        "expected a file written by 'falconet export'"
    )


def test_a_foreign_pair_is_to_be_imported_whatever_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    (tmp_path / "theirs.param").touch()
    with pytest.raises(ModelError, match="A pair of other programs is brought over by 'falconet import'"):
        engines.choose_engine(tmp_path / "theirs.param", "auto")
    (tmp_path / "theirs.falconet.json").touch()
    with pytest.raises(ConfigError, match="engine ncnn: ncnn is not installed"):
        engines.choose_engine(tmp_path / "theirs.param", "auto")


def test_a_manifest_of_another_version(tmp_path):
    path = tiny_model.write(tmp_path / "later.onnx", text='{"format": 2}')
    assert "its manifest cannot be read (format: " in error_of(path)


def test_outputs_of_other_names(tmp_path):
    path = tiny_model.write(tmp_path / "names.onnx", outputs=("a", "b"))
    assert error_of(path) == (
        f"{path}: its inputs and outputs do not fit its manifest; expected pixels: tensor(uint8) [B, 64, 64, 3] "
        "-> boxes: tensor(float) [B, N, 4], scores: tensor(float) [B, N, 3], but found "
        "pixels: tensor(uint8) ['B', 64, 64, 3]; a: tensor(float) ['B', 16, 4]; b: tensor(float) ['B', 16, 3]. "
        "Export the model again"
    )


def test_float_pixels_and_other_sizes_and_class_counts(tmp_path):
    assert "do not fit" in error_of(tiny_model.write(tmp_path / "float.onnx", input_type=TensorProto.FLOAT))
    two = tiny_model.manifest(classes=("a", "b")).to_json()
    assert "scores: tensor(float) [B, N, 2]" in error_of(tiny_model.write(tmp_path / "two.onnx", text=two))
    other = tiny_model.manifest(preprocess={"height": 64, "width": 96}).to_json()
    assert "[B, 64, 96, 3]" in error_of(tiny_model.write(tmp_path / "size.onnx", text=other))


def test_threads_below_one(model):
    assert error_of(model, threads=0, kind=ConfigError) == "threads: expected a whole number from 1, but got 0"


def test_input_may_have_another_name(tmp_path):
    made = tiny_model.graph()
    made.graph.input[0].name = "image"
    for node in made.graph.node:
        node.input[:] = ["image" if name == "pixels" else name for name in node.input]
    helper.set_model_props(made, {"falconet": tiny_model.manifest().to_json()})
    onnx.save(made, tmp_path / "named.onnx")
    boxes = OnnxEngine(tmp_path / "named.onnx")(some_pixels(1))["boxes"]
    assert boxes.shape == (1, 16, 4)


def test_the_callers_arithmetic_stays_as_it_was(model):
    OnnxEngine(model)(some_pixels(1))
    # ONNX Runtime can flush denormal numbers to zero, but would do so in the caller's thread too.
    assert np.float32(1e-39) * np.float32(0.5) > 0
    assert 5e-324 + 0.0 > 0
