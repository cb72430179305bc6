"""Two models on the same pictures: which one is better, and what so many pictures can tell."""

import json
from pathlib import Path

import falconet
from tests.api.test_calibrate import data
from tests.runtime import tiny_model

__all__ = ["data"]  # the fixture


def test_one_that_takes_a_class_for_another_is_worse(data: Path) -> None:
    manifest = json.loads(tiny_model.manifest().to_json())
    other = {"blue": "red", "red": "blue"}
    swapped = [other.get(name, name) for name in manifest["classes"]]
    tiny_model.write(Path("n.onnx"), text=json.dumps(manifest | {"classes": swapped}))
    compared = falconet.compare("m.onnx", "n.onnx", data, images="in")
    assert compared.sentence.startswith("m is better by ")
    assert "60 pictures cannot tell differences below about" in compared.sentence
    assert any("by chance alone" in line for line in compared.lines())


def test_a_model_and_itself(data: Path) -> None:
    compared = falconet.compare("m.onnx", "m.onnx", data, images="in")
    assert compared.sentence == "Both give the same AP on these 60 pictures."
    assert not any("by chance alone" in line for line in compared.lines())


def test_one_picture_tells_nothing(data: Path) -> None:
    content = json.loads(data.read_text())
    content["images"] = [one for one in content["images"] if one["id"] == 0]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] == 0]
    data.write_text(json.dumps(content))
    alone = falconet.evaluate("m.onnx", data, images="in").as_dict()
    assert set(map(str, alone["intervals"].values())) == {"None"}
    compared = falconet.compare("m.onnx", "m.onnx", data, images="in")
    assert compared.sentence == "1 picture: too few to tell two models apart; expected 10 at least."
