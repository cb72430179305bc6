"""Two models on the same pictures: which one is better, and what so many pictures can tell."""

import json
from pathlib import Path

import pytest

import falconet
from falconet.api import evaluation
from falconet.core.errors import ConfigError, DataError
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


def test_classes_that_do_not_fit_are_told_before_anything_is_measured(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads(tiny_model.manifest().to_json())
    tiny_model.write(Path("n.onnx"), text=json.dumps(manifest | {"classes": ["blue", "green", "yellow"]}))
    monkeypatch.setattr(evaluation, "answer_records", lambda *_, **__: pytest.fail("a model is measured already"))
    with pytest.raises(DataError, match=r"its classes do not fit the model: red not known to n\.onnx"):
        falconet.compare("m.onnx", "n.onnx", data, images="in")
    with pytest.raises(ConfigError, match="evaluate: scroe is none of its options"):
        falconet.compare("m.onnx", "m.onnx", data, images="in", scroe=0.1)


def test_the_page_says_that_the_machine_was_busy(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "busy_cpus", lambda: 1.25)
    compared = falconet.compare("m.onnx", "m.onnx", data, images="in")
    assert compared.as_dict()["first"]["busy_cpus"] == 1.25
    page = compared.save("both").read_text()
    assert "Meanwhile others keep 1.2 CPUs busy: these milliseconds are not those of an idle machine." in page
    monkeypatch.setattr(evaluation, "busy_cpus", lambda: 0.1)
    assert "CPUs busy" not in falconet.compare("m.onnx", "m.onnx", data, images="in").save("both").read_text()
