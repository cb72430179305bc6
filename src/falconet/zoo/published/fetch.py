"""Published weights by name, in the form that is wanted: fetched once, converted, kept in the user's cache folder."""

import logging
from importlib.resources import files
from pathlib import Path

import falconet
from falconet.core.errors import ConfigError, ModelError
from falconet.core.files import replace_file
from falconet.core.suggest import did_you_mean
from falconet.zoo.published.files import Progress, cache_folder, fetch_files
from falconet.zoo.published.table import DEFAULT, PUBLISHED, Published

_log = logging.getLogger(__name__)


def describe(name: str) -> Published:
    """The published weights of that name.

    Raises:
        ConfigError: there are none; the nearest name is suggested.
    """
    if name not in PUBLISHED:
        hint = did_you_mean(name, PUBLISHED) or f"expected one of: {', '.join(PUBLISHED)}"
        raise ConfigError(f"'{name}' is not the name of published weights; {hint}")
    return PUBLISHED[name]


def describe_whole(name: str) -> Published:
    """As `describe`; raises ModelError for a backbone alone."""
    published = describe(name)
    if published.task == "backbone":
        raise ModelError(f"'{name}' is a backbone alone, to train from: falconet train PRESET train.weights={name}")
    return published


def cached(name: str) -> Path | None:
    """The converted weights in the cache; None where they were not fetched yet. Asks no network."""
    found = [path for path in (_target(name, ".onnx"), _target(name, ".safetensors")) if _is_kept(path)]
    return found[0] if found else None


def fetch_onnx(name: str = DEFAULT, *, progress: Progress | None = None) -> Path:
    """The published detector as a self-describing ONNX file; needs no torch.

    Args:
        name: a key of `PUBLISHED` whose files are an ncnn pair.
        progress: shows how far a download is.

    Raises:
        ConfigError: there is no such name.
        ModelError: it cannot be fetched, is not what it should be, or its conversion needs torch.
    """
    published = describe_whole(name)
    target = _target(name, ".onnx")
    if _is_kept(target):
        return target
    if published.needs_torch:
        raise ModelError(f"'{name}' is published as a checkpoint; 'falconet export {name}' makes an ONNX file of it")
    from falconet.core.manifest import Preprocess
    from falconet.zoo.nanodet.ncnn_to_onnx import convert

    graph, weights = fetch_files(name, published.files, progress=progress)
    size = Preprocess(height=published.side, width=published.side)
    model = convert(graph, weights, preprocess=size, source=published.source, licence=published.licence)
    replace_file(target, model.SerializeToString())
    return _kept(target)


def fetch_weights(name: str, *, whole: bool = True, progress: Progress | None = None) -> Path:
    """The published model as a weights file of ours, for training and export; needs torch.

    Args:
        name: a key of `PUBLISHED`.
        whole: refuse a backbone alone, which only training makes use of.
        progress: shows how far a download is.

    Raises:
        ConfigError, ModelError: as `fetch_onnx`, or the package that brings them is not installed.
    """
    published = describe_whole(name) if whole else describe(name)
    target = _target(name, ".safetensors")
    if _is_kept(target):
        return target
    paths = fetch_files(name, published.files, progress=progress)
    if not published.side:
        from falconet.zoo.classifiers.pretrained import save_published

        return _kept(save_published(paths[0], published, target))
    from falconet.core.manifest import Preprocess
    from falconet.zoo.imported import ImportOptions
    from falconet.zoo.importing import import_files

    size = Preprocess(height=published.side, width=published.side)
    options = ImportOptions(preprocess=size, source=published.source, licence=published.licence)
    import_files(paths, options).save(target)
    return _kept(target)


def imagenet_for(classifier: str) -> str | None:
    """The name of the weights that `imagenet` means for a classifier; None where none are published."""
    return next((name for name, one in PUBLISHED.items() if not one.side and one.model == classifier), None)


def imagenet_names() -> tuple[str, ...]:
    """ImageNet's 1000 classes in the order of the weights' outputs, as torchvision shortens them (BSD-3-Clause)."""
    text = files("falconet.zoo.published").joinpath("imagenet_names.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def _target(name: str, ending: str) -> Path:
    return cache_folder() / f"{name}-{falconet.__version__}{ending}"


def _kept(target: Path) -> Path:
    """`target`, whose size is noted beside it: a full disk or a copied cache may leave half of a file."""
    replace_file(_note(target), str(target.stat().st_size))
    return target


def _is_kept(target: Path) -> bool:
    """Whether a converted file is in the cache, as long as it was; else it is made anew."""
    if not target.is_file():
        return False
    note = _note(target)
    whole = not note.is_file() or note.read_text(encoding="utf-8").strip() == str(target.stat().st_size)
    if not whole:
        _log.warning("%s: has another size than when it was written; it is made anew", target)
    return whole


def _note(target: Path) -> Path:
    return target.with_name(f"{target.name}.size")
