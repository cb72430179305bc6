"""Detections and ground truth to numbers and pictures. No torch.

Import the modules: `coco_ap` (average precision), `curves` (precision-recall, confusion, kinds of error),
`classes` (match data and model by class name), `latency`, `machine`, `report` (one HTML file).
"""
