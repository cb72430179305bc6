"""New versions of model files take over, broken ones do not."""

import logging
from pathlib import Path

import onnx
import pytest

from falconet.core.errors import ConfigError, ModelError
from falconet.serving.hosted import Models
from tests.runtime import tiny_model
from tests.serving.here import PNG, Asker, serving, source, write_classifier

NEW = tiny_model.manifest(classes=("blau", "grün", "rot"))


@pytest.fixture
def ask(model: Path):
    with serving(source(model)) as asker:
        yield asker


def replace(model: Path, other: Path) -> None:
    """As `mv` does."""
    other.replace(model)


def look(ask: Asker) -> None:
    """Twice: a file has to rest."""
    ask.service.watch.look()
    ask.service.watch.look()


def labels(ask: Asker) -> list[str]:
    return [one["label"] for one in ask.raw(PNG).json()["results"][0]["detections"]]


def card(ask: Asker) -> dict:
    (told,) = ask("GET", "/v1/models").json()["models"]
    return told


def test_a_new_version_takes_over(ask: Asker, model: Path, tmp_path: Path) -> None:
    before = card(ask)
    look(ask)
    assert card(ask) == before
    replace(model, tiny_model.write(tmp_path / "new.onnx", text=NEW.to_json()))
    ask.service.watch.look()
    assert labels(ask) == ["red", "blue"]  # it has only been seen once
    ask.service.watch.look()
    assert labels(ask) == ["rot", "blau"]
    assert card(ask)["sha256"] != before["sha256"]
    assert 'falconet_reloads_total{model="cells",outcome="taken"} 1.0' in ask("GET", "/metrics").text


def test_a_broken_version_is_refused_and_a_good_one_after_it_taken(
    ask: Asker, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = card(ask)
    content = tiny_model.write(tmp_path / "new.onnx", text=NEW.to_json()).read_bytes()
    model.write_bytes(content[: len(content) // 2])
    look(ask)
    told = card(ask)
    assert told["sha256"] == before["sha256"]
    assert "is not a complete ONNX model" in told["refused"]["reason"]
    assert "the new version is refused, and the old one goes on" in caplog.text
    assert labels(ask) == ["red", "blue"]
    text = ask("GET", "/metrics").text
    assert 'falconet_reloads_total{model="cells",outcome="refused"} 1.0' in text
    assert 'falconet_model_refused{name="cells"} 1.0' in text
    caplog.clear()
    look(ask)
    assert not caplog.records  # it is said once
    model.write_bytes(content)
    look(ask)
    assert (card(ask)["refused"], labels(ask)) == (None, ["rot", "blau"])


def test_a_version_whose_answers_mean_nothing_is_refused(ask: Asker, model: Path, tmp_path: Path) -> None:
    broken = tiny_model.graph()
    for one in broken.graph.initializer:
        if one.name == "most":
            one.raw_data = b"\0\0\0\0"  # pixels over 0
    path = tmp_path / "new.onnx"
    onnx.helper.set_model_props(broken, {"falconet": tiny_model.manifest().to_json()})
    onnx.save(broken, path)
    replace(model, path)
    look(ask)
    assert "is not finite" in card(ask)["refused"]["reason"]
    assert labels(ask) == ["red", "blue"]


def test_a_version_of_another_task_is_refused(ask: Asker, model: Path, tmp_path: Path) -> None:
    replace(model, write_classifier(tmp_path / "new.onnx"))
    look(ask)
    assert "is of the task classify" in card(ask)["refused"]["reason"]
    assert labels(ask) == ["red", "blue"]


def test_a_file_that_is_gone_and_comes_back(
    ask: Asker, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model.unlink()
    look(ask)
    look(ask)
    assert caplog.text.count("is gone; the version that was loaded goes on") == 1
    assert labels(ask) == ["red", "blue"]
    replace(model, tiny_model.write(tmp_path / "new.onnx", text=NEW.to_json()))
    look(ask)
    assert labels(ask) == ["rot", "blau"]


def test_an_odd_error_while_looking_is_refused_too(ask: Asker, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    (hosted,) = ask.service.models

    def broken(_: Path) -> None:
        raise RuntimeError("odd")

    object.__setattr__(hosted.source, "open", broken)
    model.write_bytes(model.read_bytes() + b"\0")
    with caplog.at_level(logging.ERROR):
        look(ask)
    assert card(ask)["refused"]["reason"] == "odd"
    assert labels(ask) == ["red", "blue"]


def test_models_that_cannot_be_served(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"two models have the name 'cells'.*as in other="):
        Models([source(model), source(tmp_path / "b.onnx")])
    with pytest.raises(ConfigError, match="no model is named"):
        Models([])
    model.write_bytes(b"")
    with pytest.raises(ModelError, match="is not a complete ONNX model"):
        Models([source(model)])
