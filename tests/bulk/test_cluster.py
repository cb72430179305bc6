"""On a Ray cluster of several nodes, all on this machine, a run ends with the same tables, whatever dies in between."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bulk.conftest import run, table

ray = pytest.importorskip("ray", reason="ray is not installed: 'make slow' installs falconet[scale]")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

COMMAND = """
import sys, time

from falconet.cli import main
sys.argv = ["falconet", "batch", "in", "--model", "m.onnx", "--out", "out", "--block", "2", "--cluster", *sys.argv[1:]]
main()
"""

SECONDS = 120
"""To wait for anything."""


@pytest.fixture
def nodes() -> Iterator:
    """A cluster of three nodes with a CPU each; that of the head does nothing else."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def many(folder: Path) -> Path:
    """More pictures, which take a moment each to decode."""
    from tests.runtime.tiny_model import picture, save

    for index in range(60):
        save(folder / "in" / "more" / f"{index:03}.png", picture((0, index % 4, "red"), scale=24, value=100 + index))
    return folder


def start(address: str, *more: str) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, address, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


def wait(what: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def written() -> int:
    return len(list(Path("out").glob("*.parquet")))


def is_same_as_undisturbed(predictor) -> bool:
    run(predictor, out="anew")
    return table() == table("anew")


@pytest.mark.usefixtures("many")
def test_the_same_tables(predictor, nodes) -> None:
    child = start(nodes.address)
    out, errors = child.communicate(timeout=SECONDS)
    assert child.returncode == 0, errors
    assert "90 pictures in " in out
    assert "1 picture could not be read" in out
    assert "cluster: 3 machines with 2 CPUs" in errors
    assert is_same_as_undisturbed(predictor)


@pytest.mark.usefixtures("many")
def test_a_node_that_is_killed(predictor, nodes) -> None:
    child = start(nodes.address)
    wait(lambda: written() > 2)
    nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)
    nodes.add_node(num_cpus=1)
    _, errors = child.communicate(timeout=SECONDS)
    assert child.returncode == 0, errors
    assert is_same_as_undisturbed(predictor)


@pytest.mark.usefixtures("many")
def test_a_worker_that_is_killed(predictor, nodes) -> None:
    child = start(nodes.address)
    wait(lambda: written() > 2)
    found = subprocess.run(
        ["pgrep", "-f", "ray::.*_Answers"], capture_output=True, text=True, check=False
    ).stdout.split()
    assert found
    os.kill(int(found[0]), signal.SIGKILL)
    _, errors = child.communicate(timeout=SECONDS)
    assert child.returncode == 0, errors
    assert is_same_as_undisturbed(predictor)


@pytest.mark.usefixtures("many")
def test_the_driver_that_is_killed(predictor, nodes) -> None:
    child = start(nodes.address)
    wait(lambda: written() > 2)
    child.kill()
    child.communicate(timeout=SECONDS)
    before = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("*.parquet")}
    again = start(nodes.address)
    _, errors = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, errors
    assert "pictures already" in errors
    assert all(Path("out", name).stat().st_mtime_ns == when for name, when in before.items())
    assert is_same_as_undisturbed(predictor)


@pytest.mark.usefixtures("many")
def test_a_machine_of_each_kind_measures(nodes) -> None:
    from falconet.api.threads import processor
    from falconet.bulk.cluster import connected, kinds
    from falconet.cli.batch_runs import Curve

    nodes.add_node(num_cpus=2)
    nodes.wait_for_nodes()
    with connected(nodes.address):
        found = kinds({"m.onnx": Path("m.onnx").read_bytes()}, Curve("onnxruntime", "auto"), processor)
    alike = {one.cpus: one for one in found}
    assert {cpus: one.machines for cpus, one in alike.items()} == {1: 2, 2: 1}
    assert [(point.threads, point.at_once) for point in alike[1].measured] == [(1, 1)]
    assert (alike[2].measured[0].threads, alike[2].measured[0].at_once) == (1, 2)
    assert all(point.p50_ms > 0 for one in found for point in one.measured)
    child = start(nodes.address, "--threads", "2")
    _, errors = child.communicate(timeout=SECONDS)
    assert child.returncode == 0, errors
    runs = json.loads(Path("out/_falconet.json").read_text())["runs"]
    assert (runs["at_once"], runs["threads"], runs["why"]) == (1, 2, "as asked for by --threads 2")
    child = start(nodes.address, "--threads", "3")
    _, errors = child.communicate(timeout=SECONDS)
    assert "--threads 3: no machine of the cluster has so many CPUs; expected at most 2" in errors


@pytest.mark.usefixtures("folder")
def test_no_cluster_there() -> None:
    child = start("127.0.0.1:1")
    _, errors = child.communicate(timeout=SECONDS)
    assert child.returncode == 2
    assert "--cluster 127.0.0.1:1: no Ray cluster answers at 127.0.0.1:1" in errors
    assert not Path("out").exists()
