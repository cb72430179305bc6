"""What the benchmarks share: the machine in one line, timing in turns, results as JSON."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from falconet import __version__
from falconet.eval.latency import machine

RESULTS = Path(__file__).parent / "results"


def versions() -> str:
    """Versions that a figure depends on, in one line."""
    return (
        f"falconet {__version__}, torch {version('torch')}, onnxruntime {version('onnxruntime')}, "
        f"Python {platform.python_version()}"
    )


def untrained(preset: str, folder: Path, *, classes: int = 80) -> Path:
    """Weights of a preset as it starts."""
    import torch

    from falconet.models import PRESETS, build
    from falconet.models.weights import ModelCard, save_weights

    torch.manual_seed(0)
    config, names = PRESETS[preset], tuple(f"class {index}" for index in range(classes))
    weights = folder / "model.safetensors"
    save_weights(
        weights, build(config, classes).eval(), ModelCard(model=config, classes=names, falconet_version=__version__)
    )
    return weights


def in_turns(calls: dict[str, Callable[[], object]], *, rounds: int, warm_up: int = 3) -> dict[str, list[float]]:
    """Seconds of each call, measured A B A B ..., so that a drift of the machine's speed meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm_up + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Median and 90th percentile in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": round(statistics.median(ordered) * 1e3, 3),
        "p90_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))] * 1e3, 3),
    }


def write(name: str, title: str, command: str, rows: list[dict[str, Any]], note: str) -> None:
    """Write results/NAME.json and .md, and print the latter."""
    RESULTS.mkdir(exist_ok=True)
    head = {
        "title": title,
        "command": command,
        "date": str(date.today()),
        "machine": f"{machine()['processor']}, {machine()['cores']} cores",
    }
    (RESULTS / f"{name}.json").write_text(
        json.dumps(head | {"versions": versions(), "rows": rows, "note": note}, indent=2) + "\n", encoding="utf-8"
    )
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = [columns, ["---"] * len(columns), *([str(row.get(key, "")) for key in columns] for row in rows)]
    lines = [f"# {title}", "", note, "", *("| " + " | ".join(line) + " |" for line in table), ""]
    lines += [f"`{command}`, {head['date']}; {head['machine']}; {versions()}.", ""]
    text = "\n".join(lines)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
