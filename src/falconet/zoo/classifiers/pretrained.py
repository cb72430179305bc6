"""Weights of torchvision, timm and the original repositories as classifiers of ours. Needs torch; unpickles nothing."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray

import falconet
from falconet.core.config import Config
from falconet.core.errors import ConfigError, ModelError
from falconet.models import CLASSIFIERS, Classifier, ClassifierConfig, ModelConfig
from falconet.models.weights import CARD_KEY, ModelCard, save_weights
from falconet.zoo.classifiers.keys import check_fit, convert
from falconet.zoo.formats.paddle_files import read_paddle
from falconet.zoo.formats.torch_files import choose_weights, read_checkpoint
from falconet.zoo.published.fetch import fetch_weights, imagenet_for, imagenet_names
from falconet.zoo.published.files import Progress, cache_folder
from falconet.zoo.published.table import IMAGENET, PUBLISHED, Published

FREE = ("out_stages", "with_last_conv", "activation", "drop_connect", "norm_eps")
"""Options of a backbone that do not change the shapes of its weights."""

CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin", ".tar")


def is_foreign(weights: Path) -> bool:
    """Whether `weights` is a file of another program: a checkpoint, or safetensors without a description of ours."""
    if weights.suffix in CHECKPOINTS:
        return weights.is_file()
    if weights.suffix != ".safetensors" or not weights.is_file():
        return False
    try:
        with safetensors.safe_open(weights, framework="np") as file:
            return CARD_KEY not in (file.metadata() or {})
    except safetensors.SafetensorError:
        return False  # whoever opens it says what is wrong


def is_pretrained(weights: Path) -> bool:
    """Whether `weights` means ImageNet weights by name, and no file or folder of that name is there."""
    name = str(weights)
    known = name == IMAGENET or (name in PUBLISHED and not PUBLISHED[name].side)
    return known and not weights.exists()


def has_imagenet(model: ModelConfig) -> bool:
    """Whether ImageNet weights of the backbone of `model` are published."""
    classifier = classifier_of(model)
    return classifier is not None and imagenet_for(classifier) is not None


def weights_for(model: ModelConfig, weights: Path, *, progress: Progress | None = None) -> Path:
    """A weights file of ours for training `model`: foreign weights, converted once and kept in the cache.

    Args:
        model: a classifier, or a detector whose backbone the weights are for.
        weights: "imagenet", the name of a published classifier, or a foreign file.

    Raises:
        ConfigError: nothing is published for this backbone, or the package that brings it is not installed.
        ModelError: the file cannot be had or read, or is of another network.
    """
    if not is_pretrained(weights):
        return convert_file(weights, model)
    name = str(weights)
    if name == IMAGENET:
        classifier = classifier_of(model)
        found = None if classifier is None else imagenet_for(classifier)
        if found is None:
            what = classifier or f"the backbone {_short(_backbone(model))}"
            raise ConfigError(
                f"train.weights=imagenet: no ImageNet weights of {what} are known; they are for: "
                f"{', '.join(dict.fromkeys(one.model for one in PUBLISHED.values() if not one.side))}"
            )
        name = found
    return fetch_weights(name, whole=False, progress=progress)


def save_published(path: Path, published: Published, target: Path) -> Path:
    """A published classifier's file as the weights file `target` of ours; returns that. Errors as `read_classifier`."""
    config = CLASSIFIERS[published.model]
    backbone = config.backbone.model_copy(update=dict(published.options))
    config = config.model_copy(update={"backbone": backbone})
    trained: Literal["all", "backbone"] = "backbone" if published.task == "backbone" else "all"
    network, classes = read_classifier(path, config, whole=trained == "all")
    card = ModelCard(model=config, classes=classes, trained=trained, source=published.source, licence=published.licence)
    return _save(target, network, card)


def convert_file(path: Path, model: ModelConfig) -> Path:
    """A foreign file as a weights file of ours, for the classifier of which `model` has the backbone.

    Raises:
        ConfigError: the backbone is not that of a published classifier.
        ModelError: as `read_classifier`.
    """
    classifier = classifier_of(model)
    if classifier is None:
        raise ConfigError(
            f"{path}: the backbone {_short(_backbone(model))} is not that of a published classifier, so its weights "
            f"are not known; expected the backbone of one of: {', '.join(CLASSIFIERS)}"
        )
    config = CLASSIFIERS[classifier]
    own = _backbone(model)
    options = {name: getattr(own, name) for name in ("norm_eps", "activation") if hasattr(own, name)}
    if isinstance(model, ClassifierConfig):
        config = config.model_copy(update={"input": model.input})
    else:
        options.pop("activation", None)  # a detector's own choice; the classifier was trained with its own
    config = config.model_copy(update={"backbone": config.backbone.model_copy(update=options)})
    digest = hashlib.sha256(path.read_bytes() + config.model_dump_json().encode()).hexdigest()
    target = cache_folder() / "converted" / f"{path.stem}-{digest[:12]}-{falconet.__version__}.safetensors"
    if target.is_file():
        return target
    network, classes = read_classifier(path, config)
    return _save(target, network, ModelCard(model=config, classes=classes, source=path.name))


def read_classifier(path: Path, config: ClassifierConfig, *, whole: bool = True) -> tuple[Classifier, tuple[str, ...]]:
    """The classifier in a foreign file, in eval mode, and its class names: ImageNet's for 1000, else numbers.

    Args:
        whole: its outputs are there; else the backbone counts alone, and the rest is fresh.

    Raises:
        ModelError: it cannot be read, asks for more than tensors, or is of another network: which keys, which shapes.
    """
    state = _read(path)
    with torch.random.fork_rng(devices=[]):
        target = config.build(1000).state_dict()
        converted = convert(config.backbone.name, state, target)
        output = converted.weights.get("output.weight")
        count = 1000 if output is None or output.ndim != 2 else int(output.shape[0])
        network = config.build(count)
    check_fit(
        converted,
        {key: tuple(value.shape) for key, value in network.state_dict().items()},
        source=str(path),
        prefix="" if whole else "backbone.",
    )
    own = network.state_dict()
    network.load_state_dict(
        {key: _tensor(value).to(own[key].dtype) for key, value in converted.weights.items()}, strict=False
    )
    return network.eval(), imagenet_names() if count == 1000 else tuple(f"class {c}" for c in range(count))


def classifier_of(model: ModelConfig) -> str | None:
    """The published classifier that has the backbone of `model`, whatever stages and activation are asked for."""
    wanted = _shape_options(_backbone(model))
    return next((name for name, one in CLASSIFIERS.items() if _shape_options(one.backbone) == wanted), None)


def _backbone(model: ModelConfig) -> Config:
    backbone: Config = model.backbone
    return backbone


def _shape_options(backbone: Config) -> dict[str, Any]:
    return {key: value for key, value in backbone.model_dump().items() if key not in FREE}


def _short(backbone: Config) -> str:
    return ", ".join(f"{key}={value}" for key, value in _shape_options(backbone).items() if value is not None)


def _read(path: Path) -> Mapping[str, NDArray[Any]]:
    if path.suffix == ".pdparams":
        return read_paddle(path)
    if path.suffix != ".safetensors":
        return choose_weights(read_checkpoint(path), str(path), limit=4 * path.stat().st_size + 4096).state
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {error}") from error


def _tensor(value: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(value))


def _save(target: Path, network: Classifier, card: ModelCard) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{target.parent}: cannot be created: {error.strerror}") from error
    save_weights(target, network, card)
    return target
