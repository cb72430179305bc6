"""What a model file declares, its inputs and outputs, held against what its manifest says."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from falconet.core.errors import ModelError
from falconet.core.manifest import Manifest, read_manifest
from falconet.runtime.tasks import TASKS, Shape


class TensorInfo(NamedTuple):
    """An input or output as a model file declares it."""

    name: str
    type: str
    """As ONNX Runtime writes it, tensor(uint8) for example."""
    shape: Sequence[int | str | None]


class Signature(NamedTuple):
    """What a model file says about itself."""

    manifest: Manifest
    input: str
    outputs: tuple[str, ...]
    """In the order of the task."""
    batch: int | None
    """Images per run where the file fixes it, None where any number goes."""


def read_signature(
    path: Path, text: str | None, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> Signature:
    """The signature of a file, from the manifest's text in its metadata and what it declares.

    Raises:
        ModelError: no manifest, or other inputs and outputs than those of its task.
    """
    manifest = read_manifest(text, str(path))
    _check_signature(path, manifest, inputs, outputs)
    first = inputs[0].shape[0]
    names = tuple(TASKS[manifest.task].outputs(manifest))
    return Signature(manifest, inputs[0].name, names, first if isinstance(first, int) else None)


def _check_signature(
    path: Path, manifest: Manifest, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> None:
    pixels: Shape = ("B", manifest.preprocess.height, manifest.preprocess.width, 3)
    wanted = TASKS[manifest.task].outputs(manifest)
    found = {one.name: one for one in outputs}
    if (
        len(inputs) == 1
        and inputs[0].type == "tensor(uint8)"
        and _agrees(inputs[0].shape, pixels)
        and all(
            name in found and found[name].type == "tensor(float)" and _agrees(found[name].shape, shape)
            for name, shape in wanted.items()
        )
    ):
        return
    expected = ", ".join(f"{name}: tensor(float) {_written(shape)}" for name, shape in wanted.items())
    there = "; ".join(f"{one.name}: {one.type} {list(one.shape)}" for one in (*inputs, *outputs))
    raise ModelError(
        f"{path}: its inputs and outputs do not fit its manifest; expected pixels: tensor(uint8) "
        f"{_written(pixels)} -> {expected}, but found {there}. Export the model again"
    )


def _agrees(shape: Sequence[int | str | None], expected: Shape) -> bool:
    """Whether fixed sizes are the expected ones; free ones (names, None) agree with anything."""
    return len(shape) == len(expected) and all(
        not isinstance(size, int) or not isinstance(wanted, int) or size == wanted
        for size, wanted in zip(shape, expected, strict=True)
    )


def _written(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"
