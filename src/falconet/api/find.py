"""Which model is meant: an exported file, a run folder, a weights file or the name of published weights."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from falconet.core.errors import ConfigError, ModelError
from falconet.core.run_files import find_run, find_weights
from falconet.core.suggest import did_you_mean

if TYPE_CHECKING:
    from falconet.models import ModelConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that is there.

    Attributes:
        path: an exported file or a weights file.
        name: what to call it: the published name, the run's folder or the file without its ending.
        run: the folder of the training run that it belongs to.
    """

    path: Path
    name: str
    run: Path | None = None


def find_model(model: str | Path, *, weights: bool = False, others: Iterable[str] = ()) -> FoundModel:
    """The model that `model` means. Published weights are fetched into the cache, once.

    Args:
        model: an exported file, a weights file, a run folder (its best weights) or a published name; a file or folder
            of that name goes before the published one.
        weights: a weights file is wanted, for torch. Otherwise published weights come as an exported file where that
            needs no torch.
        others: names that the caller knows, to suggest one of them for a wrong one.

    Raises:
        ModelError: nothing there, a folder without weights, or weights that cannot be fetched.
        ConfigError: published weights that need torch, which is not installed.
    """
    path = Path(model)
    if path.exists():
        run = find_run(path)
        named = path.resolve() if path.is_dir() else path.with_suffix("")
        name = (
            run.resolve().name if run is not None and (path.is_dir() or path.suffix == ".safetensors") else named.name
        )
        return FoundModel(find_weights(path) if path.is_dir() else path, name or "model", run)
    from falconet.zoo.published.table import PUBLISHED

    name = str(model)
    if name not in PUBLISHED:
        exported = "" if weights else ", an exported .onnx file"
        raise ModelError(
            f"{name}: no such file; expected a run folder, a weights file{exported} or the name of published "
            f"weights; {_name_like(name, (*PUBLISHED, *others))}".removesuffix("; ")
        )
    return FoundModel(_fetch(name, weights=weights), name)


FILES = (".safetensors", ".onnx", ".pt", ".pth", ".ckpt")
"""Endings of what is no name."""


def _name_like(name: str, known: Iterable[str]) -> str:
    """The known name that is meant, where no path is."""
    return "" if len(Path(name).parts) > 1 or Path(name).suffix in FILES else did_you_mean(name, known)


def tell_unfinished(model: FoundModel) -> None:
    """Say where a run has not come to its end: its weights are those of its best epoch so far."""
    from falconet.core.run_files import unfinished

    if model.run is not None and (epochs := unfinished(model.run)) is not None:
        _log.warning(
            "%s: this run has not come to its end; these weights are the best of its first %d epochs", model.run, epochs
        )


def _fetch(name: str, *, weights: bool) -> Path:
    """The file of published weights in the cache, fetched and converted if need be."""
    from falconet.zoo.published import fetch

    if not weights and not fetch.describe_whole(name).needs_torch:
        return fetch.fetch_onnx(name)
    if find_spec("torch") is None:
        raise ConfigError(
            f"{name}: converting these published weights needs torch, which is not installed; "
            "install it with: pip install 'falconet[train]'"
        )
    return fetch.fetch_weights(name)


def usual_weights(model: "ModelConfig") -> str | None:
    """What `train.weights=auto` stands for: published weights of this network, at whatever input size; else those of a
    detector with the same backbone; else ImageNet weights of a detector's backbone; None where none are published."""
    from falconet.models import CLASSIFIERS, PRESETS, ClassifierConfig
    from falconet.zoo.classifiers.pretrained import has_imagenet
    from falconet.zoo.published.table import IMAGENET, PUBLISHED

    def plain(config: "ModelConfig") -> "ModelConfig":
        size = replace(config.input, height=32, width=32)
        return config.model_copy(
            update={"input": size, **({"selection": None} if hasattr(config, "selection") else {})}
        )

    known = PRESETS | CLASSIFIERS
    task = "classify" if isinstance(model, ClassifierConfig) else "detect"
    others = [name for name, row in PUBLISHED.items() if row.task == task]
    of_all = [name for name in others if plain(known[PUBLISHED[name].model]) == plain(model)]
    if not of_all and task == "detect":
        of_all = [name for name in others if known[PUBLISHED[name].model].backbone == model.backbone]

    def distance(name: str) -> tuple[bool, int]:
        row = PUBLISHED[name]
        return known[row.model].name != model.name, abs(row.side - model.input.height)

    # Where there are several, those of the same kind, whose narrower necks and heads are filled, and of the nearest
    # input size.
    if of_all:
        return min(of_all, key=distance)
    return IMAGENET if task == "detect" and has_imagenet(model) else None


WORDS = ("auto", "coco", "imagenet", "none")
"""What `train.weights` may say instead of a file or a name."""


def weights_to_start_from(weights: str | Path, model: "ModelConfig") -> Path:
    """The weights file that training of `model` starts from.

    Args:
        weights: as in `find_model`; also "imagenet" or a checkpoint of another program, for the backbone of `model`.

    Raises:
        ModelError, ConfigError: as `find_model`; weights of another network.
    """
    from falconet.zoo.classifiers import pretrained
    from falconet.zoo.published import fetch
    from falconet.zoo.published.table import is_published

    if str(weights).lower() == "coco" and not Path(weights).exists():
        usual = usual_weights(model)
        if usual is None or not usual.endswith("-coco"):
            raise ConfigError(
                "train.weights=coco: no COCO weights are published for this network; see 'falconet models'"
            )
        weights = usual
    if pretrained.is_pretrained(Path(weights)) or pretrained.is_foreign(Path(weights)):
        return pretrained.weights_for(model, Path(weights))
    if is_published(weights):  # also the backbone of a detector alone
        return fetch.fetch_weights(str(weights), whole=False)
    return find_model(weights, weights=True, others=WORDS).path
