"""Shared blocks against their definitions, and configurations against what they refuse."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from falconet.models.backbones import (
    BACKBONES,
    CSPResNetConfig,
    EfficientNetConfig,
    EfficientNetLiteConfig,
    GhostNetConfig,
    MnasNetConfig,
    MobileNetV2Config,
    MobileNetV3Config,
    ShuffleNetV2Config,
    XceptionConfig,
)
from falconet.models.backbones.blocks import (
    DropPath,
    EffectiveSqueezeExcite,
    GhostModule,
    InvertedResidual,
    RepVGGBlock,
    SqueezeExcite,
    last_stages,
    make_divisible,
)
from falconet.models.backbones.xception import XceptionBlock
from falconet.models.layers import SeparableConv
from tests.models.backbones.test_contract import randomise_norms


@pytest.mark.parametrize(
    ("value", "divisor", "expected"),
    [
        (32, 8, 32),
        (12, 8, 16),
        (11, 8, 16),
        (8.7, 8, 8),
        (1, 8, 8),
        (22.4, 8, 24),
        (17.7, 8, 16),
        (18, 8, 24),
        (18, 4, 20),
    ],
)
def test_make_divisible(value, divisor, expected):
    assert make_divisible(value, divisor) == expected
    assert expected >= 0.9 * value


def test_last_stages():
    assert last_stages((2, 4, 4, 8, 8, 16, 16, 32, 32, 32)) == (4, 6, 9)
    assert last_stages((2, 4)) == ()
    assert last_stages((4, 16, 32, 32)) == (1, 3)


def test_drop_path():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    ones = torch.ones(4000, 2, 1, 1)
    dropped = drop(ones)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert torch.equal(dropped[:, 0], dropped[:, 1])  # whole samples
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert drop.eval()(ones) is ones
    assert drop.train()(ones[:0]).shape == (0, 2, 1, 1)


def test_channels_are_rounded_to_what_is_asked_for():
    assert MobileNetV2Config(width=0.35).build().channels == (16, 32, 112)
    assert MobileNetV2Config(width=0.35, round_nearest=1).build().channels == (11, 34, 112)
    assert MobileNetV2Config(width=0.35, round_nearest=4).build().channels == (12, 32, 112)


def test_squeeze_excite_by_hand():
    block = SqueezeExcite(2, 1, gate="hard-sigmoid")
    with torch.no_grad():
        block.reduce.weight.copy_(torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1))
        block.reduce.bias.fill_(0.5)
        block.expand.weight.copy_(torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1))
        block.expand.bias.copy_(torch.tensor([0.0, 1.0]))
        features = torch.tensor([[[[1.0, 3.0]], [[0.0, 1.0]]]])
        # means 2 and 0.5; hidden relu(2 - 0.5 + 0.5) = 2; gates 2 / 6 + 0.5 and (1 - 4) / 6 + 0.5
        torch.testing.assert_close(block(features), features * torch.tensor([5 / 6, 0.0]).reshape(1, 2, 1, 1))


def test_effective_squeeze_excite_by_hand():
    block = EffectiveSqueezeExcite(1)
    with torch.no_grad():
        block.excite.weight.fill_(3.0)
        block.excite.bias.fill_(-3.0)
        features = torch.tensor([[[[0.5, 1.5]]]])
        torch.testing.assert_close(block(features), features * 0.5)


@pytest.mark.parametrize("ratio", [2, 3, 4])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_ghost_module_of_any_ratio(ratio, kernel_size):
    module = GhostModule(6, 13, ratio=ratio, kernel_size=kernel_size).eval()
    features = torch.rand(2, 6, 7, 9)
    output = module(features)
    primary = module.primary(features)
    assert primary.shape[1] == -(-13 // ratio)
    assert output.shape == (2, 13, 7, 9)
    torch.testing.assert_close(output[:, : primary.shape[1]], primary)
    assert module.cheap.conv.weight.shape[1:] == (1, kernel_size, kernel_size)


def test_ghost_module_with_a_strided_first_convolution():
    module = GhostModule(6, 8, primary_kernel_size=3, stride=2, activation="none").eval()
    features = torch.rand(2, 6, 7, 9)
    with torch.no_grad():
        output = module(features)
        expected = nn.functional.conv2d(features, module.primary.conv.weight, stride=2, padding=1)
        torch.testing.assert_close(output[:, :4], module.primary.norm(expected))
    assert output.shape == (2, 8, 4, 5)


def test_blocks_of_ghostnet():
    assert [len(stage) for stage in GhostNetConfig().table()] == [1, 1, 1, 1, 1, 1, 5, 1, 4]
    half = GhostNetConfig(depth=0.5)
    assert [len(stage) for stage in half.table()] == [1, 1, 1, 1, 1, 1, 2, 1, 2]
    assert half.build().channels == GhostNetConfig().build().channels
    rows = (((3, 32, 24, False, 2), (3, 48, 24, False, 1)), ((5, 72, 40, True, 2),), ((3, 240, 80, True, 2),))
    own = GhostNetConfig(rows=rows, squeeze_ratio=0.5, squeeze_divisor=16, gate="sigmoid")
    assert own.stages() == (1, 3)  # strides 8 and 16; the last is the pointwise convolution
    assert own.model_validate_json(own.model_dump_json()) == own
    backbone = own.build()
    assert backbone.strides == (8, 16)
    assert backbone.channels == (40, 960)
    squeeze = backbone.stages[1][0].squeeze_excite
    assert squeeze.reduce.out_channels == 48  # half of 72 is 36: 32 is less than nine tenths of it
    assert isinstance(squeeze.gate, nn.Sigmoid)


def test_ghostnet_halves_by_its_first_convolution():
    block = GhostNetConfig(downsampling="primary", primary_kernel_size=3).build().stages[1][0]
    assert isinstance(block.depthwise, nn.Identity)
    assert block.expand.primary.conv.kernel_size == (3, 3)
    assert block.expand.primary.conv.stride == (2, 2)
    assert block.project.primary.conv.stride == (1, 1)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("activation", ["silu", "none"])
def test_repvgg_block_is_one_convolution(alpha, identity, activation):
    torch.manual_seed(0)
    block = RepVGGBlock(6, 6, activation=activation, alpha=alpha, identity=identity)
    randomise_norms(block)
    if alpha:
        nn.init.constant_(block.alpha, -0.7)
    block.eval()
    fused = block.fused()
    assert isinstance(fused if activation == "none" else fused[0], nn.Conv2d)
    assert sum(p.numel() for p in fused.parameters()) == 6 * 6 * 9 + 6
    features = torch.randn(2, 6, 9, 11)
    with torch.no_grad():
        assert float((block(features) - fused(features)).abs().max()) < 1e-5


def test_repvgg_alpha_multiplies_the_small_branch():
    block = RepVGGBlock(3, 3, activation="none", alpha=True).eval()
    features = torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        block.alpha.zero_()
        torch.testing.assert_close(block(features), block.wide(features))
        block.alpha.fill_(2)
        torch.testing.assert_close(block(features), block.wide(features) + 2 * block.point(features))


def test_repvgg_identity_is_a_norm_of_the_input():
    block = RepVGGBlock(2, 2, activation="none", identity=True).eval()
    features = torch.randn(1, 2, 4, 4)
    with torch.no_grad():
        for part in (block.wide, block.point):
            nn.init.zeros_(part.norm.weight)
        block.identity.running_mean.fill_(1.0)
        block.identity.running_var.fill_(4.0 - block.identity.eps)
        torch.testing.assert_close(block(features), (features - 1) / 2)
    assert RepVGGBlock(2, 4, identity=True).identity is None
    assert RepVGGBlock(2, 2, stride=2, identity=True).identity is None


def test_strided_repvgg_block_is_one_strided_convolution():
    block = RepVGGBlock(3, 4, stride=2, activation="none")
    randomise_norms(block)
    features = torch.randn(1, 3, 7, 9)
    with torch.no_grad():
        torch.testing.assert_close(block.eval()(features), block.fused()(features), rtol=1e-5, atol=1e-5)


def test_inverted_residual_adds_its_input_where_shapes_agree():
    block = InvertedResidual(4, 4, hidden_channels=8).eval()
    features = torch.rand(1, 4, 6, 6)
    with torch.no_grad():
        nn.init.zeros_(block.project.norm.weight)
        torch.testing.assert_close(block(features), features)
    assert not InvertedResidual(4, 4, hidden_channels=8, stride=2).adds_input
    assert not InvertedResidual(4, 6, hidden_channels=8).adds_input
    assert isinstance(InvertedResidual(4, 6, hidden_channels=4).expand, nn.Identity)


def test_squeeze_excite_after_the_projection_and_a_convolution_on_the_shortcut():
    config = MobileNetV3Config(squeeze_excite="last", squeeze_ratio=0.5, shortcut="convolution")
    backbone = config.build().eval()
    block = backbone.stages[4][0]  # 80 to 112 channels, stride 1
    assert isinstance(block.squeeze_excite, nn.Identity)
    assert block.output_excite.reduce.weight.shape == (56, 112, 1, 1)
    features = torch.rand(1, 80, 5, 5)
    with torch.no_grad():
        projected = block.project(block.depthwise(block.expand(features)))
        expected = block.output_excite(projected) + block.shortcut(features)
        torch.testing.assert_close(block(features), expected)
    convolutions = [b for stage in backbone.stages for b in stage if not isinstance(b.shortcut, nn.Identity)]
    assert convolutions == [block]  # every other change of channels halves the resolution
    plain = MobileNetV3Config(squeeze_excite="none").build()
    assert not any(isinstance(part, SqueezeExcite) for part in plain.modules())


def test_rows_of_mnasnet_and_efficientnet():
    rows = ((3, 1, 8, 1, 2, 0), (5, 4, 16, 2, 2, 0.25), (3, 6, 24, 1, 2, 0), (7, 3, 40, 1, 2, 0.5))
    for config in (MnasNetConfig(rows=rows), EfficientNetConfig(rows=rows), EfficientNetLiteConfig(rows=rows)):
        backbone = config.build()
        assert backbone.strides == (8, 16, 32)
        assert backbone.channels == (16, 24, 40)
        assert [len(stage) for stage in backbone.stages] == [1, 2, 1, 1]
        assert backbone.stages[1][0].squeeze_excite.reduce.out_channels == 2  # a quarter of 8, its input
        assert isinstance(backbone.stages[2][0].squeeze_excite, nn.Identity)
        assert backbone.stages[3][0].depthwise.conv.kernel_size == (7, 7)
        assert config.model_validate_json(config.model_dump_json()) == config
    deeper = EfficientNetLiteConfig(rows=rows, depth=2).build()
    assert [len(stage) for stage in deeper.stages] == [1, 4, 2, 1]


def test_a_ratio_for_all_rows():
    everywhere = MnasNetConfig(se_ratio=0.25).build()
    assert all(isinstance(b.squeeze_excite, SqueezeExcite) for stage in everywhere.stages for b in stage)
    nowhere = EfficientNetConfig(se_ratio=0).build()
    assert not any(isinstance(part, SqueezeExcite) for part in nowhere.modules())


def test_xceptions_blocks_leave_their_input_alone():
    backbone = XceptionConfig(width=0.25, out_stages=(0, 1, 2, 3)).build().eval()
    block = backbone.stages[2][1]
    features = torch.randn(1, 184, 6, 6)
    before = features.clone()
    with torch.no_grad():
        block(features)
        assert torch.equal(features, before)
        linear = XceptionBlock([8, 8], activation="relu", middle_activation="none").units[-1]
        bent = XceptionBlock([8, 8], activation="relu", middle_activation="relu").units[-1]
        bent.load_state_dict(linear.state_dict())
        values = torch.randn(1, 8, 4, 4)
        torch.testing.assert_close(bent.eval()(values), linear.eval().pointwise(linear.depthwise(values).relu()))


def test_separable_convolution_without_the_middle_activation():
    pair = SeparableConv(4, 4, 3, middle_activation="none").eval()
    features = torch.randn(1, 4, 5, 5)
    middle = pair.depthwise(features).detach()
    assert float(middle.min()) < 0
    torch.testing.assert_close(pair(features), pair.pointwise(middle))


@pytest.mark.parametrize("fusion", ["first", "last", "full"])
@pytest.mark.parametrize("variant", ["s", "50"])
def test_fusions_of_cspresnet(fusion, variant):
    backbone = CSPResNetConfig(variant=variant, width=0.125, fusion=fusion, out_stages=(0, 1, 2, 3)).build().eval()
    with torch.no_grad():
        outputs = backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(o.shape[1:]) for o in outputs] == [(16, 16, 24), (32, 8, 12), (64, 4, 6), (128, 2, 3)]
    stage = backbone.stages[1]
    assert isinstance(stage.block_transition, nn.Identity) == (fusion == "first")
    assert isinstance(stage.transition, nn.Identity) == (fusion == "last")


def test_options_of_cspresnet_change_what_they_name():
    small = {"variant": "s", "width": 0.125}
    without = CSPResNetConfig(**small, attention="none").build()
    assert not any(isinstance(part, EffectiveSqueezeExcite) for part in without.modules())
    fifty = CSPResNetConfig(variant="50", width=0.125, attention="effective-squeeze-excite").build()
    assert sum(isinstance(part, EffectiveSqueezeExcite) for part in fifty.modules()) == 4
    own = CSPResNetConfig(**small, depth=1, layers=(1, 2, 3, 4), channels=(32, 64, 64, 128, 256)).build()
    assert [len(stage.blocks) for stage in own.stages] == [1, 2, 3, 4]
    assert own.channels == (8, 16, 32)
    kept = CSPResNetConfig(**small, stage_strides=(2, 1, 2, 2)).build()
    assert kept.strides == (4, 8, 16)
    assert isinstance(kept.stages[1].down, nn.Identity)


@pytest.mark.parametrize("variant", ["s", "50"])
def test_blocks_of_cspresnet_without_a_shortcut(variant):
    images = torch.rand(1, 3, 64, 64)
    torch.manual_seed(0)
    whole = CSPResNetConfig(variant=variant, width=0.125).build().eval()
    without = CSPResNetConfig(variant=variant, width=0.125, shortcut=False).build().eval()
    without.load_state_dict(whole.state_dict())
    features = torch.rand(1, *next(whole.stages[1].blocks[0].parameters()).shape[1:2], 5, 5)
    with torch.no_grad():
        ours, theirs = without.stages[1].blocks[0], whole.stages[1].blocks[0]
        if variant == "s":
            torch.testing.assert_close(ours(features) + features, theirs(features))
        else:
            torch.testing.assert_close(ours.act(ours.convs(features) + features), theirs(features))
            torch.testing.assert_close(ours(features), ours.act(ours.convs(features)))
        assert not torch.allclose(whole(images)[0], without(images)[0])


def test_drop_connect_grows_with_depth():
    rates = [
        block.drop_path.rate
        for stage in EfficientNetConfig(drop_connect=0.32).build().stages
        for block in stage
        if isinstance(block.drop_path, DropPath)
    ]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(0.02 * 2)  # block 2 of 16 is the first that adds its input
    assert rates[-1] == pytest.approx(0.02 * 14)


def test_a_table_of_inverted_residuals():
    rows = ((1, 8, 1, 2), (4, 16, 2, 2), (4, 24, 1, 2), (4, 40, 1, 2))
    backbone = MobileNetV2Config(rows=rows).build()
    assert backbone.strides == (8, 16, 32)
    assert backbone.channels == (16, 24, 40)
    assert [len(stage) for stage in backbone.stages] == [1, 2, 1, 1]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GhostNetConfig(out_stages=(6, 4)), "stages must ascend, each at most once, as in [4, 6]"),
        (
            lambda: GhostNetConfig(out_stages=(4, 12)),
            "there is no stage 12: the stages are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        ),
        (lambda: GhostNetConfig(rows=(((3, 16, 16, False, 2),), ())), "rows: each stage needs a block"),
        (
            lambda: GhostNetConfig(rows=(((3, 16, 16, False, 2),),) * 4, depth=0.5),
            "depth is for the paper's rows: leave it at 1 and shorten your own rows",
        ),
        (lambda: MobileNetV2Config(out_stages=(7,)), "there is no stage 7: the stages are 0, 1, 2, 3, 4, 5, 6"),
        (
            lambda: MobileNetV3Config(variant="small", out_stages=(5,)),
            "there is no stage 5: the stages are 0, 1, 2, 3, 4",
        ),
        (
            lambda: MobileNetV2Config(out_stages=(2, 4), with_last_conv=True),
            "with_last_conv needs the last stage, 6, among out_stages",
        ),
        (lambda: MnasNetConfig(rows=((3, 6, 24, 1, 1, 0),)), "no row has stride 8, 16 or 32"),
        (lambda: EfficientNetConfig(out_stages=(2, 7)), "there is no stage 7: the stages are 0, 1, 2, 3, 4, 5, 6"),
        (lambda: MobileNetV2Config(rows=((6, 24, 1, 1),)), "no row has stride 8, 16 or 32"),
        (lambda: CSPResNetConfig(variant="50", alpha=True), "alpha belongs to RepVGG convolutions"),
        (
            lambda: CSPResNetConfig(variant="50", identity=True),
            "identity belongs to RepVGG convolutions, which variant 50 does not have",
        ),
        (
            lambda: CSPResNetConfig(layers=(1, 1, 1)),
            "each stage needs its layers, channels (the stem's come first) and stride; "
            "found layers of 3, channels of 4, stage_strides of 4",
        ),
        (lambda: CSPResNetConfig(out_stages=(1, 4)), "there is no stage 4: the stages are 0, 1, 2, 3"),
        (lambda: CSPResNetConfig(stem="pooled"), "variant s has no pooled stem: only variant 50 has the pooled one"),
        (lambda: ShuffleNetV2Config(width=0.7), "Input should be 0.5, 1.0, 1.5 or 2.0"),
    ],
)
def test_what_does_not_exist_is_named(build, message):
    with pytest.raises(ValidationError) as error:
        build()
    assert message in str(error.value)


def test_every_backbone_refuses_unknown_keys():
    for config in BACKBONES.values():
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            config(widht=1.0)
