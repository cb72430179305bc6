"""ncnn for C++, built from its source distribution once per user; the layers of our detectors alone."""

import fcntl
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import platformdirs
import pytest

VERSION = "1.0.20261020"
SHA256 = "ad8cdd63e9755cfa8e23b9b6d9ce46156077d80298a89e7c3ba325ffccfca200"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1",
    *(f"-DNCNN_BUILD_{name}=OFF" for name in ("BENCHMARK", "EXAMPLES", "TOOLS")),
    *(f"-DNCNN_{name}=OFF" for name in ("AVX", "ARM82", "BF16", "INT8", "OPENMP", "RUNTIME_CPU", "WEIGHT_QUANT")),
)
"""No instructions that some processors lack, and no second copy of each layer for those that have them."""
LAYERS = {
    *("binaryop", "cast", "clip", "concat", "convolution", "convolutiondepthwise", "crop", "flatten", "innerproduct"),
    *("input", "interp", "memorydata", "noop", "packing", "padding", "permute", "pooling", "reduction", "relu"),
    *("reshape", "sigmoid", "slice", "softmax", "split"),
}
"""Those of a NanoDet-Plus, and those that ncnn itself makes of them."""


def cmake(*words: str | Path) -> None:
    """Run cmake; what it says is told where it fails."""
    done = subprocess.run(["cmake", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]


def built() -> Path:
    """The folder of ncnnConfig.cmake, in the user's cache; of several processes one builds.

    Skips the test where the source cannot be fetched.
    """
    settings = json.dumps([OPTIONS, sorted(LAYERS), platform.platform()])
    root = Path(platformdirs.user_cache_dir("falconet-tests", appauthor=False))
    place = root / f"ncnn-{VERSION}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            source = _source(root)
            known = re.findall(r"^ncnn_add_layer\((\w+)", (source / "src/CMakeLists.txt").read_text(), re.MULTILINE)
            without = [f"-DWITH_LAYER_{name.lower()}=OFF" for name in known if name.lower() not in LAYERS]
            cmake("-S", source, "-B", place / "build", f"-DCMAKE_INSTALL_PREFIX={place}", *OPTIONS, *without)
            cmake("--build", place / "build", "--parallel", "2")
            cmake("--install", place / "build")
            (place / "done").touch()
            shutil.rmtree(place / "build")
            shutil.rmtree(source)
    return place / "lib" / "cmake" / "ncnn"


def _source(root: Path) -> Path:
    """The unpacked source distribution."""
    name = f"ncnn-{VERSION}"
    archive = root / f"{name}.tar.gz"
    if not archive.exists() or hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        archive.write_bytes(_fetched(archive.name))
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256, f"{archive}: is not the one that is known here"
    with tarfile.open(archive) as packed:
        packed.extractall(root, filter="data")
    return root / name


def _fetched(name: str) -> bytes:
    """A file of the package index that pip uses. pip itself refuses it: its version is the day on which it is built."""
    words = ("-m", "pip", "index", "versions", "ncnn", "-vv", "--only-binary", ":all:")
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    found = re.search(rf"https?://\S+/{re.escape(name)}", done.stdout)
    if found is None:
        pytest.skip(f"the package index does not tell where {name} is")
    try:
        with urllib.request.urlopen(found[0], timeout=60) as answer:
            content: bytes = answer.read()
    except (urllib.error.URLError, TimeoutError) as error:
        pytest.skip(f"{name} cannot be fetched: {error}")
    return content
