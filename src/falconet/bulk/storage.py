"""Files on this machine and in object storage, by one set of functions; pyarrow's file systems reach the latter."""

import os
import stat
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol
from urllib.parse import urlsplit

from falconet.core.errors import ConfigError, DataError, StorageError
from falconet.core.files import is_data, replace_file

SCHEMES = ("s3", "gs", "gcs", "hdfs")
"""Of addresses that are read."""

ATTEMPTS = 8
"""Requests to S3 until one is given up, each after a longer wait than the one before."""

PATIENCE = 60
"""Seconds in which Google's storage must answer, repeated requests included."""

CONNECTIONS = 64
"""To object storage at the same time at most; pyarrow's own limit is lower."""


class File(NamedTuple):
    """A file that is there."""

    path: str
    """as it is read again, and stands in the table: with its scheme, `/` between folders"""
    state: str
    """what changes when the file does: its size in bytes, and when it was changed"""


class Storage(Protocol):
    """Files below addresses of one kind. Raises DataError for what is not there, StorageError for all else."""

    def find(self, path: str) -> File | None:
        """The file of this name; None where there is none."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether there is such a folder."""
        ...

    def walk(self, folder: str) -> Iterator[File]:
        """Files below a folder that count as data, by name, folders of folders included."""
        ...

    def read(self, path: str, start: int = 0, size: int = -1) -> bytes:
        """Bytes of a file, from `start`; all that follow where `size` is negative."""
        ...

    def open(self, path: str) -> BinaryIO:
        """The file to read from at any place."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """A file that is there as a whole or not at all."""
        ...

    def move(self, path: str, target: str) -> None:
        """Give a file another name; folders are made."""
        ...


class Local:
    """Files of this machine."""

    def find(self, path: str) -> File | None:
        """The file of this name; None where there is none."""
        try:
            told = os.stat(path)  # noqa: PTH116  (a Path for each of a million files costs seconds)
        except (OSError, ValueError):
            return None
        return File(path, _state(told)) if stat.S_ISREG(told.st_mode) else None

    def is_folder(self, path: str) -> bool:
        """Whether there is such a folder."""
        return Path(path).is_dir()

    def walk(self, folder: str) -> Iterator[File]:
        """Files below a folder that count as data: of each folder its own by name, then those of its folders.

        Links are followed, but for those to a folder that they lie in; one that leads nowhere counts as a file.
        """
        return self._below(folder, frozenset())

    def _below(self, folder: str, above: frozenset[tuple[int, int]]) -> Iterator[File]:
        try:
            told = os.stat(folder)  # noqa: PTH116
            with os.scandir(folder) as found:
                entries = sorted((one for one in found if is_data(one.name)), key=lambda one: one.name)
        except OSError as error:
            raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from error
        own = told.st_dev, told.st_ino
        if own in above and own != (0, 0):
            return
        for one in entries:
            path = one.path.replace(os.sep, "/")
            if one.is_file():
                yield File(path, _state(one.stat()))
            elif one.is_symlink() and not one.is_dir():
                yield File(path, "")
        for one in entries:
            if one.is_dir():
                yield from self._below(one.path, above | {own})

    def read(self, path: str, start: int = 0, size: int = -1) -> bytes:
        """Bytes of a file. Raises DataError where it cannot be read."""
        with self.open(path) as stream:
            try:
                stream.seek(start)
                return stream.read(size)
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error

    def open(self, path: str) -> BinaryIO:
        """The file to read from. Raises DataError where it cannot be read."""
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
                raise DataError(f"{path}: is no file")
            return Path(path).open("rb")
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error

    def write(self, path: str, data: bytes) -> None:
        """A file that is there as a whole or not at all, also after a power failure. Raises DataError."""
        replace_file(Path(path), data, sync=True)

    def move(self, path: str, target: str) -> None:
        """Give a file another name. Raises DataError."""
        try:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(path).replace(target)
        except OSError as error:
            raise DataError(f"{path}: cannot be moved to {target}: {error.strerror or error}") from error


class Remote:
    """Files of one kind of object storage, such as S3.

    Args:
        scheme: of its addresses.
        system: pyarrow's file system.
        host: of HDFS, `HOST:PORT`, which its paths do not name; empty for buckets, which are parts of paths.
    """

    def __init__(self, scheme: str, system: Any, host: str = "") -> None:
        self._scheme, self._system, self._host = scheme, system, host

    def find(self, path: str) -> File | None:
        """The file of this name; None where there is none."""
        told = self._told(path, lambda: self._system.get_file_info(self._bare(path)))
        return File(path, _remote_state(told)) if told.is_file else None

    def is_folder(self, path: str) -> bool:
        """Whether anything lies below this address."""
        bare = self._bare(path)
        return bool(self._told(path, lambda: self._system.get_file_info(bare)).type.name == "Directory")

    def walk(self, folder: str) -> Iterator[File]:
        """Files below an address that count as data, one folder after the other, so that no list becomes long."""
        from pyarrow.fs import FileSelector

        if self._scheme == "gs":
            yield from self._walk_whole(folder)
            return
        entries = self._told(folder, lambda: self._system.get_file_info(FileSelector(self._bare(folder))))
        entries = sorted((one for one in entries if is_data(one.base_name)), key=lambda one: one.base_name)
        for one in entries:
            if one.is_file:
                yield File(self._named(one.path), _remote_state(one))
        for one in entries:
            if not one.is_file:
                yield from self.walk(self._named(one.path))

    def _walk_whole(self, folder: str) -> Iterator[File]:
        """The same where folders are only known to pyarrow if a marker stands for them, which few programs write."""
        from pyarrow.fs import FileSelector

        bare = self._bare(folder)
        entries = self._told(folder, lambda: self._system.get_file_info(FileSelector(bare, recursive=True)))
        for one in sorted((one for one in entries if one.is_file), key=lambda one: one.path):
            if all(map(is_data, one.path.removeprefix(bare + "/").split("/"))):
                yield File(self._named(one.path), _remote_state(one))

    def read(self, path: str, start: int = 0, size: int = -1) -> bytes:
        """Bytes of a file."""

        def take() -> bytes:
            with self._system.open_input_file(self._bare(path)) as stream:
                stream.seek(start)
                return bytes(stream.read() if size < 0 else stream.read(size))

        return bytes(self._told(path, take))

    def open(self, path: str) -> BinaryIO:
        """The file to read from; each place it is read at is a request."""
        opened: BinaryIO = self._told(path, lambda: self._system.open_input_file(self._bare(path)))
        return opened

    def write(self, path: str, data: bytes) -> None:
        """A file, which appears when its upload is complete."""

        def put() -> None:
            with self._system.open_output_stream(self._bare(path)) as stream:
                stream.write(data)

        self._told(path, put)

    def move(self, path: str, target: str) -> None:
        """Give a file another name; folders are made where the storage has any."""
        bare = self._bare(target)
        if self._scheme == "hdfs":
            self._told(target, lambda: self._system.create_dir(bare.rpartition("/")[0], recursive=True))
        self._told(path, lambda: self._system.move(self._bare(path), bare))

    def _bare(self, path: str) -> str:
        bare = path.partition("://")[2]
        return f"/{bare.partition('/')[2]}".rstrip("/") or "/" if self._scheme == "hdfs" else bare.rstrip("/")

    def _named(self, bare: str) -> str:
        """The address of a path that the storage tells."""
        return f"hdfs://{self._host}/{bare.lstrip('/')}" if self._scheme == "hdfs" else f"{self._scheme}://{bare}"

    def _told(self, path: str, do: Any) -> Any:
        """What `do` gives; its errors in words."""
        try:
            return do()
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file or folder") from error
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            if self._scheme == "gs" and "OAuth2" in reason:
                raise StorageError(
                    f"{path}: no credentials of Google's are found; let GOOGLE_APPLICATION_CREDENTIALS name a key "
                    "file, or run 'gcloud auth application-default login'"
                ) from error
            raise StorageError(
                f"{path}: the storage does not give it: {reason}. What is finished is kept; the same command goes on"
            ) from error


_LOCAL = Local()


def storage(path: str) -> Storage:
    """The storage that an address belongs to; what has no scheme is a file of this machine.

    Raises:
        ConfigError: an unknown scheme, or pyarrow is not installed for it.
        StorageError: the storage cannot be reached.
    """
    scheme, mark, _ = path.partition("://")
    if not mark:
        return _LOCAL
    if scheme not in SCHEMES:
        raise ConfigError(f"{path}: addresses with {scheme}:// are not read; expected {', '.join(SCHEMES)}, or a path")
    bucket = urlsplit(path).netloc if scheme == "hdfs" else ""
    return _remote(scheme, bucket)


def endpoint() -> dict[str, str]:
    """Where S3 is, as Amazon's own programs are told by the environment; pyarrow does not look there by itself."""
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    split = urlsplit(address)
    return {"scheme": split.scheme, "endpoint_override": split.netloc} if split.netloc else {}


def emulator() -> dict[str, Any]:
    """Where a stand-in for Google's storage is, as Google's own programs are told by the environment."""
    address = os.environ.get("STORAGE_EMULATOR_HOST") or ""
    split = urlsplit(address if "://" in address else f"http://{address}")
    return {"scheme": split.scheme, "endpoint_override": split.netloc, "anonymous": True} if split.netloc else {}


@cache
def _remote(scheme: str, host: str) -> Storage:
    import pyarrow
    from pyarrow import fs

    pyarrow.set_io_thread_count(max(pyarrow.io_thread_count(), CONNECTIONS))
    try:
        if scheme == "s3":
            system: Any = fs.S3FileSystem(
                retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS), connect_timeout=10, **endpoint()
            )
        elif scheme in ("gs", "gcs"):
            system = fs.GcsFileSystem(retry_time_limit=timedelta(seconds=PATIENCE), **emulator())
        else:
            system, _ = fs.FileSystem.from_uri(f"{scheme}://{host}/")
    except (OSError, ValueError) as error:
        if scheme == "hdfs" and ("libjvm" in str(error) or "libhdfs" in str(error)):
            raise StorageError(
                f"hdfs://{host}: cannot be reached: Java or Hadoop's own library (libhdfs) is not found; install both, "
                "and let JAVA_HOME, HADOOP_HOME and CLASSPATH (as 'hadoop classpath --glob' prints it) name them"
            ) from error
        raise StorageError(f"{scheme}://{host}: cannot be reached: {' '.join(str(error).split())[:300]}") from error
    except (AttributeError, ImportError) as error:
        raise StorageError(
            f"{scheme}://: this build of pyarrow {pyarrow.__version__} cannot read it ({error}); install that of PyPI"
        ) from error
    return Remote("gs" if scheme == "gcs" else scheme, system, host)


def join(folder: str, name: str) -> str:
    """A name below a folder of any storage."""
    return f"{folder.rstrip('/')}/{name}" if folder not in ("", ".") else name


def is_remote(path: str) -> bool:
    """Whether it is an address, not a path of this machine."""
    return "://" in path


def _state(told: os.stat_result) -> str:
    return f"{told.st_size} {told.st_mtime_ns}"


def _remote_state(told: Any) -> str:
    return f"{told.size} {told.mtime_ns or 0}"
