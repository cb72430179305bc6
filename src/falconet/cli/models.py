"""`falconet models`: which networks there are, what they cost, which weights are published. Needs no torch."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


def models(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List detectors and classifiers: input, parameters, multiplications, published accuracy and published weights."""
    rows = preset_rows()
    if as_json:
        import json

        print(json.dumps(rows, indent=2))
        return
    for task in ("detect", "classify"):
        _print(_presets([row for row in rows if row["task"] == task]))
        print()
    print(
        "Parameters and MACs (convolutions and linear layers) are those of detectors with 80 classes and classifiers "
        "with 1000; accuracies are the originals'.\n"
    )
    _print(_weights(rows))
    print(
        "Published weights are taken by name, fetched once: falconet predict PICTURE --model NAME, "
        "falconet train PRESET train.weights=NAME. MB are those of the network in float32.\n"
    )
    print(HINT)


HINT = """Lines are in the order of their work (MACs); milliseconds on this machine: falconet profile NAME.
Start with nanodet-plus-m-320, which is small, fast and begins with COCO weights:
  falconet train nanodet-plus-m-320 data=photos
More accurate, at 2 to 20 times the work: nanodet-plus-m-416, ppyoloe-plus-t, ppyoloe-plus-s."""


def preset_rows() -> list[dict[str, Any]]:
    """One row per preset and classifier, with the published weights there are of it."""
    from falconet.zoo.published.fetch import cached
    from falconet.zoo.published.presets import read_presets
    from falconet.zoo.published.table import ACCURACY, PUBLISHED

    rows = []
    for name, preset in read_presets().items():
        accuracy = ACCURACY.get(name)
        weights = [
            {"name": known, "task": one.task, "licence": one.licence, "source": one.source}
            | {"cached": cached(known) is not None}
            for known, one in PUBLISHED.items()
            if one.model == name
        ]
        detects = preset.task == "detect"
        row = {"name": name, **preset._asdict()}
        row["published_ap"] = accuracy.value if accuracy is not None and detects else None
        row["published_top1"] = accuracy.value if accuracy is not None and not detects else None
        rows.append(row | {"weights": weights})
    return rows


def _presets(rows: list[dict[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table("name", "task", "input", "params", "MACs", "published", box=None, pad_edge=False)
    for row in sorted(rows, key=lambda row: row["macs"]):
        table.add_row(
            row["name"],
            row["task"],
            f"{row['width']} x {row['height']}",
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['macs'] / 1e9:.2f} G",
            _accuracy(row),
        )
    return table


def _weights(rows: list[dict[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table("published weights", "of", "MB", "stated for the model", "licence", "", box=None, pad_edge=False)
    for row in rows:
        for one in row["weights"]:
            backbone = one["task"] == "backbone"
            table.add_row(
                one["name"],
                f"{row['name']}, backbone" if backbone else row["name"],
                "" if backbone else f"{row['parameters'] * 4 / 1e6:.1f}",
                "" if backbone else _accuracy(row),
                one["licence"].partition(",")[0],
                "in the cache" if one["cached"] else "",
            )
    return table


def _accuracy(row: dict[str, Any]) -> str:
    stated = [(row["published_ap"], "COCO AP"), (row["published_top1"], "ImageNet top-1")]
    return "".join(f"{100 * value:.1f} {metric}" for value, metric in stated if value is not None)


def _print(table: "Table") -> None:
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)
