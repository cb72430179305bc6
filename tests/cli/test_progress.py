"""Loops that take long, where nobody watches a terminal."""

import pytest

from falconet.cli import progress as module
from falconet.cli.progress import progress


def test_lines_in_a_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = iter([0.0, 0.0, 10.0, 20.0, 30.0, 41.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("measuring") as bar:
        assert list(bar(["a", "b", "c", "d", "e"])) == ["a", "b", "c", "d", "e"]
    assert caplog.messages == ["measuring: 2 of 5, about 30 seconds left", "measuring: 4 of 5, about 10 seconds left"]
