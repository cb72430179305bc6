"""What all tests share: one thread for torch (two workers on two cores); shapes in signatures are checked."""

import os
import sys
from importlib.util import find_spec

import pytest

if find_spec("hypothesis"):
    from hypothesis import HealthCheck, settings

    # How long an example takes says nothing on a busy machine.
    settings.register_profile("falconet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("falconet")

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

if find_spec("jaxtyping") and find_spec("beartype"):  # the base install, which is tested too, has neither
    from jaxtyping import install_import_hook

    import tests.typecheck

    assert tests.typecheck.checked  # the hook looks it up by name
    install_import_hook(
        ["falconet.models", "falconet.training.losses", "falconet.training.assign", "falconet.training.criteria"],
        "tests.typecheck.checked",
    )


@pytest.fixture(scope="session", autouse=True)
def _traced_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Equal networks are traced once for all tests, where there are any that export."""
    exporter = sys.modules.get("falconet.exporting.onnx")
    if exporter is not None and find_spec("fcntl"):
        from tests.traced import traced_once

        here = tmp_path_factory.getbasetemp()
        shared = here.parent if "PYTEST_XDIST_WORKER" in os.environ else here
        exporter.to_onnx = traced_once(exporter.to_onnx, shared / "traced")


def pytest_terminal_summary(terminalreporter):
    """Say how many tests could not run because what they compare with is not part of a clone."""
    reasons = ("is not part of the copy in tests/golden", "holds no", "not distributed", "real data sets are not in")
    skipped = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []) if report.longrepr]
    missing = [reason for reason in skipped if any(part in reason for part in reasons)]
    if missing:
        golden = sum("golden" in reason for reason in missing)
        terminalreporter.write_line(
            f"{len(missing)} tests were skipped for want of data that a clone does not have: {golden} golden cases, "
            f"{len(missing) - golden} with real weights, photos or data sets",
            yellow=True,
        )
