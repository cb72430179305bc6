"""onnxruntime-web, which runs networks in browsers: out of a folder, or fetched once from the npm registry and kept."""

import logging
import os
import tarfile
from pathlib import Path

from falconet.core.errors import ModelError

_log = logging.getLogger(__name__)

VERSION = "1.30.0"

_SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
"""Of the package; the `integrity` that the registry states for it."""

FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
"""What a site needs of `dist`: three files for the processor, three for a graphics card, which are loaded on demand."""

REGISTRY = "https://registry.npmjs.org"

VARIABLE = "NPM_CONFIG_REGISTRY"
"""Names another registry, as for npm itself."""

_TIMEOUT = 30
"""Seconds without an answer."""


def ort_web_files(folder: Path | None = None) -> dict[str, bytes]:
    """The content of each of `FILES`.

    Args:
        folder: holds them; None: the cache, which is filled from the registry.

    Raises:
        ModelError: one is missing, or the package cannot be fetched or is another one.
    """
    if folder is not None:
        return _read(folder)
    return _unpacked(_fetched())


def _read(folder: Path) -> dict[str, bytes]:
    """Of `folder`, or of the `dist` in it, as the package has it."""
    inside = [one for one in (folder / "package" / "dist", folder / "dist") if one.is_dir()]
    place = inside[0] if inside else folder
    missing = [name for name in FILES if not (place / name).is_file()]
    if missing:
        raise ModelError(
            f"{place}: has no {', '.join(missing)}; expected the folder 'dist' of the npm package onnxruntime-web "
            f"{VERSION}, as 'npm pack onnxruntime-web@{VERSION}' brings it"
        )
    return {name: (place / name).read_bytes() for name in FILES}


def _fetched() -> Path:
    """The package in the cache."""
    import platformdirs
    import pooch  # type: ignore[import-untyped]  # ships no types

    pooch.get_logger().setLevel(logging.WARNING)
    name = f"onnxruntime-web-{VERSION}.tgz"
    registry = (os.environ.get(VARIABLE) or os.environ.get(VARIABLE.lower()) or REGISTRY).rstrip("/")
    url = f"{registry}/onnxruntime-web/-/{name}"
    folder = Path(platformdirs.user_cache_dir("falconet", appauthor=False)) / "npm"
    if not (folder / name).is_file():
        _log.info("fetching onnxruntime-web %s from %s, 33 MB, once", VERSION, registry)
    downloader = pooch.HTTPDownloader(timeout=_TIMEOUT)
    try:
        found = pooch.retrieve(url, known_hash=f"sha512:{_SHA512}", fname=name, path=folder, downloader=downloader)
    except ValueError as error:
        raise ModelError(f"{url}: is another file than the published one: {error}") from error
    except OSError as error:  # of the network (requests' errors are among them) and of the disk
        raise ModelError(
            f"{url}: could not be fetched to {folder} ({error.strerror or 'there is no connection'}); without network, "
            f"unpack the package elsewhere ('npm pack onnxruntime-web@{VERSION}') and pass its folder 'dist' as --ort"
        ) from error
    return Path(found)


def _unpacked(package: Path) -> dict[str, bytes]:
    content = {}
    with tarfile.open(package) as archive:
        for name in FILES:
            stream = archive.extractfile(f"package/dist/{name}")
            assert stream is not None, "the checksum fixes what the package holds"
            content[name] = stream.read()
    return content
