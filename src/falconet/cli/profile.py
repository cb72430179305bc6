"""`falconet profile`: what a network costs, counted and measured on this machine."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from falconet.cli.bench import bench, parse_threads
from falconet.cli.options import parse_size, words
from falconet.cli.profile_tables import engine_label, print_comparison, print_layers, published
from falconet.cli.progress import progress
from falconet.core.errors import ConfigError
from falconet.core.exported_files import is_exported
from falconet.core.files import replace_file

if TYPE_CHECKING:
    from torch.nn import Module

    from falconet.models import Network
    from falconet.models.weights import ModelCard
    from falconet.profile.measure import Profile, Timing

DETECTOR_CLASSES, IMAGENET_CLASSES = 80, 1000


def profile(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Name ('falconet models' lists them), run folder, weights file or exported file.", show_default=False
        ),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="Names or files, as in a,b,c: one table and a picture.", show_default=False)
    ] = None,
    block: Annotated[
        list[str] | None,
        typer.Option(
            help="One block by itself, as in 'mbconv k=5 e=6 c=40 se=0.25' (docs/profile.md); several for one table.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Input, as in 320 or 256x320 (height x width) [default: the model's own; 20 for --block]."),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="Class count of a preset [default: 80; 1000 for a classifier]."),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="A row per layer, instead of one per stage.")] = False,
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
    blocks = block or []
    names = _names(model, compare, blocks)
    engines, counts = _engines(engine), parse_threads(threads)
    if any(is_exported(Path(name)) for name in names):
        if compare is not None or size is not None:
            raise ConfigError("exported files are compared by 'falconet bench', each at its own size")
        if layers or classes is not None:
            raise ConfigError(
                f"{'--layers' if layers else '--classes'}: an exported file is measured as a whole; expected the "
                "weights or the run folder that it was made of"
            )
        bench(names, engine=engine, threads=threads, calls=max(5, calls), rounds=1, out=out, as_json=as_json)
        return
    from falconet.api.require import require

    require(["torch", "onnx", "onnxscript"], extra="train", purpose="profile")
    from falconet.eval.latency import machine
    from falconet.profile.measure import Timing
    from falconet.runtime.roofline import measure_peak

    wanted = [(name, *_network(name, size, classes)) for name in names]
    _same_task(wanted, compare)
    parsed = _blocks(blocks, size)
    timing = Timing(engines, [measure_peak(count) for count in counts], max(2, calls // 5), calls)
    profiles = [_profile(one, timing, by_layer=layers) for one in wanted]
    profiles += [_profile_block(one, timing) for one in parsed]
    document = {
        "machine": machine(),
        "models": [one.as_dict() | {"published": published(one.model)} for one in profiles],
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
    if len(profiles) > 1 or compare is not None:
        print_comparison(profiles)
    else:
        print_layers(profiles[0], one_by_one=layers or bool(blocks))
    print(f"machine: {document['machine']['processor']}, {document['machine']['cores']} cores")
    if folder is not None:
        print(f"written: {folder / 'profile.json'}{'' if picture is None else f', {picture}'}")


def _names(model: str | None, compare: str | None, blocks: list[str]) -> list[str]:
    listed = words(compare or "")
    names = list(dict.fromkeys(([model] if model is not None else []) + listed))
    if blocks and names:
        raise ConfigError(f"--block is measured by itself; leave out {', '.join(names)}")
    if not names and not blocks:
        raise ConfigError("expected a model, as in 'falconet profile efficientnet-lite0', --compare a,b,c or --block")
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


def _network(name: str, size: str | None, classes: int | None) -> "tuple[Network, ModelCard]":
    """The network and its description: from a file, or by name with fresh weights."""
    import torch

    from falconet.api.find import find_model
    from falconet.models import CLASSIFIERS, PRESETS, build
    from falconet.models.weights import ModelCard, load_weights

    known = PRESETS | CLASSIFIERS
    if name in known:
        config = known[name]
        count = classes or (DETECTOR_CLASSES if name in PRESETS else IMAGENET_CLASSES)
        card = ModelCard(model=config, classes=tuple(f"class {index}" for index in range(count)))
        torch.manual_seed(0)
        network = build(config, count).eval()
    else:
        network, card = load_weights(find_model(name, weights=True, others=known).path)
        if classes is not None:
            raise ConfigError(f"--classes {classes}: belongs to a preset; {name} has its {len(card.classes)} classes")
    if size is not None:
        height, width = parse_size(size)
        entry = replace(card.model.input, height=height, width=width)
        card = card.model_copy(update={"model": card.model.model_copy(update={"input": entry})})
    return network, card


def _blocks(texts: list[str], size: str | None) -> "list[tuple[str, Module, int, tuple[int, int]]]":
    """Each block with its description, its input's channels, and that input's height and width."""
    if not texts:
        return []
    from falconet.profile.block import parse_block

    sides = parse_size(size or "20", smallest=1, largest=1024)
    return [(text, *parse_block(text), sides) for text in texts]


def _same_task(wanted: "list[tuple[str, Network, ModelCard]]", compare: str | None) -> None:
    tasks = {card.model.name == "classifier" for _, _, card in wanted}
    if compare is not None and len(tasks) > 1:
        raise ConfigError(
            f"--compare {compare}: detectors and classifiers have no accuracy in common; compare one kind"
        )


def _profile(one: "tuple[str, Network, ModelCard]", timing: "Timing", *, by_layer: bool) -> "Profile":
    from falconet.profile.measure import measure_network

    name, network, card = one
    with progress(name) as bar:
        shown = replace(timing, progress=lambda items: bar(list(items)))
        return measure_network(network, card, name=name, timing=shown, by_layer=by_layer)


def _profile_block(one: "tuple[str, Module, int, tuple[int, int]]", timing: "Timing") -> "Profile":
    from falconet.profile.measure import measure_block

    text, block, channels, size = one
    with progress(text) as bar:
        shown = replace(timing, progress=lambda items: bar(list(items)))
        return measure_block(block, channels, size=size, name=text, timing=shown)


def _picture(profiles: "list[Profile]", folder: Path) -> Path | None:
    """compare.svg: published accuracy over milliseconds of the first measurement; None where nothing is published."""
    from falconet.profile.scatter import Point, scatter

    first = profiles[0].measured[0]
    label = engine_label(first)
    stated = [(one, published(one.model)) for one in profiles]
    points = [
        Point(one.model, one.measured[0].total.p50, 100 * float(known["value"])) for one, known in stated if known
    ]
    if not points:
        return None
    metric = next(str(known["metric"]) for _, known in stated if known)
    text = scatter(
        points,
        title=f"{metric} as published, over milliseconds measured here ({label})",
        x_label=f"milliseconds per picture, median, {label}",
        y_label=f"{metric}, %",
    )
    replace_file(folder / "compare.svg", text)
    return folder / "compare.svg"
