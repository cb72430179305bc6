"""A folder that detects in any browser, without a server of ours: the page, the networks and onnxruntime-web."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from falconet.core.calibration import ScoreScale
from falconet.core.card import model_card
from falconet.core.errors import DataError, ModelError
from falconet.core.files import replace_file
from falconet.core.manifest import MANIFEST_KEY, Manifest, read_manifest
from falconet.exporting.nms import OUTPUT, add_selection
from falconet.exporting.ort_web import VERSION, ort_web_files
from falconet.exporting.receipt import Receipt
from falconet.webpage import OFFLINE_FILE, SITE_FILE, page_files

_log = logging.getLogger(__name__)

FLOOR = 0.05
"""Detections that score less are not put out; the page's threshold starts here."""

MODELS_FILE = "models.json"

README = "README.txt"


def write_site(model: Path, out: Path, *, name: str, ort: Path | None = None, receipt: Receipt | None = None) -> None:
    """Write an ONNX file and the page around it into a folder, or add it to the site that is there.

    Files appear one by one, each as a whole, and what refers to others after these.

    Args:
        model: detector or classifier.
        out: new, empty, or a site that this function wrote; a model of the same name is replaced.
        name: what the page calls the model.
        ort: folder of onnxruntime-web; None: the cache, or the npm registry.
        receipt: of the file, where it was compared with torch.

    Raises:
        ModelError: no ONNX file of ours, or onnxruntime-web is missing.
        DataError: `out` holds something else, or cannot be written.
    """
    others = _others(out, name)
    network = _with_selection(model)
    runtime = ort_web_files(ort)
    digest = hashlib.sha256(network.content).hexdigest()
    file = f"models/{digest[:16]}.onnx"
    models = [_described(name, file, digest, network.manifest, receipt), *others]
    content = {f"ort/{one}": data for one, data in runtime.items()} | {file: network.content}
    content[MODELS_FILE] = _json({"models": models})
    page = page_files() | {SITE_FILE: _json({"backend": "browser"}), README: _readme(models).encode()}
    page[OFFLINE_FILE] = _offline_worker(page[OFFLINE_FILE], content | page, page)
    for one, data in (content | page).items():
        replace_file(out / one, data)
    _forget(out, {str(one["file"]) for one in models})


class _Network(NamedTuple):
    """An ONNX file for the page."""

    content: bytes
    manifest: Manifest


def _with_selection(path: Path) -> _Network:
    """A detector with selection inside, which lets in all that may count once scores are calibrated; a classifier as it
    is.

    Raises:
        ModelError: no ONNX file of ours.
    """
    try:
        model = onnx.load(path)
    except Exception as error:  # of protobuf and of the disk
        raise ModelError(f"{path}: cannot be read as an ONNX file: {error}") from error
    props = {one.key: one.value for one in model.metadata_props}
    manifest = read_manifest(props.get(MANIFEST_KEY), str(path))
    if manifest.task == "detect":
        _remove_selection(model.graph)
        scale = ScoreScale(
            manifest.calibration, np.full(len(manifest.classes), FLOOR, np.float32), manifest.selection.max_detections
        )
        wide = scale.wide(manifest.selection)
        add_selection(model, replace(wide, score_threshold=min(FLOOR, wide.score_threshold)))
    return _Network(model.SerializeToString(), manifest)


def _remove_selection(graph: onnx.GraphProto) -> None:
    """Of a file that was exported with `--nms`: its thresholds are not ours."""
    for rows in (graph.node, graph.initializer):
        for one in [one for one in rows if one.name.startswith("select_")]:
            rows.remove(one)
    for output in [one for one in graph.output if one.name == OUTPUT]:
        graph.output.remove(output)


def _described(name: str, file: str, digest: str, manifest: Manifest, receipt: Receipt | None) -> dict[str, Any]:
    """What the page knows of a model: as `GET /v1/models` of a server, and what it takes to run it."""
    metrics = {} if receipt is None else receipt.exported.metrics
    return model_card(name, manifest) | {
        "sha256": digest,
        "engine": f"onnxruntime-web {VERSION}",
        "precision": "",
        "ap": metrics.get("AP"),
        "receipt": receipt and receipt.model_dump(mode="json", exclude={"weights_path", "machine"}),
        "file": file,
        "preprocess": {"resize": manifest.preprocess.resize, "pad_value": manifest.preprocess.pad_value},
        "calibration": [asdict(one) for one in manifest.calibration],
        "max_detections": manifest.selection.max_detections,
    }


def _others(out: Path, name: str) -> list[dict[str, Any]]:
    """The models of the site that is there, but for the one that is written anew.

    Raises:
        DataError: something else is there.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return []
    if not (out / SITE_FILE).is_file() or not (out / MODELS_FILE).is_file():
        raise DataError(
            f"{out}: is no site of 'falconet export --to web'; expected one, or a folder that is empty or new"
        )
    try:
        models = json.loads((out / MODELS_FILE).read_text(encoding="utf-8"))["models"]
        return [one for one in models if one["name"] != name and (out / one["file"]).is_file()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{out / MODELS_FILE}: cannot be read ({error}); remove the folder, and export its models again"
        ) from error


def _offline_worker(text: bytes, content: Mapping[str, bytes], page: Mapping[str, bytes]) -> bytes:
    """The service worker with a version that follows from all content, and the files it keeps from the beginning."""
    version = hashlib.sha256(b"".join(hashlib.sha256(content[one]).digest() for one in sorted(content))).hexdigest()[
        :16
    ]
    kept = json.dumps(["./", *(one for one in sorted(page) if one not in (OFFLINE_FILE, README))])
    changed = text.decode().replace('"VERSION"', f'"{version}"').replace("const FILES = [];", f"const FILES = {kept};")
    assert version in changed, "the page's own file has a place for it"
    assert kept in changed, "the page's own file has a place for them"
    return changed.encode()


def _forget(out: Path, used: set[str]) -> None:
    """Remove networks that no model names any more."""
    for path in sorted((out / "models").glob("*.onnx")):
        if f"models/{path.name}" not in used:
            path.unlink(missing_ok=True)


def _json(tree: Mapping[str, Any]) -> bytes:
    return (json.dumps(tree, ensure_ascii=False, indent=1) + "\n").encode()


def _readme(models: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"  {one['name']}: {one['licence'] or 'its file states no licence'}" for one in models]
    return f"""This folder finds objects in pictures, videos and the camera, in the browser. Pictures leave no computer.

Try it:      python3 -m http.server 8080 --bind 127.0.0.1     in this folder, then open http://localhost:8080
Publish it:  copy the folder to any static host that has https (GitHub Pages, S3, nginx ...), at any path.
             Nothing has to be installed or configured there. The camera works with https and on localhost only.

After the first visit it works without a network. Browsers run a network in several threads on pages that are
isolated; a service worker sees to that from the second request on. Hosts that send these headers spare it the work:
  Cross-Origin-Opener-Policy: same-origin
  Cross-Origin-Embedder-Policy: require-corp

ort/ is onnxruntime-web {VERSION} (MIT licence, Microsoft). Its .asyncify files, 27 MB, are loaded only where the
browser has a graphics card for pages; without them the CPU computes. The page is Falconet's (Apache-2.0).
Licences of the models:
{chr(10).join(lines)}
"""
