"""The processors of this machine."""

import math
import os
import time
from pathlib import Path

BUSY = 0.3
"""CPUs that others compute on, from which on times are not those of an idle machine."""

_NO_QUOTA = 2**31


def usable_cpus() -> int:
    """How many CPUs this process may use: those it is not tied away from, and no more than its container may."""
    return max(1, min(len(_usable()), _quota()))


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


def _quota(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs' worth of time that a container is given (Linux control groups), rounded up; very many where none is told.

    Kubernetes' `limits: {cpu: 8}` and Docker's `--cpus 8` stop whoever takes more, ten times a second.
    """
    try:
        if (new := folder / "cpu.max").is_file():
            quota, period = new.read_text(encoding="ascii").split()
        else:
            quota, period = (
                (folder / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip()
                for name in ("quota", "period")
            )
        share = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max", or -1 in the older form, is no limit
        return _NO_QUOTA
    return math.ceil(share) if share > 0 else _NO_QUOTA


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
