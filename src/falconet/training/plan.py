"""How fast a run learns and in which precision: numbers that are known before the first step."""

import math
from pathlib import Path
from typing import NamedTuple

import torch

from falconet.training.run_config import Train

SCRATCH_RATE, TUNING_RATE, NEW_CLASSES_RATE, PRUNED_RATE = 4e-3, 1e-3, 3e-3, 3e-3
"""Learning rates at a batch of 16: small data sets in few epochs want a high one, trained weights a gentle one, unless
they know few of the classes, or have lost channels: then there is more to learn."""

ROUNDED_RATE = 1e-4
"""Of a trained network that learns to bear rounding (`train.round_to`): its weights stay nearly what they are."""

MOST_RATE = 4e-3
"""Of a rate that nobody gave: the square root law holds for small batches, and AdamW does not bear more."""

FEW_STEPS = 1000
"""Steps below which a run is too short for most data, whatever its epochs."""

MOST_WARMUP = 500
"""Warm-up steps of the original NanoDet-Plus recipe; short runs take a tenth of their steps."""

VALIDATIONS = 50
"""About how often a run of many epochs validates on its own accord."""


class LearningRate(NamedTuple):
    """The largest learning rate of a run, and where it comes from."""

    peak: float
    origin: str


def resolve_learning_rate(train: Train, *, batch_size: int, usual: float) -> LearningRate:
    """The largest rate: as given, else the usual one of where the run starts from.

    It grows with the square root of the batch size, as suits Adam (arXiv:2205.10287); one that was not given ends at
    `MOST_RATE`.

    Args:
        batch_size: images per step.
        usual: rate at a batch of 16, see `StartingPoint.rate`.
    """
    base, limit = train.learning_rate, math.inf
    if base == "auto":
        base, limit = usual, MOST_RATE
    if train.reference_batch is None:
        return LearningRate(base, f"{base:g} as given")
    peak = base * math.sqrt(batch_size / train.reference_batch)
    origin = f"{base:g} * sqrt(batch {batch_size} / {train.reference_batch}) = {peak:.3g}"
    return LearningRate(peak, origin) if peak <= limit else LearningRate(limit, f"{origin}, at most {limit:g}")


def warmup_steps(train: Train, *, total_steps: int | None) -> int:
    """Steps over which the rate climbs; of a run of minutes (None), `Pace` limits them to a share of the time."""
    if train.warmup_steps != "auto":
        return train.warmup_steps
    return MOST_WARMUP if total_steps is None else min(MOST_WARMUP, total_steps // 10)


def validate_every(train: Train, *, epochs: int) -> int:
    """Epochs between validations."""
    return max(1, epochs // VALIDATIONS) if train.validate_every == "auto" else train.validate_every


def choose_precision(wanted: str, *, device: str) -> tuple[str, str]:
    """("float32" or "bfloat16", why)."""
    if wanted != "auto":
        return wanted, "as given"
    if device.startswith("cuda"):
        if torch.cuda.is_bf16_supported():
            return "bfloat16", "the GPU multiplies it"
        return "float32", "the GPU does not multiply bfloat16"
    if has_bfloat16(Path("/proc/cpuinfo")):
        return "bfloat16", "the processor multiplies it (AMX or AVX-512)"
    return "float32", "the processor does not multiply bfloat16"


def has_bfloat16(cpuinfo: Path) -> bool:
    """Whether the processor described there has instructions for bfloat16 products."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "amx_bf16" in flags or "avx512_bf16" in flags
