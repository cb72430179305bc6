"""PP-YOLOE: sizes, parts by hand, other backbones, how it starts."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from falconet.models import PRESETS, build
from falconet.models.backbones import CSPResNetConfig, MobileNetV2Config, ShuffleNetV2Config
from falconet.models.distances import expected_distances
from falconet.models.ppyoloe import CSPPANConfig, PPYOLOEConfig, PyramidPooling, _doubled
from falconet.models.reparam import fuse

COUNTS = {  # parameters and multiply-adds (convolutions) with 80 classes at 640 x 640; parameters of the fused network
    "ppyoloe-s": (8_084_588, 8_795_718_912, 7_918_060),
    "ppyoloe-m": (24_134_892, 25_617_183_552, 23_413_500),
    "ppyoloe-l": (54_078_556, 56_884_712_448, 52_178_012),
    "ppyoloe-x": (102_331_484, 107_221_051_200, 98_395_084),
    "ppyoloe-plus-s": (8_084_594, 8_795_718_912, 7_918_060),
    "ppyoloe-plus-x": (102_331_508, 107_221_051_200, 98_395_084),
}
PUBLISHED = {"s": (7.93, 17.36), "m": (23.43, 49.91), "l": (52.20, 110.07), "x": (98.42, 206.59)}
"""Millions of parameters and billions of operations that the original states."""


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    parameters, products, deployed = COUNTS[name]
    with torch.device("meta"):  # nothing is computed
        detector = build(PRESETS[name], 80).eval()
        assert sum(p.numel() for p in detector.parameters()) == parameters
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            detector(torch.empty(1, 3, 640, 640))
        assert counter.get_total_flops() == 2 * products
        assert sum(p.numel() for p in fuse(detector).parameters()) == deployed
    millions, billions = PUBLISHED[name[-1]]
    assert deployed / 1e6 == pytest.approx(millions, rel=0.002)
    assert 2 * products / 1e9 == pytest.approx(billions, rel=0.05)


def test_plus_differs_in_alpha_and_in_the_pixels():
    plain, plus = PRESETS["ppyoloe-m"], PRESETS["ppyoloe-plus-m"]
    assert plus.backbone == plain.backbone.model_copy(update={"alpha": True})
    assert (plus.neck, plus.head) == (plain.neck, plain.head)
    assert (plus.input.mean, plus.input.std, plus.input.channels) == ((0, 0, 0), (255, 255, 255), "rgb")
    assert plain.input.channels == "rgb"


def test_pooling_in_a_row_is_pooling_over_larger_windows():
    pooling = PyramidPooling(4, activation="silu").eval()
    features = torch.randn(2, 4, 9, 14, generator=torch.Generator().manual_seed(0))
    maxima = [F.max_pool2d(features, size, stride=1, padding=size // 2) for size in (5, 9, 13)]
    with torch.no_grad():
        torch.testing.assert_close(pooling(features), pooling.conv(torch.cat((features, *maxima), dim=1)))


def test_doubling_by_hand():
    cells = torch.tensor([[[[1.0, 2.0]]]])
    assert _doubled(cells, torch.zeros(1, 1, 2, 4)).tolist() == [[[[1, 1, 2, 2], [1, 1, 2, 2]]]]
    assert _doubled(cells, torch.zeros(1, 1, 1, 3)).tolist() == [[[[1, 1, 2]]]]


@pytest.mark.parametrize(
    "backbone",
    [
        ShuffleNetV2Config(width=0.5),
        MobileNetV2Config(width=0.5),
        CSPResNetConfig(width=0.125, out_stages=(0, 1, 2, 3)),
        CSPResNetConfig(width=0.125, out_stages=(2, 3)),
        CSPResNetConfig(width=0.125, out_stages=(3,)),
    ],
    ids=["shufflenet", "mobilenet", "four levels", "two levels", "one level"],
)
def test_other_backbones_and_numbers_of_levels(backbone):
    config = PPYOLOEConfig(backbone=backbone, neck=CSPPANConfig(channels=8, blocks=2))
    detector = build(config, 2)
    raw = detector(torch.randn(2, 3, 96, 64))
    assert detector.neck.strides == detector.backbone.strides
    assert detector.neck.channels == tuple(8 * 2**level for level in range(len(detector.neck.strides)))
    assert raw.logits.shape == (2, sum((96 // s) * (64 // s) for s in detector.neck.strides), 2)
    (raw.logits.sum() + raw.box_code.square().sum()).backward()
    assert all(p.grad is not None for p in detector.parameters())


def test_pooling_stands_in_the_middle_of_the_blocks():
    for blocks, place in ((1, 1), (2, 1), (3, 2), (4, 2)):
        neck = build(
            PPYOLOEConfig(backbone=CSPResNetConfig(width=0.125), neck=CSPPANConfig(channels=8, blocks=blocks)), 1
        ).neck
        kinds = [type(part).__name__ for part in neck.top_down[0].blocks]
        assert kinds.index("PyramidPooling") == place
        assert len(kinds) == blocks + 1
        assert len(neck.top_down[1].blocks) == blocks
    without = PPYOLOEConfig(backbone=CSPResNetConfig(width=0.125), neck=CSPPANConfig(channels=8, pooling=False))
    assert not any(isinstance(part, PyramidPooling) for part in build(without, 1).modules())


def test_before_training_nothing_depends_on_the_picture():
    config = PPYOLOEConfig(backbone=CSPResNetConfig(width=0.125), neck=CSPPANConfig(channels=8))
    raw = build(config, 3)(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(raw.logits.sigmoid(), torch.full_like(raw.logits, 0.01))
    torch.testing.assert_close(expected_distances(raw.box_code), torch.full((2, 84, 4), 8.0))


def test_places_are_the_centres_of_cells():
    config = PPYOLOEConfig(backbone=CSPResNetConfig(width=0.125), neck=CSPPANConfig(channels=8))
    priors = build(config, 1).eval()(torch.zeros(1, 3, 32, 32)).priors
    assert priors.points[:5].tolist() == [[4, 4], [12, 4], [20, 4], [28, 4], [4, 12]]
    assert priors.strides.flatten().tolist() == [8] * 16 + [16] * 4 + [32]


def test_class_outputs_name_what_belongs_to_classes():
    head = build(PPYOLOEConfig(backbone=CSPResNetConfig(width=0.125), neck=CSPPANConfig(channels=8)), 5).head
    state = head.state_dict()
    for name, rows in head.class_outputs().items():
        assert state[name].shape[0] == rows.stop == 5
    assert sum(name.startswith("class_predictions") for name in state) == len(head.class_outputs())
