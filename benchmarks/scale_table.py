"""From what was measured on one machine to a million, a hundred million and a billion pictures: arithmetic, no run.

    python benchmarks/scale_table.py [--cores 16] [--machines 64] [--kilobytes 60] [--core-hour 0.04] ...

The rate of a core comes out of results/batch.json, so that the table follows it. All else is an assumption that an
option changes, and the table names it. Prices are of the order that large providers list; put in yours.
"""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from common import RESULTS, write

from falconet.bulk.blocks import PICTURES, STRETCH
from falconet.bulk.listing import BUFFER

COUNTS = (10**6, 10**8, 10**9)

PAGE = 1000
"""Names that one request for a list gives."""

REQUESTS_PER_PICTURE = 2
"""pyarrow asks for an object's size, then for its bytes."""

REQUESTS_PER_TABLE = 3
"""An upload is begun, sent and finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What is not measured here.

    Attributes:
        cores: of a machine; machines: of the large run.
        kilobytes: of a picture's file; row: bytes of its row in a table.
        latency: milliseconds of a request; gigabits: that a machine's network carries each second.
        per_second: requests for bytes that a storage bears below one prefix.
        core_hour, million_reads, million_writes, terabyte_month: prices in dollars.
    """

    cores: int = 16
    machines: int = 64
    kilobytes: float = 60
    row: float = 500
    latency: float = 20
    gigabits: float = 10
    per_second: float = 5500
    core_hour: float = 0.04
    million_reads: float = 0.4
    million_writes: float = 5
    terabyte_month: float = 23


def rate_of_a_core(results: dict[str, Any]) -> float:
    """Pictures per second and core, all cores of the machine busy."""
    (all_cores,) = [row["pictures/s"] for row in results["rows"] if row["what"] == "batch"]
    cores = re.search(r"(\d+) CPUs", results["note"])
    assert cores is not None
    return float(all_cores) / int(cores[1])


def lines(rate: float, given: Assumed) -> Iterator[tuple[str, list[float], str]]:
    """What is counted, its value for each of `COUNTS`, and how it comes about."""
    cores = given.machines * given.cores
    many = [float(count) for count in COUNTS]
    hours = [count / rate / 3600 for count in many]
    yield "core hours", hours, f"pictures / {rate:.2f} a second"
    yield "hours, one machine", [one / given.cores for one in hours], f"{given.cores} cores"
    yield f"hours, {given.machines} machines", [one / cores for one in hours], f"{cores} cores"
    yield "cores, $", [one * given.core_hour for one in hours], f"{given.core_hour} $ a core hour"
    terabytes = [count * given.kilobytes / 1e9 for count in many]
    yield "pictures, TB", terabytes, f"{given.kilobytes:g} kB each"
    yield "pictures, $ a month", [one * given.terabyte_month for one in terabytes], f"{given.terabyte_month:g} $ a TB"
    yield "tables, GB", [count * given.row / 1e9 for count in many], f"{given.row:g} bytes a row"
    yield "tables, files", [count / PICTURES for count in many], f"{PICTURES} pictures a block"
    single = [count * REQUESTS_PER_PICTURE for count in many]
    yield "requests for objects, millions", [one / 1e6 for one in single], f"{REQUESTS_PER_PICTURE} a picture"
    yield "requests for objects, $", [one / 1e6 * given.million_reads for one in single], "reads"
    tars = [count * given.kilobytes * 1e3 / STRETCH * REQUESTS_PER_PICTURE for count in many]
    tars = [one + count * given.kilobytes * 1e3 / BUFFER for one, count in zip(tars, many, strict=True)]
    how = f"{REQUESTS_PER_PICTURE} for each 4 MiB, and the listing reads each MiB once"
    yield "requests for tars, millions", [one / 1e6 for one in tars], how
    yield "requests for tars, $", [one / 1e6 * given.million_reads for one in tars], "reads"
    written = [count / PICTURES * REQUESTS_PER_TABLE / 1e6 * given.million_writes for count in many]
    yield "requests for tables, $", written, f"{REQUESTS_PER_TABLE} writes a table"
    listed = [count / PAGE * given.latency / 1e3 / 3600 for count in many]
    yield "hours to list objects", listed, f"{PAGE} names a request, {given.latency:g} ms, one after the other"
    tars = [one * 1e12 * 8 / 1e9 / given.gigabits / 3600 for one in terabytes]
    yield "hours to list tars, one machine", tars, f"all bytes at {given.gigabits:g} Gbit/s; parts share tars out"
    parts = [count / PAGE * given.machines / 1e6 * given.million_writes for count in many]
    yield f"lists by {given.machines} parts, $", parts, "each part lists all; priced as writes"


def bottlenecks(rate: float, given: Assumed) -> list[dict[str, Any]]:
    """What a machine, and all of them, ask of network and storage."""
    here, all_of_them = rate * given.cores, rate * given.cores * given.machines
    requests = all_of_them * REQUESTS_PER_PICTURE
    return [
        {"what": "network of a machine, Mbit/s", "each second": round(here * given.kilobytes * 8e-3, 1)},
        {"what": f"network of {given.machines}, Gbit/s", "each second": round(all_of_them * given.kilobytes * 8e-6, 2)},
        {
            "what": f"requests of {given.machines} machines, objects",
            "each second": round(requests),
            "how": f"{requests / given.per_second:.1f} times the {given.per_second:g} that one prefix bears",
        },
        {
            "what": f"requests of {given.machines} machines, tars",
            "each second": round(requests * given.kilobytes * 1e3 / STRETCH),
        },
        {
            "what": "requests under way, a machine, objects",
            "each second": round(here * REQUESTS_PER_PICTURE * given.latency / 1e3, 1),
            "how": f"at {given.latency:g} ms",
        },
    ]


def readable(value: float) -> str:
    """Two digits that count, and no more than a person reads."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Assumed()
    for name in Assumed.__dataclass_fields__:
        default = getattr(usual, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    given = Assumed(**vars(parser.parse_args()))
    results = json.loads((RESULTS / "batch.json").read_text(encoding="utf-8"))
    rate = rate_of_a_core(results)
    rows: list[dict[str, Any]] = [
        {
            "what": what,
            **{f"10^{len(str(count)) - 1}": readable(value) for count, value in zip(COUNTS, values, strict=True)},
            "how": how,
        }
        for what, values, how in lines(rate, given)
    ]
    rows += bottlenecks(rate, given)
    changed = [f"--{name.replace('_', '-')} {value}" for name, value in vars_of(given) if value != getattr(usual, name)]
    write(
        "scale_table",
        "From one machine to a billion pictures",
        " ".join(["python benchmarks/scale_table.py", *changed]),
        rows,
        f"Arithmetic from results/batch.json of {results['date']} ({results['machine']}; {rate:.2f} pictures a second "
        "and core); the rest is assumed, as the last column says. No such run took place.",
    )


def vars_of(given: Assumed) -> list[tuple[str, Any]]:
    """The assumptions by name."""
    return [(name, getattr(given, name)) for name in Assumed.__dataclass_fields__]


if __name__ == "__main__":
    main()
