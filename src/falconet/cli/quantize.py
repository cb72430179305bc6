"""`falconet quantize`: an exported file in 8-bit integers, and whether it earns its place on this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from falconet.cli.progress import progress


def quantize(
    model: Annotated[str, typer.Argument(help="Exported file (.onnx) or published name.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Pictures with truth [default: what the model was validated on].", show_default=False),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures, where it cannot be told.", show_default=False)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data: train, val, test ...")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for what is written [default: that of the model].", show_default=False)
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=10, help="At most so many to measure ranges on, and as many others to judge.")
    ] = 200,
    loss: Annotated[float, typer.Option(min=0, help="Points of AP or top-1 that it may cost.")] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Write a model in 8-bit integers, and say whether it is worth it on this machine.

    Writes NAME.int8.onnx, which runs wherever NAME.onnx does, and NAME.int8.json with what was measured and the
    verdict. Convolutions that hurt stay in float32. It takes some minutes; where it is interrupted, the same command
    goes on with what was measured.
    """
    from falconet.api.quantize import quantize as write

    done = write(
        model, out, data=data, images=images, split=split, pictures=pictures, loss=loss / 100, progress=progress
    )
    if as_json:
        print(json.dumps(done.as_dict(), indent=2))
        return
    print(done)
    print(f"written: {done.path}, {done.path.with_suffix('.json')}")
