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


def test_a_container_may_have_less_than_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = tmp_path / "new", tmp_path / "old" / "cpu"
    new.mkdir()
    old.mkdir(parents=True)
    for text, found in {
        "150000 100000\n": 2,
        "800000 100000": 8,
        "max 100000": cpus._NO_QUOTA,
        "x": cpus._NO_QUOTA,
    }.items():
        (new / "cpu.max").write_text(text)
        assert cpus._quota(new) == found
    for quota, found in {"400000\n": 4, "-1\n": cpus._NO_QUOTA}.items():
        (old / "cpu.cfs_quota_us").write_text(quota)
        (old / "cpu.cfs_period_us").write_text("100000\n")
        assert cpus._quota(old.parent) == found
    assert cpus._quota(tmp_path) == cpus._NO_QUOTA
    monkeypatch.setattr(cpus, "_usable", lambda: set(range(64)))
    monkeypatch.setattr(cpus, "_quota", lambda: 8)
    assert usable_cpus() == 8
