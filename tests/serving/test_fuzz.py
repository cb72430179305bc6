"""Whatever comes in: an answer or a sentence, and never a fault of the service."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falconet.core.images import encode_image
from falconet.serving.limits import Limits
from tests.runtime import tiny_model
from tests.runtime.tiny_model import picture
from tests.serving.here import PNG, Asker, serving, source, write_classifier
from tests.serving.process import Served, served

MANY = int(os.environ.get("FALCONET_FUZZ", "3000"))
PICTURES = [PNG, *(encode_image(picture((1, 1, "green")), one) for one in (".jpg", ".webp", ".bmp", ".tiff"))]

names = st.sampled_from(
    ["model", "score", "classes", "boxes", "answer", "iou", "max_detections", "top", "operating_point"]
)
values = st.sampled_from(
    ["cells", "colours", "0.1", "1", "-1", "1e400", "nan", "red", "red,blue", "", "relative", "jpeg", "absolute", "5"]
)
queries = st.lists(st.tuples(names | st.text(max_size=8), values | st.text(max_size=8)), max_size=4)


@st.composite
def spoilt(draw: Any) -> bytes:
    """A picture with bytes changed, cut off or put in."""
    data = bytearray(draw(st.sampled_from(PICTURES)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, min(len(data), draw(st.sampled_from([40, 400, 10**6])))))
        change = draw(st.binary(max_size=6))
        data[place : place + draw(st.sampled_from([0, len(change)]))] = change
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@st.composite
def forms(draw: Any) -> bytes:
    """A form of pictures, sometimes spoilt itself."""
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        field = draw(st.sampled_from([b"image", b"image", b"file", b'"']))
        name = draw(st.sampled_from([b"a.png", b"", b"\xff\xfe", b'a"b', b"../../a.heic"]))
        head = b'Content-Disposition: form-data; name="' + field + b'"; filename="' + name + b'"'
        parts.append(b"--x\r\n" + head + b"\r\n\r\n" + draw(spoilt()) + b"\r\n")
    body = b"".join(parts) + b"--x--\r\n"
    return body[: draw(st.integers(0, len(body)))] if draw(st.integers(0, 4)) == 0 else body


bodies = st.one_of(spoilt(), forms(), st.binary(max_size=300))
kinds = st.sampled_from(
    ["image/png", "image/jpeg", "", "application/octet-stream", "multipart/form-data; boundary=x"] * 3
    + ["application/json", "multipart/form-data", "multipart/form-data; boundary=", "image/;;=", "\xff"]
)
paths = st.sampled_from(["/v1/detect"] * 8 + ["/v1/models", "/metrics", "/", "/docs", "/a\0b", "/../x", "/v1/"])
methods = st.sampled_from(["POST"] * 8 + ["GET", "HEAD", "OPTIONS", "PUT", "X"])


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    folder = tmp_path_factory.mktemp("fuzz")
    cells, colours = tiny_model.write(folder / "cells.onnx"), write_classifier(folder / "colours.onnx")
    limits = Limits(workers=2, pixels=10**6, bytes=10**6)
    with serving(source(cells), source(colours, "colours"), limits=limits) as asker:
        yield asker


async def request(ask: Asker, method: str, path: str, query: list, kind: str, body: bytes) -> tuple[int, str, bytes]:
    """Status, content type and body, without a client in between."""
    from urllib.parse import urlencode

    sent: list[Any] = []
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": body[:50], "more_body": True},
        {"type": "http.request", "body": body[50:], "more_body": False},
    ]

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    text = urlencode([(name, value) for name, value in query], errors="surrogatepass").encode()
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": text,
        "headers": [(b"content-type", kind.encode("latin-1"))] if kind else [], "http_version": "1.1",
        "scheme": "http", "root_path": "", "server": ("here", 80), "client": ("there", 1),
    }  # fmt: skip
    await ask.app(scope, receive, send)
    headers = dict(sent[0]["headers"])
    return sent[0]["status"], headers.get(b"content-type", b"").decode(), b"".join(one["body"] for one in sent[1:])


def check(status: int, kind: str, body: bytes, method: str) -> None:
    assert status < 500, body
    if status >= 400 and method != "HEAD":
        assert kind == "application/problem+json"
        tree = json.loads(body)
        assert tree["status"] == status
        assert len(tree["detail"]) > 10


@settings(max_examples=80)
@given(method=methods, path=paths, query=queries, kind=kinds, body=bodies)
def test_no_request_is_a_fault(ask: Asker, method: str, path: str, query: list, kind: str, body: bytes) -> None:
    check(*asyncio.run(request(ask, method, path, query, kind, body)), method)
    assert ask.service.uploads.held == 0


@pytest.mark.slow
@settings(max_examples=MANY, suppress_health_check=list(HealthCheck))
@given(method=methods, path=paths, query=queries, kind=kinds, body=bodies)
def test_no_request_of_many_is_a_fault(ask: Asker, method: str, path: str, query: list, kind: str, body: bytes) -> None:
    check(*asyncio.run(request(ask, method, path, query, kind, body)), method)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("wire")
    tiny_model.write(folder / "cells.onnx")
    with served(Path(folder), "cells.onnx", "--client-seconds", "0.2", "--max-pixels", "1") as service:
        yield service


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(data=st.data(), body=bodies, kind=kinds)
def test_no_bytes_on_the_wire_are_a_fault(process: Served, data: Any, body: bytes, kind: str) -> None:
    head = f"POST /v1/detect HTTP/1.1\r\nHost: h\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    sent = bytearray(head.encode("latin-1") + body)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, min(len(sent), 120)))
        sent[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        with process.connect() as client:
            client.sendall(sent)
            client.settimeout(5)
            answer = client.recv(65536)
    except ConnectionResetError:
        answer = b""
    assert b" 500 " not in answer[:20], answer
    assert process.process.poll() is None
