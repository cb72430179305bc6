"""How many threads a run gets: what gives most pictures per second, measured once and remembered."""

import json
from pathlib import Path

import pytest

from falconet.api import threads as module
from falconet.api.threads import Point, best, choose, curve, together
from falconet.core.cache import read_notes
from tests.runtime import tiny_model


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_path", lambda: tmp_path / "cache" / "threads.json")
    monkeypatch.setattr(module, "SECONDS", 0.01)
    tiny_model.write(tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_the_most_pictures_per_second() -> None:
    alone = best([Point(1, 8, 80.0), Point(2, 4, 30.0), Point(4, 2, 25.0)])
    assert (alone.threads, alone.at_once) == (2, 4)
    assert alone.why.endswith("100.0 with 1, 133.3 with 2, 80.0 with 4")
    assert alone.as_dict()["curve"][1] == {"threads": 2, "at_once": 4, "p50_ms": 30.0, "per_second": 133.3}


def test_of_numbers_that_are_alike_the_fewest_threads() -> None:
    assert best([Point(1, 4, 41.0), Point(2, 2, 20.0)]).threads == 1


def test_a_cluster_takes_one_number() -> None:
    small = [Point(1, 2, 20.0), Point(2, 1, 20.0)]  # 100, 50
    large = [Point(1, 8, 80.0), Point(2, 4, 20.0)]  # 100, 200
    assert together([(1, small), (1, large)]).threads == 2
    chosen = together([(8, small), (1, large)])
    assert (chosen.threads, chosen.at_once) == (1, 8 * 2 + 8)


def test_it_is_measured_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = module.open_engine

    def opened(path: Path, **options):
        asked.append(options["use"])
        return real(path, **options)

    monkeypatch.setattr(module, "open_engine", opened)
    first = curve(model, "onnxruntime", "auto", 2)
    assert (asked[0].threads, asked[0].streams) == (1, 2)
    assert all(one.p50_ms > 0 for one in first)
    count = len(asked)
    assert curve(model, "onnxruntime", "auto", 2) == first
    assert len(asked) == count
    curve(model, "onnxruntime", "auto", 4, most=2)
    assert asked[count].streams == 2
    known = json.loads(module._path().read_text())
    assert len(known) == 2
    for one in known.values():
        one["circumstances"]["processor"] = "another"
    module._path().write_text(json.dumps(known))
    count = len(asked)
    curve(model, "onnxruntime", "auto", 2)
    assert len(asked) > count


def test_a_machine_of_one_cpu_or_a_busy_one_is_not_measured(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "curve", lambda *_, **__: pytest.fail("measured"))
    assert choose(model, "onnxruntime", "auto", 1, most=16).as_dict() == {
        "at_once": 1, "threads": 1, "why": "there is one CPU", "curve": [],
    }  # fmt: skip
    monkeypatch.setattr(module, "busy_cpus", lambda: 1.5)
    chosen = choose(model, "onnxruntime", "auto", 64, most=16)
    assert (chosen.threads, chosen.at_once) == (1, 16)
    assert chosen.why == "not measured, since others keep 1.5 CPUs busy: one thread each"


def test_what_cannot_be_remembered_is_measured_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (model.parent / "cache").write_text("a file where the folder should be")
    assert curve(model, "onnxruntime", "auto", 2)
    monkeypatch.setattr(module, "_path", lambda: model)  # which is no JSON
    assert read_notes(model) == {}
