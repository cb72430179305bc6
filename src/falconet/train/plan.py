"""How long a run takes and how fast it learns: epochs, steps, learning rate, all as numbers before the first step."""

import math
from pathlib import Path

import torch

from falconet.core.config import Config
from falconet.train.optim import Schedule
from falconet.train.run_config import Train

SCRATCH_RATE, TUNING_RATE = 4e-3, 1e-3
"""Learning rates at a batch of 16: small data sets in few epochs want a high one, trained weights a gentle one."""

MOST_WARMUP = 500
"""Warm-up steps of the original NanoDet-Plus recipe; short runs take a tenth of their steps."""

ORIGINAL_DETACH_EPOCH, ORIGINAL_EPOCHS = 10, 300
"""The original's auxiliary branch guides 10 of 300 epochs; shorter runs keep the share. Such epochs cost twice."""

VALIDATIONS = 50
"""About how often a run validates on its own accord."""


class Plan(Config):
    """The course of a run. Kept in its checkpoint, so that a resumed run follows the same one.

    Attributes:
        epochs: in all.
        steps_per_epoch: of the optimiser.
        peak_rate: largest learning rate.
        warmup_steps: the rate climbs over these.
        final_rate: rate at the end, share of the peak.
        detach_epoch: from here on an auxiliary branch is detached or dropped.
        static_epochs: so many assign by geometry, where a task-aligned assigner follows.
        validate_every: epochs between validations; the last epoch always validates.
    """

    epochs: int
    steps_per_epoch: int
    peak_rate: float
    warmup_steps: int
    final_rate: float
    detach_epoch: int
    validate_every: int
    static_epochs: int = 0

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def schedule(self) -> Schedule:
        """The learning rate over the steps."""
        return Schedule(self.peak_rate, self.warmup_steps, self.total_steps, self.final_rate)

    def validates(self, epoch: int) -> bool:
        """Whether `epoch` (from 0) ends with a validation."""
        return (epoch + 1) % self.validate_every == 0 or epoch + 1 >= self.epochs


def make_plan(train: Train, *, epochs: int, steps_per_epoch: int, batch_size: int) -> Plan:
    """The plan of a run of `epochs`, from what the run file says and the size of the data."""
    total = epochs * steps_per_epoch
    warmup = min(MOST_WARMUP, total // 10) if train.warmup_steps == "auto" else train.warmup_steps
    guided = max(1, min(ORIGINAL_DETACH_EPOCH, epochs * ORIGINAL_DETACH_EPOCH // ORIGINAL_EPOCHS))
    detach = guided if train.detach_epoch == "auto" else train.detach_epoch
    every = max(1, epochs // VALIDATIONS) if train.validate_every == "auto" else train.validate_every
    return Plan(
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        peak_rate=peak_rate(train, batch_size=batch_size),
        warmup_steps=warmup,
        final_rate=train.final_rate,
        detach_epoch=detach,
        validate_every=every,
        static_epochs=round(train.static_share * epochs),
    )


def base_rate(train: Train) -> float:
    """The learning rate at the reference batch: as given, or for a start from scratch."""
    return SCRATCH_RATE if train.learning_rate == "auto" else train.learning_rate


def settle_rate(train: Train, *, tunes: bool) -> Train:
    """`train` with the rate that "auto" stands for; `tunes`: the whole network starts from trained weights."""
    if train.learning_rate != "auto" or not tunes:
        return train
    return train.model_copy(update={"learning_rate": TUNING_RATE})


def peak_rate(train: Train, *, batch_size: int) -> float:
    """The largest learning rate: by the square root of the batch size, as suits Adam (arXiv:2205.10287)."""
    if train.reference_batch is None:
        return base_rate(train)
    return base_rate(train) * math.sqrt(batch_size / train.reference_batch)


def rate_arithmetic(train: Train, plan: Plan, *, batch_size: int) -> str:
    """One line that shows where the learning rate comes from."""
    if train.reference_batch is None:
        origin = f"{base_rate(train):g} as given"
    else:
        origin = f"{base_rate(train):g} * sqrt(batch {batch_size} / {train.reference_batch}) = {plan.peak_rate:.3g}"
    return (
        f"learning rate: {origin}; warm-up over {plan.warmup_steps} steps, "
        f"cosine to {plan.peak_rate * plan.final_rate:.2g} at step {plan.total_steps}"
    )


class Pace(Config):
    """Expected seconds of an epoch, measured on its first steps.

    Attributes:
        guided: an epoch with the auxiliary branch.
        alone: an epoch without it.
        validation: one validation.
    """

    guided: float
    alone: float
    validation: float

    def expected(self, plan: Plan, first: int, last: int) -> float:
        """Seconds of the epochs first..last - 1 of a plan."""
        guided = max(0, min(last, plan.detach_epoch) - first)
        validations = sum(plan.validates(epoch) for epoch in range(first, last))
        return guided * self.guided + (last - first - guided) * self.alone + validations * self.validation


def epochs_in(
    seconds: float, *, train: Train, pace: Pace, steps_per_epoch: int, batch_size: int, limit: int = 100_000
) -> int:
    """The most epochs whose expected time stays within `seconds`; at least 1."""
    low, high = 1, limit
    while low < high:
        middle = (low + high + 1) // 2
        plan = make_plan(train, epochs=middle, steps_per_epoch=steps_per_epoch, batch_size=batch_size)
        if pace.expected(plan, 0, middle) <= seconds:
            low = middle
        else:
            high = middle - 1
    return low


def adjusted(plan: Plan, *, pace: Pace, done: int, spent: float, budget: float) -> Plan:
    """`plan` with as many epochs as still fit, after `done` of them took `spent` of `budget` seconds.

    What remains is expected to take as long, against the measurement before the start, as what is done did.
    """
    slowness = spent / max(pace.expected(plan, 0, done), 1e-9)
    # An epoch later validates about as often: its mean cost is that of the alone phase with its share of these.
    epochs = done
    remaining = budget - spent
    while epochs < 100_000:
        cost = pace.guided if epochs < plan.detach_epoch else pace.alone
        remaining -= slowness * (cost + pace.validation / plan.validate_every)
        if remaining < 0:
            break
        epochs += 1
    return plan.model_copy(update={"epochs": max(epochs, done)})


def choose_precision(wanted: str, *, device: str) -> tuple[str, str]:
    """("float32" or "bfloat16", why)."""
    if wanted != "auto":
        return wanted, "as given"
    if device == "cuda":
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
