"""`falconet export --to web`: a model as a folder that detects in any browser."""

import inspect
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconet.api.find import find_model
from falconet.core.errors import ConfigError

if TYPE_CHECKING:
    from falconet.exporting.receipt import Receipt


MOST_LETTERS = 100
"""Of a model's name, which stands in the lists of the page."""


@dataclass(frozen=True, slots=True)
class Site:
    """A folder that detects in a browser.

    Attributes:
        folder: holds index.html.
        name: what the page calls the model.
        receipt: of the comparison of its ONNX file with torch; None where such a file was given.
    """

    folder: Path
    name: str
    receipt: "Receipt | None"


def export_site(
    model: "str | os.PathLike[str]",
    out: str | Path = "site",
    *,
    name: str | None = None,
    ort: str | Path | None = None,
    **options: Any,
) -> Site:
    """Write a folder that detects in any browser, without a server of ours; or add a model to one.

    Args:
        model: run folder, weights file or published name, which is exported to ONNX and compared with torch first; or
            an .onnx file that `export` wrote, which is taken as it is and needs no torch.
        out: the folder: new, empty, or one that this function wrote, which gets a further model or a newer one of the
            same name.
        name: what the page calls the model, at most 100 letters; None: that of the run or the file.
        ort: folder of onnxruntime-web's files; None: fetched once from the npm registry.
        options: of `falconet.api.export.export`, of the comparison and the file.

    Raises:
        ModelError, ConfigError, DataError: as `export`; onnxruntime-web cannot be fetched; another folder is there; the
            name is none.
        TypeError: an option that `export` does not have.
    """
    from falconet.api.export import export
    from falconet.exporting.web import write_site

    inspect.signature(export).bind(
        model, out, to="onnx", name=name, **options
    )  # a file that is there asks none of them
    if name is not None:
        name = _checked(name)
    folder = None if ort is None else Path(ort)
    path = Path(model)
    if path.suffix == ".onnx" and path.is_file():
        _refuse(options)
        receipt = _receipt_beside(path)
        called = name or find_model(path).name
        write_site(path, Path(out), name=called, ort=folder, receipt=receipt)
        return Site(Path(out), called, receipt)
    with tempfile.TemporaryDirectory(prefix="falconet-export-") as beside:
        done = export(model, beside, to="onnx", **options)
        called = name or done.path.stem
        write_site(done.path, Path(out), name=called, ort=folder, receipt=done.receipts[0])
    return Site(Path(out), called, done.receipts[0])


def _checked(name: str) -> str:
    """The name without blanks around it. Raises ConfigError for one that no list can show."""
    name = name.strip()
    if not name or not name.isprintable():
        raise ConfigError(f"--name {name!r}: is no name of a model; expected letters, as in --name door")
    if len(name) > MOST_LETTERS:
        raise ConfigError(f"--name {name[:20]}...: has {len(name)} letters; expected at most {MOST_LETTERS}")
    return name


def _refuse(options: dict[str, Any]) -> None:
    """A file that is there is not exported again."""
    known = ("size", "score", "opset", "batch", "data", "images", "split", "engines")
    given = [key for key in known if options.get(key) not in (None, "", [], ())]
    if given:
        raise ConfigError(
            f"--to web of an .onnx file: {', '.join(given)}: the file is taken as it is; pass the run or its weights "
            "to export it in another way"
        )


def _receipt_beside(path: Path) -> "Receipt | None":
    """That of `export`, where it is about this very file."""
    import hashlib

    from falconet.exporting.receipt import read_receipt, receipt_paths

    beside = receipt_paths(path)[0]
    if not beside.is_file():
        return None
    receipt = read_receipt(beside)
    return receipt if receipt.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() else None
