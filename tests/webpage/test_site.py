"""A folder that detects in a browser: what is written, what is kept, what is refused."""

import hashlib
import http.server
import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from falconet.api.web import export_site
from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.core.manifest import Selection
from falconet.exporting import ort_web
from falconet.exporting.web import write_site
from tests.runtime import tiny_model


@pytest.fixture
def ort(tmp_path: Path) -> Path:
    """A folder that looks like onnxruntime-web's."""
    folder = tmp_path / "ort"
    folder.mkdir()
    for name in ort_web.FILES:
        (folder / name).write_text(name)
    return folder


def models(site: Path) -> list[dict]:
    return json.loads((site / "models.json").read_text())["models"]


def test_a_site_has_the_page_the_network_and_its_runtime(tmp_path: Path, ort: Path) -> None:
    write_site(tiny_model.write(tmp_path / "m.onnx"), tmp_path / "site", name="door", ort=ort)
    site = tmp_path / "site"
    assert json.loads((site / "site.json").read_text()) == {"backend": "browser"}
    for name in ("index.html", "app.js", "worker.js", "README.txt", *(f"ort/{one}" for one in ort_web.FILES)):
        assert (site / name).is_file()
    (one,) = models(site)
    assert (one["name"], one["task"], one["classes"]) == ("door", "detect", list(tiny_model.NAMES))
    assert one["sha256"] == hashlib.sha256((site / one["file"]).read_bytes()).hexdigest()
    assert one["score_threshold"] == Selection().score_threshold


def test_the_network_selects_all_that_the_page_may_show(tmp_path: Path, ort: Path) -> None:
    """The page's slider goes below the threshold of the model; a selection inside of the file is replaced."""
    from falconet.exporting.nms import add_selection

    path = tiny_model.write(tmp_path / "m.onnx", batch=1)
    strict = onnx.load(path)
    add_selection(strict, Selection(score_threshold=0.9))
    onnx.save(strict, path)
    write_site(path, tmp_path / "site", name="door", ort=ort)
    (one,) = models(tmp_path / "site")
    session = onnxruntime.InferenceSession(tmp_path / "site" / one["file"])
    image = tiny_model.picture((1, 2, "red"), scale=1, value=30)
    (rows,) = session.run(["detections"], {"pixels": image[None]})
    assert rows.tolist() == [[32, 16, 48, 32, pytest.approx(30 / 255), 2]]


def test_calibrated_scores_get_a_selection_that_lets_them_in(tmp_path: Path, ort: Path) -> None:
    """Scores of 0.02 that are told as 0.5 count, so the network has to put them out."""
    maps = [{"scores": [0, 0.02, 1], "probabilities": [0, 0.5, 1]}] * 3
    manifest = tiny_model.manifest(calibration=maps, calibrated_score_threshold=0.4)
    path = tiny_model.write(tmp_path / "m.onnx", text=manifest.to_json())
    write_site(path, tmp_path / "site", name="door", ort=ort)
    (one,) = models(tmp_path / "site")
    assert one["score_threshold"] == 0.4
    assert one["calibration"] == maps
    session = onnxruntime.InferenceSession(tmp_path / "site" / one["file"])
    (rows,) = session.run(["detections"], {"pixels": tiny_model.picture((0, 0, "blue"), scale=1, value=6)[None]})
    assert np.allclose(rows[:, 4], 6 / 255)


def test_a_further_model_is_added_and_one_of_the_same_name_replaced(tmp_path: Path, ort: Path) -> None:
    path = tiny_model.write(tmp_path / "m.onnx")
    site = tmp_path / "site"
    write_site(path, site, name="b", ort=ort)
    before = (site / "offline-worker.js").read_text()
    write_site(path, site, name="a", ort=ort)
    assert [one["name"] for one in models(site)] == ["a", "b"], "the page opens with the newest"
    assert (site / "offline-worker.js").read_text() != before, "browsers take the new site for another version"
    other = tiny_model.write(tmp_path / "n.onnx", text=tiny_model.manifest(source="elsewhere").to_json())
    write_site(other, site, name="b", ort=ort)
    assert [one["name"] for one in models(site)] == ["b", "a"]
    write_site(other, site, name="a", ort=ort)
    assert [one["source"] for one in models(site)] == ["elsewhere"] * 2
    assert len(list((site / "models").iterdir())) == 1, "networks that nothing names are removed"


def test_the_same_content_is_the_same_version(tmp_path: Path, ort: Path) -> None:
    path = tiny_model.write(tmp_path / "m.onnx")
    for site in ("one", "two"):
        write_site(path, tmp_path / site, name="a", ort=ort)
    workers = [(tmp_path / site / "offline-worker.js").read_text() for site in ("one", "two")]
    assert workers[0] == workers[1]
    kept = json.loads(workers[0].split("const FILES = ")[1].split(";")[0])
    missing = [name for name in kept if not (tmp_path / "one" / name).exists()]
    assert not missing
    assert "app.js" in kept
    assert "offline-worker.js" not in kept, "a worker that keeps itself would never be renewed"


def test_other_folders_are_refused_and_left_alone(tmp_path: Path, ort: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(DataError, match="is no site of 'falconet export --to web'"):
        write_site(tiny_model.write(tmp_path / "m.onnx"), tmp_path / "notes", name="a", ort=ort)
    assert [one.name for one in (tmp_path / "notes").iterdir()] == ["a.txt"]


def test_files_that_are_none_are_refused(tmp_path: Path, ort: Path) -> None:
    (tmp_path / "m.onnx").write_text("no model")
    with pytest.raises(ModelError, match=r"m\.onnx: cannot be read as an ONNX file"):
        write_site(tmp_path / "m.onnx", tmp_path / "site", name="a", ort=ort)
    with pytest.raises(ModelError, match="carries no Falconet manifest"):
        write_site(tiny_model.write(tmp_path / "m.onnx", text=""), tmp_path / "site", name="a", ort=ort)
    assert not (tmp_path / "site").exists()


def test_options_that_mean_nothing_are_refused(tmp_path: Path, ort: Path) -> None:
    path = tiny_model.write(tmp_path / "m.onnx")
    with pytest.raises(TypeError, match="siez"):
        export_site(path, tmp_path / "site", ort=ort, siez=(64, 64))
    with pytest.raises(ConfigError, match="size: the file is taken as it is"):
        export_site(path, tmp_path / "site", ort=ort, size=(64, 64))
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x" * 101, r"--name xxxxxxxxxxxxxxxxxxxx\.\.\.: has 101 letters; expected at most 100"),
        (" ", "--name '': is no name of a model; expected letters, as in --name door"),
        ("a\nb", "is no name of a model"),
    ],
)
def test_names_that_no_list_can_show_are_refused(tmp_path: Path, ort: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        export_site(tiny_model.write(tmp_path / "m.onnx"), tmp_path / "site", ort=ort, name=name)
    assert not (tmp_path / "site").exists()


def test_a_long_name_is_the_pages_and_no_files(tmp_path: Path, ort: Path) -> None:
    name = "doors / windows " + "x" * 84
    export_site(tiny_model.write(tmp_path / "m.onnx"), tmp_path / "site", ort=ort, name=name)
    assert [one["name"] for one in models(tmp_path / "site")] == [name]


def test_a_folder_without_onnxruntime_web_is_told(tmp_path: Path, ort: Path) -> None:
    (ort / ort_web.FILES[2]).unlink()
    with pytest.raises(ModelError, match=rf"has no {ort_web.FILES[2]}; expected the folder 'dist' of the npm package"):
        write_site(tiny_model.write(tmp_path / "m.onnx"), tmp_path / "site", name="a", ort=ort)


class Registry(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def registry(tmp_path: Path, ort: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A local server in the place of the npm registry, with a package; its folder."""
    folder = tmp_path / "registry"
    package = folder / "onnxruntime-web/-" / f"onnxruntime-web-{ort_web.VERSION}.tgz"
    package.parent.mkdir(parents=True)
    with tarfile.open(package, "w:gz") as archive:
        for name in ort_web.FILES:
            archive.add(ort / name, f"package/dist/{name}")
    monkeypatch.setattr(ort_web, "_SHA512", hashlib.sha512(package.read_bytes()).hexdigest())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Registry, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(ort_web.VARIABLE, f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield package
    server.shutdown()
    server.server_close()


def test_onnxruntime_web_is_fetched_once(registry: Path) -> None:
    assert ort_web.ort_web_files() == {name: name.encode() for name in ort_web.FILES}
    registry.unlink()
    assert ort_web.ort_web_files() == {name: name.encode() for name in ort_web.FILES}


def test_another_package_is_refused(registry: Path) -> None:
    registry.write_bytes(registry.read_bytes()[:-1])
    with pytest.raises(ModelError, match="is another file than the published one"):
        ort_web.ort_web_files()


def test_a_registry_that_does_not_answer_is_told(registry: Path) -> None:
    registry.unlink()
    with pytest.raises(ModelError, match=r"could not be fetched .*; without network, unpack the package elsewhere"):
        ort_web.ort_web_files()
