"""YAML files of PP-YOLOE: the chain of bases, and what becomes of each key."""

from pathlib import Path

import pytest

from falconet.core.config import read_yaml, validate
from falconet.core.errors import ConfigError
from falconet.core.manifest import Selection
from falconet.models import PRESETS
from falconet.training.run_config import RunConfig
from falconet.zoo.ppyoloe.from_yaml import is_paddle, read_chain, translate

DATA = """\
metric: COCO
num_classes: 3
TrainDataset:
  !COCODataSet
    image_dir: train
    anno_path: annotations/train.json
    dataset_dir: dataset/fruit
    data_fields: ['image', 'gt_bbox']
EvalDataset:
  name: COCODataSet
  image_dir: val
  anno_path: annotations/val.json
  dataset_dir: dataset/fruit
  allow_empty: true
TestDataset:
  name: ImageFolder
  anno_path: annotations/val.json
"""
RUNTIME = "use_gpu: true\nlog_iter: 20\nsave_dir: output\nexport: {nms: true}\n"
SCHEDULE = """\
epoch: 80
LearningRate:
  base_lr: 0.001
  schedulers:
    - !CosineDecay
      max_epochs: 96
    - !LinearWarmup
      start_factor: 0.
      epochs: 5
OptimizerBuilder:
  optimizer: {momentum: 0.9, type: Momentum}
  regularizer: {factor: 0.0005, type: L2}
"""
MODEL = """\
architecture: YOLOv3
norm_type: sync_bn
use_ema: true
ema_decay: 0.9998
YOLOv3:
  backbone: CSPResNet
  neck: CustomCSPPAN
  yolo_head: PPYOLOEHead
  post_process: ~
CSPResNet:
  layers: [3, 6, 6, 3]
  channels: [64, 128, 256, 512, 1024]
  return_idx: [1, 2, 3]
  use_large_stem: True
  use_alpha: True
CustomCSPPAN:
  out_channels: [768, 384, 192]
  stage_num: 1
  block_num: 3
  act: 'swish'
  spp: true
PPYOLOEHead:
  fpn_strides: [32, 16, 8]
  grid_cell_scale: 5.0
  static_assigner_epoch: 30
  use_varifocal_loss: True
  loss_weight: {class: 1.0, iou: 2.5, dfl: 0.5}
  static_assigner: {name: ATSSAssigner, topk: 9}
  assigner: {name: TaskAlignedAssigner, topk: 13, alpha: 1.0, beta: 6.0}
  nms: {name: MultiClassNMS, keep_top_k: 300, nms_threshold: 0.7}
"""
READER = """\
worker_num: 4
eval_height: &eval_height 640
eval_width: &eval_width 640
eval_size: &eval_size [*eval_height, *eval_width]
TrainReader:
  sample_transforms:
    - Decode: {}
    - RandomDistort: {}
    - RandomCrop: {}
    - RandomFlip: {}
  batch_transforms:
    - BatchRandomResize: {target_size: [320, 480, 640, 768], random_size: True, keep_ratio: False}
    - NormalizeImage: {mean: [0., 0., 0.], std: [1., 1., 1.], norm_type: none}
    - Permute: {}
    - PadGT: {}
  batch_size: 8
  shuffle: true
EvalReader:
  sample_transforms:
    - Decode: {}
    - Resize: {target_size: *eval_size, keep_ratio: False, interp: 2}
    - NormalizeImage: {mean: [0., 0., 0.], std: [1., 1., 1.], norm_type: none}
    - Permute: {}
  batch_size: 2
TestReader:
  sample_transforms:
    - Resize: {target_size: *eval_size, keep_ratio: False, interp: 2}
"""
TOP = """\
_BASE_: ['../datasets/fruit.yml', '../runtime.yml', './_base_/schedule.yml', './_base_/plus.yml', './_base_/reader.yml']
snapshot_epoch: 10
weights: output/ppyoloe_plus_crn_s_fruit/model_final
pretrain_weights: https://example.org/pretrained.pdparams
depth_mult: 0.33
width_mult: 0.50
PPYOLOEHead:
  static_assigner_epoch: 20
"""


def write_family(folder: Path) -> Path:
    """The files, in folders as in the original; returns the top one."""
    for name, text in {
        "configs/datasets/fruit.yml": DATA,
        "configs/runtime.yml": RUNTIME,
        "configs/ppyoloe/_base_/schedule.yml": SCHEDULE,
        "configs/ppyoloe/_base_/plus.yml": MODEL,
        "configs/ppyoloe/_base_/reader.yml": READER,
        "configs/ppyoloe/top.yml": TOP,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "configs/ppyoloe/top.yml"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return write_family(tmp_path)


def test_the_run_file(top: Path) -> None:
    translation = translate(read_chain(top), "top.yml")
    run = validate(RunConfig, translation.run, name="top.yml, translated")
    assert run.model == PRESETS["ppyoloe-plus-s"].model_copy(
        update={"backbone": run.model.backbone, "neck": run.model.neck}
    )
    built = run.model.build(3).state_dict()
    expected = PRESETS["ppyoloe-plus-s"].build(3).state_dict()
    assert {name: value.shape for name, value in built.items()} == {n: v.shape for n, v in expected.items()}
    assert (run.train.epochs, run.train.batch_size, run.train.average_decay) == (80, 8, 0.9998)
    assert run.criterion.static_share == 0.25  # the file's 20 of 80, over its base's 30
    assert run.train.multi_scale == (0.5, 1.2)
    assert (run.augment.flip, run.data.workers) == (0.5, 4)
    assert run.data.train.annotations == Path("dataset/fruit/annotations/train.json")
    assert run.data.val is not None
    assert run.data.val.images == Path("dataset/fruit/val")
    assert run.output == Path("runs/ppyoloe_plus_crn_s_fruit")
    assert run.model.selection == Selection(iou_threshold=0.7, max_detections=300)


def test_what_is_reported(top: Path) -> None:
    lines = translate(read_chain(top), "top.yml").lines()
    assert sorted(line.partition(":")[0] for line in lines) == [
        "LearningRate.base_lr",
        "LearningRate.schedulers.CosineDecay",
        "LearningRate.schedulers.LinearWarmup",
        "OptimizerBuilder",
        "TrainReader.batch_size",
        "TrainReader.sample_transforms.RandomCrop",
        "TrainReader.sample_transforms.RandomDistort",
        "pretrain_weights",
    ]
    assert (
        "TrainReader.batch_size: is that of one GPU and was taken as it stands; published models were trained on 8"
        in (lines)
    )


def test_the_plain_kind(top: Path) -> None:
    base = top.parent / "_base_"
    plain = "mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], is_scale: True"
    reader = READER.replace("mean: [0., 0., 0.], std: [1., 1., 1.], norm_type: none", plain)
    (base / "reader.yml").write_text(reader)
    (base / "plus.yml").write_text(MODEL.replace("use_alpha: True", "use_alpha: False"))
    run = validate(RunConfig, translate(read_chain(top), "top.yml").run, name="x")
    assert run.model.input == PRESETS["ppyoloe-s"].input
    assert run.model.backbone.alpha is False


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("neck: CustomCSPPAN", "neck: YOLOv3FPN", "YOLOv3.neck: YOLOv3FPN has no counterpart; expected CustomCSPPAN"),
        (
            "out_channels: [768, 384, 192]",
            "out_channels: [768, 384, 96]",
            "CustomCSPPAN.out_channels: each level must have twice the channels of the next, or as many",
        ),
        ("stage_num: 1", "stage_num: 2", "CustomCSPPAN.stage_num: has no counterpart; expected 1"),
        (
            "act: 'swish'",
            "act: 'mish'",
            "CustomCSPPAN.act: mish has no counterpart; expected one of: swish, silu, relu, leaky, hardswish",
        ),
    ],
)
def test_networks_without_counterpart(top: Path, old: str, new: str, message: str) -> None:
    base = top.parent / "_base_" / "plus.yml"
    base.write_text(MODEL.replace(old, new))
    with pytest.raises(ConfigError) as error:
        translate(read_chain(top), "top.yml")
    assert str(error.value) == f"top.yml: {message}"


def test_other_settings_of_the_losses_are_reported(top: Path) -> None:
    base = top.parent / "_base_" / "plus.yml"
    base.write_text(
        MODEL.replace("topk: 13", "topk: 20").replace("use_varifocal_loss: True", "use_varifocal_loss: False")
    )
    translation = translate(read_chain(top), "top.yml")
    assert "PPYOLOEHead.assigner.topk: is 20; ours is always 13" in translation.lines()
    assert translation.run["criterion"]["class_loss"] == "focal"


def test_other_widths(top: Path) -> None:
    top.write_text(TOP.replace("width_mult: 0.50", "width_mult: 0.375"))
    run = validate(RunConfig, translate(read_chain(top), "top.yml").run, name="x")
    assert (run.model.backbone.variant, run.model.backbone.width, run.model.backbone.depth) == ("l", 0.375, 0.33)
    assert (run.model.neck.channels, run.model.neck.blocks) == (72, 1)


@pytest.mark.parametrize("relu", [False, True])
def test_the_tiny_size(top: Path, relu: bool) -> None:
    model = MODEL.replace("YOLOv3", "PPYOLOEWithAuxHead").replace("[768, 384, 192]", "[384, 384, 384]")
    model = model.replace("yolo_head: PPYOLOEHead", "yolo_head: PPYOLOEHead\n  aux_head: SimpleConvHead")
    model = model.replace("beta: 6.0", "beta: 6.0, is_close_gt: True")
    model += "SimpleConvHead: {feat_in: 288, feat_out: 288, num_convs: 1, norm_type: gn, act: LeakyReLU, reg_max: 16}\n"
    (top.parent / "_base_" / "plus.yml").write_text(model)
    acts = "\nCSPResNet: {act: relu}\nCustomCSPPAN: {act: relu}\n" if relu else ""
    head = "\n  act: relu\n  attn_conv: None\n" if relu else "\n  attn_conv: repvgg\n"
    top.write_text(TOP.replace("width_mult: 0.50", "width_mult: 0.375").rstrip() + head + acts)
    translation = translate(read_chain(top), "top.yml")
    run = validate(RunConfig, translation.run, name="x")
    preset = PRESETS["ppyoloe-plus-t-relu" if relu else "ppyoloe-plus-t"]
    built = {name: value.shape for name, value in run.model.build(3).state_dict().items()}
    assert built == {name: value.shape for name, value in preset.build(3).state_dict().items()}
    assert run.model.head.activation == run.model.neck.activation == ("relu" if relu else "silu")
    assert (run.criterion.auxiliary, run.criterion.guided_share, run.criterion.close_places) == ("keep", 0.0625, True)
    assert not any("SimpleConvHead" in line for line in translation.lines())


def test_other_stages(top: Path) -> None:
    base = top.parent / "_base_" / "plus.yml"
    own = MODEL.replace("layers: [3, 6, 6, 3]", "layers: [3, 3, 9, 3]").replace("[64, 128, 256,", "[32, 64, 256,")
    base.write_text(own)
    backbone = validate(RunConfig, translate(read_chain(top), "top.yml").run, name="x").model.backbone
    assert backbone.layers == (3, 3, 9, 3)
    assert backbone.channels == (32, 64, 256, 512, 1024)


def test_bases_that_lie_elsewhere(top: Path, tmp_path: Path) -> None:
    moved = tmp_path / "given"
    moved.mkdir()
    for name in ("datasets/fruit.yml", "ppyoloe/_base_/reader.yml"):
        (tmp_path / "configs" / name).rename(moved / Path(name).name)
    with pytest.raises(ConfigError) as error:
        read_chain(top)
    wanted = top.parent / "../datasets/fruit.yml"
    assert str(error.value) == (
        f"{top}: _BASE_: ../datasets/fruit.yml is not there (looked for {wanted}); put it there, or name the file or "
        "its folder with --base"
    )
    assert read_chain(top, others=[moved])["num_classes"] == 3
    assert read_chain(top, others=[moved / "fruit.yml", moved / "reader.yml"])["worker_num"] == 4


def test_a_file_that_is_its_own_base(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("_BASE_: [b.yml]\n")
    (tmp_path / "b.yml").write_text("_BASE_: [a.yml]\n")
    with pytest.raises(ConfigError, match=r"a\.yml: is its own base, by way of .*b\.yml"):
        read_chain(tmp_path / "a.yml")


def test_which_files_are_paddles(top: Path, tmp_path: Path) -> None:
    assert is_paddle(read_yaml(top))
    (tmp_path / "other.yml").write_text("model: {arch: {name: NanoDetPlus}}\n")
    assert not is_paddle(read_yaml(tmp_path / "other.yml"))


def test_a_file_without_its_bases(tmp_path: Path) -> None:
    (tmp_path / "alone.yml").write_text("architecture: YOLOv3\n")
    with pytest.raises(ConfigError, match=r"YOLOv3\.backbone: None has no counterpart; expected CSPResNet"):
        translate(read_chain(tmp_path / "alone.yml"), "alone.yml")
