"""`falconet profile`: what a network costs, counted and measured on this machine."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from falconet.cli.options import parse_size, words
from falconet.cli.progress import progress
from falconet.core.errors import ConfigError
from falconet.core.files import replace_file

if TYPE_CHECKING:
    from rich.table import Table

    from falconet.models import Network
    from falconet.models.weights import ModelCard
    from falconet.profile.measure import Measured, Profile
    from falconet.profile.roofline import Peak

DETECTOR_CLASSES, IMAGENET_CLASSES = 80, 1000


def profile(
    model: Annotated[
        str | None,
        typer.Argument(help="Name ('falconet models' lists them), run folder or weights file.", show_default=False),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="Names or files, as in a,b,c: one table and a picture.", show_default=False)
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Input, as in 320 or 256x320 (height x width) [default: the model's own].")
    ] = None,
    threads: Annotated[str, typer.Option(help="Numbers of threads to measure with, as in 1,2.")] = "1",
    engine: Annotated[str, typer.Option(help="Some of onnxruntime,openvino.")] = "onnxruntime",
    calls: Annotated[
        int, typer.Option(min=3, help="Timed runs each; a fifth as many come before and do not count.")
    ] = 50,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for profile.json and, with --compare, compare.svg [default: runs/profile for it]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Count a network's layers and measure its milliseconds on this machine.

    Multiply-adds (MACs) are those of convolutions and linear layers. The roofline is what this machine could do at
    best: a matrix product and a copy in memory are measured in the same run.
    """
    names = _names(model, compare)
    engines, counts = _engines(engine), _threads(threads)
    from falconet.api.require import require

    require(["torch", "onnx", "onnxscript"], extra="train", purpose="profile")
    from falconet.eval.latency import machine
    from falconet.profile.roofline import measure_peak

    wanted = [(name, *_network(name, size)) for name in names]
    _same_task(wanted, compare)
    peaks = [measure_peak(count) for count in counts]
    profiles = [_profile(one, engines, peaks, calls) for one in wanted]
    document = {
        "machine": machine(),
        "models": [one.as_dict() | {"published": _published(one.model)} for one in profiles],
    }
    text = json.dumps(document, indent=2) + "\n"
    folder = out or (Path("runs/profile") if compare is not None else None)
    picture = None
    if folder is not None:
        replace_file(folder / "profile.json", text)
        picture = _picture(profiles, folder) if compare is not None else None
    if as_json:
        print(text, end="")
        return
    if compare is None:
        _print_layers(profiles[0])
    else:
        _print_comparison(profiles)
    print(f"machine: {document['machine']['processor']}, {document['machine']['cores']} cores")
    if folder is not None:
        print(f"written: {folder / 'profile.json'}{'' if picture is None else f', {picture}'}")


def _names(model: str | None, compare: str | None) -> list[str]:
    listed = words(compare or "")
    names = list(dict.fromkeys(([model] if model is not None else []) + listed))
    if not names:
        raise ConfigError("expected a model, as in 'falconet profile efficientnet-lite0', or --compare a,b,c")
    return names


def _engines(text: str) -> list[str]:
    from falconet.runtime.engines import ENGINES, require_engine

    timed = [name for name, row in ENGINES.items() if row.time_nodes is not None]
    engines = list(dict.fromkeys(words(text)))
    for engine in engines:
        if engine not in timed:
            raise ConfigError(f"--engine {engine}: is not known; expected some of {', '.join(timed)}")
        require_engine(engine)
    return engines


def _threads(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= 256 for word in words):
        raise ConfigError(f"--threads {text}: expected numbers from 1, as in 1,2")
    return list(dict.fromkeys(int(word) for word in words))


def _network(name: str, size: str | None) -> "tuple[Network, ModelCard]":
    """The network and its description: from a file, or by name with fresh weights."""
    import torch

    from falconet.api.find import find_model
    from falconet.models import CLASSIFIERS, PRESETS, build
    from falconet.models.weights import ModelCard, load_weights

    known = PRESETS | CLASSIFIERS
    if name in known:
        config = known[name]
        count = DETECTOR_CLASSES if name in PRESETS else IMAGENET_CLASSES
        card = ModelCard(model=config, classes=tuple(f"class {index}" for index in range(count)))
        torch.manual_seed(0)
        network = build(config, count).eval()
    else:
        network, card = load_weights(find_model(name, weights=True, others=known).path)
    if size is not None:
        height, width = parse_size(size)
        entry = replace(card.model.input, height=height, width=width)
        card = card.model_copy(update={"model": card.model.model_copy(update={"input": entry})})
    return network, card


def _same_task(wanted: "list[tuple[str, Network, ModelCard]]", compare: str | None) -> None:
    tasks = {card.model.name == "classifier" for _, _, card in wanted}
    if compare is not None and len(tasks) > 1:
        raise ConfigError(
            f"--compare {compare}: detectors and classifiers have no accuracy in common; compare one kind"
        )


def _profile(one: "tuple[str, Network, ModelCard]", engines: list[str], peaks: "list[Peak]", calls: int) -> "Profile":
    from falconet.profile.measure import measure_network

    name, network, card = one
    with progress(name) as bar:
        return measure_network(
            network,
            card,
            name=name,
            engines=engines,
            peaks=peaks,
            warm_up=max(2, calls // 5),
            calls=calls,
            progress=lambda items: bar(list(items)),
        )


def _published(name: str) -> dict[str, Any] | None:
    """The accuracy that the original states, as a fraction, with its source."""
    from falconet.zoo.published.table import ACCURACY

    return ACCURACY[name]._asdict() if name in ACCURACY else None


def _picture(profiles: "list[Profile]", folder: Path) -> Path | None:
    """compare.svg: published accuracy over milliseconds of the first measurement; None where nothing is published."""
    from falconet.profile.scatter import Point, scatter

    first = profiles[0].measured[0]
    stated = [(one, _published(one.model)) for one in profiles]
    points = [
        Point(one.model, one.measured[0].total.p50, 100 * float(known["value"])) for one, known in stated if known
    ]
    if not points:
        return None
    metric = next(str(known["metric"]) for _, known in stated if known)
    text = scatter(
        points,
        title=f"{metric} as published, over milliseconds measured here ({_label(first)})",
        x_label=f"milliseconds per picture, median, {_label(first)}",
        y_label=f"{metric}, %",
    )
    replace_file(folder / "compare.svg", text)
    return folder / "compare.svg"


def _label(one: "Measured") -> str:
    return f"{one.engine}, {one.threads} thread{'s' * (one.threads > 1)}"


def _print_layers(one: "Profile") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("layers", "output", "params", "MACs", "activations", "weights"):
        table.add_column(title, justify="left" if title in ("layers", "output") else "right")
    for measured in one.measured:
        table.add_column(f"ms\n{_label(measured)}", justify="right")
        table.add_column("of the\nroofline", justify="right")
    for group in (*one.groups, one.total()):
        cells = [group.name, " x ".join(map(str, group.shape)), *_counts(group)]
        for measured in one.measured:
            whole = group.name == "total"
            spent = measured.total.p50 if whole else measured.groups.get(group.name, math.nan)
            share = measured.total_share if whole else measured.share(group.name)
            cells += ["" if math.isnan(spent) else f"{spent:.2f}", "" if share is None else f"{share:.0%}"]
        table.add_row(*cells)
    print(f"{one.model}, input {one.width} x {one.height}")
    _show(table)
    for measured in one.measured:
        total, peak = measured.total, measured.peak
        print(
            f"{_label(measured)}: p50 {total.p50:.2f} ms, p90 {total.p90:.2f}, p99 {total.p99:.2f}, "
            f"mean {total.mean:.2f} ({total.calls} runs); roof {peak.macs / 1e9:.1f} GMAC/s, "
            f"{peak.bandwidth / 1e9:.1f} GB/s"
        )
    print("Norms are folded; MACs are those of convolutions and linear layers; weights are float32.")
    print("More than the roofline is reached where data stay in the caches, which copy faster than the memory.")


def _show(table: "Table") -> None:
    """Print a table: as wide as the terminal, or as it needs in a file."""
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=240)).print(table)


def _counts(group: Any) -> list[str]:
    return [
        f"{group.parameters / 1e6:.3f} M" if group.parameters else "",
        f"{group.macs / 1e6:.1f} M" if group.macs else "",
        f"{group.activations / 1e6:.2f} M" if group.activations else "",
        f"{group.weight_bytes / 2**20:.2f} MB" if group.parameters else "",
    ]


def _print_comparison(profiles: "list[Profile]") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("model", "input", "params", "MACs", "activations", "weights"):
        table.add_column(title, justify="left" if title in ("model", "input") else "right")
    for measured in profiles[0].measured:
        table.add_column(f"ms p50\n{_label(measured)}", justify="right")
        table.add_column("p90", justify="right")
        table.add_column("of the\nroofline", justify="right")
    table.add_column("published")
    table.add_column("source")
    for one in profiles:
        cells = [one.model, f"{one.width} x {one.height}", *_counts(one.total())]
        for measured in one.measured:
            cells += [f"{measured.total.p50:.2f}", f"{measured.total.p90:.2f}", f"{measured.total_share:.0%}"]
        known = _published(one.model)
        cells += ["", ""] if known is None else [f"{100 * known['value']:.1f} {known['metric']}", known["source"]]
        table.add_row(*cells)
    _show(table)
    print("Accuracies are those the originals publish for their own weights; milliseconds are measured here.")
