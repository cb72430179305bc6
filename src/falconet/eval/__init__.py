"""Detections and ground truth to numbers and pictures. No torch.

Import the modules: `coco_ap` and `voc_ap` (average precision), `accuracy` (of classifiers), `curves`
(precision-recall, confusion, kinds of error), `classes` (match data and model by class name), `latency` (of each stage,
and of which machine), `report` (one HTML file).
"""
