"""Memory and time of the dynamic soft label assigner; the peer builds predictions x boxes x classes.

python benchmarks/assigner.py
"""

import resource
import subprocess
import sys
import time

from common import write

PREDICTIONS, BOXES, CLASSES = 8500, 500, 80


def scene() -> tuple[object, ...]:
    """Random predictions and truths of one image."""
    import torch

    from falconet.training.batch import Targets

    torch.manual_seed(0)
    torch.set_num_threads(1)
    points = torch.rand(PREDICTIONS, 2) * 640
    reach = torch.rand(1, PREDICTIONS, 4) * 60 + 4
    boxes = torch.cat([points - reach[..., :2], points + reach[..., 2:]], -1)
    corner = torch.rand(1, BOXES, 2) * 560
    truths = torch.cat([corner, corner + torch.rand(1, BOXES, 2) * 76 + 4], -1)
    targets = Targets(truths, torch.randint(CLASSES, (1, BOXES)), torch.ones(1, BOXES, dtype=torch.bool))
    return torch.randn(1, PREDICTIONS, CLASSES), boxes, points, targets


def falconet(logits, boxes, points, targets):  # type: ignore[no-untyped-def]
    """Ours."""
    from falconet.training.assign.dynamic_soft import dynamic_soft_assign

    dynamic_soft_assign(logits, boxes, points, targets)


def by_class(logits, boxes, points, targets):  # type: ignore[no-untyped-def]  # noqa: ARG001
    """The class term of the original's cost, written plainly: one number per prediction, box and class."""
    import torch
    import torch.nn.functional as F

    from falconet.training.losses import iou

    overlaps = iou(boxes[0][:, None], targets.boxes[0][None])
    soft = F.one_hot(targets.labels[0], CLASSES).float()[None] * overlaps[..., None]
    every = logits[0][:, None].expand(-1, BOXES, -1)
    cost = F.binary_cross_entropy_with_logits(every, soft, reduction="none") * (soft - every.sigmoid()).abs() ** 2
    (cost.sum(-1) - 3 * torch.log(overlaps + 1e-7)).topk(13, dim=0, largest=False)


def child(name: str) -> None:
    """Run one of them in this process; print peak memory above the start and seconds."""
    arguments = scene()
    call = {"falconet": falconet, "by_class": by_class}[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    call(*arguments)
    seconds = time.perf_counter() - start
    print(f"{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.0f} {seconds:.3f}")


def main() -> None:
    """Measure both, each in a fresh process."""
    table = []
    for name, title in (("falconet", "falconet, whole assigner"), ("by_class", "class cost over all classes alone")):
        answer = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True).stdout
        memory, seconds = answer.split()
        table.append({"assigner": title, "peak MB": memory, "seconds": seconds})
    write(
        "assigner",
        "Memory of the dynamic soft label assigner",
        "python benchmarks/assigner.py",
        table,
        f"{PREDICTIONS} predictions x {BOXES} boxes x {CLASSES} classes, one image, one thread, first call. Peak is "
        "what the process' resident memory grew by.",
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1])
    else:
        main()
