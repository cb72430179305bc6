"""Channels that belong together, and narrower weights of wider ones."""

import numpy as np
import pytest
import torch
from torch import nn

from falconet.core.errors import ConfigError, ModelError
from falconet.models import CLASSIFIERS, PRESETS, build
from falconet.models.channels import _choose, follow, inputs_of, narrow
from falconet.models.cost import WithoutValues
from falconet.models.widths import narrower, with_activation
from tests.models.test_reparam import flat, trained

KNOWN = PRESETS | CLASSIFIERS

SOME = [
    "nanodet-plus-demo",
    "nanodet-plus-m-320",
    "nanodet-m-320",
    "ppyoloe-plus-t-320",
    "yolov3-lite-mobilenet-v3-large",
    "yolov3-tiny",
    "ghostnet-0.5",
    "mobilenet-v4-conv-s",
    "repvgg-a0",
    "lcnet-1.0",
    "efficientnet-b0",
    "densenet-121",
]


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def drawn(config, count: int = 3) -> nn.Module:
    torch.manual_seed(0)
    network = build(config, count)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    return trained(network)


def test_by_hand() -> None:
    """A sum and a join: which axes carry the same labels."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
            self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
            self.last = nn.Conv2d(8, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            both = torch.relu(self.one(x) + self.two(x))
            return self.last(torch.cat((both.flip(1), self.deep(both)), 1))

    axes = follow(Net())
    together = axes["one.weight", 0]
    assert len(set(together)) == 4
    for axis in (("two.weight", 0), ("one.bias", 0), ("two.bias", 0), ("deep.weight", 0)):
        np.testing.assert_array_equal(axes[axis], together)
    np.testing.assert_array_equal(axes["last.weight", 1], [*together[::-1], *together])
    np.testing.assert_array_equal(axes["one.weight", 1], axes["two.weight", 1])
    assert not set(axes["last.weight", 0]) & set(together)
    grouped = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, groups=2))
    with pytest.raises(ModelError, match="a convolution of 2 groups"):
        follow(grouped)


@pytest.mark.parametrize("name", SOME)
def test_channels_that_nobody_reads_go_without_a_trace(name: str) -> None:
    """A wide network in which only some groups are read is the narrow one of these groups."""
    wide, config = drawn(KNOWN[name]), narrower(KNOWN[name], 0.5)
    narrow_one = build(config, 3).eval()
    assert sum(p.numel() for p in narrow_one.parameters()) < 0.85 * sum(p.numel() for p in wide.parameters())
    ours, theirs = follow(narrow_one), follow(wide)
    worth = np.random.default_rng(0).random(1 + max(labels.max() for labels in theirs.values()))
    read = set(_choose(ours, theirs, worth).values()) | {0, 1, 2}
    state = wide.state_dict()
    for (key, axis), labels in theirs.items():
        if axis == 1:
            state[key][:, [label not in read for label in labels.tolist()]] = 0
    told = narrow(narrow_one, wide, [images()])
    assert told.lost == 0
    with torch.no_grad():
        for before, after in zip(flat(wide(images())), flat(narrow_one(images())), strict=True):
            torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


DEEP = ("-b3", "-b4", "-b5", "-b6", "-b7", "-lite4", "ppyoloe-m", "ppyoloe-plus-m", "-l", "-x")
"""Ends of names whose networks take long to build; a smaller one of each family stays quick."""


def in_time(name: str):
    deep = "densenet-" in name or name.endswith(DEEP)
    return pytest.param(name, marks=pytest.mark.slow) if deep else name


@pytest.mark.parametrize("name", [in_time(name) for name in sorted(KNOWN)])
def test_every_network_has_a_narrower_one(name: str) -> None:
    config = narrower(KNOWN[name], 0.7)
    with torch.device("meta"), WithoutValues():
        wide, narrow_one = build(KNOWN[name], 3), build(config, 3)
    assert wide.state_dict().keys() == narrow_one.state_dict().keys()
    pairs = [(narrow_one.state_dict()[key].shape, value.shape) for key, value in wide.state_dict().items()]
    assert all(small <= large for one, other in pairs for small, large in zip(one, other, strict=True))
    assert any(one != other for one, other in pairs)


def test_what_stays_stands_for_what_goes() -> None:
    """Channels that are sums of others cost nothing, whichever of them go."""
    torch.manual_seed(0)

    def net(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, 5, 3, padding=1), nn.Conv2d(5, 2, 1)).eval()

    wide, narrow_one = net(8), net(4)  # three inputs: eight channels of rank three, and their mean
    before = wide(images())[..., 1:-1, 1:-1]  # along the border, zeros are no such sums
    narrow(narrow_one, wide, [images(8)])
    after = narrow_one(images())[..., 1:-1, 1:-1]
    assert (after - before).abs().max() < 0.05 * before.abs().max()
    plain = net(4)
    plain[0].weight.data, plain[0].bias.data = narrow_one[0].weight.data, narrow_one[0].bias.data
    assert {tuple(key) for key in narrow_one[0].weight.flatten(1).tolist()} <= {
        tuple(key) for key in wide[0].weight.flatten(1).tolist()
    }


def test_inputs_are_sums_over_all_places() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 2, 1))
    seen = inputs_of(network, images(4).split(2))
    assert list(seen) == ["1"]
    features = network[0](images(4)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(seen["1"].total, features.sum(1), rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(seen["1"].products, features @ features.T, rtol=1e-3, atol=1e-2)
    assert seen["1"].count == features.shape[1]


def test_errors() -> None:
    wide = drawn(KNOWN["nanodet-plus-demo"])
    deeper = build(KNOWN["nanodet-m-320"], 3)
    with pytest.raises(ModelError, match="these are other layers, not narrower ones"):
        narrow(deeper, wide, [images()])
    with pytest.raises(ModelError, match="more than the"):
        narrow(wide, build(narrower(KNOWN["nanodet-plus-demo"], 0.5), 3), [images()])
    with pytest.raises(ConfigError, match="the activations of mobilenet-v3 cannot be chosen"):
        with_activation(CLASSIFIERS["mobilenet-v3-large"], "relu")


def test_an_activation_everywhere() -> None:
    changed = with_activation(PRESETS["ppyoloe-plus-t"], "relu")
    assert (changed.backbone.activation, changed.neck.activation, changed.head.activation) == ("relu",) * 3
    kinds = {type(module) for module in build(changed, 2).modules()}
    assert nn.ReLU in kinds
    assert nn.SiLU not in kinds
