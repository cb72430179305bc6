"""The service as a person starts it: signals, slow clients, odd bytes, what it leaves behind."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from falconet.cli import _register, app
from falconet.core.errors import ConfigError, ModelError
from falconet.core.images import encode_image
from tests.runtime import tiny_model
from tests.serving.here import PNG, write_classifier
from tests.serving.process import Served, read, served

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

HEAD = b"POST /v1/detect HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
HEAVY = encode_image(np.random.default_rng(0).integers(0, 256, (700, 800, 3), np.uint8), ".png")
"""More bytes than others keep in memory."""

LARGE = encode_image(np.full((4000, 5000, 3), 77, np.uint8), ".jpg")
"""Takes a while to decode."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    tiny_model.write(folder / "cells.onnx")
    write_classifier(folder / "colours.onnx")
    return folder


@pytest.fixture(scope="module")
def hasty(folder: Path) -> Iterator[Served]:
    """A service that waits half a second for clients."""
    with served(folder, "cells.onnx", "hue=colours.onnx", "--client-seconds", "0.5", "--max-bytes", "3") as service:
        yield service


def problem(answer: bytes) -> tuple[int, str]:
    """Status and detail."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head, answer
    return int(head.split()[1]), json.loads(body)["detail"]


def test_models_by_their_names(hasty: Served) -> None:
    models = httpx.get(f"{hasty.url}/v1/models").json()["models"]
    assert [(one["name"], one["task"], one["engine"]) for one in models] == [
        ("cells", "detect", "onnxruntime"),
        ("hue", "classify", "onnxruntime"),
    ]
    assert "without a token" not in hasty.told
    assert "cells: cells, 64 x 64, 3 classes, in onnxruntime, float32" in hasty.told


def test_headers_that_come_too_slowly(hasty: Served) -> None:
    status, detail = problem(hasty.send(HEAD[:40]))
    assert (status, detail) == (408, "The headers did not arrive within 0.5 seconds; send them at once")
    assert hasty.send(b"") == b""
    assert hasty.send(b"\r\n\r\n") == b""


def test_a_body_that_comes_too_slowly(hasty: Served) -> None:
    status, detail = problem(hasty.send(HEAD % len(PNG) + PNG[:20]))
    assert status == 408
    assert detail.startswith("The request did not arrive within 0.5 seconds")


def test_a_client_that_drips(hasty: Served) -> None:
    with hasty.connect() as client:
        start = time.monotonic()
        client.sendall(HEAD % 1000)
        client.settimeout(0.05)
        answer = b""
        while not answer and time.monotonic() < start + 30:
            client.sendall(b"x")
            try:
                answer = client.recv(65536)
            except TimeoutError:
                continue
        client.settimeout(30)
        assert problem(answer + read(client))[0] == 408


def test_heads_that_are_too_large(hasty: Served) -> None:
    for data in (b"GET /" + b"a" * 500_000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000):
        with hasty.connect() as client:
            try:
                client.sendall(data)
            except ConnectionError:
                continue  # it stopped listening
            try:
                answer = read(client)
            except ConnectionResetError:
                continue
            assert problem(answer)[0] == 431


def test_what_is_no_http(hasty: Served) -> None:
    for data in (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" * 9, b"hello\r\n\r\n", b"GET \xff HTTP/1.1\r\n\r\n"):
        assert problem(hasty.send(data)) == (400, "Invalid HTTP request received; expected HTTP/1.1")


def test_the_rest_of_a_body_that_is_refused_is_read(hasty: Served) -> None:
    """So that the client, who sends before it reads, gets the answer."""
    with hasty.connect() as client:
        client.sendall(HEAD % 4_000_000 + bytes(4_000_000))
        client.shutdown(socket.SHUT_WR)
        status, detail = problem(read(client))
    assert (status, detail[:32]) == (413, "The request has more than 3 MB; ")


def test_keep_alive_after_a_refusal(hasty: Served) -> None:
    with httpx.Client(base_url=hasty.url) as client:
        for _ in range(2):
            assert client.post("/v1/detect", content=b"x").status_code == 400
            assert client.post("/v1/detect", content=PNG).status_code == 200


WATCHED = """
import sys
def watch(event, arguments):
    if event == "socket.connect":
        print("CONNECTED", arguments, flush=True)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        print("WROTE", arguments, flush=True)
from falconet.cli import main
sys.addaudithook(watch)
sys.dont_write_bytecode = True
main()
"""


def test_requests_under_way_are_answered_before_it_ends_and_nothing_is_left_behind(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    with served(folder, "cells.onnx", code=WATCHED, environment={"HOME": str(home), "TMPDIR": str(home)}) as service:
        assert len(HEAVY) > 2**20
        assert httpx.post(f"{service.url}/v1/detect", files={"image": HEAVY}, timeout=60).status_code == 200
        for path in ("/", "/docs", "/v1/models"):
            assert httpx.get(service.url + path).status_code == 200
        files = [("image", (f"{index}.jpg", LARGE, "image/jpeg")) for index in range(8)]
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{service.url}/v1/detect", files=files, timeout=60))
        )
        asking.start()
        with httpx.Client(base_url=service.url) as client:
            while "falconet_running_pictures 0.0" in client.get("/metrics").text:
                assert asking.is_alive()
            assert service.stop() == 0
        asking.join()
        (answer,) = answers
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["results"]) == 8
        text = service.rest()
    assert "Traceback" not in text
    assert "WROTE" not in text
    assert "CONNECTED" not in text
    assert list(home.rglob("*")) == []


def test_a_second_signal_waits_for_nothing(folder: Path) -> None:
    with served(folder, "door=cells.onnx", "--host", "0.0.0.0") as service, service.connect() as client:
        assert "listens at all addresses of this machine without a token" in service.told
        assert httpx.get(f"{service.url}/v1/models").json()["models"][0]["name"] == "door"
        client.sendall(HEAD % 1000 + b"x")
        time.sleep(0.1)
        service.process.terminate()
        time.sleep(0.3)
        assert service.process.poll() is None
        assert service.stop() == 143


@pytest.mark.slow
def test_versions_take_over_under_load_without_a_lost_request(tmp_path: Path) -> None:
    model = tiny_model.write(tmp_path / "m.onnx")
    with served(tmp_path, "m.onnx") as service:
        seen: list[tuple[int, str]] = []
        ended = threading.Event()

        def hammer() -> None:
            with httpx.Client(base_url=service.url, timeout=60) as client:
                while not ended.is_set():
                    answer = client.post("/v1/detect", content=PNG)
                    label = answer.json()["results"][0]["detections"][0]["label"] if answer.is_success else ""
                    seen.append((answer.status_code, label))

        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for thread in threads:
            thread.start()
        for name in ("rot", "", "rouge"):
            text = tiny_model.manifest(classes=("a", "b", name or "c")).to_json()
            content = tiny_model.write(tmp_path / "new.onnx", text=text).read_bytes()
            (tmp_path / "part").write_bytes(content if name else content[:100])
            (tmp_path / "part").replace(model)
            until = time.monotonic() + 60
            while time.monotonic() < until:
                (card,) = httpx.get(f"{service.url}/v1/models").json()["models"]
                if card["refused"] is not None if not name else name in card["classes"]:
                    break
                time.sleep(0.1)
            else:
                raise AssertionError(name)
        time.sleep(0.3)
        ended.set()
        for thread in threads:
            thread.join()
        assert {status for status, _ in seen} == {200}
        assert {label for _, label in seen} == {"red", "rot", "rouge"}
        assert service.stop() == 0


_register()


def fail(kind: type[Exception], *words: str) -> str:
    result = CliRunner().invoke(app, ["serve", *words])
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def test_what_cannot_be_served(folder: Path, monkeypatch: pytest.MonkeyPatch, hasty: Served) -> None:
    monkeypatch.chdir(folder)
    assert "--port 0" in fail(ConfigError, "cells.onnx", "--host", "192.0.2.1", "--port", "0")
    assert "name another --port" in fail(ConfigError, "cells.onnx", "--port", str(hasty.port))
    assert "is no address of this machine" in fail(ConfigError, "cells.onnx", "--host", "no such host", "--port", "0")
    assert "no such file" in fail(ModelError, "missing.onnx", "--port", "0")
    assert "two models have the name 'cells'" in fail(ConfigError, "cells.onnx", "cells.onnx", "--port", "0")
    told = fail(ConfigError, "cells.onnx", "colours.onnx", "--name", "a", "--port", "0")
    assert "which of 2 models is meant? Name them as in a=cells.onnx" in told
    assert "has a name already" in fail(ConfigError, "a=cells.onnx", "--name", "b", "--port", "0")
    assert "is no name of a model" in fail(ConfigError, "=cells.onnx", "--port", "0")
