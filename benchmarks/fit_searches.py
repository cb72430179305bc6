"""Searches of `falconet fit` side by side: python benchmarks/fit_searches.py QUESTION DATA [KEY=VALUE...]

QUESTION is `strategies`: halving, which trains each network by itself, or shared, which trains the widths of one
network together; or `parts`: what a search over the backbone alone finds, over neck and head alone, over both.

All searches get the same data, budget, minutes and seeds, and the same milliseconds of untrained networks, which are
measured once; which of them begins alternates with the seed. Each search is followed by a measurement on pictures that
had no part in it (--test).

The machine should have nothing else to do. A benchmark that was interrupted goes on when it is called again.
"""

import argparse
import logging
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

from common import write

from falconet.api.measure import evaluate
from falconet.core.config import parse_yaml, validate
from falconet.core.figures import percent
from falconet.search.finish import Finished
from falconet.search.fit import JOURNAL, Search, resume
from falconet.search.journal import Journal
from falconet.search.public import ask
from falconet.search.request import Request
from falconet.search.space import Space

SIDES = "sides: [160, 192, 224, 256, 288, 320, 352, 384, 416]"

WIDTHS = f"""
{SIDES}
families:
  - {{name: nanodet-plus-m, preset: nanodet-plus-m-416, share: [1, 0.85, 0.7, 0.55, 0.4]}}
  - {{name: nanodet-m, preset: nanodet-m-416, share: [1, 0.85, 0.7, 0.55, 0.4]}}
"""
"""Two families with COCO weights."""

BACKBONE = """
      backbone:
        - {name: shufflenet-v2, width: 1.0}
        - {name: shufflenet-v2, width: 0.5}
        - {name: ghostnet}
        - {name: mobilenet-v2}
        - {name: mobilenet-v3, variant: small}
        - {name: mobilenet-v4}
        - {name: lcnet}
        - {name: repvgg, width: 0.5}
        - {name: cspresnet, width: 0.25, activation: relu, attention: none}"""
NECK_AND_HEAD = """
      neck.channels: [48, 64, 96, 128]
      neck.kernel_size: [3, 5]
      neck.blocks: [1, 2]
      head.stacked_convs: [1, 2, 3]
      head.kernel_size: [3, 5]
      head.reg_max: [7, 12]"""


def _part(choices: str) -> str:
    """A space around NanoDet-Plus-m, from which as many networks are drawn whatever is chosen."""
    family = "  - name: plus\n    preset: nanodet-plus-m-416\n    sample: 9\n    choices:"
    return f"{SIDES}\nfamilies:\n{family}{choices}\n"


class Arm(NamedTuple):
    """One kind of search.

    Attributes:
        name: for the table.
        strategy: of the search.
        space: YAML, where the command line names no other.
    """

    name: str
    strategy: Literal["halving", "shared"]
    space: str


QUESTIONS = {
    "strategies": (Arm("halving", "halving", WIDTHS), Arm("shared", "shared", WIDTHS)),
    "parts": (
        Arm("backbone", "halving", _part(BACKBONE)),
        Arm("neck and head", "halving", _part(NECK_AND_HEAD)),
        Arm("both", "halving", _part(BACKBONE + NECK_AND_HEAD)),
    ),
}


def request(given: argparse.Namespace, arm: Arm, seed: int) -> Request:
    """What a search is asked for."""
    asked = ask(
        given.data,
        given.budget,
        minutes=given.minutes,
        classes=None,
        threads=given.threads,
        engine=given.engine,
        reward="ap",
        strategy=arm.strategy,
        space=given.space,
        seed=seed,
        overrides=given.overrides,
    )
    if given.space is not None:
        return asked
    return asked.model_copy(update={"space": validate(Space, parse_yaml(arm.space, arm.name), name=arm.name)})


def milliseconds(given: argparse.Namespace) -> Journal:
    """What the networks of the spaces take here, measured once for all searches."""
    journal = Journal(given.out / "milliseconds.jsonl")
    for arm in QUESTIONS[given.question]:
        for seed in given.seeds:
            Search(request(given, arm, seed), journal, progress=_silent).candidates()
    return journal


def search(given: argparse.Namespace, arm: Arm, seed: int, timed: Journal) -> tuple[Finished, float]:
    """One search, from the milliseconds that are known; what it found, and the minutes that this call took."""
    folder = given.out / f"{arm.name.replace(' ', '-')}-{seed}"
    if not (folder / JOURNAL).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(folder / JOURNAL)
        journal.write("request", **request(given, arm, seed).model_dump(mode="json"))
        for kind in ("way", "timed"):
            for event in timed.all(kind):
                journal.write(**event)
    began = time.monotonic()
    done = resume(folder, progress=_silent)
    return done, (time.monotonic() - began) / 60


def row(given: argparse.Namespace, arm: Arm, seed: int, timed: Journal) -> dict[str, Any]:
    """A row of the table."""
    done, minutes = search(given, arm, seed, timed)
    best, interval = done.best, done.best.interval
    told = {
        "seed": seed,
        "search": arm.name,
        "network": best.name,
        "input": f"{best.width} x {best.height}",
        "p95, ms": round(best.p95, 1),
        "AP": percent(best.ap),
        "95 %": "" if interval is None else f"{percent(interval.low)} to {percent(interval.high)}",
    }
    if given.test is not None:
        measured = evaluate(
            done.path, given.test, engine=done.way.engine, threads=done.way.threads, precision=done.way.precision
        )
        told["AP, test"] = percent(float(measured["AP"]))
    others = [f"{other.name} {other.width} x {other.height}: {percent(other.ap)}" for other in done.rows[1:]]
    return told | {"minutes in all": round(minutes, 1), "others": "; ".join(others)}


def _silent(_: str) -> Any:
    return nullcontext(iter)


def main() -> None:
    """Search with each strategy and seed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("data", type=Path)
    parser.add_argument("overrides", nargs="*", help="changes of each training, KEY=VALUE")
    parser.add_argument("--budget", type=float, default=15.0, help="milliseconds")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--space", type=Path)
    parser.add_argument("--test", type=Path, help="annotations of pictures that no search has seen")
    parser.add_argument("--out", type=Path, required=True, help="folder of the searches")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given.out.mkdir(parents=True, exist_ok=True)
    timed = milliseconds(given)
    rows = []
    for number, seed in enumerate(given.seeds):
        arms = QUESTIONS[given.question]
        for arm in arms if number % 2 == 0 else arms[::-1]:
            rows.append(row(given, arm, seed, timed))
    note = (
        f"`falconet fit` within {given.budget:g} ms, {given.minutes:g} minutes of training, {given.threads} thread(s), "
        f"{given.engine}. AP in percent on the pictures by which networks were compared; `AP, test` on others. "
        "Minutes in all also hold what is no training: measuring, exporting, evaluating."
    )
    seeds = " ".join(map(str, given.seeds))
    command = f"python benchmarks/fit_searches.py {given.question} {given.data.name} --budget {given.budget:g}"
    command += f" --minutes {given.minutes:g} --threads {given.threads} --engine {given.engine} --seeds {seeds}"
    write(f"fit_{given.question}", f"Searches of falconet fit: {given.question}", command, rows, note)


if __name__ == "__main__":
    main()
