"""YOLOv3-MobileNetV2: fused against unfused export, file to boxes against the engine, the criterion against a loop.

python benchmarks/yolov3.py [--preset yolov3-mobilenet-v2] [--rounds 60]
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from common import in_turns, milliseconds, untrained, write
from detect import drawn, rows

from falconet.exporting.onnx import OPSET, describe, export_onnx, trace
from falconet.exporting.torch_engine import manifest_of, points_to_decode
from falconet.models import PRESETS, build
from falconet.models.deployable import Deployable, fold_input
from falconet.models.detector import Detector
from falconet.models.reparam import fuse
from falconet.models.weights import load_weights
from falconet.runtime.onnx_engine import open_session
from falconet.training.assign.anchor_iou import AnchorGrid, every_good_anchor
from falconet.training.batch import Targets
from falconet.training.criteria.yolov3 import LEAST_SHAPE_IOU, modern_terms

CLASSES = 80
BATCH, BOXES = 16, 100


def fusion(weights: Path, fused: Path, folder: Path, *, rounds: int) -> list[dict[str, object]]:
    """Milliseconds of the same network with its norms apart and folded, in ONNX Runtime and in torch."""
    detector, card = load_weights(weights)
    assert isinstance(detector, Detector)
    manifest = manifest_of(card)
    points = points_to_decode(manifest)
    plain = Deployable(detector, card.model.input, max_points=points).eval()
    folded = fold_input(Deployable(fuse(detector), card.model.input, max_points=points)).eval()
    model = trace(plain, manifest, opset=OPSET, batch=None)
    describe(model, manifest)
    unfused = folder / "unfused.onnx"
    unfused.write_bytes(model.SerializeToString())
    size = card.model.input
    pixels = np.random.default_rng(0).integers(0, 256, (1, size.height, size.width, 3), np.uint8)
    tensor = torch.from_numpy(pixels)

    def run(module: Deployable) -> object:
        with torch.inference_mode():
            return module(tensor)

    table: list[dict[str, object]] = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        sessions = {name: open_session(path, threads) for name, path in (("unfused", unfused), ("fused", fused))}
        calls = {
            f"onnxruntime, {name}": lambda s=session: s.run(None, {"pixels": pixels})
            for name, session in sessions.items()
        }
        calls |= {"torch, unfused": lambda: run(plain), "torch, fused": lambda: run(folded)}
        seconds = in_turns(calls, rounds=rounds)
        for name, values in seconds.items():
            base = np.median(seconds[f"{name.partition(',')[0]}, unfused"])
            faster = f"{base / np.median(values):.2f}"
            table.append({"threads": threads, "export": name, **milliseconds(values), "times faster": faster})
    return table


def random_targets() -> Targets:
    """Boxes of sides between 8 pixels and a third of the picture."""
    draw = torch.Generator().manual_seed(0)
    sides = 8 + torch.rand(BATCH, BOXES, 2, generator=draw) * (320 / 3 - 8)
    corner = torch.rand(BATCH, BOXES, 2, generator=draw) * (320 - sides)
    labels = torch.randint(CLASSES, (BATCH, BOXES), generator=draw)
    return Targets(torch.cat((corner, corner + sides), -1), labels, torch.ones(BATCH, BOXES, dtype=torch.bool))


def criterion(preset: str, *, rounds: int) -> list[dict[str, object]]:
    """Milliseconds of the loss of a batch and its gradients, and of the matching alone, beside a picture at a time."""
    torch.manual_seed(0)
    detector = build(PRESETS[preset], CLASSES)
    assert isinstance(detector, Detector)
    targets = random_targets()
    with torch.no_grad():
        found = detector.forward_outputs(torch.randn(BATCH, 3, 320, 320))
    head = detector.head
    grid = AnchorGrid.of([(f.shape[2], f.shape[3]) for f in found.neck], head.strides, head.anchors)
    raw = found.raw
    for part in (raw.logits, raw.box_code, raw.objectness):
        part.requires_grad_()

    def match(part: Targets) -> object:
        return every_good_anchor(part, grid, least_shape_iou=LEAST_SHAPE_IOU, center_reach=head.center_reach)

    def one_by_one() -> object:
        return [match(Targets(*(part[image : image + 1] for part in targets))) for image in range(BATCH)]

    def learn() -> object:
        terms = modern_terms(raw, targets, grid, center_reach=head.center_reach)
        return torch.stack(list(terms.values())).sum().backward()

    calls = {"matching, picture by picture": one_by_one, "matching, whole batch": lambda: match(targets)}
    seconds = in_turns({**calls, "whole loss with gradients": learn}, rounds=rounds)
    return [{"step": name, **milliseconds(values)} for name, values in seconds.items()]


def main() -> None:
    """Measure and write three tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="yolov3-mobilenet-v2")
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    preset = arguments.preset
    cv2.setNumThreads(1)
    command = "python benchmarks/yolov3.py" + ("" if preset == "yolov3-mobilenet-v2" else f" --preset {preset}")
    name, size = preset.replace("-", "_"), PRESETS[preset].input.height
    write(
        f"{name}_criterion",
        f"The criterion of {preset}, {BATCH} pictures of {BOXES} boxes",
        command,
        criterion(preset, rounds=arguments.rounds // 3),
        f"At 320 x 320, {CLASSES} classes, {torch.get_num_threads()} torch threads, measured in turn.",
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = untrained(preset, folder, classes=CLASSES)
        fused = export_onnx(weights, folder / "fused.onnx")
        write(
            f"{name}_fusion",
            f"{preset} at {size}, fused against unfused",
            command,
            fusion(weights, fused, folder, rounds=arguments.rounds),
            "The same network in the same engine, measured in turn: as torch exports it, with norms and pixel scale "
            "as they train, and as 'falconet export' writes it. ONNX Runtime folds norms by itself when it loads a "
            "file; torch runs what it is given.",
        )
        pictures = drawn(folder, 40)
        table = [row for threads in (1, 2) for row in rows(fused, pictures, threads=threads, rounds=arguments.rounds)]
    write(
        f"{name}_detect",
        f"JPEG file to boxes against the bare session, {preset} at {size}",
        command,
        table,
        "One picture at a time, score above 0.25. `x bare` is the ratio of medians, measured in turn.",
    )


if __name__ == "__main__":
    main()
