"""Two machines train one run: two network namespaces with addresses of their own, and a pair of devices for a cable."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.tiny import assert_same_weights, draw, options

pytestmark = pytest.mark.slow
LONG = ["train.epochs=3", "criterion.detach_epoch=1", "train.average_decay=0"]
SECONDS = 300
"""To wait for anything."""

PROGRAM = """
import sys
from falconet.training import fit, read_run, resume
resume(sys.argv[2]) if sys.argv[1] == "--resume" else fit(read_run(sys.argv[1], sys.argv[2:]))
"""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def nodes() -> Iterator[tuple[str, str]]:
    """Names of two namespaces, with the addresses 10.231.0.1 and 10.231.0.2."""
    names = (f"falconet-{os.getpid()}-a", f"falconet-{os.getpid()}-b")
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need iproute2")
    try:
        _ip("netns", "add", names[0])
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
    try:
        _ip("netns", "add", names[1])
        _ip("link", "add", "fa0", "netns", names[0], "type", "veth", "peer", "name", "fa0", "netns", names[1])
        for number, name in enumerate(names, start=1):
            _ip("-n", name, "addr", "add", f"10.231.0.{number}/24", "dev", "fa0")
            _ip("-n", name, "link", "set", "fa0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def start(node: str, rank: int, program: Path, *arguments: str) -> subprocess.Popen:
    """torchrun with one process on a node, in a process group of its own."""
    launcher = ["ip", "netns", "exec", node, sys.executable, "-m", "torch.distributed.run", "--nnodes=2"]
    launcher += ["--nproc-per-node=1", f"--node-rank={rank}", "--master-addr=10.231.0.1", "--master-port=29511"]
    return subprocess.Popen(
        [*launcher, str(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "fa0", "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def together(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run by two processes of one machine."""
    from falconet.training import fit
    from tests.training.tiny import tiny_run

    return fit(tiny_run(data, tmp_path_factory.mktemp("runs") / "two", "train.devices=2", *LONG))


def test_two_nodes_end_with_the_weights_of_two_processes(
    data: Path, together: Path, nodes: tuple[str, str], program: Path, tmp_path: Path
) -> None:
    arguments = options(data, tmp_path / "run", *LONG)
    started = [start(node, rank, program, *arguments) for rank, node in enumerate(nodes)]
    said = [one.communicate(timeout=SECONDS)[0] for one in started]
    assert [one.returncode for one in started] == [0, 0], said
    assert_same_weights(tmp_path / "run" / "last.safetensors", together / "last.safetensors")


def test_a_node_that_dies(data: Path, together: Path, nodes: tuple[str, str], program: Path, tmp_path: Path) -> None:
    """The other one ends with a sentence; two processes of one machine go on, to the same weights."""
    run = tmp_path / "run"
    arguments = options(data, run, *LONG)
    started = [start(node, rank, program, *arguments) for rank, node in enumerate(nodes)]
    end = time.monotonic() + SECONDS
    while not (run / "state.ckpt").exists():
        assert time.monotonic() < end
        assert started[0].poll() is None
        time.sleep(0.02)
    alive = subprocess.run(["ip", "netns", "pids", nodes[1]], capture_output=True, text=True, check=True).stdout
    for process in map(int, alive.split()):
        os.kill(process, signal.SIGKILL)
    said = started[0].communicate(timeout=SECONDS)[0]
    started[1].communicate(timeout=SECONDS)
    assert started[0].returncode != 0
    assert "another process of the run has ended or cannot be reached" in said
    assert f"falconet train --resume {run}" in said
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, str(program), "--resume", str(run)], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert_same_weights(run / "last.safetensors", together / "last.safetensors")
