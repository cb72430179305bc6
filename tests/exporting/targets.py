"""What can be exported to what. `python -m tests.exporting.targets` writes the table of docs/export.md from these rows,
which `test_targets.py` holds against real exports."""

from pathlib import Path

FAMILIES = {
    "NanoDet-Plus m, m-1.5x": "nanodet-plus-m-320",
    "NanoDet-m": "nanodet-m-320",
    "PP-YOLOE s to x": "ppyoloe-s",
    "PP-YOLOE+ t": "ppyoloe-plus-t-320",
    "PP-YOLOE+ t, ReLU": "ppyoloe-plus-t-relu-320",
    "PP-YOLOE+ s to x": "ppyoloe-plus-s",
    "YOLOv3 Darknet-53": "yolov3-darknet53",
    "YOLOv3 SPP": "yolov3-spp",
    "YOLOv3 tiny": "yolov3-tiny",
    "YOLOv3 MobileNetV2": "yolov3-mobilenet-v2",
    "YOLOv3 lite": "yolov3-lite-mobilenet-v3-small",
    "classifier CSPDenseNet": "cspdensenet-121-full",
    "classifier CSPResNet": "cspresnet-s",
    "classifier Darknet-53": "darknet53",
    "classifier DenseNet": "densenet-121",
    "classifier EfficientNet": "efficientnet-b0",
    "classifier EfficientNet-Lite": "efficientnet-lite0",
    "classifier GhostNet": "ghostnet-0.5",
    "classifier MnasNet": "mnasnet-0.5",
    "classifier MobileNetV1": "mobilenet-v1-0.25",
    "classifier MobileNetV2": "mobilenet-v2-0.35",
    "classifier MobileNetV3": "mobilenet-v3-small",
    "classifier MobileNetV4": "mobilenet-v4-conv-s",
    "classifier PP-LCNet": "lcnet-0.25",
    "classifier RepVGG": "repvgg-a0",
    "classifier ShuffleNetV2": "shufflenet-v2-0.5",
    "classifier Xception": "xception",
}
"""By name for people: the preset that stands for the family."""

TARGETS = {
    "onnx": "m.onnx",
    "openvino": "m.openvino.xml",
    "ncnn": "m.param",
    "litert": "m.tflite",
    "executorch": "m.pte",
}

BLOCKED: dict[tuple[str, str], str] = {}
"""(family, target) -> why it does not go, as the exporter says it."""

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
BEGIN, END = "<!-- targets: written by tests/exporting/targets.py -->\n", "<!-- end of targets -->"


def table() -> str:
    """The table in Markdown."""
    lines = [f"| network | {' | '.join(TARGETS)} |", f"| --- |{' --- |' * len(TARGETS)}"]
    for family in FAMILIES:
        cells = [BLOCKED.get((family, target), "validated") for target in TARGETS]
        lines.append(f"| {family} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def written() -> str:
    """The page with the table as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
