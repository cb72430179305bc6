"""Complete runs by preset name, and run files from text: what `falconet train` and `falconet config` start from."""

import codecs
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from falconet.core.config import apply_overrides, plain, read_yaml, validate, write_yaml
from falconet.core.errors import ConfigError
from falconet.core.run_files import RUN_FILE, find_run
from falconet.core.suggest import did_you_mean
from falconet.core.terminal import argument
from falconet.models import CLASSIFIERS, PRESETS
from falconet.training.criteria import CRITERIA
from falconet.training.find_data import find_data
from falconet.training.originals import ORIGINALS
from falconet.training.run_config import RunConfig, give_criterion

PLACEHOLDER = "path/to/annotations"

RECIPES: dict[str, dict[str, Any]] = {
    # Minutes, not hours: many small steps, and no auxiliary branch, whose epochs cost three times as much.
    "nanodet-plus-demo": {
        "train": {"epochs": 11, "batch_size": 8, "reference_batch": 8, "weights": None},
        "criterion": {"detach_epoch": 0},
    },
    # As in the original's nanodet_m*.yml: it never stretched.
    **{
        preset: {"augment": {"scale": [0.5, 1.4], "stretch": [1, 1]}}
        for preset in PRESETS
        if preset.startswith("nanodet-m-")
    },
    # Twice the steps for small data, also of PP-YOLOE below. The rate is that of the others: 0.0028 at 8 beats its
    # originals' 0.0004.
    **{preset: {"train": {"batch_size": 8}} for preset in PRESETS if preset.startswith("yolov3-")},
    # Epochs and the share of ATSS as published. AdamW at half of NanoDet-Plus' rate per batch: full convolutions, and
    # several times as many weights.
    **{f"ppyoloe-{size}": {"train": {"epochs": 300, "batch_size": 8, "reference_batch": 64}} for size in "smlx"},
    **{
        f"ppyoloe-plus-{size}": {
            "train": {"epochs": 80, "batch_size": 8, "reference_batch": 64},
            "criterion": {"static_share": 0.375},
        }
        for size in "smlx"
    },
    **{
        f"ppyoloe-plus-t{variant}": {
            "train": {"epochs": 300, "batch_size": 8, "reference_batch": 64},
            "criterion": {"auxiliary": "keep", "close_places": True},
        }
        for variant in ("", "-relu", "-320", "-relu-320")
    },
}
"""Settings of a preset that differ from the defaults of `RunConfig`."""

CLASSIFIER_RECIPE: dict[str, Any] = {
    # On average as large as in validation, which shows whole pictures (arXiv:1906.06423), and not far from the middle.
    "augment": {"scale": [0.75, 1.35], "stretch": [0.85, 1.18], "translate": 0.1, "contrast": [0.7, 1.3]},
    "train": {"epochs": 30, "batch_size": 32, "reference_batch": 32},
}
"""The same for every classifier."""


Recipe = Literal["default", "original"]
"""Ours, for small data and an ordinary CPU, or that of a model's authors."""


def preset_tree(preset: str, recipe: Recipe = "default") -> dict[str, Any]:
    """A complete run of a preset as plain values, without the paths of the data.

    Raises:
        ConfigError: there is no such preset, and the nearest name is suggested; or it has no recipe of its authors.
    """
    known = PRESETS | CLASSIFIERS
    if preset not in known:
        hint = did_you_mean(preset, known)
        raise ConfigError(
            f"'{preset}' is neither a file nor a preset; {hint or 'expected one of: ' + ', '.join(known)} "
            "('falconet models' lists the presets)"
        )
    tree: dict[str, Any] = {"output": f"runs/{preset}", "model": known[preset].model_dump(mode="json")}
    if recipe == "original":
        if preset not in ORIGINALS:
            raise ConfigError(
                f"{preset}: its authors' recipe is not known here; expected one of: {', '.join(ORIGINALS)}"
            )
        return tree | plain(ORIGINALS[preset])
    settings = plain(CLASSIFIER_RECIPE if preset in CLASSIFIERS else RECIPES.get(preset, {}))
    settings["train"] = {"weights": "auto", **settings.get("train", {})}
    return tree | settings


def preset_text(preset: str, recipe: Recipe = "default") -> str:
    """The complete run file of a preset, with a comment behind each value."""
    tree = preset_tree(preset, recipe) | {"data": {"train": {"annotations": PLACEHOLDER}}}
    return write_yaml(validate(RunConfig, tree, name=preset), comments=True)


def read_run(source: str | Path, overrides: Sequence[str] = (), recipe: Recipe = "default") -> RunConfig:
    """The run that a run file or a preset name describes, with `a.b=c` overrides applied.

    Args:
        source: run file or preset.
        overrides: of single keys.
        recipe: of a preset.

    Raises:
        ConfigError: neither a file nor a preset, or a file beside a recipe; every wrong key and value at once.
    """
    path = Path(source)
    if path.is_dir():
        raise ConfigError(
            f"{path}: is a folder; expected a run file or a preset name (an interrupted run goes on with "
            f"'falconet train --resume {argument(path)}')"
        )
    is_file = path.is_file() or path.suffix in (".yaml", ".yml")
    if is_file:
        _refuse_binary(path)
    if is_file and recipe != "default":
        raise ConfigError(f"{source}: is a run file, which says everything; a recipe belongs to a preset")
    tree = read_yaml(path) if is_file else preset_tree(str(source), recipe)
    # Keys of earlier versions move before and after: an override beats the file, under whichever names.
    give_criterion(tree, lambda key: f"{source}: {key}")
    sources = _sources_first(overrides)
    tree = apply_overrides(tree, _of_new_model(overrides))
    model = tree.get("model")
    classifies = isinstance(model, dict) and model.get("name") == "classifier"
    if sources and (text := _text_of(sources[0], "data")) is not None:
        tree["data"] = text
        sources = sources[1:]
    if isinstance(tree.get("data"), str):
        whole = tree["data"]
        has_val = any(override.startswith("data.val") for override in sources)
        tree["data"] = find_data(whole, image_level_labels=classifies, has_val=has_val)
        if any(override.startswith("data.val.") for override in sources):
            tree["data"].setdefault("val", {"annotations": whole})
    tree = apply_overrides(tree, [_expand(tree, override) for override in sources])
    give_criterion(tree, lambda key: next((f"override '{o}'" for o in overrides if o.startswith(f"{key}=")), key))
    if not is_file and not tree.get("data"):
        raise ConfigError(
            f"preset '{source}': the data is missing; add data=FOLDER with pictures and boxes (or "
            "data.train=train.json data.train.images=photos), or write a run file with 'falconet config'"
        )
    run = validate(RunConfig, tree, name=str(source), overrides=overrides)
    if str(run.data.train.place) == PLACEHOLDER:
        raise ConfigError(f"{source}: data.train.annotations still is '{PLACEHOLDER}'; write your own path there")
    return run


def _refuse_binary(path: Path) -> None:
    """Raise ConfigError where a model, or other data, stands in place of a run file."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return  # whoever reads it says so
    if b"\0" not in head or head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return
    run = find_run(path)
    hint = "" if run is None else f"; did you mean {argument(run / RUN_FILE)}?"
    raise ConfigError(
        f"{path}: holds no text, as a model's file does; expected a run file, as {RUN_FILE} in the folder of "
        f"a run, or a preset name{hint}"
    )


def _of_new_model(overrides: Sequence[str]) -> list[str]:
    """Another model takes its own criterion along: the settings of the old one mean nothing to it."""
    names = [override.removeprefix("model.name=") for override in overrides if override.startswith("model.name=")]
    return [f"criterion.name={name}" for name in names if name in CRITERIA]


def schema_text() -> str:
    """The JSON schema of run files, for editors."""
    return json.dumps(RunConfig.model_json_schema(), indent=2) + "\n"


def _sources_first(overrides: Sequence[str]) -> list[str]:
    """Whole sources, as in `data=photos` and `data.train=photos`, first and the latter as mappings, so that
    `data.train.split=train` may precede."""
    everything, whole, rest = [], [], []
    for override in _shards_together(overrides):
        path = override.partition("=")[0]
        if path == "data":
            everything.append(override)
        elif path in ("data.train", "data.val"):
            text = _text_of(override, path)
            whole.append(override if text is None else f"{path}={{annotations: {json.dumps(text)}}}")
        else:
            rest.append(override)
    return everything[-1:] + whole + rest


def _shards_together(overrides: Sequence[str]) -> list[str]:
    """Several `data.train.shards=...` as one list: a shell makes them of braces that stand outside of quotes."""
    rest = list(overrides)
    for path in ("data.train.shards", "data.val.shards"):
        texts = [text for override in rest if (text := _text_of(override, path)) is not None]
        if len(texts) > 1:
            rest = [override for override in rest if _text_of(override, path) is None]
            rest.append(f"{path}={json.dumps(texts)}")
    return rest


def _text_of(override: str, path: str) -> str | None:
    """The plain text that an override gives to `path`; None where it is of another key, a mapping or nothing."""
    key, _, text = override.partition("=")
    plain_text = text.strip() not in ("", "~", "null") and not text.lstrip().startswith(("{", "[", "'", '"'))
    return text if key == path and plain_text else None


def _expand(tree: dict[str, Any], override: str) -> str:
    """`override`, after a source given as text alone was made a mapping that it can descend into.

    Shards and annotations take each other's place.
    """
    data = tree.get("data")
    for name in ("train", "val"):
        if override.startswith(f"data.{name}.") and isinstance(data, dict) and isinstance(data.get(name), str):
            data[name] = {"annotations": data[name]}
        source = data.get(name) if isinstance(data, dict) else None
        if isinstance(source, dict) and override.startswith(f"data.{name}.shards="):
            for key in ("annotations", "images", "split"):
                source.pop(key, None)
        elif isinstance(source, dict) and override.startswith(f"data.{name}.annotations="):
            source.pop("shards", None)
    return override
