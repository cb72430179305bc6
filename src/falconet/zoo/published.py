"""Published weights by name: fetched once, checked, converted, kept in the user's cache folder.

`FALCONET_WEIGHTS` replaces the public repositories: a folder that holds the files (nothing is fetched then), or
the address of a mirror, below which they lie by name.
"""

import difflib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import falconet
from falconet.core.errors import ConfigError, ModelError
from falconet.core.files import replace_file

_log = logging.getLogger(__name__)

VARIABLE = "FALCONET_WEIGHTS"
DEFAULT = "nanodet-plus-m-416-coco"
"""What `falconet predict` uses when no model is named."""

_TIMEOUT = 30
"""Seconds without an answer."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a public repository at a commit.

    Attributes:
        name: of the file, at the top of the repository unless `path` says otherwise.
        repository: owner/name on GitHub.
        commit: or its first digits.
        sha256: of the content.
    """

    name: str
    repository: str
    commit: str
    sha256: str

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it lies, the better address first."""
        return (
            f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.name}",
            f"https://github.com/{self.repository}/raw/{self.commit}/{self.name}",
        )


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file at addresses without a version, of which a checksum is known all the same.

    Attributes:
        name: of the file.
        addresses: below which it lies, the better one first.
        sha256: of the content.
    """

    name: str
    addresses: tuple[str, ...]
    sha256: str

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it lies, the better address first."""
        return tuple(f"{address}/{self.name}" for address in self.addresses)


@dataclass(frozen=True, slots=True)
class UnpinnedFile:
    """A file of which its authors state no checksum, at an address without a version.

    What lies there is taken, and its checksum is logged: whoever needs the same file again can compare.

    Attributes:
        name: of the file.
        address: below which it lies.
    """

    name: str
    address: str

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it lies."""
        return (f"{self.address}/{self.name}",)


File = RemoteFile | WebFile | UnpinnedFile


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that go by a name.

    Attributes:
        files: what an import of them needs, in this order.
        side: of the square network input they were trained for, pixels.
        source, licence: of the weights.
        published_ap: on COCO val2017, as their authors state it; None where they state none.
        detects: False for the backbone of a detector alone, which only training makes use of.
    """

    files: tuple[File, ...]
    side: int
    source: str
    licence: str
    published_ap: float | None
    detects: bool = True


PADDLE = "https://paddledet.bj.bcebos.com/models"


def _ppyoloe(file: str, title: str, published_ap: float) -> Published:
    return Published(
        files=(UnpinnedFile(f"{file}.pdparams", PADDLE),),
        side=640,
        source=f"PaddlePaddle/PaddleDetection, {title} on COCO, {file}.pdparams",
        licence="Apache-2.0",
        published_ap=published_ap,
    )


REDMON = ("https://data.pjreddie.com/files", "https://pjreddie.com/media/files")


def _darknet(file: str, side: int, title: str, sha256: str | None, *, detects: bool = True) -> Published:
    """Weights of https://pjreddie.com/darknet/yolo: stated are AP50 (57.9, 60.6, 33.1) on COCO test-dev, not AP.

    The checksums are those that independent users of the files published; they agree with each other.
    """
    return Published(
        files=(UnpinnedFile(file, REDMON[0]) if sha256 is None else WebFile(file, REDMON, sha256),),
        side=side,
        source=f"Redmon, Farhadi, {title}, {file} of pjreddie.com/darknet",
        licence="public domain, as darknet (no licence of its own is stated for the weights)",
        published_ap=None,
        detects=detects,
    )


_QENGINEERING = ("Qengineering/NanoDetPlus-ncnn-Raspberry-Pi-4", "25654004a310")

PUBLISHED: dict[str, Published] = {
    "nanodet-plus-m-416-coco": Published(
        files=(
            RemoteFile(
                "nanodet-plus-m_416.param",
                *_QENGINEERING,
                "d79e18ecd8595081bb29fdf0c790a47fcea96fbf58598350569a92e71e915b72",
            ),
            RemoteFile(
                "nanodet-plus-m_416.bin",
                *_QENGINEERING,
                "f7555ca6cb9650ee41e2f0a53fdf46b6e187a2a09792208d8c3eec033b6ac615",
            ),
        ),
        side=416,
        source="RangiLyu/nanodet, NanoDet-Plus-m 416 on COCO; half precision, from Qengineering/"
        "NanoDetPlus-ncnn-Raspberry-Pi-4 at 25654004a310",
        licence="Apache-2.0",
        published_ap=0.304,
    ),
    "nanodet-m-416-coco": Published(
        files=(
            RemoteFile(
                "nanodet_m_416.ckpt",
                "chuaziheng/nanodet-browser-ncnn",
                "9b9054ec9bc6",
                "1dc2b6381647c9d3bed6fe2db74bdae3e183e41a389e4ef5b9a2b3c5ed89b9d0",
            ),
        ),
        side=416,
        source="RangiLyu/nanodet, NanoDet-m 416 on COCO, from chuaziheng/nanodet-browser-ncnn at 9b9054ec9bc6",
        licence="Apache-2.0",
        published_ap=0.235,
    ),
    "ppyoloe-s-coco": _ppyoloe("ppyoloe_crn_s_300e_coco", "PP-YOLOE-s, 300 epochs", 0.430),
    "ppyoloe-m-coco": _ppyoloe("ppyoloe_crn_m_300e_coco", "PP-YOLOE-m, 300 epochs", 0.490),
    "ppyoloe-l-coco": _ppyoloe("ppyoloe_crn_l_300e_coco", "PP-YOLOE-l, 300 epochs", 0.514),
    "ppyoloe-x-coco": _ppyoloe("ppyoloe_crn_x_300e_coco", "PP-YOLOE-x, 300 epochs", 0.523),
    "ppyoloe-plus-s-coco": _ppyoloe("ppyoloe_plus_crn_s_80e_coco", "PP-YOLOE+-s, 80 epochs", 0.437),
    "ppyoloe-plus-m-coco": _ppyoloe("ppyoloe_plus_crn_m_80e_coco", "PP-YOLOE+-m, 80 epochs", 0.498),
    "ppyoloe-plus-l-coco": _ppyoloe("ppyoloe_plus_crn_l_80e_coco", "PP-YOLOE+-l, 80 epochs", 0.529),
    "ppyoloe-plus-x-coco": _ppyoloe("ppyoloe_plus_crn_x_80e_coco", "PP-YOLOE+-x, 80 epochs", 0.547),
    "yolov3-darknet53-coco": _darknet(
        "yolov3.weights",
        416,
        "YOLOv3 on COCO",
        "523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297",
    ),
    "yolov3-spp-coco": _darknet(
        "yolov3-spp.weights",
        608,
        "YOLOv3-SPP on COCO",
        "87a1e8c85c763316f34e428f2295e1db9ed4abcec59dd9544f8052f50de327b4",
    ),
    "yolov3-tiny-coco": _darknet(
        "yolov3-tiny.weights",
        416,
        "YOLOv3-tiny on COCO",
        "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
    ),
    "yolov3-darknet53-imagenet": _darknet(
        "darknet53.conv.74", 416, "the backbone of YOLOv3 trained on ImageNet", None, detects=False
    ),
}
"""Everything that `falconet` fetches by name."""


class Progress(Protocol):
    """A progress bar, as pooch drives it."""

    total: int

    def update(self, count: int) -> object: ...
    def reset(self) -> object: ...
    def close(self) -> object: ...


def is_published(name: str | Path) -> bool:
    """Whether `name` is one of the published weights and no file or folder of that name is there."""
    return str(name) in PUBLISHED and not Path(name).exists()


def describe(name: str) -> Published:
    """The published weights of that name.

    Raises:
        ConfigError: there are none; the nearest name is suggested.
    """
    if name not in PUBLISHED:
        near = difflib.get_close_matches(name, PUBLISHED, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else f"expected one of: {', '.join(PUBLISHED)}"
        raise ConfigError(f"'{name}' is not the name of published weights; {hint}")
    return PUBLISHED[name]


def check_detects(name: str) -> None:
    """Make sure that the published weights of that name are those of a whole detector.

    Raises:
        ConfigError: there is no such name.
        ModelError: they are a backbone's.
    """
    if not describe(name).detects:
        raise ModelError(
            f"'{name}' is the backbone of a detector alone, to train from: falconet train PRESET train.weights={name}"
        )


def cache_folder() -> Path:
    """Where fetched and converted files are kept, by the platform's convention."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("falconet", appauthor=False))


def fetch_onnx(name: str = DEFAULT, *, progress: Progress | None = None) -> Path:
    """The published model as a self-describing ONNX file; needs no torch.

    Args:
        name: a key of `PUBLISHED` whose files are an ncnn pair.
        progress: shows how far a download is.

    Raises:
        ConfigError: there is no such name.
        ModelError: it cannot be fetched, is not what it should be, or comes as a checkpoint only.
    """
    check_detects(name)
    published = describe(name)
    target = cache_folder() / f"{name}-{falconet.__version__}.onnx"
    if target.is_file():
        return target
    if len(published.files) != 2:
        raise ModelError(f"'{name}' is published as a checkpoint; 'falconet export {name}' makes an ONNX file of it")
    from falconet.core.manifest import Preprocess
    from falconet.zoo.ncnn_to_onnx import convert

    graph, weights = fetch_files(name, progress=progress)
    size = Preprocess(height=published.side, width=published.side)
    model = convert(graph, weights, preprocess=size, source=published.source, licence=published.licence)
    replace_file(target, model.SerializeToString())
    return target


def fetch_weights(name: str, *, progress: Progress | None = None) -> Path:
    """The published model as a weights file of ours, for training and export; needs torch. Errors as `fetch_onnx`."""
    published = describe(name)
    target = cache_folder() / f"{name}-{falconet.__version__}.safetensors"
    if target.is_file():
        return target
    from falconet.core.manifest import Preprocess
    from falconet.zoo.importing import import_files

    files = fetch_files(name, progress=progress)
    size = Preprocess(height=published.side, width=published.side)
    imported = import_files(files, preprocess=size, source=published.source, licence=published.licence)
    imported.save(target)
    return target


def fetch_files(name: str, *, progress: Progress | None = None) -> list[Path]:
    """The files of published weights as they were published, from the cache or fetched; checksums are compared.

    Raises:
        ConfigError: there is no such name.
        ModelError: a file is missing, cannot be fetched, or has another checksum.
    """
    published = describe(name)
    place = os.environ.get(VARIABLE, "")
    if place and not place.startswith(("http://", "https://")):
        return [_local(Path(place), file) for file in published.files]
    return [_fetch(name, file, place, progress) for file in published.files]


def _local(folder: Path, file: File) -> Path:
    path = folder / file.name
    if not path.is_file():
        raise ModelError(f"{path}: no such file, but {VARIABLE} names this folder; put {file.name} there")
    if isinstance(file, UnpinnedFile):
        _say_checksum(path, str(path))
        return path
    found = _sha256(path)
    if found != file.sha256:
        raise ModelError(f"{path}: is another file than the published one: its sha256 is {found}, not {file.sha256}")
    return path


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _say_checksum(path: Path, origin: str) -> None:
    _log.warning(
        "%s: its authors state no checksum, so it could not be verified; what is used has sha256 %s",
        origin,
        _sha256(path),
    )


def _fetch(name: str, file: File, mirror: str, progress: Progress | None) -> Path:
    import pooch  # type: ignore[import-untyped]  # ships no types

    pooch.get_logger().setLevel(logging.WARNING)
    urls = (f"{mirror.rstrip('/')}/{file.name}",) if mirror else file.urls
    folder = cache_folder() / "published"
    downloader = pooch.HTTPDownloader(progressbar=progress or False, timeout=_TIMEOUT)
    known = None if isinstance(file, UnpinnedFile) else f"sha256:{file.sha256}"
    reason = ""
    for url in urls:
        try:
            found = pooch.retrieve(url, known_hash=known, fname=file.name, path=folder, downloader=downloader)
            if known is None:
                _say_checksum(Path(found), url)
            return Path(found)
        except ValueError as error:
            raise ModelError(f"{url}: is another file than the published one: {error}") from error
        except OSError as error:  # of the network (requests' errors are among them) and of the disk
            reason = reason or _reason(error)
    raise ModelError(_unreachable(name, file, urls[0], folder, reason))


def _reason(error: OSError) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code}"
    return str(error.strerror) if error.strerror else "there is no connection"


def _unreachable(name: str, file: File, url: str, folder: Path, reason: str) -> str:
    files = " and ".join(each.name for each in PUBLISHED[name].files) if name in PUBLISHED else file.name
    return (
        f"{name}: {url} could not be fetched to {folder} ({reason}); without network, put {files} into a folder and "
        f"set {VARIABLE} to it"
    )
