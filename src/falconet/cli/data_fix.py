"""What `falconet data check --fix` does and prints."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from falconet.cli.progress import counted
from falconet.data.dataset import DataSet, Problem
from falconet.data.fix import LIST, Fixed, fix
from falconet.data.kinds import HINTS, KINDS

_SHOWN = 10


def write_copy(splits: Mapping[str, DataSet], problems: Sequence[Problem], out: Path, *, decode: bool) -> Fixed:
    """`falconet.data.fix.fix`, with its progress shown."""
    with counted("writing and checking the copy") as progress:
        return fix(splits, problems, out, decode=decode, progress=progress)


def print_fixed(fixed: Fixed) -> None:
    """The first repairs of each kind, how many there are, and what is left."""
    print()
    for kind, count in fixed.counts().items():
        first = [one for one in fixed.repairs if one.kind == kind][:_SHOWN]
        for one in first:
            print(f"repaired: {one}")
        if count > len(first):
            print(f"... and {count - len(first)} more of {kind}; {LIST} lists all")
    if fixed.repairs:
        print()
    for kind, count in fixed.counts().items():
        print(f"{count:6d}  {kind} repaired")
    left = Counter(problem.kind for problem in fixed.left)
    for kind, count in sorted(left.most_common(), key=lambda one: one[0] in HINTS):
        print(f"{count:6d}  {kind} left to you{' (hint)' if kind in HINTS else ''}: {KINDS[kind].meaning}")
    for sentence in fixed.lost:
        print(f"lost: {sentence}")
    what = "repaired copy" if fixed.repairs else "copy, in which nothing had to be repaired,"
    print(f"{what} written to {fixed.out}; {fixed.out / LIST} lists what was done")
