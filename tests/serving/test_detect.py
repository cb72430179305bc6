"""What `POST /v1/detect` answers."""

import cv2
import jsonschema
import numpy as np
import pytest

from falconet.core.images import decode_image, encode_image
from falconet.core.manifest import StoredPoint
from falconet.serving.described import ANSWER
from tests.runtime import tiny_model
from tests.runtime.tiny_model import picture
from tests.serving.here import PNG, Asker, serving, source


def found(answer, place: int = 0) -> list[tuple]:
    assert answer.status_code == 200, answer.text
    return [(one["label"], one["score"], one["box"]) for one in answer.json()["results"][place]["detections"]]


def test_a_picture_as_bytes(ask: Asker) -> None:
    answer = ask.raw(PNG)
    tree = answer.json()
    assert tree["model"] == {"name": "cells", "sha256": ask.service.models.find("cells").sha256}
    (result,) = tree["results"]
    assert (result["file"], result["width"], result["height"]) == (None, 128, 128)
    assert result["detections"] == [
        {"label": "red", "label_id": 2, "score": 0.8, "box": [0.0, 0.0, 32.0, 32.0]},
        {"label": "blue", "label_id": 0, "score": 0.8, "box": [96.0, 64.0, 128.0, 96.0]},
    ]
    assert all(result["milliseconds"][stage] >= 0 for stage in ("decode", "queue", "detect"))
    assert answer.headers["server-timing"].startswith("decode;dur=")


def test_several_pictures_in_a_form_keep_their_order(ask: Asker) -> None:
    other = encode_image(picture((1, 1, "green")), ".png")
    answer = ask.detect(PNG, other, PNG)
    assert [one["file"] for one in answer.json()["results"]] == ["0.png", "1.png", "2.png"]
    assert found(answer, 0) == found(answer, 2)
    assert found(answer, 1) == [("green", 1.0, [32.0, 32.0, 64.0, 64.0])]


def test_answers_are_those_of_predict(ask: Asker) -> None:
    image = np.random.default_rng(3).integers(0, 256, (97, 131, 3), np.uint8)
    own = ask.service.models.find("cells").opened.many.predict(image)
    told = found(ask.raw(encode_image(image, ".png")))
    assert [label for label, _, _ in told] == [name for name, _, _ in own]
    np.testing.assert_allclose([box for _, _, box in told], own.boxes, atol=1e-3)


def test_every_answer_fits_its_schema(ask: Asker) -> None:
    for answer in (ask.raw(PNG), ask.detect(PNG, PNG), ask.raw(PNG, model="colours")):
        jsonschema.validate(answer.json(), ANSWER)


def test_a_score_below_the_threshold_of_the_model(ask: Asker) -> None:
    dim = encode_image(picture((0, 0, "red"), value=26), ".png")
    assert found(ask.raw(dim)) == []
    assert [label for label, _, _ in found(ask.raw(dim, score=0.05))] == ["red"]
    assert found(ask.raw(PNG, score=0.9)) == []


def test_classes_and_the_most_boxes(ask: Asker) -> None:
    assert [label for label, _, _ in found(ask.raw(PNG, classes="blue, green"))] == ["blue"]
    assert len(found(ask.raw(PNG, max_detections=1))) == 1


def test_relative_boxes(ask: Asker) -> None:
    boxes = [box for _, _, box in found(ask.raw(PNG, boxes="relative"))]
    assert boxes == [[0.0, 0.0, 0.25, 0.25], [0.75, 0.5, 1.0, 0.75]]


def test_a_drawn_picture(ask: Asker) -> None:
    answer = ask.raw(PNG, answer="jpeg")
    assert answer.headers["content-type"] == "image/jpeg"
    drawn, _ = decode_image(answer.content, "drawn.jpg")
    plain, _ = decode_image(PNG, "plain.png")
    assert drawn.shape == plain.shape
    assert np.abs(drawn.astype(int) - plain).max() > 100
    empty = encode_image(picture(), ".png")
    drawn, _ = decode_image(ask.raw(empty, answer="jpeg").content, "drawn.jpg")
    assert drawn.max() < 10


def test_orientation_is_applied(ask: Asker) -> None:
    done, data = cv2.imencode(".jpg", picture((0, 0, "red"))[:, :64])
    assert done
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    jpeg = data.tobytes()
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    result = ask.raw(turned, "image/jpeg").json()["results"][0]
    assert (result["width"], result["height"]) == (128, 64)
    assert result["detections"][0]["box"][0] == 96


def test_a_classifier(ask: Asker) -> None:
    (result,) = ask.raw(PNG, model="colours").json()["results"]
    assert [one["label"] for one in result["classes"]] == ["blue", "red", "green"]
    assert "detections" not in result
    assert len(ask.raw(PNG, model="colours", top=1).json()["results"][0]["classes"]) == 1
    rows = ask.raw(PNG, model="colours", score=0.3, classes="red,green").json()["results"][0]["classes"]
    assert [(one["label"], one["label_id"]) for one in rows] == [("red", 2)]
    assert ask.raw(PNG, model="colours", answer="jpeg").headers["content-type"] == "image/jpeg"


def test_stored_thresholds(tmp_path) -> None:
    point = StoredPoint(name="recall=0.9", thresholds=(0.9, 0.5, 0.5))
    text = tiny_model.manifest(operating_points=(point,)).to_json()
    path = tiny_model.write(tmp_path / "m.onnx", text=text)
    with serving(source(path)) as ask:
        assert [label for label, _, _ in found(ask.raw(PNG, operating_point="recall=0.9"))] == ["red"]
        (card,) = ask("GET", "/v1/models").json()["models"]
        assert card["operating_points"] == [
            {"name": "recall=0.9", "thresholds": {"blue": 0.9, "green": 0.5, "red": 0.5}}
        ]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_formats(ask: Asker, suffix: str) -> None:
    assert [label for label, _, _ in found(ask.raw(encode_image(picture((0, 0, "red")), suffix)))] == ["red"]


def test_models_in_their_order(ask: Asker) -> None:
    first, second = ask("GET", "/v1/models").json()["models"]
    assert (first["name"], first["task"], first["classes"]) == ("cells", "detect", ["blue", "green", "red"])
    assert first["input"] == {"height": 64, "width": 64}
    assert (first["score_threshold"], first["engine"], first["precision"]) == (0.25, "onnxruntime", "float32")
    assert (first["ap"], first["receipt"], first["refused"]) == (None, None, None)
    assert (second["name"], second["task"], second["score_threshold"]) == ("colours", "classify", None)


def test_counters(ask: Asker) -> None:
    ask.raw(PNG)
    ask.raw(b"nothing")
    text = ask("GET", "/metrics").text
    for line in (
        'falconet_requests_total{model="cells",outcome="bad-picture"}',
        'falconet_requests_total{model="cells",outcome="answered"}',
        'falconet_stage_seconds_bucket{le="0.05",stage="detect"}',
        "falconet_queue_pictures 0.0",
        'falconet_model_info{engine="onnxruntime",name="cells"',
        'falconet_model_refused{name="cells"} 0.0',
    ):
        assert line in text


def test_probes(ask: Asker) -> None:
    assert ask("GET", "/healthz").json() == {"status": "alive"}
    assert [ask("HEAD", path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    assert ask("GET", "/readyz").json() == {"status": "ready", "queue": 0}
