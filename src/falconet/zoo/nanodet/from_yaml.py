"""YAML files of RangiLyu/nanodet as run files of ours: what has a counterpart, and key by key what has none.

Plain values in, plain values out: the run file is checked by whoever knows what a run is. Needs no torch. Where a key
is missing, the default of the original counts, not ours (github.com/RangiLyu/nanodet, Apache-2.0, nanodet/model/).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from falconet.core.errors import ConfigError
from falconet.core.manifest import IMAGENET_MEAN, IMAGENET_STD
from falconet.zoo.formats.foreign_yaml import Source, Translation, is_number

ACTIVATIONS = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky-relu",
    "SiLU": "silu",
    "HardSwish": "hard-swish",
    "Hardswish": "hard-swish",
}
MODELS = {"NanoDetPlusHead": "nanodet-plus", "NanoDetHead": "nanodet"}
BACKBONES = {
    "ShuffleNetV2": ("ReLU", (2, 3, 4)),
    "GhostNet": ("ReLU", (4, 6, 9)),
    "MobileNetV2": ("ReLU", (1, 2, 4, 6)),
    "EfficientNetLite": ("ReLU6", (2, 4, 6)),
}
"""The original's defaults of `activation` and `out_stages`: backbone/shufflenetv2.py, ghostnet.py, mobilenetv2.py,
efficientnet_lite.py. Those of neck and head are LeakyReLU: fpn/ghost_pan.py, head/nanodet_head.py,
head/nanodet_plus_head.py."""
LAST_CHANNELS = 1280
"""Of MobileNetV2, whose stage 6 ends with a 1x1 convolution (backbone/mobilenetv2.py: last_channel)."""
LOSS_WEIGHTS = {
    "loss_qfl": ("class_weight", 1.0),
    "loss_bbox": ("box_weight", 2.0),
    "loss_dfl": ("distribution_weight", 0.25),
}
"""The losses: their weight's name in our criterion, and its usual value."""


def translate(tree: Mapping[str, Any], name: str) -> Translation:
    """The run file for a YAML of RangiLyu/nanodet.

    Args:
        tree: its content, as plain values.
        name: of the file, for messages.

    Raises:
        ConfigError: it is another kind of file, or its network has no counterpart.
    """
    source = Source(tree, name, "a YAML file of RangiLyu/nanodet")
    model = _model(source)
    names = tuple(str(value) for value in source.get("class_names") or ())
    classes = source.number("model.arch.head.num_classes")
    if names and classes is not None and len(names) != classes:
        raise ConfigError(f"{name}: class_names has {len(names)} names, but model.arch.head.num_classes is {classes}")
    run = {
        "output": str(source.get("save_dir", f"runs/{model['name']}")),
        "model": model,
        "data": _data(source, names),
        "augment": _augment(source),
        "train": _train(source),
    }
    if model["name"] == "nanodet-plus":
        run["criterion"] = _criterion(source, model["neck"]["channels"])
    source.drop("log.interval", "progress is always shown")
    source.expect("evaluator.name", "CocoDetectionEvaluator", "ours is COCO's")
    source.expect("evaluator.save_key", "mAP", "the best weights are those with the best AP")
    inputs = source.get("model.arch.fpn.in_channels")
    return Translation(
        run,
        source.dropped + source.rest(),
        names,
        in_channels=tuple(inputs) if isinstance(inputs, Sequence) and all(map(is_number, inputs)) else None,
        todo=_todo(source),
    )


def _todo(source: Source) -> tuple[str, ...]:
    """What the original is told in its YAML, and ours in the data."""
    parts = [part for part in ("train", "val") if source.get(f"data.{part}.name") == "YoloDataset"]
    return tuple(
        f"data.{part}.annotations: its label files have no class names; write a YOLO .yaml with `names: "
        "[...]` in the order of class_names and the pictures' folders, name it there, and set images to null"
        for part in parts
    )


def _model(source: Source) -> dict[str, Any]:
    head_name = source.need("model.arch.head.name")
    if head_name not in MODELS:
        raise ConfigError(
            f"{source.name}: model.arch.head.name: {head_name} has no counterpart; expected one of: {', '.join(MODELS)}"
        )
    model = MODELS[head_name]
    source.get("model.arch.name")
    channels = source.number("model.arch.fpn.out_channels", 96)
    neck: dict[str, Any] = {"channels": channels}
    fpn = source.need("model.arch.fpn.name")
    if fpn != {"nanodet-plus": "GhostPAN", "nanodet": "PAN"}[model]:
        raise ConfigError(f"{source.name}: model.arch.fpn.name: {fpn} does not go with {head_name} here")
    backbone = _backbone(source)
    if model == "nanodet-plus":
        neck["kernel_size"] = source.number("model.arch.fpn.kernel_size", 5)
        neck["extra_levels"] = source.number("model.arch.fpn.num_extra_level", 0)
        neck["activation"] = _activation(source, "model.arch.fpn.activation")
        neck["depthwise"] = bool(source.get("model.arch.fpn.use_depthwise", False))
        neck["expansion"] = float(source.number("model.arch.fpn.expand", 1))
        neck["blocks"] = int(source.number("model.arch.fpn.num_blocks", 1))
        neck["residual"] = bool(source.get("model.arch.fpn.use_res", False))
        neck["upsampling"] = str(source.get("model.arch.fpn.upsample_cfg.mode", "bilinear"))
        source.expect("model.arch.fpn.upsample_cfg.scale_factor", 2, "ours goes to the size of the finer level")
    _implied_neck(source)
    return {
        "name": model,
        "input": _input(source),
        "backbone": backbone,
        "neck": neck,
        "head": _head(source, model, channels),
    }


def _implied_neck(source: Source) -> None:
    """Keys of the neck that follow from others here."""
    for key in ("in_channels", "num_outs", "start_level", "end_level"):
        source.get(f"model.arch.fpn.{key}")


def _head(source: Source, model: str, neck_channels: int) -> dict[str, Any]:
    prefix = "model.arch.head."
    for key in ("input_channel", "strides", "scales_per_octave", "assigner_cfg"):
        source.get(f"{prefix}{key}")
    norm = source.get(f"{prefix}norm_cfg.type", "BN")
    if norm not in ("BN", "SyncBN", "GN"):  # SyncBN is BN whose statistics several processes share
        raise ConfigError(f"{source.name}: {prefix}norm_cfg.type: {norm} has no counterpart; expected BN, SyncBN or GN")
    for key in ("num_groups", "requires_grad"):
        source.get(f"{prefix}norm_cfg.{key}")
    source.expect(f"{prefix}ignore_iof_thr", -1, "boxes to ignore are not used")
    for loss, (_, weight) in LOSS_WEIGHTS.items():
        source.get(f"{prefix}loss.{loss}.name")
        if model == "nanodet":
            source.expect(f"{prefix}loss.{loss}.loss_weight", weight, f"ours is always {weight}")
    source.expect(f"{prefix}loss.loss_qfl.use_sigmoid", True, "ours is a sigmoid")
    if model == "nanodet":
        source.expect(f"{prefix}loss.loss_qfl.beta", 2.0, "ours is always 2")
        source.expect(f"{prefix}octave_base_scale", 5, "ours is always 5")
    shared = model == "nanodet-plus" or bool(source.get(f"{prefix}share_cls_reg", False))
    return {
        "channels": source.number(f"{prefix}feat_channels", neck_channels),
        "stacked_convs": source.number(f"{prefix}stacked_convs", 2),
        "kernel_size": source.number(f"{prefix}kernel_size", 5 if model == "nanodet-plus" else 3),
        "reg_max": source.number(f"{prefix}reg_max", 7),
        "depthwise": source.get(f"{prefix}conv_type", "DWConv") == "DWConv",
        "shared": shared,
        **({"norm": "group"} if norm == "GN" else {}),
        "activation": _activation(source, f"{prefix}activation"),
    }


def _criterion(source: Source, neck_channels: int) -> dict[str, Any]:
    """How NanoDet-Plus learns: weights of the losses, the auxiliary head, whose other options follow from the model."""
    prefix = "model.arch.aux_head."
    for key in ("name", "num_classes", "strides", "activation", "reg_max", "norm_cfg"):
        source.get(f"{prefix}{key}")
    source.expect(f"{prefix}input_channel", 2 * neck_channels, "ours is twice the neck's channels")
    losses = {
        key: float(source.number(f"model.arch.head.loss.{loss}.loss_weight", weight))
        for loss, (key, weight) in LOSS_WEIGHTS.items()
    }
    width = source.number(f"{prefix}feat_channels", 2 * neck_channels)
    return {
        "detach_epoch": int(source.number("model.arch.detach_epoch", 0)),
        "auxiliary": "keep",
        "auxiliary_convs": int(source.number(f"{prefix}stacked_convs", 4)),
        **({} if width == 2 * neck_channels else {"auxiliary_channels": int(width)}),
        "quality_beta": float(source.number("model.arch.head.loss.loss_qfl.beta", 2.0)),
        **losses,
    }


def _activation(source: Source, path: str, default: str = "LeakyReLU") -> str:
    name = source.get(path, default)
    if name not in ACTIVATIONS:
        raise ConfigError(
            f"{source.name}: {path}: {name} has no counterpart; expected one of: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def _backbone(source: Source) -> dict[str, Any]:
    prefix = "model.arch.backbone."
    name = source.need(f"{prefix}name")
    source.drop(f"{prefix}pretrain", "start from weights with train.weights")
    if name not in BACKBONES:
        raise ConfigError(
            f"{source.name}: {prefix}name: {name} has no counterpart; expected one of: {', '.join(BACKBONES)}"
        )
    activation, stages = BACKBONES[name]
    # The key of earlier versions of MobileNetV2 and GhostNet.
    key = "act" if name in ("MobileNetV2", "GhostNet") and source.get(f"{prefix}act") is not None else "activation"
    if key == "act" and source.get(f"{prefix}activation") is not None:
        raise ConfigError(f"{source.name}: {prefix}act and activation are both there; leave one out")
    common: dict[str, Any] = {
        "activation": _activation(source, f"{prefix}{key}", activation),
        "out_stages": list(source.get(f"{prefix}out_stages", stages)),
    }
    if name == "ShuffleNetV2":
        size = str(source.get(f"{prefix}model_size", "1.5x"))
        if size not in ("0.5x", "1.0x", "1.5x", "2.0x"):
            raise ConfigError(f"{source.name}: {prefix}model_size: {size} is not a size of ShuffleNetV2")
        last = bool(source.get(f"{prefix}with_last_conv", False))
        source.expect(f"{prefix}kernal_size", 3, "ours is always 3")
        return {"name": "shufflenet-v2", "width": float(size[:-1]), **common, "with_last_conv": last}
    if name == "GhostNet":
        return {"name": "ghostnet", "width": float(source.number(f"{prefix}width_mult", 1.0)), **common}
    if name == "MobileNetV2":
        if (last_channels := source.number(f"{prefix}last_channel", LAST_CHANNELS)) != LAST_CHANNELS:
            raise ConfigError(
                f"{source.name}: {prefix}last_channel: is {last_channels}; ours is always {LAST_CHANNELS}"
            )
        width = float(source.number(f"{prefix}width_mult", 1.0))
        return {"name": "mobilenet-v2", "width": width, **common, "with_last_conv": 6 in common["out_stages"]}
    variant = str(source.need(f"{prefix}model_name")).removeprefix("efficientnet_")
    return {"name": "efficientnet-lite", "variant": variant, **common}


def _input(source: Source) -> dict[str, Any]:
    width, height = source.numbers("data.train.input_size", 2, ())
    keep = bool(source.get("data.train.keep_ratio", False))
    normalize = source.get("data.train.pipeline.normalize", [list(IMAGENET_MEAN[::-1]), list(IMAGENET_STD[::-1])])
    for key, wanted in (("input_size", [width, height]), ("keep_ratio", keep), ("pipeline.normalize", normalize)):
        source.expect(f"data.val.{key}", wanted, "training and validation have the same here")
    fits = isinstance(normalize, Sequence) and len(normalize) == 2
    if not fits or not all(isinstance(part, Sequence) and len(part) == 3 for part in normalize):
        raise ConfigError(f"{source.name}: data.train.pipeline.normalize: expected [[3 means], [3 deviations]]")
    return {
        "height": height,
        "width": width,
        "resize": "letterbox" if keep else "stretch",
        "pad_value": 0 if keep else 114,
        "mean": list(normalize[0]),
        "std": list(normalize[1]),
    }


def _data(source: Source, names: tuple[str, ...]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for part in ("train", "val"):
        source.get(f"data.{part}.name")
        source.get(f"data.{part}.class_names")
        data[part] = {
            "annotations": str(source.need(f"data.{part}.ann_path")),
            "images": str(source.need(f"data.{part}.img_path")),
        }
    kind = str(source.get("data.train.name"))
    if kind.lower() not in ("coco", "cocodataset") and names:
        data["classes"] = list(names)
    workers = source.number("device.workers_per_gpu")
    if workers is not None:
        data["workers"] = workers
    return data


def _augment(source: Source) -> dict[str, Any]:
    prefix = "data.train.pipeline."
    result: dict[str, Any] = {
        "scale": source.numbers(f"{prefix}scale", 2, (1, 1)),
        "stretch": [1, 1],
        "translate": source.number(f"{prefix}translate", 0.0),
        "rotate": source.number(f"{prefix}rotation", 0.0),
        "shear": source.number(f"{prefix}shear", 0.0),
        "flip": source.number(f"{prefix}flip", 0.0),
        "brightness": source.number(f"{prefix}brightness", 0.0),
        "contrast": source.numbers(f"{prefix}contrast", 2, (1, 1)),
        "saturation": source.numbers(f"{prefix}saturation", 2, (1, 1)),
    }
    stretch = source.get(f"{prefix}stretch")
    if stretch is not None:
        if not isinstance(stretch, Sequence) or len(stretch) != 2 or any(len(part) != 2 for part in stretch):
            raise ConfigError(f"{source.name}: {prefix}stretch: expected [[low, high], [low, high]]")
        result["stretch"] = list(stretch[0])
        source.expect(f"{prefix}stretch", [list(stretch[0])] * 2, "ours is the same for width and height")
    source.expect(f"{prefix}perspective", 0.0, "pictures are not tilted")
    return result


def _train(source: Source) -> dict[str, Any]:
    train: dict[str, Any] = {"epochs": int(source.number("schedule.total_epochs", 100))}
    gpus = source.get("device.gpu_ids", [0])
    devices = len(gpus) if isinstance(gpus, Sequence) and gpus else 1
    on_cpu = gpus == -1 or gpus == [-1]
    train["accelerator"] = "cpu" if on_cpu else "auto"
    train["devices"] = devices
    train["batch_size"] = int(source.number("device.batchsize_per_gpu", 16)) * devices
    precision = source.get("device.precision", 32)
    train["precision"] = "float32" if precision == 32 else "auto"
    source.expect("device.precision", 32, "half precision here is bfloat16, where the hardware multiplies it")
    train |= _optimiser(source)
    train["warmup_steps"] = int(source.number("schedule.warmup.steps", 0))
    source.expect("schedule.warmup.name", "linear", "ours is linear")
    source.drop("schedule.warmup.ratio", "the warm-up starts near 0")
    train["clip_gradients"] = source.number("grad_clip")
    train["average_decay"] = _average(source)
    scales = source.get("data.train.multi_scale")
    if isinstance(scales, Sequence) and len(scales) == 2 and all(is_number(scale) for scale in scales):
        train["multi_scale"] = list(scales)
    else:
        source.expect("data.train.multi_scale", None, "expected the smallest and the largest factor, as in [0.6, 1.4]")
    interval = source.number("schedule.val_intervals")
    if interval is not None:
        train["validate_every"] = int(interval)
    source.drop("schedule.load_model", "import it with 'falconet import' and pass train.weights")
    source.drop("schedule.resume", "'falconet train --resume FOLDER' goes on with a run")
    return train


def _optimiser(source: Source) -> dict[str, Any]:
    """Optimiser, rate, decay and the end of the schedule."""
    name = source.get("schedule.optimizer.name", "AdamW")
    schedule = source.get("schedule.lr_schedule.name", "CosineAnnealingLR")
    result: dict[str, Any] = {}
    rate = source.number("schedule.optimizer.lr", 1e-3)
    known = name in ("AdamW", "SGD")
    if known:
        result = {"optimizer": name.lower(), "learning_rate": rate, "reference_batch": None}
        result["weight_decay"] = source.number("schedule.optimizer.weight_decay", 0.01 if name == "AdamW" else 0.0)
        if name == "SGD":
            result["momentum"] = source.number("schedule.optimizer.momentum", 0.0)
    else:
        for key in ("name", "lr", "momentum", "weight_decay"):
            source.drop(f"schedule.optimizer.{key}", "ours is AdamW with its own rate and decay, or SGD")
    if schedule == "CosineAnnealingLR" and known:
        result["final_rate"] = source.number("schedule.lr_schedule.eta_min", 0) / rate
        epochs = source.number("schedule.total_epochs", 100)
        source.expect("schedule.lr_schedule.T_max", epochs, "the cosine ends with the run")
    else:
        for key in source.get("schedule.lr_schedule") or {}:
            source.drop(f"schedule.lr_schedule.{key}", "ours is a cosine")
    return result


def _average(source: Source) -> float:
    name = source.get("model.weight_averager.name")
    if name is None:
        return 0.0
    if name != "ExpMovingAverager":
        source.drop("model.weight_averager.name", "ours is an exponential moving average")
    return float(source.number("model.weight_averager.decay", 0.9998))
