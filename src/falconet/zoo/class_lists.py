"""Class names of the data sets that published weights were trained on, by the name a command takes."""

from collections.abc import Sequence

COCO_NAMES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard"),
    *("cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase"),
    *("scissors", "teddy bear", "hair drier", "toothbrush"),
)
"""COCO 2017, in the order of the data set's category ids."""

VOC_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""Pascal VOC 2007 and 2012, in alphabetical order."""

CLASS_LISTS = {"coco": COCO_NAMES, "voc": VOC_NAMES}


def assumed(names: Sequence[str]) -> str:
    """The note for a model whose file names no classes, but has as many as a known list."""
    title = {COCO_NAMES: "COCO", VOC_NAMES: "Pascal VOC"}[tuple(names)]
    return (
        f"the file names no classes; it has {len(names)}, as many as {title}, whose names were taken. If it was "
        "trained on others, pass theirs with --classes"
    )
