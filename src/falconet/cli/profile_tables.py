"""What `falconet profile` prints."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from falconet.profile.measure import Measured, Profile


def published(name: str) -> dict[str, Any] | None:
    """The accuracy that the original states, as a fraction, with its source."""
    from falconet.zoo.published.table import ACCURACY

    return ACCURACY[name]._asdict() if name in ACCURACY else None


def engine_label(one: "Measured") -> str:
    """An engine with its threads, as in "onnxruntime, 2 threads"."""
    return f"{one.engine}, {one.threads} thread{'s' * (one.threads > 1)}"


def print_layers(one: "Profile", *, one_by_one: bool) -> None:
    """A row per group, and what the whole took.

    Args:
        one: a network's or block's costs.
        one_by_one: a group is one layer: with its kind, operations and the sum so far.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    left = ("layers", "type", "output")
    counts = ("params", "MACs", "FLOPs", "MACs so far") if one_by_one else ("params", "MACs", "activations", "weights")
    for title in ("layers", *(("type",) if one_by_one else ()), "output", *counts):
        table.add_column(title, justify="left" if title in left else "right")
    for measured in one.measured:
        table.add_column(f"ms\n{engine_label(measured)}", justify="right")
        table.add_column("of the\nroofline", justify="right")
    macs, total = 0, one.total()
    for group in (*one.groups, total):
        whole = group.name == "total"
        shape = " x ".join(map(str, group.shape))
        if one_by_one:
            macs += 0 if whole else group.macs
            kind = f"{group.kind}, {group.uses} times" if group.uses > 1 and group.kind else group.kind
            parameters = f"{group.parameters:,}" if group.parameters else ""
            done = f"{macs / max(1, total.macs):.1%}" if group.macs and not whole else ""
            cells = [group.name, kind, shape, parameters, *(_millions(n) for n in (group.macs, group.flops)), done]
        else:
            cells = [group.name, shape, *_counts(group)]
        for measured in one.measured:
            spent = measured.total.p50 if whole else measured.groups.get(group.name, math.nan)
            share = measured.total_share if whole else measured.share(group.name)
            cells += ["" if math.isnan(spent) else f"{spent:.{3 if one_by_one else 2}f}"]
            cells += ["" if share is None else f"{share:.0%}"]
        table.add_row(*cells)
    print(f"{one.model}, input {one.width} x {one.height}")
    _show(table)
    for measured in one.measured:
        total, peak = measured.total, measured.peak
        print(
            f"{engine_label(measured)}: p50 {total.p50:.2f} ms, p90 {total.p90:.2f}, p99 {total.p99:.2f}, "
            f"mean {total.mean:.2f} ({total.calls} runs); roof {peak.macs / 1e9:.1f} GMAC/s, "
            f"{peak.bandwidth / 1e9:.1f} GB/s"
        )
    print("Norms and branches are folded. MACs are those of convolutions and linear layers; FLOPs are two per MAC.")
    print("More than the roofline is reached where data stay in the caches, which copy faster than the memory.")


def _show(table: "Table") -> None:
    """Print a table: as wide as the terminal, or as it needs in a file."""
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=240)).print(table)


def _millions(count: int) -> str:
    return f"{count / 1e6:.3f} M" if count else ""


def _counts(group: Any) -> list[str]:
    return [
        f"{group.parameters / 1e6:.3f} M" if group.parameters else "",
        f"{group.macs / 1e6:.1f} M" if group.macs else "",
        f"{group.activations / 1e6:.2f} M" if group.activations else "",
        f"{group.weight_bytes / 1e6:.2f} MB" if group.parameters else "",
    ]


def print_comparison(profiles: "list[Profile]") -> None:
    """A row per network or block."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("model", "input", "params", "MACs", "activations", "weights"):
        table.add_column(title, justify="left" if title in ("model", "input") else "right")
    for measured in profiles[0].measured:
        table.add_column(f"ms p50\n{engine_label(measured)}", justify="right")
        table.add_column("p90", justify="right")
        table.add_column("of the\nroofline", justify="right")
    stated = {one.model: published(one.model) for one in profiles}
    if any(stated.values()):
        table.add_column("published")
        table.add_column("source")
    for one in profiles:
        cells = [one.model, f"{one.width} x {one.height}", *_counts(one.total())]
        for measured in one.measured:
            cells += [f"{measured.total.p50:.2f}", f"{measured.total.p90:.2f}", f"{measured.total_share:.0%}"]
        if known := stated[one.model]:
            cells += [f"{100 * known['value']:.1f} {known['metric']}", known["source"]]
        table.add_row(*cells)
    _show(table)
    if any(stated.values()):
        print("Accuracies are those the originals publish for their own weights; milliseconds are measured here.")
