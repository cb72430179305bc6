"""Classifiers of torchvision, timm and the original repositories, which are also backbones of detectors."""
