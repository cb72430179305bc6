"""`falconet data suspects`: folds that go on where they stopped, and files that say what was found."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from falconet.api import folds as folding
from falconet.api.folds import split
from falconet.api.suspects import COCO, LIST, PAGE, suspects
from falconet.api.train import train
from falconet.cli import _register, app
from falconet.core.errors import ConfigError
from falconet.core.types import Record
from falconet.data.coco import read_coco
from tests.training.tiny import draw, options

_register()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"))


def stop(run: str, changes: list[str], **more: object) -> None:  # noqa: ARG001
    """In place of a training."""
    raise KeyboardInterrupt


@pytest.mark.slow
def test_folds_go_on_and_all_pictures_are_answered(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset, *overrides = options(data, tmp_path / "run", "train.epochs=1")
    overrides = [override for override in overrides if not override.startswith("output=")]
    out, fold, trained = tmp_path / "doubts", folding.train_with, []

    def once(run: str, changes: list[str], **more: object) -> object:
        if trained:
            raise KeyboardInterrupt
        trained.append(changes)
        return fold(run, changes, **more)

    monkeypatch.setattr(folding, "train_with", once)
    with pytest.raises(KeyboardInterrupt):
        suspects(preset, overrides, out=out, folds=2)
    assert not (out / PAGE).exists()
    monkeypatch.setattr(folding, "train_with", fold)
    first = (out / "folds" / "fold-1" / "last.safetensors").stat().st_mtime_ns
    done = suspects(preset, overrides, out=out, folds=2, count=3)
    assert (out / "folds" / "fold-1" / "last.safetensors").stat().st_mtime_ns == first
    assert len(done.held_out.records) == 17
    assert len(done.held_out.ap) == 2
    told = json.loads((out / LIST).read_text(encoding="utf-8"))
    assert told == json.loads(json.dumps(done.as_dict()))
    assert told["labels"] == done.labels == sum(len(record.boxes) for record in done.held_out.records)
    assert [one["rank"] for one in told["suspects"]] == list(range(1, len(done.suspects) + 1))
    assert (out / PAGE).read_text(encoding="utf-8").count("<figure>") == done.shown == 3
    marked = read_coco(out / COCO, images=data)
    assert len(marked) == 17
    assert marked.names == done.names

    def never(*words: object, **more: object) -> None:
        raise AssertionError(words, more)

    monkeypatch.setattr(folding, "train_with", never)
    words = ["data", "suspects", preset, *overrides, "--out", str(out), "--folds", "2"]
    printed = CliRunner().invoke(app, [*words, "--count", "3", "--json"], catch_exceptions=False).stdout
    assert json.loads(printed) == told, "nothing is trained again"
    shown = CliRunner().invoke(app, [*words, "--count", "3"], catch_exceptions=False).stdout
    assert f"written: {out / PAGE}" in shown
    with pytest.raises(ConfigError, match="holds something else than folds of this run and these labels"):
        suspects(preset, [*overrides, "train.epochs=2"], out=out, folds=2)


def test_the_parts_of_a_fold_are_apart(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset, *overrides = options(data, tmp_path / "run", "train.epochs=1")
    overrides = [override for override in overrides if not override.startswith("output=")]
    asked: list[list[str]] = []

    def note(run: str, changes: list[str], **more: object) -> None:
        asked.append(changes)
        stop(run, changes, **more)

    monkeypatch.setattr(folding, "train_with", note)
    with pytest.raises(KeyboardInterrupt):
        suspects(preset, [*overrides, f"data.train.images={data / 'train'}"], out=tmp_path / "doubts", folds=2)
    assert not any(change.startswith("data.train.images") for change in asked[0]), "a fold has files of its own"
    files = {key: Path(value) for key, _, value in (change.partition("=") for change in asked[0])}
    learnt, held = (read_coco(files[f"data.{part}"]) for part in ("train", "val"))
    paths = [{record.path for record in part.records} for part in (learnt, held)]
    assert not paths[0] & paths[1]
    assert len(paths[0] | paths[1]) == 17
    assert sum(len(record.boxes) for part in (learnt, held) for record in part.records) > 17


def test_from_where_trainings_start_and_how_long_they_take(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset, *overrides = options(data, tmp_path / "first", "train.epochs=1")
    first = train(
        preset,
        changes=dict(override.split("=", 1) for override in overrides if "={" not in override)
        | {
            "model.input": {"height": 64, "width": 64},
            "model.head": {"channels": 16, "kernel_size": 3, "stacked_convs": 1},
        },
    )
    asked: list[list[str]] = []

    def note(run: str, changes: list[str], **more: object) -> None:
        asked.append([run, *changes])
        stop(run, changes, **more)

    monkeypatch.setattr(folding, "train_with", note)
    again = [override for override in overrides if not override.startswith(("output=", "train.epochs="))]
    with caplog.at_level("INFO"), pytest.raises(KeyboardInterrupt):
        suspects(preset, [*again, f"train.weights={first.path}"], out=tmp_path / "doubts", folds=2)
    assert "have learnt from 12 of these 17 pictures" in caplog.text
    assert "train.weights=auto" in caplog.text
    assert "train.epochs=11" in asked[0], "150 steps would be more epochs than the preset has"
    with caplog.at_level("INFO"), pytest.raises(KeyboardInterrupt):
        suspects(first.path, folds=2)
    assert asked[1][0] == str(first.path / "run.yaml")
    assert f"output={first.path / 'suspects' / 'folds' / 'fold-1'}" in asked[1]
    assert "this run starts from nothing" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        suspects(first.path, folds=3)
    assert f"output={first.path / 'suspects-2' / 'folds' / 'fold-1'}" in asked[2], "three folds are another question"


def test_what_cannot_be_asked(data: Path, tmp_path: Path) -> None:
    preset, *overrides = options(data, tmp_path / "run")
    with pytest.raises(ConfigError, match="named by --out FOLDER"):
        suspects(preset, overrides)
    with pytest.raises(ConfigError, match=r"holds no run\.yaml"):
        suspects(data)
    with pytest.raises(ConfigError, match="is a classifier, whose labels are folders"):
        suspects("mobilenet-v2-1.0", [f"data={data}"])
    own = [override for override in overrides if not override.startswith("output=")]
    with pytest.raises(ConfigError, match="--folds 1: expected two at least"):
        suspects(preset, own, out=tmp_path / "doubts", folds=1)
    with pytest.raises(ConfigError, match="the data have 17 pictures; expected two for each fold"):
        suspects(preset, own, out=tmp_path / "doubts", folds=9)


def test_each_class_is_spread_over_the_parts() -> None:
    labels = [[0], [0], [0], [1], [1], [1], *([[2, 2]] * 12), []]
    records = [
        Record(n, Path(f"{n}.jpg"), 9, 9, np.tile([0, 0, 5, 5], (len(own), 1)), own, [False] * len(own))
        for n, own in enumerate(labels)
    ]
    parts = split(records, 3)
    assert sorted(Counter(parts).values()) == [6, 6, 7]
    for label in range(3):
        assert {part for part, own in zip(parts, labels, strict=True) if label in own} == {0, 1, 2}
    assert split(records, 3) == parts
