"""`falconet models`: everything there is, without torch, with figures that are counted anew here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from falconet.cli.models import models
from falconet.models import CLASSIFIERS, PRESETS
from falconet.models.cost import cost
from falconet.zoo.published import fetch
from falconet.zoo.published.presets import read_presets
from falconet.zoo.published.table import PUBLISHED

app = typer.Typer()
app.command()(models)


def output(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_every_preset_and_all_published_weights_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path)
    (tmp_path / f"nanodet-plus-m-416-coco-{fetch.falconet.__version__}.onnx").touch()
    rows = json.loads(output("--json"))
    assert [row["name"] for row in rows if row["task"] == "detect"] == list(PRESETS)
    assert [row["name"] for row in rows if row["task"] == "classify"] == list(CLASSIFIERS)
    assert rows[0]["published_ap"] == 0.27
    assert next(row for row in rows if row["name"] == "lcnet-1.0")["published_top1"] == 0.713
    weights = {one["name"]: one for row in rows for one in row["weights"]}
    assert set(weights) == set(PUBLISHED)
    assert weights["nanodet-plus-m-416-coco"]["cached"]
    assert not weights["ppyoloe-s-coco"]["cached"]
    table = output()
    assert all(name in table for name in (*PRESETS, *CLASSIFIERS, *PUBLISHED))
    assert table.count("in the cache") == 1


def test_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from falconet.cli import main; sys.argv = ['f', 'models']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "nanodet-plus-m-416" in done.stdout


@pytest.mark.parametrize("task", ["detect", pytest.param("classify", marks=pytest.mark.slow)])
def test_the_costs_are_those_of_the_networks(task: str) -> None:
    known = PRESETS if task == "detect" else CLASSIFIERS
    assert [name for name, one in read_presets().items() if one.task == task] == list(known)
    for name, model in known.items():
        preset = read_presets()[name]
        assert (preset.height, preset.width) == (model.input.height, model.input.width), name
        assert cost(model, 80 if task == "detect" else 1000) == (preset.parameters, preset.macs), name
