"""What a comparison of an exported file with torch found, for programs (JSON) and for people."""

import glob
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from falconet.core.config import Config
from falconet.core.errors import ModelError
from falconet.core.exported_files import model_files
from falconet.core.files import replace_file
from falconet.eval.latency import machine


class Side(Config):
    """One of the two that are compared."""

    name: str = Field(description="torch, or the engine")
    version: str
    milliseconds: float = Field(description="median of one image through the network")
    threads: int = Field(description="for these milliseconds")
    metrics: dict[str, float] = Field(default={}, description="AP or top-1, fractions; empty without ground truth")


class File(Config):
    """One of the files that an exported model consists of."""

    name: str
    size: int = Field(description="bytes")
    sha256: str


class Finding(Config):
    """One thing that was compared."""

    key: str = Field(description="its name for programs")
    text: str = Field(description="what was found, for people")
    value: float = Field(description="1e9 stands for infinity and for what is no number")
    least: float | None = Field(default=None, description="smallest value within tolerance")
    most: float | None = Field(default=None, description="largest value within tolerance")
    problem: str = Field(default="", description="why it is outside of its tolerance; empty where it is not")


class Receipt(Config):
    """What was compared and what came of it."""

    task: str = Field(description="detect or classify")
    model: str = Field(description="the exported file")
    weights: str = Field(description="what it was exported from")
    weights_path: str = Field(default="", description="where that lies, from the folder of the receipt")
    sha256: str = Field(description="of the exported file; of a pair, of graph and weights one after the other")
    size: int = Field(description="of the exported file, bytes; of a pair, of both")
    files: tuple[File, ...] = Field(
        default=(), description="all that the model consists of; receipts of earlier versions have none"
    )
    images: int = Field(description="compared")
    findings: tuple[Finding, ...] = Field(description="what was compared, and how far it may differ")
    torch: Side
    exported: Side
    busy: str = Field(default="", description="who else computed while this was timed; empty on an idle machine")
    problems: tuple[str, ...] = Field(default=(), description="those of the findings; empty where both sides agree")
    machine: dict[str, str] = Field(default={}, description="where this was measured")

    def _which(self) -> list[str]:
        if not self.files:
            return [f"{self.model}: {self.size / 1e6:.2f} MB, sha256 {self.sha256}"]
        return [f"{one.name}: {one.size / 1e6:.2f} MB, sha256 {one.sha256}" for one in self.files]

    def text(self) -> str:
        """The receipt for people, a few lines."""
        sides = (self.torch, self.exported)
        lines = [
            *self._which(),
            f"from {self.weights}, compared on {self.images} images",
            *(f"{one.key:<20} {one.text}" for one in self.findings if one.text),
        ]
        for name in self.torch.metrics:
            lines.append(f"{name:<20} " + ", ".join(f"{100 * side.metrics[name]:.2f} {side.name}" for side in sides))
        times = [f"{s.milliseconds:.2f} {s.name} ({s.threads} thread{'s' * (s.threads > 1)})" for s in sides]
        lines.append(f"{'ms per image':<20} {', '.join(times)}{self.busy and f'; {self.busy}'}")
        lines.append(f"{'verdict':<20} {'; '.join(self.problems) or 'the same within tolerance'}")
        return "\n".join(lines) + "\n"


def _described(file: Path, name: str) -> File:
    content = file.read_bytes()
    return File(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def describe_file(model: Path, weights: Path, name: str | None) -> dict[str, Any]:
    """The fields of a receipt that say which file it is about; `name` stands for that of a file that will move."""
    files = model_files(model)
    content = b"".join(file.read_bytes() for file in files[:2])
    names = [file.name for file in model_files(model.with_name(name or model.name))]
    return {
        "files": tuple(map(_described, files, names)),
        "model": name or model.name,
        "weights": weights.name,
        "weights_path": str(weights.absolute()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "machine": machine(),
    }


def receipt_paths(model: Path, *, engine: str = "onnxruntime") -> tuple[Path, Path]:
    """Where the receipt of a model file in an engine lies: JSON, text."""
    kind = ".xml" if model.suffix == ".xml" else "" if engine == "onnxruntime" else f".{engine}"
    return model.with_suffix(f"{kind}.receipt.json"), model.with_suffix(f"{kind}.receipt.txt")


def write_receipt(receipt: Receipt, model: Path) -> tuple[Path, Path]:
    """Write the receipt beside the model file; returns where. Raises DataError when it cannot be written."""
    as_json, as_text = receipt_paths(model, engine=receipt.exported.name)
    with suppress(ValueError):  # on another drive of Windows
        near = os.path.relpath(receipt.weights_path, model.parent.absolute())
        receipt = receipt.model_copy(update={"weights_path": Path(near).as_posix()})
    replace_file(as_json, receipt.model_dump_json(indent=2) + "\n")
    replace_file(as_text, receipt.text())
    return as_json, as_text


def read_receipt(path: Path) -> Receipt:
    """A receipt that `write_receipt` wrote.

    Raises:
        ModelError: missing, or not a receipt.
    """
    try:
        return Receipt.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: is not a receipt of this version of 'falconet export'") from error


def exported_from(model: Path) -> Path | None:
    """The weights that an exported file was made of, as the receipt beside it says; None where nothing says so, or they
    are gone."""
    source = model.with_name(model.name.replace(".int8.onnx", ".onnx"))
    for file in sorted(model.parent.glob(f"{glob.escape(source.stem)}*.receipt.json")):
        with suppress(ModelError):
            receipt = read_receipt(file)
            weights = Path(os.path.normpath(model.parent / receipt.weights_path))
            if receipt.model == source.name and weights.suffix == ".safetensors" and weights.is_file():
                return weights
    return None
