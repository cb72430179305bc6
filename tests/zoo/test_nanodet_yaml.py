"""The original's YAML files as run files: every family member translates, nothing is lost silently."""

import copy
from typing import Any

import pytest

from falconet.core.config import validate
from falconet.core.errors import ConfigError
from falconet.models import PRESETS
from falconet.training.run_config import RunConfig
from falconet.zoo.class_lists import COCO_NAMES
from falconet.zoo.nanodet.from_yaml import translate

NORMALIZE = [[103.53, 116.28, 123.675], [57.375, 57.12, 58.395]]
CHANNELS = {"0.5x": [48, 96, 192], "1.0x": [116, 232, 464], "1.5x": [176, 352, 704]}
LOSS = {
    "loss_qfl": {"name": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0, "loss_weight": 1.0},
    "loss_dfl": {"name": "DistributionFocalLoss", "loss_weight": 0.25},
    "loss_bbox": {"name": "GIoULoss", "loss_weight": 2.0},
}


def _data(name: str, side: int, *, keep: bool, stretch: list[float], scale: list[float]) -> dict[str, Any]:
    pipeline = {
        "perspective": 0.0,
        "scale": scale,
        "stretch": [stretch, stretch],
        "rotation": 0,
        "shear": 0,
        "translate": 0.2,
        "flip": 0.5,
        "brightness": 0.2,
        "contrast": [0.6, 1.4],
        "saturation": [0.5, 1.2],
        "normalize": NORMALIZE,
    }
    common = {"name": name, "input_size": [side, side], "keep_ratio": keep}
    paths = {"img_path": "coco/train2017", "ann_path": "coco/annotations/instances_train2017.json"}
    return {
        "train": {**common, **paths, "pipeline": pipeline},
        "val": {**common, **paths, "pipeline": {"normalize": NORMALIZE}},
    }


def plus(side: int, size: str, channels: int, *, batch: int = 96) -> dict[str, Any]:
    """What the YAML files of the NanoDet-Plus family say."""
    activation = {"activation": "LeakyReLU"}
    strides = {"strides": [8, 16, 32, 64], "reg_max": 7, "num_classes": 80, **activation}
    return {
        "save_dir": f"workspace/nanodet-plus-m-{size}_{side}",
        "model": {
            "weight_averager": {"name": "ExpMovingAverager", "decay": 0.9998},
            "arch": {
                "name": "NanoDetPlus",
                "detach_epoch": 10,
                "backbone": {"name": "ShuffleNetV2", "model_size": size, "out_stages": [2, 3, 4], **activation},
                "fpn": {
                    "name": "GhostPAN",
                    "in_channels": CHANNELS[size],
                    "out_channels": channels,
                    "kernel_size": 5,
                    "num_extra_level": 1,
                    "use_depthwise": True,
                    **activation,
                },
                "head": {
                    "name": "NanoDetPlusHead",
                    "input_channel": channels,
                    "feat_channels": channels,
                    "stacked_convs": 2,
                    "kernel_size": 5,
                    "norm_cfg": {"type": "BN"},
                    "loss": LOSS,
                    **strides,
                },
                "aux_head": {
                    "name": "SimpleConvHead",
                    "input_channel": 2 * channels,
                    "feat_channels": 2 * channels,
                    "stacked_convs": 4,
                    **strides,
                },
            },
        },
        "data": _data("CocoDataset", side, keep=False, stretch=[0.8, 1.2], scale=[0.6, 1.4]),
        "device": {"gpu_ids": [0], "workers_per_gpu": 10, "batchsize_per_gpu": batch, "precision": 32},
        "schedule": {
            "optimizer": {"name": "AdamW", "lr": 0.001, "weight_decay": 0.05},
            "warmup": {"name": "linear", "steps": 500, "ratio": 0.0001},
            "total_epochs": 300,
            "lr_schedule": {"name": "CosineAnnealingLR", "T_max": 300, "eta_min": 0.00005},
            "val_intervals": 10,
        },
        "grad_clip": 35,
        "evaluator": {"name": "CocoDetectionEvaluator", "save_key": "mAP"},
        "log": {"interval": 50},
        "class_names": [name.replace(" ", "_") for name in COCO_NAMES],
    }


def first(
    side: int, size: str, channels: int, *, arch: str = "OneStageDetector", data: str = "CocoDataset"
) -> dict[str, Any]:
    """What the YAML files of the first generation say."""
    return {
        "save_dir": f"workspace/nanodet_m_{size}_{side}",
        "model": {
            "arch": {
                "name": arch,
                "backbone": {
                    "name": "ShuffleNetV2",
                    "model_size": size,
                    "out_stages": [2, 3, 4],
                    "activation": "LeakyReLU",
                },
                "fpn": {
                    "name": "PAN",
                    "in_channels": CHANNELS[size],
                    "out_channels": channels,
                    "start_level": 0,
                    "num_outs": 3,
                },
                "head": {
                    "name": "NanoDetHead",
                    "num_classes": 80,
                    "input_channel": channels,
                    "feat_channels": channels,
                    "stacked_convs": 2,
                    "share_cls_reg": True,
                    "octave_base_scale": 5,
                    "scales_per_octave": 1,
                    "strides": [8, 16, 32],
                    "reg_max": 7,
                    "norm_cfg": {"type": "BN"},
                    "loss": LOSS,
                },
            }
        },
        "data": _data(data, side, keep=True, stretch=[1, 1], scale=[0.5, 1.4]),
        "device": {"gpu_ids": [0], "workers_per_gpu": 8, "batchsize_per_gpu": 176},
        "schedule": {
            "optimizer": {"name": "SGD", "lr": 0.14, "momentum": 0.9, "weight_decay": 0.0001},
            "warmup": {"name": "linear", "steps": 300, "ratio": 0.1},
            "total_epochs": 280,
            "lr_schedule": {"name": "MultiStepLR", "milestones": [240, 260, 275], "gamma": 0.1},
            "val_intervals": 10,
        },
        "evaluator": {"name": "CocoDetectionEvaluator", "save_key": "mAP"},
        "log": {"interval": 10},
        "class_names": list(COCO_NAMES),
    }


FAMILY = {
    "nanodet-plus-m-320": plus(320, "1.0x", 96),
    "nanodet-plus-m-416": plus(416, "1.0x", 96),
    "nanodet-plus-m-1.5x-320": plus(320, "1.5x", 128),
    "nanodet-plus-m-1.5x-416": plus(416, "1.5x", 128),
    "nanodet-m-320": first(320, "1.0x", 96, arch="GFL", data="coco"),
    "nanodet-m-416": first(416, "1.0x", 96),
    "nanodet-m-1.5x": first(416, "1.5x", 128),
    "nanodet-m-0.5x": first(320, "0.5x", 96, arch="GFL", data="coco"),
}


def _run(tree: dict[str, Any]) -> RunConfig:
    return validate(RunConfig, translate(tree, "nanodet.yml").run, name="translated")


@pytest.mark.parametrize("name", FAMILY)
def test_every_member_translates_into_its_preset(name: str) -> None:
    run = _run(FAMILY[name])
    if name in PRESETS:
        assert run.model == PRESETS[name]
    assert run.train.validate_every == 10
    assert str(run.data.train.annotations) == "coco/annotations/instances_train2017.json"
    assert run.data.classes is None  # of COCO files they are in the annotations
    assert run.augment.translate == 0.2
    assert run.augment.flip == 0.5


def test_the_recipe_of_nanodet_plus() -> None:
    translation = translate(FAMILY["nanodet-plus-m-416"], "nanodet.yml")
    run = _run(FAMILY["nanodet-plus-m-416"])
    train = run.train
    assert (train.epochs, train.batch_size, train.learning_rate, train.reference_batch) == (300, 96, 1e-3, None)
    assert (train.weight_decay, train.warmup_steps, train.clip_gradients) == (0.05, 500, 35)
    assert train.final_rate == pytest.approx(0.05)
    assert (train.average_decay, run.criterion.detach_epoch, run.criterion.auxiliary) == (0.9998, 10, "keep")
    assert train.precision == "float32"
    assert translation.dropped == [
        ("schedule.warmup.ratio", "the warm-up starts near 0"),
        ("log.interval", "progress is always shown"),
    ]
    assert translation.class_names[9] == "traffic_light"


def test_what_the_first_generation_loses() -> None:
    translation = translate(FAMILY["nanodet-m-416"], "nanodet.yml")
    assert translation.lines() == [
        "schedule.lr_schedule.name: ours is a cosine",
        "schedule.lr_schedule.milestones: ours is a cosine",
        "schedule.lr_schedule.gamma: ours is a cosine",
        "schedule.warmup.ratio: the warm-up starts near 0",
        "log.interval: progress is always shown",
    ]
    train = _run(FAMILY["nanodet-m-416"]).train
    assert train.average_decay == 0
    assert (train.optimizer, train.learning_rate, train.reference_batch) == ("sgd", 0.14, None)
    assert (train.momentum, train.weight_decay) == (0.9, 0.0001)


def test_an_optimiser_that_is_not_here_is_told() -> None:
    tree = _changed("nanodet-m-416", schedule={"optimizer": {"name": "RMSprop", "lr": 0.01}, "total_epochs": 3})
    translation = translate(tree, "nanodet.yml")
    assert "schedule.optimizer.name: ours is AdamW with its own rate and decay, or SGD" in translation.lines()
    assert _run(tree).train.optimizer == "adamw"


def _changed(name: str, **changes: Any) -> dict[str, Any]:
    """A family member with values at dotted paths (double underscores) changed."""
    tree = copy.deepcopy(FAMILY[name])
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    return tree


def test_xml_data_sets_keep_their_class_names() -> None:
    tree = _changed("nanodet-m-320", data__train__name="XMLDataset", data__val__name="XMLDataset")
    tree["class_names"] = ["a", "b"]
    tree["model"]["arch"]["head"]["num_classes"] = 2
    assert _run(tree).data.classes == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "dropped"),
    [
        (
            {"data__train__pipeline__perspective": 0.1},
            "data.train.pipeline.perspective: is 0.1; pictures are not",
        ),
        (
            {"data__train__pipeline__stretch": [[0.5, 1], [1, 1]]},
            "data.train.pipeline.stretch: is [[0.5, 1], [1, 1]]; ours is the same for width and height",
        ),
        (
            {"data__val__input_size": [320, 320]},
            "data.val.input_size: is [320, 320]; training and validation have the same here",
        ),
        (
            {"schedule__load_model": "m.ckpt"},
            "schedule.load_model: import it with 'falconet import'",
        ),
        ({"data__train__use_instance_mask": True}, "data.train.use_instance_mask: has no counterpart"),
        (
            {"model__arch__backbone__pretrain": True},
            "model.arch.backbone.pretrain: start from weights",
        ),
        ({"device__precision": 16}, "device.precision: is 16; half precision here is bfloat16"),
        ({"something": {"new": 1}}, "something.new: has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_listed(changes: dict[str, Any], dropped: str) -> None:
    tree = _changed("nanodet-plus-m-416", **changes)
    translation = translate(tree, "nanodet.yml")
    validate(RunConfig, translation.run, name="translated")
    assert any(line.startswith(dropped) for line in translation.lines()), translation.lines()


def test_several_gpus_and_none() -> None:
    tree = _changed("nanodet-plus-m-320", device__gpu_ids=[0, 1])
    assert (_run(tree).train.devices, _run(tree).train.batch_size) == (2, 192)
    assert _run(_changed("nanodet-plus-m-320", device__gpu_ids=-1)).train.accelerator == "cpu"


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ({"name": "GhostNet", "width_mult": 1.0, "out_stages": [4, 6, 9]}, ("ghostnet", "relu")),
        ({"name": "ShuffleNetV2", "model_size": "1.0x"}, ("shufflenet-v2", "relu")),
        ({"name": "MobileNetV2", "out_stages": [2, 4, 6]}, ("mobilenet-v2", "relu")),
        ({"name": "MobileNetV2", "out_stages": [2, 4, 6], "act": "ReLU6"}, ("mobilenet-v2", "relu6")),
        ({"name": "EfficientNetLite", "model_name": "efficientnet_lite0"}, ("efficientnet-lite", "relu6")),
        ({"name": "MobileNetV2", "width_mult": 0.75, "activation": "ReLU6"}, ("mobilenet-v2", "relu6")),
        (
            {"name": "EfficientNetLite", "model_name": "efficientnet_lite1", "activation": "ReLU6"},
            ("efficientnet-lite", "relu6"),
        ),
    ],
)
def test_other_backbones(backbone: dict[str, Any], expected: tuple[str, str]) -> None:
    found = _run(_changed("nanodet-plus-m-320", model__arch__backbone=backbone)).model.backbone
    assert (found.name, found.activation) == expected


def test_stages_of_the_original_where_none_are_named() -> None:
    found = _run(_changed("nanodet-plus-m-320", model__arch__backbone={"name": "MobileNetV2"})).model.backbone
    assert (found.out_stages, found.with_last_conv) == ((1, 2, 4, 6), True)
    assert found.build().channels == (24, 32, 96, 1280)
    without = {"name": "MobileNetV2", "out_stages": [2, 4, 5]}
    assert not _run(_changed("nanodet-plus-m-320", model__arch__backbone=without)).model.backbone.with_last_conv
    assert translate(FAMILY["nanodet-plus-m-320"], "x").in_channels == (116, 232, 464)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__arch__head": {"name": "GFLHead"}}, "GFLHead has no counterpart; expected one of: NanoDetPlusHead,"),
        ({"model__arch__backbone": {"name": "RepVGG"}}, "RepVGG has no counterpart; expected one of: ShuffleNetV2,"),
        ({"model__arch__fpn__name": "TAN"}, "model.arch.fpn.name: TAN does not go with NanoDetPlusHead here"),
        ({"model__arch__head__activation": "GELU"}, "model.arch.head.activation: GELU has no counterpart"),
        ({"data__train__input_size": [320]}, "data.train.input_size: expected 2 numbers, but got [320]"),
        ({"data__train__ann_path": None}, "data.train.ann_path: is missing; expected a YAML file of RangiLyu/nanodet"),
        ({"class_names": ["a"]}, "class_names has 1 names, but model.arch.head.num_classes is 80"),
        ({"schedule__total_epochs": "many"}, "schedule.total_epochs: expected a number, but got many"),
        (
            {"model__arch__backbone": {"name": "MobileNetV2", "last_channel": 320}},
            "model.arch.backbone.last_channel: is 320; ours is always 1280",
        ),
        (
            {"model__arch__backbone": {"name": "GhostNet", "act": "ReLU", "activation": "ReLU6"}},
            "model.arch.backbone.act and activation are both there; leave one out",
        ),
        ({"model__arch__backbone__model_size": "3x"}, "model_size: 3x is not a size of ShuffleNetV2"),
    ],
)
def test_what_cannot_be_translated(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        translate(_changed("nanodet-plus-m-416", **changes), "nanodet.yml")
    assert str(caught.value).startswith("nanodet.yml: ")
    assert message in str(caught.value)


def test_another_kind_of_file() -> None:
    with pytest.raises(ConfigError, match=r"x\.yml: model\.arch\.head\.name: is missing; expected a YAML file of"):
        translate({"nc": 80}, "x.yml")


def test_heads_that_do_not_share() -> None:
    run = _run(_changed("nanodet-m-320", model__arch__head__share_cls_reg=False))
    assert run.model.head.shared is False
    assert run.model.build(3).head.box_outputs is not None


def test_options_of_neck_head_and_losses() -> None:
    changes = {
        "model__arch__fpn__use_depthwise": False,
        "model__arch__fpn__expand": 2,
        "model__arch__fpn__use_res": True,
        "model__arch__fpn__upsample_cfg": {"scale_factor": 2, "mode": "nearest"},
        "model__arch__head__conv_type": "Conv",
        "model__arch__head__norm_cfg": {"type": "GN", "num_groups": 32, "requires_grad": True},
        "model__arch__head__loss__loss_dfl__loss_weight": 0.5,
        "model__arch__head__loss__loss_qfl__beta": 1.5,
        "model__arch__aux_head__stacked_convs": 2,
        "model__arch__aux_head__feat_channels": 64,
    }
    tree = _changed("nanodet-plus-m-416", **changes)
    run = _run(tree)
    neck, criterion = run.model.neck, run.criterion
    assert (neck.depthwise, neck.expansion, neck.residual, neck.upsampling) == (False, 2, True, "nearest")
    assert (run.model.head.depthwise, run.model.head.norm, criterion.quality_beta) == (False, "group", 1.5)
    assert (criterion.class_weight, criterion.box_weight, criterion.distribution_weight) == (1, 2, 0.5)
    assert (criterion.auxiliary_convs, criterion.auxiliary_channels) == (2, 64)
    assert not [line for line in translate(tree, "x").lines() if "fpn" in line or "head" in line]


def test_a_norm_without_counterpart_is_refused() -> None:
    tree = _changed("nanodet-plus-m-416", model__arch__head__norm_cfg={"type": "IN"})
    with pytest.raises(ConfigError, match=r"head\.norm_cfg\.type: IN has no counterpart; expected BN, SyncBN or GN"):
        translate(tree, "nanodet.yml")


def test_sizes_that_vary_are_taken_over() -> None:
    tree = _changed("nanodet-plus-m-416", data__train__multi_scale=[0.6, 1.4])
    assert _run(tree).train.multi_scale == (0.6, 1.4)
    translation = translate(_changed("nanodet-plus-m-416", data__train__multi_scale="big"), "nanodet.yml")
    assert any(key == "data.train.multi_scale" for key, _ in translation.dropped)
