"""The processors of this machine."""

import os
import time
from pathlib import Path

BUSY = 0.3
"""CPUs that others compute on, from which on times are not those of an idle machine."""


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    return len(_usable())


def busy_cpus(seconds: float = 0.3, *, stat: Path = Path("/proc/stat")) -> float | None:
    """How many of the usable CPUs others keep busy; the caller waits so long, and does nothing meanwhile.

    None where the system does not tell: everywhere but on Linux.
    """
    before, own = _times(stat), time.process_time()
    time.sleep(seconds)
    after, own = _times(stat), time.process_time() - own  # threads of this process may still spin
    if not before or before.keys() != after.keys():
        return None
    spent = {cpu: (after[cpu][0] - before[cpu][0], after[cpu][1] - before[cpu][1]) for cpu in before}
    return max(0.0, sum(1 - idle / whole for idle, whole in spent.values() if whole > 0) - own / seconds)


def said_busy(busy: float | None) -> str:
    """A sentence about others that keep so many CPUs busy; empty on a machine that is as good as idle."""
    if (busy or 0.0) < BUSY:
        return ""
    return f"others keep {busy:.1f} CPUs busy: these milliseconds are not those of an idle machine"


def _usable() -> set[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # Windows and macOS do not restrict a process to CPUs
        return set(range(os.cpu_count() or 1))


def _times(stat: Path) -> dict[int, tuple[int, int]]:
    """(idle, all) ticks of each usable CPU, since the machine was started."""
    try:
        lines = stat.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    times = {}
    for line in lines:
        name, *numbers = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in _usable():
            ticks = [int(number) for number in numbers[:8]]
            times[int(name[3:])] = (sum(ticks[3:5]), sum(ticks))
    return times
