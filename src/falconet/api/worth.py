"""Whether 8-bit integers earn their place on a machine: files, engines and precisions side by side, and a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

from falconet.core.figures import percent

WORTH = 1.05
"""Times faster from which on 8-bit integers earn their place."""

FEW = 500
"""Pictures below which a difference of half a point may be chance."""


@dataclass(frozen=True, slots=True)
class Side:
    """A file in an engine.

    Attributes:
        int8: whether it is the file in 8-bit integers.
        precision: what is no 8-bit integer is computed in: float32 or bfloat16.
        value: AP or top-1 as a fraction, on pictures that ranges were not measured on.
        milliseconds: median of one picture through the network.
    """

    engine: str
    int8: bool
    precision: str
    value: float
    milliseconds: float

    @property
    def kind(self) -> str:
        """ "float32", "bfloat16", "int8" or "int8 + bfloat16"."""
        if not self.int8:
            return self.precision
        return "int8" if self.precision == "float32" else f"int8 + {self.precision}"

    def told(self, metric: str) -> str:
        """In words."""
        return f"{self.engine} {self.kind} takes {self.milliseconds:.2f} ms at {metric} {percent(self.value)}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to take the file in 8-bit integers.

    Attributes:
        take: whether it is worth it.
        best: of the file in 8-bit integers, what to run it in; where it is not worth it, what came nearest.
        other: the fastest of the rest that keeps its AP or top-1.
        sentence: in words.
    """

    take: bool
    best: Side
    other: Side
    sentence: str


def judge(sides: Sequence[Side], loss: float, metric: str) -> Verdict:
    """The verdict.

    Args:
        sides: both files, each in at least one engine; the file in float32 in each engine.
        loss: AP or top-1, a fraction, that a precision may cost beside float32 in the same engine.
        metric: AP or top1.
    """
    full = {one.engine: one.value for one in sides if one.kind == "float32"}

    def cost(side: Side) -> float:
        return full[side.engine] - side.value

    def quickest(some: Sequence[Side]) -> Side:
        return min(some, key=lambda one: one.milliseconds)

    keeping = [one for one in sides if cost(one) <= loss]
    other = quickest([one for one in keeping if not one.int8])
    small = [one for one in keeping if one.int8]
    limit = f"{percent(loss)} points of {metric}"
    if not small:
        best = min((one for one in sides if one.int8), key=cost)
        return Verdict(
            False,
            best,
            other,
            f"do not use it: in no engine does it cost at most {limit}; {best.told(metric)}, "
            f"{percent(cost(best))} points less than in float32",
        )
    best = quickest(small)
    take = best.milliseconds * WORTH <= other.milliseconds
    advice = f"take it, with engine {best.engine}" if take else "do not use it on this machine"
    if take and best.precision != "float32":
        advice += f" and precision {best.precision}"
    return Verdict(take, best, other, f"{advice}: {best.told(metric)}, {other.told(metric)}")
