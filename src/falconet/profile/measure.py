"""What a network costs: counted layer by layer, and measured on this machine beside what the machine could do."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from falconet.core.files import replace_file
from falconet.eval.latency import Latency
from falconet.exporting.onnx import OPSET, clean, to_onnx, trace
from falconet.exporting.rewrite import rewrite
from falconet.exporting.torch_engine import deployable, manifest_of, points_to_decode
from falconet.models import Network
from falconet.models.reparam import fuse
from falconet.models.weights import ModelCard
from falconet.profile.layers import Group, GroupOf, count_layers, layer_of, part_of, tag, tagged_group
from falconet.runtime.engines import ENGINES, NodeTimes, require_engine
from falconet.runtime.roofline import Peak


@dataclass(frozen=True, slots=True)
class Measured:
    """What one engine with a number of threads took.

    Attributes:
        engine, threads: what ran.
        total: of whole runs, milliseconds.
        groups: milliseconds by group; they are shares of the median of whole runs, by the engine's own report.
        roofs: the least milliseconds each group could take: multiply-adds at the peak of a matrix product, or bytes
            at the bandwidth of a copy, whichever is more. Groups without convolutions have none.
        peak: of the machine, measured in the same run.
    """

    engine: str
    threads: int
    total: Latency
    groups: dict[str, float]
    roofs: dict[str, float]
    peak: Peak

    def share(self, group: str) -> float | None:
        """Share of the roofline that a group reaches; None without a roof."""
        spent, roof = self.groups.get(group, 0.0), self.roofs.get(group, 0.0)
        return roof / spent if roof and spent else None

    @property
    def total_share(self) -> float:
        """Share of the roofline that the whole reaches."""
        return sum(self.roofs.values()) / self.total.p50


@dataclass(frozen=True, slots=True)
class Profile:
    """A network's costs.

    Attributes:
        model: name or file.
        height, width: of the input, pixels.
        groups: in the order in which they run; `input` and `output` stand for what is no layer.
        measured: per engine and number of threads.
    """

    model: str
    height: int
    width: int
    groups: tuple[Group, ...]
    measured: tuple[Measured, ...]

    def total(self) -> Group:
        """All groups together; its shape is empty."""
        whole = Group("total")
        for group in self.groups:
            whole.parameters += group.parameters
            whole.macs += group.macs
            whole.activations += group.activations
            whole.moved += group.moved
        return whole

    def as_dict(self) -> dict[str, Any]:
        """Everything, for programs."""
        layers = [
            asdict(group) | {"flops": group.flops, "weight_bytes": group.weight_bytes}
            for group in (*self.groups, self.total())
        ]
        return {
            "model": self.model,
            "height": self.height,
            "width": self.width,
            "layers": layers,
            "measured": [
                {
                    "engine": one.engine,
                    "threads": one.threads,
                    "milliseconds": asdict(one.total),
                    "groups": one.groups,
                    "roofline_milliseconds": one.roofs,
                    "roofline_share": one.total_share,
                    "peak_gmacs_per_second": one.peak.macs / 1e9,
                    "bandwidth_gb_per_second": one.peak.bandwidth / 1e9,
                }
                for one in self.measured
            ],
        }


def measure_network(
    network: Network, card: ModelCard, *, name: str, timing: "Timing", by_layer: bool = False
) -> Profile:
    """Count the layers of a network and measure its exported form.

    Args:
        network: in eval mode.
        card: its configuration and classes; the input's size is that of the configuration.
        name: to call it by.
        timing: what measures it.
        by_layer: a group is one layer, instead of a stage or part.

    Raises:
        ConfigError: an engine is not installed.
    """
    manifest = manifest_of(card)
    height, width = manifest.preprocess.height, manifest.preprocess.width
    module = deployable(network, card, max_points=points_to_decode(manifest))
    pixels = torch.randint(256, (1, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    group_of = layer_of(module) if by_layer else part_of
    model = trace(module, manifest, opset=OPSET, batch=1)
    return _measure(module, model, pixels, group_of, name=name, size=(height, width), timing=timing)


def measure_block(block: nn.Module, channels: int, *, size: tuple[int, int], name: str, timing: "Timing") -> Profile:
    """Count the layers of a block and measure it by itself, on random features.

    Args:
        block: features [1, C, H, W] -> features; a sequence of blocks in eval mode, not fused.
        channels: C.
        size: H and W.
        name: to call it by.
        timing: what measures it.

    Raises:
        ConfigError: an engine is not installed.
    """
    module = fuse(block)
    features = torch.rand((1, channels, *size), generator=torch.Generator().manual_seed(0))
    model = to_onnx(module, features, input_name="features", output_names=["result"], opset=OPSET)
    return _measure(module, model, features, layer_of(module), name=name, size=size, timing=timing)


@dataclass(frozen=True, slots=True)
class Timing:
    """How a model is measured.

    Attributes:
        engines: what runs it.
        peaks: of the machine, one per number of threads to measure with.
        warm_up, calls: runs that do not count, and runs that do.
        progress: wraps what is to be measured.
    """

    engines: Sequence[str]
    peaks: Sequence[Peak]
    warm_up: int = 10
    calls: int = 50
    progress: Callable[[Iterable[tuple[str, Peak]]], Iterable[tuple[str, Peak]]] = iter


def _measure(
    module: nn.Module,
    model: onnx.ModelProto,
    entry: Tensor,
    group_of: GroupOf,
    *,
    name: str,
    size: tuple[int, int],
    timing: Timing,
) -> Profile:
    for engine in timing.engines:
        require_engine(engine)
    groups = count_layers(module, entry, group_of)
    model, names = tag(rewrite(model), group_of)
    clean(model)
    onnx.checker.check_model(model)
    measured = []
    with tempfile.TemporaryDirectory(prefix="falconet-profile-") as folder:
        path = Path(folder) / "model.onnx"
        replace_file(path, model.SerializeToString())
        for engine, peak in timing.progress([(engine, peak) for engine in timing.engines for peak in timing.peaks]):
            time_nodes = ENGINES[engine].time_nodes
            assert time_nodes is not None, f"{engine} does not report the times of nodes"
            times = time_nodes(path, entry.numpy(), threads=peak.threads, warm_up=timing.warm_up, calls=timing.calls)
            measured.append(_measured(times, names, groups, engine, peak))
    known = {group.name for group in groups}
    seen = [group for one in measured for group in one.groups if group not in known]
    groups += [Group(group) for group in dict.fromkeys(seen)]
    return Profile(name, *size, tuple(_ordered(groups)), tuple(measured))


def _measured(times: NodeTimes, names: list[str], groups: Sequence[Group], engine: str, peak: Peak) -> Measured:
    spent: dict[str, float] = {}
    for node, seconds in times.nodes.items():
        group = tagged_group(node, names)
        spent[group] = spent.get(group, 0.0) + seconds
    total = Latency.of(times.totals)
    reported = sum(spent.values()) or 1.0
    return Measured(
        engine,
        peak.threads,
        total,
        {group: seconds / reported * total.p50 for group, seconds in spent.items()},
        {group.name: peak.milliseconds(macs=group.macs, moved=group.moved) for group in groups if group.macs},
        peak,
    )


def _ordered(groups: Sequence[Group]) -> list[Group]:
    """What comes before the layers first, what comes after them last."""
    rank = {"input": 0, "output": 2, "layout and other": 3}
    return sorted(groups, key=lambda group: rank.get(group.name, 1))
