"""Pictures and tables in object storage: a real S3 interface at the loopback address, reached through a poor line."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from falconet.bulk.listing import Sources
from falconet.bulk.run import Results, in_streams, run_blocks
from falconet.bulk.storage import endpoint, storage
from falconet.core.errors import DataError, StorageError
from tests.bulk.conftest import HEAD, run, table
from tests.bulk.line import Line, environment, start_server

pytest.importorskip("moto", reason="moto is not installed: 'make slow' installs it")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    """An S3 server behind a line, and the environment that says where it is."""
    server, port = start_server()
    made = Line(port)
    own = environment(made.port)
    before = {key: os.environ.get(key) for key in own}
    os.environ.update(own)
    yield made
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)
    made.close()
    server.kill()
    server.communicate()


@pytest.fixture
def bucket(line: Line, folder: Path) -> str:  # noqa: ARG001
    """The pictures of `folder` in a bucket."""
    from pyarrow import fs

    system = fs.S3FileSystem(allow_bucket_creation=True, **endpoint())
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


def test_a_poor_line(bucket: str, predictor, line: Line) -> None:
    line.refusals, line.cuts = 4, 3
    line.hang_up()
    done = run(predictor, f"{bucket}/in", out=f"{bucket}/poor")
    assert (done.pictures, done.broken) == (30, 1)
    assert line.refusals == line.cuts == 0


def test_a_line_that_is_down(bucket: str, predictor, line: Line) -> None:
    sources = Sources([f"{bucket}/in"], pictures=5)
    results = Results("out", HEAD, sources)
    work = in_streams(predictor, results)

    def then_down(blocks):
        for number, step in enumerate(work(blocks)):
            if number == 12:
                line.refusals = 10**6
                line.hang_up()
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
