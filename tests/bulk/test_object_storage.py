"""Pictures and tables in object storage: a real S3 interface at the loopback address, reached through a poor line."""

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from falconet.bulk.listing import Sources
from falconet.bulk.run import Results, in_streams, run_blocks
from falconet.bulk.storage import storage
from falconet.core.errors import DataError, StorageError
from tests.bulk.conftest import HEAD, run, table

pytest.importorskip("moto", reason="moto is not installed: 'make slow' installs it")

pytestmark = pytest.mark.slow


class Line(BaseHTTPRequestHandler):
    """Hands requests on; the next `refusals` are answered 503, the next `cuts` not at all."""

    protocol_version = "HTTP/1.1"
    refusals = cuts = 0
    target = ""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if type(self).cuts:
            type(self).cuts -= 1
            self.close_connection = True
            self.connection.close()
            return
        if type(self).refusals:
            type(self).refusals -= 1
            self._answer(503, {}, b"<Error><Code>SlowDown</Code><Message>reduce your request rate</Message></Error>")
            return
        headers = {key: value for key, value in self.headers.items() if key.lower() not in ("connection",)}
        asked = urllib.request.Request(self.target + self.path, data=body or None, headers=headers, method=self.command)
        try:
            with urllib.request.urlopen(asked) as found:
                self._answer(found.status, dict(found.headers), found.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, dict(error.headers), error.read())

    def _answer(self, code: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(code)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        for key, value in headers.items():
            if key.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                self.send_header(key, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _hand_on  # noqa: N815


@pytest.fixture(scope="module")
def line() -> Iterator[type[Line]]:
    """An S3 server behind a line, and the environment that says where it is."""
    code = (
        "from moto.server import ThreadedMotoServer as S; s = S('127.0.0.1', 0); s.start(); "
        "print(s.get_host_and_port()[1], flush=True); input()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    Line.target = f"http://127.0.0.1:{int(server.stdout.readline())}"
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Line)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    own = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {key: os.environ.get(key) for key in own}
    os.environ.update(own)
    yield Line
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)
    proxy.shutdown()
    server.kill()
    server.wait()


@pytest.fixture
def bucket(line: type[Line], folder: Path) -> str:  # noqa: ARG001
    """The pictures of `folder` in a bucket."""
    from pyarrow import fs

    system = fs.S3FileSystem(allow_bucket_creation=True)
    name = f"b{abs(hash(folder)) % 10**9}"
    system.create_dir(name)
    for path in sorted((folder / "in").rglob("*.png")):
        with system.open_output_stream(f"{name}/{path.relative_to(folder).as_posix()}") as stream:
            stream.write(path.read_bytes())
    return f"s3://{name}"


def rows(bucket: str, out: str) -> list[dict]:
    """All rows of tables at an address."""
    for file in storage(out).walk(out):
        if file.path.endswith(".parquet"):
            Path("copy").mkdir(exist_ok=True)
            Path("copy", file.path.rpartition("/")[2]).write_bytes(storage(out).read(file.path))
    return [{**one, "source": one["source"].removeprefix(bucket + "/")} for one in table("copy")]


def told(found: list[dict]) -> list[dict]:
    return [{**one, "error": one["error"] is not None} for one in found]


def test_from_bucket_to_bucket(bucket: str, predictor) -> None:
    done = run(predictor, f"{bucket}/in", out=f"{bucket}/out")
    assert (done.pictures, done.broken) == (30, 1)
    run(predictor)
    assert told(rows(bucket, f"{bucket}/out")) == told(table())
    assert run(predictor, f"{bucket}/in", out=f"{bucket}/out").kept == 30
    about = json.loads(storage(bucket).read(f"{bucket}/out/_falconet.json"))
    assert about["model"] == HEAD["model"]
    run(predictor, f"{bucket}/in/*.png", out="glob")
    assert len(table("glob")) == 30


def test_a_poor_line(bucket: str, predictor, line: type[Line]) -> None:
    line.refusals, line.cuts = 4, 3
    done = run(predictor, f"{bucket}/in", out=f"{bucket}/poor")
    assert (done.pictures, done.broken) == (30, 1)
    assert line.refusals == line.cuts == 0


def test_a_line_that_is_down(bucket: str, predictor, line: type[Line]) -> None:
    sources = Sources([f"{bucket}/in"], pictures=5)
    results = Results("out", HEAD, sources)
    work = in_streams(predictor, results)

    def then_down(blocks):
        for number, step in enumerate(work(blocks)):
            if number == 12:
                line.refusals = 10**6
            yield step

    try:
        with pytest.raises(StorageError, match=r"the storage does not give it.*the same command goes on"):
            run_blocks(then_down, sources, results)
    finally:
        line.refusals = 0
    assert 0 < len(table()) < 30
    run(predictor, f"{bucket}/in")
    assert len(table()) == 30


@pytest.mark.usefixtures("line")
def test_buckets_that_are_not_there() -> None:
    with pytest.raises(DataError, match="s3://absent-bucket/in: no such file or folder"):
        list(Sources(["s3://absent-bucket/in"]).blocks())
