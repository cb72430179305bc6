"""A small model with weights that answer: random, but neither flat nor saturated."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from falconet.core.manifest import Preprocess, Selection
from falconet.models import CLASSIFIERS, PRESETS, build
from falconet.models.weights import ModelCard, save_weights

CLASSES = ("circle", "square", "triangle")


def write_weights(path: Path, *, classes=CLASSES, seed=0, **preprocess) -> Path:
    """Weights of the demo preset at 96 x 128."""
    config = PRESETS["nanodet-plus-demo"]
    config = config.model_copy(update={"input": Preprocess(height=96, width=128, **preprocess)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = build(config, len(classes))
        for name, module in detector.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.8, 1.2)
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                if name.startswith("head.outputs"):
                    module.bias.data[: len(classes)] = -2.0
    card = ModelCard(
        model=config,
        classes=classes,
        selection=Selection(score_threshold=0.4),
        source="drawn at random",
        licence="CC0-1.0",
    )
    save_weights(path, detector, card)
    return path


def write_small(path: Path, name: str) -> Path:
    """Weights of a preset or a classifier, drawn at random, for an input of 128 x 160."""
    config = (PRESETS | CLASSIFIERS)[name]
    config = config.model_copy(update={"input": replace(config.input, height=128, width=160)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(config, 5)
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:  # statistics as of a trained network, or what goes through deep ones grows and grows
            norm.momentum = None
        with torch.no_grad():
            network.train()(torch.randn(4, 3, 128, 160))
            for module in network.modules():
                if isinstance(module, nn.Conv2d) and module.bias is not None:
                    module.weight *= 0.1  # or scores are 0 and 1, and no box can be told from the next
    save_weights(path, network, ModelCard(model=config, classes=("a", "b", "c", "d", "e")))
    return path
