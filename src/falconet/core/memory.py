"""Memory of this machine."""

from pathlib import Path


def free_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say so (only Linux does)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) << 10 if kilobytes else None
