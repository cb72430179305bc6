"""The steps of docker/serve.Dockerfile without Docker: what it copies is there, what it runs installs, and the service
starts."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runtime import tiny_model

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SECONDS = 120


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of each line of the recipe, continued lines as one."""
    text = (REPOSITORY / "docker/serve.Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    rows = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, rest in rows]


def words(name: str) -> list[str]:
    """The list in brackets of an instruction: ENTRYPOINT, HEALTHCHECK."""
    (rest,) = [rest for word, rest in instructions() if word == name]
    found: list[str] = json.loads(rest[rest.index("[") :])
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_recipe_installs_a_service_that_is_ready(tmp_path: Path) -> None:
    source, installed = tmp_path / "source", tmp_path / "opt"
    source.mkdir()
    build = instructions()[: [word for word, _ in instructions()].index("FROM", 1)]
    for word, rest in build:
        if word == "COPY":
            *names, target = shlex.split(rest)
            for name in names:
                copy(REPOSITORY / name, source / target)
    (run,) = [rest for word, rest in build if word == "RUN"]
    command = run.replace("/opt/falconet", str(installed)).replace("python -m venv", f"{sys.executable} -m venv")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, shell=True, cwd=source, env=clean, capture_output=True, text=True, check=False)
    if done.returncode and re.search(r"No matching distribution|connection|Network", done.stderr):
        pytest.skip(f"packages cannot be had: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    has_torch = next((installed / "lib").glob("python*/site-packages/torch"), None)
    assert has_torch is None
    model = tiny_model.write(tmp_path / "model.onnx")
    port = str(free_port())
    entry = [one.replace("8000", port).replace("0.0.0.0", "127.0.0.1") for one in words("ENTRYPOINT")]
    check = [one.replace("8000", port) for one in words("HEALTHCHECK")]
    place = clean | {"PATH": f"{installed / 'bin'}:{clean['PATH']}"}
    process = subprocess.Popen(
        [installed / "bin" / entry[0], *entry[1:], model], env=place, cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + SECONDS
        while subprocess.run([installed / "bin" / check[0], *check[1:]], capture_output=True, check=False).returncode:
            assert process.poll() is None, "the service ended"
            assert time.monotonic() < end, "the health check does not pass"
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait(SECONDS)


def copy(name: Path, target: Path) -> None:
    """As COPY does it: a folder's content, or a file into a folder."""
    if name.is_dir():
        shutil.copytree(name, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(name, target)
