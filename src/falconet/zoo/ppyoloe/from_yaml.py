"""PP-YOLOE's YAML files of PaddleDetection as run files of ours; their `_BASE_` chain is followed through files.

What has a counterpart becomes a run file; key by key, the rest is reported. Needs no torch.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from falconet.core.config import plain, read_yaml
from falconet.core.errors import ConfigError
from falconet.zoo.formats.foreign_yaml import Source, Translation, is_number

BASE = "_BASE_"
KIND = "a YAML file of PaddleDetection's PP-YOLOE, its _BASE_ files included"

ACTIVATIONS = {"swish": "silu", "silu": "silu", "relu": "relu", "leaky": "leaky-relu", "hardswish": "hard-swish"}
BRANCHES = {"convbn": "conv", "repvgg": "repvgg", "None": "none", None: "none"}
WITH_AUXILIARY = "PPYOLOEWithAuxHead"
SIZES = {(0.5, 0.33): "s", (0.75, 0.67): "m", (1.0, 1.0): "l", (1.25, 1.33): "x"}
"""(width, depth) of the variants."""

PUBLISHED_BATCHES = 8
"""GPUs of the published trainings, which YAML files do not mention."""

PRESET_BATCH = 64
"""Of our rate for this model, see `falconet.training.recipes`."""

TRANSFORMS = ("sample_transforms", "batch_transforms")


def is_paddle(tree: Mapping[str, Any]) -> bool:
    """Whether a YAML tree is one of PaddleDetection's."""
    return BASE in tree or "architecture" in tree or "PPYOLOEHead" in tree


def read_chain(path: Path, *, others: Sequence[Path] = ()) -> dict[str, Any]:
    """A YAML file over its bases, over theirs, as plain values.

    Lists of transforms and schedulers become mappings by name: `[{Decode: {}}]` is `{Decode: {}}`, and a scheduler's
    tag is its name.

    Args:
        path: the file; a base is looked for at its path from the file that names it.
        others: files, or folders with files, among which bases are looked for by name where that is not there.

    Raises:
        ConfigError: a file cannot be read or found, or names itself as its base.
    """
    return _read(path, others, ())


def _read(path: Path, others: Sequence[Path], above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise ConfigError(f"{path}: is its own base, by way of {', '.join(str(p) for p in above[1:]) or 'itself'}")
    tree = read_yaml(path)
    merged: dict[str, Any] = {}
    bases = tree.pop(BASE, [])
    for base in [bases] if isinstance(bases, str) else bases:
        found = _find(str(base), path, others)
        _merge(merged, _read(found, others, (*above, path.resolve())))
    _merge(merged, _named(tree))
    return merged


def _find(base: str, path: Path, others: Sequence[Path]) -> Path:
    wanted = path.parent / base
    name = Path(base).name
    for place in (wanted, *(other / name if other.is_dir() else other for other in others)):
        if place.is_file() and place.name == name:
            return place
    raise ConfigError(
        f"{path}: {BASE}: {base} is not there (looked for {wanted}); put it there, or name the file or its folder with "
        "--base"
    )


def _merge(target: dict[str, Any], tree: Mapping[str, Any]) -> None:
    """Put the values of `tree` over those of `target`, mapping by mapping; lists are replaced."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict) and key not in (*TRANSFORMS, "schedulers"):
            _merge(target[key], value)
        else:
            target[key] = value


def _named(tree: Any) -> Any:
    """`tree` as plain values, with lists of transforms and schedulers as mappings by name."""
    if isinstance(tree, Mapping):
        result = {}
        for key, value in tree.items():
            listed = isinstance(value, list) and key in (*TRANSFORMS, "schedulers")
            result[key] = _by_name(value) if listed else _named(value)
        return result
    return plain(tree)


def _by_name(items: Sequence[Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for item in items:
        tag = item.tag.value if isinstance(item, CommentedMap) and item.tag is not None else None
        if tag:
            result[str(tag).lstrip("!")] = plain(item)
        elif isinstance(item, Mapping):
            result |= {key: plain(value) or {} for key, value in item.items()}
    return result


def translate(tree: Mapping[str, Any], name: str) -> Translation:
    """The run file for a PP-YOLOE YAML of PaddleDetection.

    Args:
        tree: what `read_chain` returned.
        name: of the file, for messages.

    Raises:
        ConfigError: it is another kind of file, or its network has no counterpart.
    """
    source = Source(tree, name, KIND)
    model = _model(source)
    side = model["input"]["height"]
    run = {
        "output": f"runs/{Path(str(source.get('weights', 'ppyoloe/final'))).parent.name}",
        "model": model,
        "data": _data(source),
        "augment": _augment(source),
        "train": _train(source, side),
        "criterion": _criterion(source),
    }
    _runtime(source)
    return Translation(run, source.dropped + source.rest())


def _model(source: Source) -> dict[str, Any]:
    architecture = source.need("architecture")
    prefix = f"{architecture}."
    parts = {"backbone": "CSPResNet", "neck": "CustomCSPPAN", "yolo_head": "PPYOLOEHead"}
    if architecture == WITH_AUXILIARY:
        parts["aux_head"] = "SimpleConvHead"
    for part, wanted in parts.items():
        found = source.get(f"{prefix}{part}")
        if found != wanted:
            raise ConfigError(f"{source.name}: {prefix}{part}: {found} has no counterpart; expected {wanted}")
    source.get(f"{prefix}post_process")
    source.expect("norm_type", "sync_bn", "ours is batch norm, in each process for itself")
    width, depth = (float(source.number(key, 1.0)) for key in ("width_mult", "depth_mult"))
    return {
        "name": "ppyoloe",
        "input": _input(source),
        "backbone": _backbone(source, width, depth),
        "neck": _neck(source, width, depth),
        "head": _head(source),
        "selection": {
            "iou_threshold": source.number("PPYOLOEHead.nms.nms_threshold", 0.7),
            "max_detections": int(source.number("PPYOLOEHead.nms.keep_top_k", 300)),
        },
    }


def _backbone(source: Source, width: float, depth: float) -> dict[str, Any]:
    prefix = "CSPResNet."
    variant = SIZES.get((width, depth))
    backbone: dict[str, Any] = {"name": "cspresnet", "variant": variant or "l"}
    if variant is None:
        backbone |= {"width": width, "depth": depth}
    for key, usual in (("layers", [3, 6, 6, 3]), ("channels", [64, 128, 256, 512, 1024])):
        if (own := source.get(f"{prefix}{key}", usual)) != usual:
            backbone[key] = own
    return backbone | {
        "out_stages": list(source.get(f"{prefix}return_idx", [1, 2, 3])),
        "stem": "large" if source.get(f"{prefix}use_large_stem", False) else "small",
        "alpha": bool(source.get(f"{prefix}use_alpha", False)),
        "activation": _activation(source, f"{prefix}act"),
    }


def _neck(source: Source, width: float, depth: float) -> dict[str, Any]:
    prefix = "CustomCSPPAN."
    channels = source.get(f"{prefix}out_channels", [768, 384, 192])
    growth = next((g for g in (2, 1) if isinstance(channels, list) and _grows(channels, g)), None)
    if growth is None:
        raise ConfigError(
            f"{source.name}: {prefix}out_channels: each level must have twice the channels of the next, or as many"
        )
    if source.get(f"{prefix}stage_num", 1) != 1:
        raise ConfigError(f"{source.name}: {prefix}stage_num: has no counterpart; expected 1")
    return {
        "channels": max(round(channels[-1] * width), 1),
        "growth": growth,
        "blocks": max(round(source.number(f"{prefix}block_num", 3) * depth), 1),
        "pooling": bool(source.get(f"{prefix}spp", False)),
        "alpha": bool(source.get(f"{prefix}use_alpha", False)),
        "activation": _activation(source, f"{prefix}act"),
    }


def _grows(channels: list[Any], factor: int) -> bool:
    return all(is_number(count) for count in channels) and all(a == factor * b for a, b in pairwise(channels))


def _head(source: Source) -> dict[str, Any]:
    prefix = "PPYOLOEHead."
    for key in ("fpn_strides", "eval_input_size", "static_assigner.name", "assigner.name", "nms.name"):
        source.get(f"{prefix}{key}")
    fixed = {
        "grid_cell_scale": 5.0,
        "grid_cell_offset": 0.5,
        "loss_weight": {"class": 1.0, "iou": 2.5, "dfl": 0.5},
        "static_assigner.topk": 9,
        "assigner.topk": 13,
        "assigner.alpha": 1.0,
        "assigner.beta": 6.0,
        "reg_range": None,
    }
    for key, wanted in fixed.items():
        source.expect(f"{prefix}{key}", wanted, f"ours is always {wanted}")
    for key in ("nms_top_k", "score_threshold"):
        source.drop(f"{prefix}nms.{key}", "is that of an evaluation there; see falconet eval --protocol")
    branch = source.get(f"{prefix}attn_conv", "convbn")
    if branch not in BRANCHES:
        raise ConfigError(
            f"{source.name}: {prefix}attn_conv: {branch} has no counterpart; expected convbn, repvgg or None"
        )
    return {
        "reg_max": source.number(f"{prefix}reg_max", 16),
        "branch": BRANCHES[branch],
        "activation": _activation(source, f"{prefix}act"),
    }


def _criterion(source: Source) -> dict[str, Any]:
    epochs = source.number("epoch", 300)
    static = source.number("PPYOLOEHead.static_assigner_epoch", 4) / epochs
    criterion = {
        "class_loss": "varifocal" if source.get("PPYOLOEHead.use_varifocal_loss", True) else "focal",
        "static_share": round(static, 4),
        "close_places": bool(source.get("PPYOLOEHead.assigner.is_close_gt", False)),
    }
    if source.get("architecture") == WITH_AUXILIARY:
        guided = source.number(f"{WITH_AUXILIARY}.detach_epoch", 5) / epochs
        criterion |= {"auxiliary": "keep", "guided_share": round(guided, 4)}
        for key in ("feat_in", "feat_out", "fpn_strides", "reg_max"):
            source.get(f"SimpleConvHead.{key}")  # those of neck and head
        for key, wanted in (("num_convs", 1), ("norm_type", "gn"), ("act", "LeakyReLU")):
            source.expect(f"SimpleConvHead.{key}", wanted, f"ours is always {wanted}")
    return criterion


def _activation(source: Source, path: str) -> str:
    name = source.get(path, "swish")
    if name not in ACTIVATIONS:
        raise ConfigError(
            f"{source.name}: {path}: {name} has no counterpart; expected one of: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def _input(source: Source) -> dict[str, Any]:
    prefix = "EvalReader.sample_transforms."
    for key in ("eval_height", "eval_width", "eval_size"):
        source.get(key)
    height, width = source.numbers(f"{prefix}Resize.target_size", 2, ())
    keep = bool(source.get(f"{prefix}Resize.keep_ratio", False))
    source.get(f"{prefix}Resize.interp")
    for reader in ("TrainReader.batch_transforms", "TestReader.sample_transforms"):
        source.expect(
            f"{reader}.NormalizeImage", source.get(f"{prefix}NormalizeImage"), "training and validation have the same"
        )
    source.expect(
        "TestReader.sample_transforms.Resize", source.get(f"{prefix}Resize"), "ours is that of the EvalReader"
    )
    scale = 255.0 if source.get(f"{prefix}NormalizeImage.is_scale", True) else 1.0
    mean = source.numbers(f"{prefix}NormalizeImage.mean", 3, (0.485, 0.456, 0.406))
    std = source.numbers(f"{prefix}NormalizeImage.std", 3, (0.229, 0.224, 0.225))
    if source.get(f"{prefix}NormalizeImage.norm_type", "mean_std") == "none":
        mean, std = [0, 0, 0], [1, 1, 1]
    return {
        "height": height,
        "width": width,
        "resize": "letterbox" if keep else "stretch",
        "channels": "rgb",
        "mean": [round(value * scale, 6) for value in mean],
        "std": [round(value * scale, 6) for value in std],
    }


def _data(source: Source) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for part, key in (("train", "TrainDataset"), ("val", "EvalDataset")):
        prefix = next((p for p in (f"{key}.", f"{key}.dataset.") if source.get(f"{p}anno_path") is not None), None)
        if prefix is None:
            raise ConfigError(f"{source.name}: {key}.anno_path: is missing; expected {KIND}")
        folder = Path(str(source.get(f"{prefix}dataset_dir", "")))
        data[part] = {"annotations": str(folder / str(source.get(f"{prefix}anno_path")))}
        images = source.get(f"{prefix}image_dir")
        if images is not None:
            data[part]["images"] = str(folder / str(images))
        for known in ("name", "data_fields", "allow_empty"):
            source.get(f"{prefix}{known}")
        source.drop(f"{prefix}label_list", "class names are those of the annotations; see data.classes")
    for key in ("TestDataset", "metric", "num_classes", "map_type"):
        source.get(key)
    if source.get("metric", "COCO") != "COCO":
        source.drop("metric", "validation is COCO's average precision")
    workers = source.number("worker_num")
    if workers is not None:
        data["workers"] = workers
    return data


def _augment(source: Source) -> dict[str, Any]:
    prefix = "TrainReader.sample_transforms."
    for key in ("Decode", "RandomFlip"):
        source.get(f"{prefix}{key}")
    ours = {
        "RandomDistort": "augment.brightness, contrast and saturation are ours",
        "RandomExpand": "augment.scale and translate are ours",
        "RandomCrop": "augment.scale and translate are ours",
    }
    for key, why in ours.items():
        source.drop(f"{prefix}{key}", why)
    flips = source.get(f"{prefix}RandomFlip")
    return {"flip": 0.0 if flips is None else source.number(f"{prefix}RandomFlip.prob", 0.5)}


def _train(source: Source, side: float) -> dict[str, Any]:
    epochs = int(source.number("epoch", 300))
    train: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": int(source.number("TrainReader.batch_size", 8)),
        "reference_batch": PRESET_BATCH,
        "average_decay": float(source.number("ema_decay", 0.9998)) if source.get("use_ema", False) else 0.0,
    }
    for key in ("ema_decay", "ema_black_list", "ema_decay_type", "ema_filter_no_grad"):
        source.get(key)
    source.dropped.append(
        (
            "TrainReader.batch_size",
            f"is that of one GPU and was taken as it stands; published models were trained on {PUBLISHED_BATCHES}",
        )
    )
    sizes = source.get("TrainReader.batch_transforms.BatchRandomResize.target_size")
    if isinstance(sizes, Sequence) and sizes and all(is_number(size) for size in sizes):
        train["multi_scale"] = [round(min(sizes) / side, 4), round(max(sizes) / side, 4)]
    for key in ("random_size", "random_interp", "keep_ratio"):
        source.get(f"TrainReader.batch_transforms.BatchRandomResize.{key}")
    schedule = "LearningRate.schedulers."
    for key in ("LearningRate.base_lr", "OptimizerBuilder"):
        source.drop(key, "ours is AdamW with its own rate and decay")
    for key in ("CosineDecay", "LinearWarmup"):
        source.drop(f"{schedule}{key}", "ours is a cosine after a warm-up, over the steps of the run")
    source.drop("pretrain_weights", "import them with 'falconet import' and pass train.weights")
    return train


def _runtime(source: Source) -> None:
    """Keys about the machine and the framework, and readers whose settings follow from others here."""
    for key in (
        *("use_gpu", "use_xpu", "use_mlu", "use_npu", "log_iter", "save_dir", "snapshot_epoch", "weights", "export"),
        *("print_flops", "print_params", "find_unused_parameters", "custom_black_list", "TestReader"),
        *("EvalReader.sample_transforms.Decode", "EvalReader.sample_transforms.Permute", "EvalReader.batch_size"),
        *(f"TrainReader.batch_transforms.{name}" for name in ("Permute", "PadGT", "FGDMask", "Gt2YoloTarget")),
        *(f"TrainReader.{name}" for name in ("shuffle", "drop_last", "use_shared_memory", "collate_batch")),
    ):
        source.get(key)
