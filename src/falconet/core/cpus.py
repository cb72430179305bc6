"""The processors of this machine."""

import os


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Windows and macOS do not restrict a process to CPUs
        return os.cpu_count() or 1
