"""Published weights by name: fetched once from a server, checked, converted, cached; every way it can fail."""

import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from falconet.api.load import load
from falconet.core.errors import ConfigError, ModelError
from falconet.zoo.published import fetch, table
from falconet.zoo.published import files as published_files
from falconet.zoo.published.fetch import cached, fetch_onnx, fetch_weights
from falconet.zoo.published.files import VARIABLE, PublishedFile
from falconet.zoo.published.table import ACCURACY, DEFAULT, PUBLISHED
from tests.zoo import files
from tests.zoo.shared import CHECKPOINT, GRAPH, WEIGHTS, need


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, counts what is asked for, keeps quiet."""

    asked: list[str] = []  # noqa: RUF012 (shared by the requests of one server)

    def log_message(self, *_: Any) -> None:
        self.asked.append(self.path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no variable set."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(fetch, "cache_folder", lambda: folder)
    monkeypatch.setattr(published_files, "cache_folder", lambda: folder)
    monkeypatch.delenv(VARIABLE, raising=False)
    return folder


@pytest.fixture
def tiny(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny 80-class network that is published as "tiny", and an empty cache."""
    assert not cache.exists()
    folder = tmp_path / "files"
    folder.mkdir()
    contents = dict(zip(("tiny.param", "tiny.bin"), files.nanodet_pair(80), strict=True))
    entries = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        entries.append(PublishedFile(name, ("https://example.org/abc",), hashlib.sha256(content).hexdigest()))
    entry = replace(PUBLISHED[DEFAULT], files=tuple(entries), side=64, source="here")
    monkeypatch.setitem(PUBLISHED, "tiny", entry)
    return folder


@pytest.fixture
def server(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A mirror of the folder `tiny`; the value is what was asked for."""
    Handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tiny))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv(VARIABLE, f"http://127.0.0.1:{httpd.server_port}/")
        yield Handler.asked
        httpd.shutdown()
        thread.join()


class Bar:
    """Counts what a progress bar is told."""

    total = 0

    def __init__(self) -> None:
        self.seen, self.closed = 0, 0

    def update(self, count: int) -> None:
        self.seen += count

    def reset(self) -> None:
        self.seen = 0

    def close(self) -> None:
        self.closed += 1


def all_files(name: str) -> list[Path]:
    return published_files.fetch_files(name, PUBLISHED[name].files)


def test_fetched_once_converted_and_cached(cache: Path, server: list[str]) -> None:
    bar = Bar()
    path = fetch_onnx("tiny", progress=bar)
    assert sorted(server) == ["/tiny.bin", "/tiny.param"]
    assert bar.closed == 2
    assert bar.seen > 0
    assert path.parent == cache
    predictor = load(path, threads=1)
    assert predictor.manifest.source == "here"
    assert predictor.manifest.licence == "Apache-2.0"
    assert predictor.names[0] == "person"
    predictor.predict(np.zeros((30, 50, 3), np.uint8))

    assert fetch_onnx("tiny") == cached("tiny") == path
    path.unlink()
    assert cached("tiny") is None
    assert fetch_onnx("tiny") == path
    assert len(server) == 2  # the files themselves were in the cache

    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert cached("tiny") is None, "half a file is none"
    assert fetch_onnx("tiny").read_bytes() == whole


@pytest.mark.usefixtures("server")
def test_a_mirror_with_another_file(tiny: Path, cache: Path) -> None:
    (tiny / "tiny.bin").write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"/tiny\.bin: is another file than the published one: SHA256"):
        fetch_onnx("tiny")
    assert not list(cache.glob("*.onnx"))
    assert not (cache / "published" / "tiny.bin").exists()


@pytest.mark.usefixtures("server")
def test_a_mirror_without_the_file(tiny: Path) -> None:
    (tiny / "tiny.bin").unlink()
    with pytest.raises(ModelError) as caught:
        fetch_onnx("tiny")
    message = str(caught.value)
    assert "tiny.bin could not be fetched" in message
    assert "(the server answered 404)" in message
    assert message.endswith("put tiny.param and tiny.bin into a folder and set FALCONET_WEIGHTS to it")


@pytest.mark.usefixtures("tiny")
def test_without_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:9/")
    with pytest.raises(ModelError) as caught:
        fetch_onnx("tiny")
    assert str(caught.value) == (
        f"tiny: http://127.0.0.1:9/tiny.param could not be fetched to {cache / 'published'} (there is no connection); "
        "without network, put tiny.param and tiny.bin into a folder and set FALCONET_WEIGHTS to it"
    )


def test_an_offline_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tiny))
    assert all_files("tiny") == [tiny / "tiny.param", tiny / "tiny.bin"]
    assert load(fetch_onnx("tiny"), threads=1).manifest.preprocess.height == 64
    (tiny / "tiny.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"tiny\.bin: is another file than the published one: its sha256 is 2d7116"):
        all_files("tiny")
    (tiny / "tiny.bin").unlink()
    with pytest.raises(ModelError, match=r"tiny\.bin: no such file, but FALCONET_WEIGHTS names this folder"):
        all_files("tiny")


def test_unknown_names() -> None:
    with pytest.raises(ConfigError) as caught:
        fetch_onnx("nanodet-plus-m-416-cocoo")
    assert str(caught.value) == (
        "'nanodet-plus-m-416-cocoo' is not the name of published weights; did you mean 'nanodet-plus-m-416-coco'?"
    )


def test_a_file_of_the_same_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert table.is_published(DEFAULT)
    assert not table.is_published("other")
    Path(DEFAULT).touch()
    assert not table.is_published(DEFAULT)


@pytest.mark.usefixtures("cache")
def test_the_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    need(GRAPH, WEIGHTS)
    monkeypatch.setenv(VARIABLE, str(GRAPH.parent))
    manifest = load(fetch_onnx(), threads=1).manifest
    assert (manifest.model, len(manifest.classes), manifest.preprocess.height) == ("nanodet-plus", 80, 416)


@pytest.mark.usefixtures("cache")
def test_weights_for_training(monkeypatch: pytest.MonkeyPatch) -> None:
    need(CHECKPOINT)
    from falconet.models.weights import load_weights

    monkeypatch.setenv(VARIABLE, str(CHECKPOINT.parent))
    path = fetch_weights("nanodet-m-416-coco")
    _, card = load_weights(path)
    assert (card.model.name, len(card.classes), card.licence) == ("nanodet", 80, "Apache-2.0")
    before = path.stat().st_mtime_ns
    assert fetch_weights("nanodet-m-416-coco") == path
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ModelError, match="is published as a checkpoint; 'falconet export nanodet-m-416-coco'"):
        fetch_onnx("nanodet-m-416-coco")


def test_addresses_name_a_commit() -> None:
    for entry in PUBLISHED.values():
        for file in entry.files:
            assert all(url.startswith("https://") and url.endswith(f"/{file.remote or file.name}") for url in file.urls)
            if any("github" in url for url in file.urls) and entry.task == "detect":
                assert len(file.sha256) == 64
                assert all(re.search(rf"/[0-9a-f]{{12}}/{file.name}$", url) for url in file.urls)


def test_every_size_of_ppyoloe_is_there() -> None:
    for size in "smlx":
        for kind, epochs in (("", 300), ("plus-", 80)):
            (file,) = PUBLISHED[f"ppyoloe-{kind}{size}-coco"].files
            assert file.name == f"ppyoloe_{kind.replace('-', '_')}crn_{size}_{epochs}e_coco.pdparams"


def test_a_file_without_a_checksum_is_taken_and_the_log_says_so(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = PUBLISHED["ppyoloe-plus-s-coco"]
    (tmp_path / entry.files[0].name).write_bytes(b"whatever")
    digest = hashlib.sha256(b"whatever").hexdigest()
    said = f"its authors state no checksum, so it could not be verified; what is used has sha256 {digest}"
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert all_files("ppyoloe-plus-s-coco") == [tmp_path / entry.files[0].name]
    assert said in caplog.text

    caplog.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv(VARIABLE, f"http://127.0.0.1:{httpd.server_port}/")
        (path,) = all_files("ppyoloe-plus-s-coco")
        httpd.shutdown()
        thread.join()
    assert path.read_bytes() == b"whatever"
    assert path.parent == cache / "published"
    assert said in caplog.text


def test_the_first_detection_needs_no_torch(tiny: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "sys.modules['torch'] = None\n"
        "from falconet.zoo.nanodet.ncnn_to_onnx import convert\n"
        "from falconet.core.manifest import Preprocess\n"
        f"folder = pathlib.Path({str(tiny)!r})\n"
        "convert(folder / 'tiny.param', folder / 'tiny.bin', preprocess=Preprocess(height=64, width=64))\n"
        "import falconet.zoo.published.table, falconet.zoo.published.fetch\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_darknets_files_have_two_addresses_and_a_checksum() -> None:
    for name, file in (("darknet53", "yolov3"), ("spp", "yolov3-spp"), ("tiny", "yolov3-tiny")):
        entry = PUBLISHED[f"yolov3-{name}-coco"]
        (found,) = entry.files
        assert len(found.sha256) == 64
        assert found.urls == (
            f"https://data.pjreddie.com/files/{file}.weights",
            f"https://pjreddie.com/media/files/{file}.weights",
        )
        assert entry.task == "detect"


def test_a_backbone_alone_is_to_train_from_only(cache: Path) -> None:
    with pytest.raises(ModelError) as error:
        fetch_onnx("yolov3-darknet53-imagenet")
    assert str(error.value) == (
        "'yolov3-darknet53-imagenet' is a backbone alone, to train from: falconet train PRESET "
        "train.weights=yolov3-darknet53-imagenet"
    )
    assert not cache.exists()


def test_the_table_names_presets_and_classifiers() -> None:
    from falconet.models import CLASSIFIERS, PRESETS

    for name, entry in PUBLISHED.items():
        known = PRESETS if entry.side else CLASSIFIERS
        assert entry.model in known, name
        assert entry.licence
        assert entry.source
    assert set(ACCURACY) <= {*PRESETS, *CLASSIFIERS}
    assert all((one.metric == "COCO AP") == (name in PRESETS) for name, one in ACCURACY.items())
