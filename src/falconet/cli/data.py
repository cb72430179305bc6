"""`falconet data ...`: check, draw, convert, crop data sets; find anchors; doubt labels; how many more pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from falconet.cli.curve import curve
from falconet.cli.options import parse_size
from falconet.cli.progress import counted
from falconet.cli.suspects import EXAMPLES, suspects
from falconet.core.errors import ConfigError
from falconet.core.files import is_folder
from falconet.core.terminal import one_line
from falconet.data.format_titles import TITLES

if TYPE_CHECKING:
    from falconet.core.manifest import Preprocess
    from falconet.data.dataset import DataSet, Problem

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

Source = Annotated[
    Path,
    typer.Argument(
        help=f"A data set's file or folder: {'; '.join(TITLES.values())}.",
        metavar="PATH",
    ),
]
Images = Annotated[Path | None, typer.Option(help="Folder of the pictures, where it is not beside the annotations.")]
Split = Annotated[str | None, typer.Option(help="Only this split, as in train or val.")]

_SHOWN = 10

CAUSES = frozenset({"box-form", "shifted-ids", "exif-boxes"})
"""Kinds that make many problems of other kinds."""


@app.command()
def check(
    path: Source,
    *,
    images: Images = None,
    split: Split = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not decode the pictures, look at both ends only.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where there is any problem; hints are none.")
    ] = False,
    fix: Annotated[
        Path | None,
        typer.Option(
            help="New folder for a repaired copy of all splits, with the list fix.json; nothing is changed in place. "
            "--strict then counts what is left."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Also write a page to this file (.html): each finding drawn on its picture, and what to do about it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List every problem of a data set, with file and line or id, and what else is worth knowing before training."""
    from falconet.cli.data_fix import print_fixed, write_copy
    from falconet.data.check import check_splits, open_splits
    from falconet.data.kinds import HINTS

    if html is not None:
        _refuse_page(html)
    if fix is not None and split is not None:
        raise ConfigError(f"--fix {fix}: repairs all splits of a data set together; leave --split {split} out")
    if fix is not None and path.is_dir() and path.resolve() in (fix.resolve(), *fix.resolve().parents):
        raise ConfigError(f"--fix {fix}: lies in the data set, in {path}; give a folder outside of it")
    splits = open_splits(path, images, split=split)
    with counted("decoding") as progress:
        problems = check_splits(splits, decode=not quick, progress=progress)
    fixed = None if fix is None else write_copy(splits, problems, fix, decode=not quick)
    if as_json:
        report = _report(path, splits, problems) | ({} if fixed is None else {"fix": fixed.as_json()})
        print(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        _print_report(splits, problems)
        if fixed is not None:
            print_fixed(fixed)
    if html is not None:
        from falconet.data.check_page import write_check_page

        with counted("drawing") as progress:
            write_check_page(html, str(path), splits, problems, progress=progress)
        if not as_json:
            print(f"page: {html}")
    if strict and any(problem.kind not in HINTS for problem in (problems if fixed is None else fixed.left)):
        raise typer.Exit(1)


@app.command()
def show(
    path: Source,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("runs/look"),
    images: Images = None,
    split: Split = None,
    count: Annotated[int, typer.Option(min=1, help="Pictures to draw, chosen at random.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other pictures.")] = 0,
) -> None:
    """Draw boxes into some pictures, and all of these on one sheet (sheet.jpg)."""
    from falconet.data.show import show as draw

    written, problems = draw(path, out, images=images, split=split, count=count, seed=seed)
    for picture in written:
        print(picture)
    _print_left_out(problems)


@app.command()
def convert(
    path: Source,
    *,
    to: Annotated[
        Literal["coco", "voc", "yolo", "shards"], typer.Option(help="Format to write; shards: tars to train from.")
    ],
    out: Annotated[Path, typer.Option(help="New folder.")],
    images: Images = None,
    split: Split = None,
    link: Annotated[bool, typer.Option("--link/--copy", help="Link to the pictures instead of copying them.")] = False,
    shard_mb: Annotated[
        int | None, typer.Option(min=1, help="Of --to shards: megabytes of a tar [default: 256].", show_default=False)
    ] = None,
) -> None:
    """Write a data set in another format."""
    from falconet.data.check import open_splits
    from falconet.data.convert import convert as write

    if shard_mb is not None and to != "shards":
        raise ConfigError(f"--shard-mb {shard_mb}: belongs to --to shards, but the format is {to}")
    if link and to == "shards":
        raise ConfigError("--link: the tars of --to shards hold the pictures themselves; leave it out")
    splits = open_splits(path, images, split=split)
    if to == "shards":
        from falconet.data.write_shards import SHARD_MB, write_shards

        with counted("writing") as progress:
            problems = write_shards(splits, out, shard_mb=shard_mb or SHARD_MB, progress=progress)
    else:
        problems = write(splits, to, out, transfer="link" if link else "copy")
    _print_left_out([problem for found in problems.values() for problem in found])
    for name, dataset in splits.items():
        print(f"{name}: {len(dataset)} pictures, {_num_boxes(dataset)} boxes read")
    print(f"written to {out}")


@app.command()
def crops(
    path: Source,
    *,
    out: Annotated[Path, typer.Option(help="New folder: a folder per class, with splits below folders of theirs.")],
    images: Images = None,
    split: Split = None,
    margin: Annotated[float, typer.Option(min=0, max=2, help="Added on each side, share of the box's side.")] = 0.0,
    min_side: Annotated[int, typer.Option(min=1, help="Boxes with a shorter side are left out, pixels.")] = 8,
) -> None:
    """Write each box as a picture of its class: from detection to classification."""
    from falconet.data.check import open_splits
    from falconet.data.crops import write_crops

    with counted("cropping") as progress:
        done = write_crops(
            open_splits(path, images, split=split), out, margin=margin, min_side=min_side, progress=progress
        )
    _print_left_out([problem for one in done.values() for problem in one.problems])
    for name, one in done.items():
        counts = _counts(one.counts)
        print(f"{name}: {sum(one.counts.values())} crops ({counts}), {len(one.problems)} problems")
    print(f"written to {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for train.json, val.json, train/ and val/.", metavar="FOLDER")],
    *,
    train: Annotated[int, typer.Option(min=1, help="Pictures to train on.")] = 600,
    val: Annotated[int, typer.Option(min=1, help="Pictures to evaluate on.")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    height: Annotated[int, typer.Option(min=64, help="Height of a picture, pixels.")] = 288,
    width: Annotated[int, typer.Option(min=64, help="Width of a picture, pixels.")] = 320,
) -> None:
    """Draw a small data set (COCO JSON) to try everything on: six classes of shapes on textures."""
    from falconet.data.drawn import NAMES, write_drawn_dataset

    write_drawn_dataset(out, train=train, val=val, seed=seed, size=(height, width))
    print(f"{out}: {train} + {val} pictures of {width} x {height} pixels, classes {', '.join(NAMES)}")


@app.command()
def anchors(
    path: Source,
    *,
    images: Images = None,
    split: Split = None,
    count: Annotated[
        int | None, typer.Option(min=1, max=64, help="How many [default: as many as now, else 9].")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Network input, as in 416 or 320x416 (height x width) [default: 320].")
    ] = None,
    resize: Annotated[
        Literal["letterbox", "stretch"] | None, typer.Option(help="How pictures get there [default: letterbox].")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Run file of a YOLOv3: its input counts, and the anchors are written into it.")
    ] = None,
) -> None:
    """Find anchors that fit the boxes of a data set, and say how well they do."""
    from falconet.data.anchors import find_anchors, measure, widths_heights_in_input
    from falconet.data.formats import open_dataset
    from falconet.data.records import drop_invalid
    from falconet.data.run_anchors import read_run_anchors

    if run is not None and (size is not None or resize is not None):
        raise ConfigError(f"--run {run}: says what the input is; leave --size and --resize out")
    known = None if run is None else read_run_anchors(run)
    preprocess = known.preprocess if known else _preprocess(size, resize)
    before = known.anchors if known else None
    records = drop_invalid(open_dataset(path, images, split=split))[0].records
    sides = widths_heights_in_input(records, preprocess)
    found = find_anchors(sides, count or len(before or range(9))).round(1)
    size = f"{preprocess.height} x {preprocess.width}"
    print(f"{len(sides)} boxes in {len(records)} pictures, {preprocess.resize} to {size}")
    for name, values in (("before", before), ("found", found)):
        if values is not None:
            fit = measure(sides, values)
            print(f"{name:6s}  best possible recall {fit.recall:.3f}, mean shape IoU {fit.likeness:.3f}")
    print("anchors: [" + ", ".join(f"[{w:g}, {h:g}]" for w, h in found.tolist()) + "]")
    if known is not None:
        known.write(found)
        print(f"written to {known.path}")


app.command()(curve)


def _refuse_page(html: Path) -> None:
    """Raise ConfigError where no page can be written to `html`, or should not be."""
    from falconet.api.require import require

    require(["jinja2"], extra="eval", purpose="--html")
    if html.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--html {html}: expected a file whose name ends in .html, as in check.html")
    if is_folder(html):
        raise ConfigError(f"--html {html}: is a folder; name a file in it, as in {html / 'check.html'}")


app.command(epilog=EXAMPLES)(suspects)


def _preprocess(size: str | None, resize: Literal["letterbox", "stretch"] | None) -> "Preprocess":
    """The network input of --size and --resize."""
    from falconet.core.manifest import Preprocess

    height, width = parse_size(size or "320")
    return Preprocess(height=height, width=width, resize=resize or "letterbox")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{one_line(label, longest=60)} {count}" for label, count in counts.items())


def _num_boxes(dataset: "DataSet") -> int:
    return sum(len(record.boxes) for record in dataset.records)


def _without_boxes(dataset: "DataSet") -> int:
    return sum(len(record.boxes) == 0 for record in dataset.records)


def _report(path: Path, splits: Mapping[str, "DataSet"], problems: list["Problem"]) -> dict[str, Any]:
    from falconet.data.check import class_counts, summary
    from falconet.data.kinds import KINDS

    described = {
        name: {
            "images": len(dataset),
            "images_without_boxes": _without_boxes(dataset),
            "boxes": _num_boxes(dataset),
            "classes": class_counts(dataset),
        }
        for name, dataset in splits.items()
    }
    listed = [
        {
            "where": problem.where,
            "what": problem.what,
            "kind": problem.kind,
            "severity": _severity(problem.kind),
            "picture": problem.picture,
            "boxes": problem.boxes,
            "other_picture": problem.other,
        }
        for problem in problems
    ]
    counts = summary(problems)
    kinds = {name: KINDS[name]._asdict() for name in counts}
    return {"source": str(path), "splits": described, "summary": counts, "kinds": kinds, "problems": listed}


def _print_report(splits: Mapping[str, "DataSet"], problems: list["Problem"]) -> None:
    from falconet.data.check import class_counts, summary
    from falconet.data.kinds import KINDS

    for problem in problems:
        print(problem if _severity(problem.kind) == "problem" else f"hint: {problem}")
    if problems:
        print()
    for name, dataset in splits.items():
        counts = _counts(class_counts(dataset))
        print(
            f"{name}: {len(dataset)} pictures ({_without_boxes(dataset)} without boxes), "
            f"{_num_boxes(dataset)} boxes ({counts})"
        )
    if not any(_severity(problem.kind) == "problem" for problem in problems):
        print("no problems" + (", but hints:" if problems else ""))
    counted = summary(problems)
    for kind, count in counted.items():
        mark = " (hint)" if _severity(kind) == "hint" else ""
        print(f"{count:6d}  {kind}{mark}: {KINDS[kind].meaning}")
    for kind in CAUSES & counted.keys():
        print(f"begin with {kind}, from which others may follow: {KINDS[kind].remedy}")


def _severity(kind: str) -> str:
    from falconet.data.kinds import KINDS

    return KINDS[kind].severity


def _print_left_out(problems: list["Problem"]) -> None:
    for problem in problems[:_SHOWN]:
        print(problem)
    if len(problems) > _SHOWN:
        print(f"... and {len(problems) - _SHOWN} more; 'falconet data check' lists all")
