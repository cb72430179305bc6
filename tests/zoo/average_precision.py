"""COCO average precision of a predictor on real pictures, where they are."""

from falconet.data.formats import open_dataset
from falconet.eval.classes import match
from falconet.eval.coco_ap import evaluate
from falconet.runtime.predictor import Predictor
from tests.zoo.shared import COCO_MINI


def average_precision(predictor: Predictor) -> dict[str, float]:
    """The figures of `predictor` on the small set of COCO pictures, as fractions."""
    dataset = open_dataset(COCO_MINI / "instances.json", COCO_MINI / "images")
    translate = match(dataset.names, predictor.names, data="coco-val-mini", model="the model")
    found = [translate.apply(predictor.predict(record.path)) for record in dataset.records]
    return evaluate(dataset.names, dataset.records, found).as_dict()
