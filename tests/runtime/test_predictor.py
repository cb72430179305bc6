from pathlib import Path

import numpy as np
import pytest

import falconet
from falconet.core.errors import ConfigError, DataError, ModelError, PicturesError
from falconet.core.manifest import Selection
from falconet.core.types import Detections
from falconet.runtime.predictor import Predictor
from tests.runtime import tiny_model
from tests.runtime.tiny_model import SIDE, picture, save


class Recorder:
    """The tiny model in NumPy, which notes the batches it gets."""

    name = version = "recorder"

    def __init__(self) -> None:
        self.manifest = tiny_model.manifest()
        self.batches: list[int] = []

    def __call__(self, pixels):
        self.batches.append(len(pixels))
        cells = pixels.reshape(len(pixels), 4, 16, 4, 16, 3).mean((2, 4), dtype=np.float32)
        boxes = np.stack([tiny_model.cell_boxes()] * len(pixels))
        return {"boxes": boxes, "scores": cells.reshape(len(pixels), -1, 3) / 255}


def test_array_path_and_list_agree(model, tmp_path):
    predictor = falconet.load(model)
    image = picture((0, 1, "red"), (3, 2, "green"))
    path = save(tmp_path / "a.png", image)
    expected = [("green", 1.0, (64, 96, 96, 128)), ("red", 1.0, (32, 0, 64, 32))]
    for source in (image, path, str(path)):
        found = predictor.predict(source)
        assert isinstance(found, Detections)
        assert sorted(found) == expected
    found = predictor.predict([image, path, str(path), np.zeros_like(image)])
    assert [len(one) for one in found] == [2, 2, 2, 0]
    assert sorted(found[1]) == expected
    assert predictor.predict([]) == []
    assert [len(one) for one in predictor.predict((image,))] == [2]


def test_boxes_are_in_pixels_of_the_picture(model):
    image = np.zeros((100, 300, 3), np.uint8)
    image[25:50, 225:300, 0] = 255
    ((name, _, box),) = falconet.load(model).predict(image)
    assert name == "blue"
    assert box == pytest.approx((225, 25, 300, 50), abs=1e-3)


class Broken(Recorder):
    """A model whose outputs are no numbers in one place."""

    path = Path("broken.onnx")

    def __init__(self, output, place, value) -> None:
        super().__init__()
        self.output, self.place, self.value = output, place, value

    def __call__(self, pixels):
        outputs = super().__call__(pixels)
        outputs[self.output][0][self.place] = self.value
        return outputs


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_refused(value):
    image = picture((0, 1, "red"))
    with pytest.raises(ModelError, match=r"broken\.onnx: its output 'scores' is not finite"):
        Predictor(Broken("scores", (9, 1), value)).predict([image, image])
    with pytest.raises(ModelError, match="boxes that are not finite"):
        Predictor(Broken("boxes", (1, 2), value)).predict(image)
    assert len(Predictor(Broken("boxes", (9, 2), value)).predict(image)) == 1, "a box of no score does no harm"


class Shaped(Recorder):
    """A model whose scores have another shape than its manifest says."""

    path = Path("shaped.onnx")

    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def __call__(self, pixels):
        outputs = super().__call__(pixels)
        return outputs | {"scores": self.change(outputs["scores"])}


@pytest.mark.parametrize(
    "change",
    [lambda s: s[..., :2], lambda s: s[:, :5], lambda s: s[:1], lambda s: s[0], lambda s: s[..., None]],
    ids=["classes", "boxes", "images", "one less", "one more"],
)
def test_outputs_of_another_shape_are_refused(change):
    image = picture((0, 1, "red"))
    with pytest.raises(ModelError, match=r"shaped\.onnx: its output 'scores' has shape .* for 2 images; expected \[B"):
        Predictor(Shaped(change)).predict([image, image])


def test_letterbox(tmp_path):
    letterbox = tiny_model.manifest(preprocess={"height": SIDE, "width": SIDE, "resize": "letterbox", "pad_value": 0})
    path = tiny_model.write(tmp_path / "box.onnx", text=letterbox.to_json())
    image = np.zeros((64, 128, 3), np.uint8)  # half size: 32 x 64, between 16 rows of padding
    image[0:32, 96:128, 2] = 255
    assert list(falconet.load(path).predict(image)) == [("red", 1.0, (96, 0, 128, 32))]


def test_a_jpeg_at_reduced_scale_has_boxes_at_full_size(model, tmp_path):
    path = save(tmp_path / "large.jpg", picture((1, 2, "green"), scale=10))
    predictor = falconet.load(model)
    ((name, score, box),) = predictor.predict(path)
    assert (name, box) == ("green", (320, 160, 480, 320))
    assert score > 0.9
    prepared = predictor.prepare(path)
    assert prepared.placement.original == (640, 640)
    assert prepared.pixels.shape == (SIDE, SIDE, 3)


def test_selection_from_the_file_or_from_the_caller(tmp_path):
    strict = tiny_model.manifest(selection={"score_threshold": 0.9}).to_json()
    path = tiny_model.write(tmp_path / "strict.onnx", text=strict)
    half = picture((0, 0, "red"), value=128)
    assert len(falconet.load(path).predict(half)) == 0
    assert len(falconet.load(path, selection=Selection(score_threshold=0.5)).predict(half)) == 1


def test_only_some_classes(model):
    image = picture((0, 0, "red"), (1, 1, "green"), (2, 2, "blue"))
    found = falconet.load(model, classes=["red", "blue"]).predict(image)
    assert sorted(name for name, _, _ in found) == ["blue", "red"]
    assert found.names == ("blue", "green", "red")
    one_best = Selection(max_detections=1, max_candidates=1)
    found = falconet.load(model, classes=["red"], selection=one_best).predict(image)
    assert [name for name, _, _ in found] == ["red"]
    with pytest.raises(ConfigError) as caught:
        falconet.load(model, classes=["rde", "red"])
    assert str(caught.value) == "classes: the model does not know 'rde'; its classes are: blue, green, red"
    with pytest.raises(ConfigError, match="the model got no class"):
        falconet.load(model, classes=[])


def test_lists_go_through_the_network_in_batches():
    engine = Recorder()
    images = [picture((0, 0, "red"))] * 5
    found = Predictor(engine).predict(images, batch=2)
    assert engine.batches == [2, 2, 1]
    assert [len(one) for one in found] == [1] * 5
    with pytest.raises(ConfigError, match="batch must be 1 or more, but got 0"):
        Predictor(engine).predict(images, batch=0)


def test_views_and_read_only_arrays(model):
    predictor = falconet.load(model)
    rgb = np.ascontiguousarray(picture((0, 0, "red"))[..., ::-1])
    rgb.flags.writeable = False
    assert [name for name, _, _ in predictor.predict(rgb[..., ::-1])] == ["red"]
    exact = picture((0, 0, "red"), scale=1)
    exact.flags.writeable = False
    assert [name for name, _, _ in predictor.predict(exact)] == ["red"]


GREY = ": convert a grey picture with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)"


@pytest.mark.parametrize(
    ("shape", "dtype", "remedy"),
    [
        ([4, 5], "uint8", GREY),
        ([4, 5, 1], "uint8", GREY),
        ([4, 5, 4], "uint8", ": drop the alpha channel with image[..., :3]"),
        ([4, 5, 3], "float64", ": convert values of 0..1 with (image * 255).astype(numpy.uint8)"),
        ([2, 4, 5, 3], "uint8", ": pass a batch as a list of pictures, list(batch)"),
        ([3, 4, 5], "uint8", ": move the channels to the end with image.transpose(1, 2, 0)"),
        ([7], "uint8", ""),
    ],
)
def test_arrays_that_are_not_guessed_at(model, shape, dtype, remedy):
    predictor = falconet.load(model)
    source = np.zeros(shape, dtype)
    for given in (source, [source]):
        with pytest.raises(DataError) as caught:
            predictor.predict(given)
        assert str(caught.value) == (
            "a picture must be a path or an array uint8 [height, width, 3] in blue, green, red order, but got "
            f"an array {dtype} {shape}{remedy}"
        )


def test_a_picture_without_pixels(model):
    with pytest.raises(DataError, match=r"the picture has no pixels: its shape is \[0, 5, 3\]"):
        falconet.load(model).predict(np.zeros((0, 5, 3), np.uint8))


def test_other_things(model):
    class Image:
        def convert(self, mode):
            raise AssertionError(mode)

    predictor = falconet.load(model)
    with pytest.raises(DataError, match=r"but got a builtins\.int$"):
        predictor.predict(3)
    for given in (Image(), [Image()]):
        with pytest.raises(DataError, match=r'with numpy.asarray\(image.convert\("RGB"\)\)\[..., ::-1\]$'):
            predictor.predict(given)
    with pytest.raises(DataError, match="no such picture file"):
        predictor.predict(Path("nowhere.jpg"))


def test_unknown_engine(model):
    with pytest.raises(ConfigError, match="'tensorrt' is not known; expected auto or one of onnxruntime, openv"):
        falconet.load(model, engine="tensorrt")


def test_nothing_prepared(model):
    assert falconet.load(model).answer([]) == []


@pytest.mark.parametrize("streams", [1, 2])
def test_a_broken_picture_of_a_list_costs_no_other_its_answer(model, tmp_path, streams):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    red, green = picture((0, 0, "red")), picture((1, 1, "green"))
    wrong = [red, tmp_path / "broken.jpg", green, np.zeros((4, 5), np.uint8), red]
    with pytest.raises(PicturesError) as caught:
        falconet.load(model, streams=streams, threads=1).predict(wrong, batch=2)
    error = caught.value
    names = [None if one is None else [name for name, _, _ in one] for one in error.answers]
    assert names == [["red"], None, ["green"], None, ["red"]]
    assert np.array_equal(error.answers[2].source, green), "each answer knows its own picture"
    assert list(error.errors) == [1, 3]
    assert str(error).startswith("2 of 5 pictures cannot be used; the first of them is number 1 (from 0): ")
    assert f"{tmp_path / 'broken.jpg'}: " in str(error)
    assert "The answers for the others are this error's 'answers'" in str(error)


def test_a_list_of_broken_pictures_alone_runs_no_network():
    engine = Recorder()
    with pytest.raises(PicturesError) as caught:
        Predictor(engine).predict([Path("nowhere.jpg"), Path("neither.jpg")])
    assert (engine.batches, caught.value.answers) == ([], [None, None])
