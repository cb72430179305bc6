"""PP-YOLOE-s: training steps against plain torch, fused against unfused export, file to boxes against the engine.

    python benchmarks/ppyoloe.py [--steps 9] [--rounds 60]

Training: the peer is the same network in float32 and torch's default memory format with the criterion of
`ppyoloe_plain.py`, which assigns picture by picture; both take the same optimiser, clipping and average of the weights,
and the same batches in memory: random pixels with 100 boxes per picture. Both losses are checked to agree first.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from common import in_turns, milliseconds, untrained, write
from detect import drawn, rows
from ppyoloe_plain import plain_terms
from torch import nn

from falconet.exporting.onnx import OPSET, describe, export_onnx, trace
from falconet.exporting.rewrite import rewrite
from falconet.exporting.torch_engine import manifest_of, points_to_decode
from falconet.models import PRESETS, build
from falconet.models.deployable import Deployable, Normalize
from falconet.models.weights import load_weights
from falconet.runtime.onnx_engine import open_session
from falconet.training.batch import Batch, Targets
from falconet.training.criteria import build_criterion
from falconet.training.criteria.ppyoloe import PPYOLOECriterionConfig, match_by_alignment, match_by_geometry
from falconet.training.optim import WeightAverage, build_optimizer
from falconet.training.progress import Progress

PRESET, CLASSES = "ppyoloe-s", 80
FUSED = ("ppyoloe-s", "ppyoloe-plus-s")
BATCH, SIDE, BOXES = 8, 320, 100
STATIC, EPOCHS = 1, 10
"""Epochs of ATSS and in all: epoch 0 assigns by it, epoch 1 by alignment."""


class Trainer:
    """One way of training.

    Args:
        fast: Falconet's way, else plain torch.
    """

    def __init__(self, *, fast: bool) -> None:
        torch.manual_seed(0)
        config = PRESETS[PRESET]
        self.detector = build(config, CLASSES).train()
        settings = PPYOLOECriterionConfig(static_share=STATIC / EPOCHS)
        self.criterion = build_criterion(settings, config, self.detector, num_classes=CLASSES)
        self.fast = fast
        if fast:
            self.detector = self.detector.to(memory_format=torch.channels_last)
        self.normalize = Normalize(config.input)
        self.optimizer = build_optimizer(self.detector, weight_decay=0.05)
        self.average = WeightAverage(self.detector, decay=0.999)

    def terms(self, batch: Batch, *, epoch: int, half: bool) -> dict[str, torch.Tensor]:
        """The terms of the loss."""
        images = self.normalize(batch.pixels)
        if not self.fast:
            images = images.contiguous()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            passed = self.detector.forward_outputs(images)
            if self.fast:
                found: dict[str, torch.Tensor] = self.criterion(
                    passed, batch.targets, Progress(epoch, EPOCHS, epoch / EPOCHS)
                )
                return found
            return plain_terms(passed.raw, batch.targets, static=epoch < STATIC)

    def step(self, batch: Batch, *, epoch: int) -> None:
        """One step of the optimiser."""
        loss = torch.stack(list(self.terms(batch, epoch=epoch, half=self.fast).values())).sum()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.detector.parameters(), 35.0)
        self.optimizer.step()
        self.average.update(self.detector, step=1000, total_steps=10000)
        assert torch.isfinite(loss)


def random_batch(seed: int) -> Batch:
    """Random pixels, and boxes of sides between 8 pixels and a third of the picture."""
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (BATCH, SIDE, SIDE, 3), dtype=torch.uint8, generator=draw)
    sides = 8 + torch.rand(BATCH, BOXES, 2, generator=draw) * (SIDE / 3 - 8)
    corner = torch.rand(BATCH, BOXES, 2, generator=draw) * (SIDE - sides)
    labels = torch.randint(CLASSES, (BATCH, BOXES), generator=draw)
    targets = Targets(torch.cat((corner, corner + sides), -1), labels, torch.ones(BATCH, BOXES, dtype=torch.bool))
    return Batch(pixels, targets, torch.arange(BATCH))


def check_agreement(ours: Trainer, plain: Trainer, batch: Batch) -> None:
    """Both criteria say the same about the same network; else the comparison would be worth nothing."""
    for epoch in (0, STATIC):
        one, other = (trainer.terms(batch, epoch=epoch, half=False) for trainer in (ours, plain))
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=2e-3, atol=1e-4)


def training(steps: int) -> list[dict[str, object]]:
    """One row per kind of step, and one per assigner."""
    ours, plain = Trainer(fast=True), Trainer(fast=False)
    batches = [random_batch(seed) for seed in range(4)]
    check_agreement(ours, plain, batches[0])
    kinds = {
        f"{way}, {assigner}": (trainer, epoch)
        for assigner, epoch in (("ATSS", 0), ("task-aligned", STATIC))
        for way, trainer in (("plain torch", plain), ("falconet", ours))
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(2 + steps):
        for name, (trainer, epoch) in kinds.items():
            start = time.perf_counter()
            trainer.step(batches[turn % len(batches)], epoch=epoch)
            if turn >= 2:
                seconds[name].append(time.perf_counter() - start)
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    table: list[dict[str, object]] = []
    for assigner in ("ATSS", "task-aligned"):
        base, own = median[f"plain torch, {assigner}"], median[f"falconet, {assigner}"]
        share = assigner_seconds(ours, batches[0], assigner) / own
        table.append({"step": f"plain torch, {assigner}", "ms per image": f"{base / BATCH * 1e3:.1f}"})
        table.append(
            {
                "step": f"falconet, {assigner}",
                "ms per image": f"{own / BATCH * 1e3:.1f}",
                "times faster": f"{base / own:.2f}",
                "assigner's share": f"{share:.1%}",
            }
        )
    return table


def assigner_seconds(trainer: Trainer, batch: Batch, assigner: str) -> float:
    """Median seconds of the assignment alone, on what the network says about the batch."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        raw = trainer.detector.forward_outputs(trainer.normalize(batch.pixels)).raw
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        if assigner == "ATSS":
            match_by_geometry(raw, batch.targets, strides=trainer.detector.head.strides)
        else:
            match_by_alignment(raw, batch.targets)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def export_all(folder: Path, preset: str) -> dict[str, Path]:
    """The fused model as `falconet export` writes it, and the same with every block as it trains.

    The latter as torch exports it, and with the changes to the graph that every export of ours gets.
    """
    weights = untrained(preset, folder, classes=CLASSES)
    fused = export_onnx(weights, folder / "fused.onnx")
    detector, card = load_weights(weights)
    manifest = manifest_of(card)
    module = Deployable(detector, card.model.input, max_points=points_to_decode(manifest)).eval()
    models = {"unfused": trace(module, manifest, opset=OPSET, batch=None)}
    models["unfused, graph rewritten"] = rewrite(models["unfused"])
    paths = {}
    for name, model in models.items():
        describe(model, manifest)
        paths[name] = folder / f"{name}.onnx"
        paths[name].write_bytes(model.SerializeToString())
    return paths | {"fused": fused}


def fusion(models: dict[str, Path], *, rounds: int) -> list[dict[str, object]]:
    """Milliseconds of all in the same engine, measured in turn."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, 640, 640, 3), np.uint8)
    table: list[dict[str, object]] = []
    for threads in (1, 2):
        sessions = {name: open_session(path, threads) for name, path in models.items()}
        calls = {name: lambda s=session: s.run(None, {"pixels": pixels}) for name, session in sessions.items()}
        seconds = in_turns(calls, rounds=rounds)
        base = float(np.median(seconds["unfused"]))
        table += [
            {
                "threads": threads,
                "export": name,
                **milliseconds(values),
                "times faster": f"{base / np.median(values):.2f}",
            }
            for name, values in seconds.items()
        ]
    return table


def main() -> None:
    """Measure and write three tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    command = "python benchmarks/ppyoloe.py"
    write(
        "ppyoloe_training",
        f"Training {PRESET} at {SIDE}",
        command,
        training(arguments.steps),
        f"Batch {BATCH}, {BOXES} boxes per picture, {torch.get_num_threads()} torch threads; medians of "
        f"{arguments.steps} steps from the batch in memory to the averaged weights, measured in turn.",
    )
    with tempfile.TemporaryDirectory() as folder:
        table = []
        for preset in FUSED:
            models = export_all(Path(folder), preset)
            table += [{"model": preset, **row} for row in fusion(models, rounds=arguments.rounds)]
        models = export_all(Path(folder), PRESET)
        write(
            "ppyoloe_fusion",
            "PP-YOLOE at 640, fused against unfused",
            command,
            table,
            "The same network run by the same engine in turn: as torch exports it, with all branches and norms as they "
            "train (the engine folds norms itself); that with the changes to the graph every export of ours gets; and "
            "as 'falconet export' writes it, with all blocks folded into plain convolutions.",
        )
        pictures = drawn(Path(folder), 40)
        table = [
            row
            for threads in (1, 2)
            for row in rows(models["fused"], pictures, threads=threads, rounds=arguments.rounds)
        ]
    write(
        "ppyoloe_detect",
        f"JPEG file to boxes against the bare session, {PRESET} at 640",
        command,
        table,
        "One picture at a time, score above 0.25. `x bare` is the ratio of medians, measured in turn.",
    )


if __name__ == "__main__":
    main()
