"""Google's storage and HDFS: what is said where they are missing, their addresses, and a stand-in for Google's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

import falconet.bulk.storage as module
from falconet.bulk.storage import Remote, emulator, storage
from falconet.core.errors import ConfigError, StorageError
from tests.bulk.conftest import run, table

EMULATOR = """
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
server.start()
print(server._api._httpd.socket.getsockname()[1], flush=True)
input()
"""


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    module._remote.cache_clear()
    yield
    module._remote.cache_clear()


def test_hdfs_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        @staticmethod
        def from_uri(_: str):
            raise OSError("Unable to load libjvm\ndlopen(/usr/lib/jvm/default-java/libjvm.so) failed")

    monkeypatch.setattr(fs, "FileSystem", Missing)
    with pytest.raises(StorageError, match=r"^hdfs://node:8020: cannot be reached: Java or Hadoop's own .*JAVA_HOME"):
        storage("hdfs://node:8020/pictures")


def test_hdfs_as_it_is_here() -> None:
    if os.environ.get("HADOOP_HOME"):
        pytest.skip("Hadoop is installed here")
    with pytest.raises(StorageError, match=r"^hdfs://127\.0\.0\.1:1: cannot be reached: \S"):
        storage("hdfs://127.0.0.1:1/pictures")


def test_paths_of_hdfs_do_not_name_the_host(folder: Path, predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_remote", lambda scheme, host: Remote(scheme, fs.LocalFileSystem(), host))
    address = f"hdfs://node:8020{folder}/in"
    found = [one.path for one in storage(address).walk(address)]
    assert found[0] == f"{address}/00.png"
    assert len(found) == 30
    assert storage(address).find(found[0]) is not None
    (folder / "far").mkdir()
    out = f"hdfs://node:8020{folder}/far"
    run(predictor, address, out=out)
    (folder / "in" / "29.png").unlink(missing_ok=True)
    (folder / "in" / "deep" / "29.png").unlink()
    run(predictor, address, out=out)
    assert list((folder / "far" / "_superseded").glob("*.parquet"))
    assert len(table("far")) == 29


def test_google_without_credentials() -> None:
    class Refusing:
        def get_file_info(self, _: str):
            raise OSError("google::cloud::Status(UNAVAILABLE: Could not create a OAuth2 access token to authenticate")

    with pytest.raises(StorageError, match=r"^gs://b/x: no credentials of Google's are found; let GOOGLE_APPL"):
        Remote("gs", Refusing()).find("gs://b/x")


def test_a_pyarrow_without_google(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(fs, "GcsFileSystem", raising=False)
    with pytest.raises(StorageError, match=r"^gs://: this build of pyarrow .* cannot read it"):
        storage("gs://bucket/in")


def test_addresses_that_are_not_read() -> None:
    with pytest.raises(ConfigError, match="addresses with abfs:// are not read; expected s3, gs, gcs, hdfs, or"):
        storage("abfs://container@account/in")


def test_where_the_stand_in_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    assert emulator() == {}
    for value in ("127.0.0.1:9023", "http://127.0.0.1:9023"):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", value)
        assert emulator() == {"scheme": "http", "endpoint_override": "127.0.0.1:9023", "anonymous": True}


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator is not installed: 'make slow' installs it")
    server = subprocess.Popen(
        [sys.executable, "-c", EMULATOR],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert server.stdout is not None
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"127.0.0.1:{int(server.stdout.readline())}")
    yield
    server.kill()
    server.communicate()


@pytest.mark.slow
@pytest.mark.usefixtures("google")
def test_from_google_to_google(folder: Path, predictor) -> None:
    """Pictures in folders of folders, which no marker stands for."""
    for path in sorted((folder / "in").rglob("*.png")):
        name = f"gs://bucket/{path.relative_to(folder).as_posix()}"
        storage(name).write(name, path.read_bytes())
    done = run(predictor, "gs://bucket/in", out="gs://bucket/out")
    assert (done.pictures, done.broken) == (30, 1)
    assert run(predictor, "gs://bucket/in", out="gs://bucket/out").kept == 30
    run(predictor)
    run(predictor, "gs://bucket/in", out="here")
    sources = [one["source"].removeprefix("gs://bucket/") for one in table("here")]
    assert sources == [one["source"] for one in table()]
