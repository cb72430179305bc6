"""CPUs that others keep busy."""

import threading
from pathlib import Path

import pytest

from falconet.core import cpus
from falconet.core.cpus import busy_cpus, usable_cpus


def stat(path: Path, *idle: int) -> None:
    """Of each CPU so many of 100 more ticks than at the start were idle."""
    path.write_text(
        "cpu  1 1 1 1 1 1 1 1 0 0\n"
        + "".join(f"cpu{n} {100 - share} 0 0 {share} 0 0 0 0 50 50\n" for n, share in enumerate(idle))
        + "intr 5\n"
    )


def test_busy_cpus_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "_usable", lambda: {0, 1, 2})
    path = tmp_path / "stat"
    path.write_text("".join(f"cpu{n} 0 0 0 0 0 0 0 0\n" for n in range(4)))
    later = threading.Timer(0.1, stat, (path, 100, 10, 50, 0))
    later.start()
    assert busy_cpus(0.5, stat=path) == pytest.approx(
        1.4, abs=0.1
    )  # without this process itself, which hardly computes


def test_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert busy_cpus(0.01, stat=tmp_path / "absent") is None
    assert 1 <= usable_cpus() <= 4096
