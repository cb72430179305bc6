"""Darknet's weights: the networks they make, versions of the header, files that are too short, too long or damaged."""

import numpy as np
import pytest
import torch

from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess
from falconet.models import PRESETS
from falconet.models.backbones import Darknet53Config, DarknetTinyConfig
from falconet.zoo.class_lists import COCO_NAMES, VOC_NAMES
from falconet.zoo.formats.darknet_files import parse_cfg, parse_weights, read_cfg, read_weights
from falconet.zoo.imported import ImportOptions
from falconet.zoo.importing import import_files
from falconet.zoo.yolov3 import from_darknet as darknet_to_detector
from falconet.zoo.yolov3.from_darknet import file_order, import_darknet
from tests.zoo import darknet_reference as reference

SHARE = 16
CLASSES = ["one", "two", "three"]


def small_presets():
    """The three networks with a sixteenth of the channels."""
    made = {}
    for preset in ("yolov3-darknet53", "yolov3-spp", "yolov3-tiny"):
        config = PRESETS[preset]
        backbone = Darknet53Config(width=1 / SHARE)
        if preset == "yolov3-tiny":
            backbone = DarknetTinyConfig(width=1 / SHARE, out_stages=(3, 4))
        neck = config.neck.model_copy(update={"channels": 128 // SHARE})
        made[preset] = config.model_copy(update={"backbone": backbone, "neck": neck})
    return made


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(darknet_to_detector, "PRESETS", small_presets())


def write(path, sections, *, version=(0, 2, 0), seed=0):
    numbers = reference.random_numbers(sections, seed=seed)
    path.write_bytes(reference.header(version) + numbers.tobytes())
    return numbers


@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0), (0, 2, 5)])
@pytest.mark.parametrize("name", ["yolov3", "yolov3-spp", "yolov3-tiny"])
@torch.no_grad()
def test_computes_what_darknet_computes(tmp_path, name, version):
    sections = reference.network(name, classes=3)
    numbers = write(tmp_path / f"{name}.weights", sections, version=version)
    imported = import_darknet(tmp_path / f"{name}.weights", ImportOptions(classes=CLASSES))
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    raw = imported.detector(images)
    joined = torch.cat((raw.box_code, raw.objectness, raw.logits), -1)
    expected = reference.run(sections, numbers, images)[::-1]
    parts = joined.split([3 * level.shape[2] * level.shape[3] for level in expected], dim=1)
    for part, level in zip(parts, expected, strict=True):
        ours = part.reshape(2, *level.shape[2:], 24).permute(0, 3, 1, 2)
        torch.testing.assert_close(ours, level, rtol=1e-4, atol=1e-4)
    assert imported.fresh == ()
    assert imported.card.classes == tuple(CLASSES)
    assert imported.card.selection.iou_threshold == 0.45
    config = imported.card.model.input
    assert (config.resize, config.channels, config.mean, config.std[0]) == ("letterbox", "rgb", (0, 0, 0), 255)


def test_a_tiny_variance_keeps_darknets_division(tmp_path):
    sections = reference.network("yolov3-tiny", classes=3)
    numbers = reference.random_numbers(sections)
    numbers[3] = 1e-9  # the variance of the first convolution, which has one filter
    (tmp_path / "a.weights").write_bytes(reference.header() + numbers.tobytes())
    imported = import_darknet(tmp_path / "a.weights", ImportOptions(classes=CLASSES))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = imported.detector.backbone.stem(images)
        weight = torch.from_numpy(numbers[4 : 4 + 27]).reshape(1, 3, 3, 3)
        plain = torch.nn.functional.conv2d(images, weight, padding=1)
    shift, scale, mean, variance = numbers[:4].tolist()
    expected = (plain - mean) / (variance**0.5 + 1e-6) * scale + shift
    torch.testing.assert_close(got, torch.where(expected > 0, expected, 0.1 * expected), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "bytes_held"), [("yolov3", 248_007_048), ("yolov3-spp", 252_209_544), ("yolov3-tiny", 35_434_956)]
)
def test_the_published_files_have_the_size_that_the_networks_need(name, bytes_held):
    config = PRESETS[darknet_to_detector.NETWORKS[name]]
    with torch.device("meta"):
        layers = file_order(config.build(80))
    assert 20 + 4 * sum(layer.count for layer in layers) == bytes_held
    if name == "yolov3":
        backbone = [layer for layer in layers if layer.name.startswith("backbone.")]
        assert len(backbone) == 52
        assert 20 + 4 * sum(layer.count for layer in backbone) == 162_482_580  # darknet53.conv.74


def test_cfg_beside_the_weights(tmp_path):
    anchors = tuple(range(3, 21))
    sections = reference.network("yolov3", classes=3, side=96, anchors=anchors)
    write(tmp_path / "mine.weights", sections)
    (tmp_path / "mine.cfg").write_text("# a comment\n" + reference.text(sections))
    imported = import_files([tmp_path / "mine.weights", tmp_path / "mine.cfg"], ImportOptions(classes=CLASSES))
    head = imported.card.model.head
    assert head.anchors == tuple(zip(anchors[::2], anchors[1::2], strict=True))
    assert head.masks == ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    assert (imported.card.model.input.height, imported.card.model.input.width) == (96, 96)
    assert len(imported.notes) == 1
    assert imported.report()[2] == "matched       75"
    other = import_files(
        [tmp_path / "mine.weights", tmp_path / "mine.cfg"],
        ImportOptions(classes=CLASSES, preprocess=Preprocess(height=320, width=416)),
    )
    assert (other.card.model.input.height, other.card.model.input.width) == (320, 416)
    assert other.card.model.input.resize == "letterbox"


def test_names_of_coco_and_voc_and_the_slip_of_the_published_tiny(tmp_path):
    for count, names in ((80, COCO_NAMES), (20, VOC_NAMES)):
        write(tmp_path / "a.weights", reference.network("yolov3-tiny", classes=count))
        imported = import_darknet(tmp_path / "a.weights")
        assert imported.card.classes == names
        assert imported.card.model.head.masks == (((1, 2, 3) if count == 80 else (0, 1, 2)), (3, 4, 5))
        assert len(imported.notes) == 2
    assert imported.notes[0] == "darknet 0.2.0, 32,013,312 pictures seen in training"


def test_first_layers_only(tmp_path):
    sections = reference.network("yolov3", classes=3)
    whole = reference.random_numbers(sections)
    backbone = reference.random_numbers(sections[: 1 + 75])  # up to the last shortcut: 52 convolutions
    assert np.array_equal(whole[: len(backbone)], backbone)
    path = tmp_path / "darknet53.conv.74"
    path.write_bytes(reference.header() + backbone.tobytes())
    imported = import_darknet(path)
    assert imported.matched == 52
    assert imported.notes[-1] == "the first 52 of 75 convolutions; the rest is fresh"
    assert imported.fresh
    assert all(name.startswith(("neck.", "head.")) for name in imported.fresh)
    complete = tmp_path / "whole.weights"
    complete.write_bytes(reference.header() + whole.tobytes())
    other = import_darknet(complete, ImportOptions(classes=CLASSES)).detector.state_dict()
    for name, value in imported.detector.backbone.state_dict().items():
        torch.testing.assert_close(value, other[f"backbone.{name}"])
    path.rename(tmp_path / "darknet53.weights")
    with pytest.raises(ModelError, match="less than yolov3"):
        import_darknet(tmp_path / "darknet53.weights")


@pytest.mark.parametrize(("change", "words"), [(-4, "4 bytes less than"), (8, "8 bytes more than")])
def test_too_short_or_too_long(tmp_path, change, words):
    path = tmp_path / "a.weights"
    write(path, reference.network("yolov3-tiny", classes=3))
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(ModelError) as error:
        import_darknet(path, ImportOptions(classes=CLASSES))
    sizes = []
    for name in ("yolov3", "yolov3-spp", "yolov3-tiny"):
        numbers = reference.random_numbers(reference.network(name, classes=3))
        sizes.append(f"{name} with 3 classes {20 + numbers.nbytes:,}")
    assert str(error.value) == (
        f"{path}: holds {len(data) + change:,} bytes, {words} yolov3-tiny with 3 classes; expected: "
        f"{'; '.join(sizes)}. It is truncated, or of other classes (pass their names with --classes) or another network"
    )


def test_other_names_than_classes(tmp_path):
    write(tmp_path / "a.weights", reference.network("yolov3-tiny", classes=3))
    (tmp_path / "a.cfg").write_text(reference.text(reference.network("yolov3-tiny", classes=3)))
    with pytest.raises(ModelError, match=r"a.cfg: has 3 classes, but 2 names were given"):
        import_darknet(tmp_path / "a.weights", ImportOptions(classes=["a", "b"]), cfg=tmp_path / "a.cfg")
    with pytest.raises(ModelError, match=r"a.cfg: has 3 classes; pass their names in the order of training"):
        import_darknet(tmp_path / "a.weights", cfg=tmp_path / "a.cfg")
    (tmp_path / "b.cfg").write_text(reference.text(reference.network("yolov3-tiny", classes=3, share=8)))
    with pytest.raises(ModelError, match=r"its cfg is not that of yolov3, yolov3-spp, yolov3-tiny"):
        import_darknet(tmp_path / "a.weights", ImportOptions(classes=CLASSES), cfg=tmp_path / "b.cfg")


def imported(tmp_path, *changes, name="yolov3-tiny", version=(0, 2, 0)):
    """A file with a cfg in which each (old, new) of `changes` is changed throughout."""
    sections = reference.network(name, classes=3)
    write(tmp_path / "a.weights", sections, version=version)
    text = reference.text(sections)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "a.cfg").write_bytes(text.encode("gbk"))
    return import_files([tmp_path / "a.weights", tmp_path / "a.cfg"], ImportOptions(classes=CLASSES))


@pytest.mark.parametrize("name", ["yolov3", "yolov3-spp", "yolov3-tiny"])
@torch.no_grad()
def test_a_cfg_s_activation_is_computed(tmp_path, name):
    model = imported(tmp_path, ("activation=leaky", "activation = relu"), name=name).card.model
    assert (model.backbone.activation, model.neck.activation, model.head.activation) == ("relu",) * 3
    with pytest.raises(ModelError) as error:
        imported(tmp_path, ("activation=leaky", "activation=mish"), name=name)
    assert str(error.value) == (
        f"{tmp_path / 'a.cfg'}: activation=mish is not known here; expected one of: leaky, relu, relu6, swish, linear"
    )


@torch.no_grad()
def test_a_cfg_s_scale_moves_the_centres(tmp_path):
    raws = []
    for scale in ("1", "1.2"):
        got = imported(tmp_path, ("[yolo]", f"[yolo]\nscale_x_y = {scale}"))
        assert got.card.model.head.center_reach == float(scale)
        boxes = got.detector.decode(got.detector(torch.rand(1, 3, 64, 64, generator=torch.Generator()))).boxes[0, -1]
        raws.append((boxes[:2] + boxes[2:]) / 2)
    # The last prediction stands in the last cell, of stride 32: its centre goes 1.2 times as far from the middle.
    torch.testing.assert_close(raws[1] - 48, 1.2 * (raws[0] - 48), rtol=1e-4, atol=1e-3)


def test_pictures_are_stretched_or_letterboxed_as_the_cfg_says(tmp_path):
    got = imported(tmp_path, ("[net]", "[net]\nletter_box=0"), version=(0, 2, 5))
    assert got.card.model.input.resize == "stretch"
    assert len(got.notes) == 1
    assert imported(tmp_path, ("[net]", "[net]\nletter_box=1")).card.model.input.resize == "letterbox"
    unsaid = imported(tmp_path, version=(0, 2, 5))
    assert unsaid.card.model.input.resize == "letterbox"
    assert unsaid.notes[1] == (
        "pictures are letterboxed; the fork that writes version 0.2.5 stretches them unless it is told otherwise: for "
        "that, pass the .cfg with letter_box=0 in [net]"
    )


def test_spellings_of_a_cfg_that_mean_the_same(tmp_path):
    plain = imported(tmp_path).card
    for change in (
        ("mask=0,1,2\nanchors=10, 14, 23, 27", "mask = 0, 1, 2\nanchors = 10,14,  23.0,27"),
        ("layers=-4", "layers=13"),  # the same section, counted from the first
        ("[net]", "# \u6ce8\u91ca\n[network]"),  # a comment in GBK, darknet's other name
        ("batch=1\n", "batch=1\nbatch=64\n"),
    ):
        assert imported(tmp_path, change).card == plain
    assert parse_cfg("\ufeff" + (tmp_path / "a.cfg").read_text("gbk"), "x").classes == 3
    notes = imported(tmp_path, ("[yolo]", "[yolo]\njitter=.3\nfoo=1")).notes
    assert notes[1] == "options that are not known were left out: foo (line 110), foo (line 150)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[yolo]", "[yolo]\nnew_coords=1"), "new_coords=1 of [yolo] is not known here; expected new_coords=0"),
        (("[yolo]", "[yolo]\nnms_kind=diounms"), "nms_kind=diounms of [yolo] is not known here"),
        (("mask=0,1,2", "scale_x_y=1.1\nmask=0,1,2"), "scale_x_y must be one number from 1 to 3, the same in all"),
        (("channels=3", "channels=1"), "x:1: channels=1 of [net] is not known here; expected channels=3"),
        (("filters=16\n", "filters=16\ngroups=2\n"), "groups=2 of [convolutional] is not known here"),
        (("pad=1", "pad=0"), "pad=0 of [convolutional] is not known here; expected pad=1"),
        (("activation=linear", "activation=leaky"), "activation is 'leaky', but must be linear"),
        (("activation=linear", ""), "activation is 'logistic', but must be linear"),
        (("activation=leaky", "activation=relu", 1), "activation is 'leaky', but must be relu"),
        (("[upsample]", "[reorg]"), "[reorg] is no section of a YOLOv3 of darknet; other networks are not known"),
    ],
)
def test_options_that_change_the_function_are_refused(change, message):
    good = reference.text(reference.network("yolov3-tiny", classes=3))
    assert change[0] in good
    with pytest.raises(ModelError) as error:
        parse_cfg(good.replace(*change), "x")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("size=2\nstride=1", "size=2\nstride=2"), "has maxpool 2/2, yolov3-tiny maxpool 2/1 there"),
        (("layers=-1,8", "layers=-1,6"), "has route 19, 6, yolov3-tiny route 19, 8 there"),
        (("[upsample]\nstride=2", "[upsample]\nstride=4"), "has upsample 4, yolov3-tiny upsample 2 there"),
    ],
)
def test_sections_without_weights_belong_to_the_network(tmp_path, change, message):
    with pytest.raises(ModelError, match="its cfg is not that of yolov3, yolov3-spp, yolov3-tiny") as error:
        imported(tmp_path, change)
    assert str(error.value).endswith(message)


@pytest.mark.parametrize(("version", "kept"), [((0, 1, 0), 20), ((0, 2, 0), 16)])
def test_headers_of_the_other_length(tmp_path, version, kept):
    path = tmp_path / "a.weights"
    numbers = write(path, reference.network("yolov3-tiny", classes=3), version=version)
    plain = import_darknet(path, ImportOptions(classes=CLASSES))
    header = (reference.header(version) + bytes(4))[:kept]
    path.write_bytes(header + numbers.tobytes())
    other = import_darknet(path, ImportOptions(classes=CLASSES))
    for name, value in plain.detector.state_dict().items():
        torch.testing.assert_close(other.detector.state_dict()[name], value, rtol=0, atol=0)
    assert f"the header was read as {kept} bytes, with which the numbers fit" in " ".join(other.notes)
    assert other.notes[0] == plain.notes[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x: holds 0 bytes; expected a header of at least 16, as darknet writes"),
        (b"\x00" * 15, "x: holds 15 bytes; its header of version 0.0 takes 16"),
        (reference.header()[:19], "x: holds 19 bytes; its header of version 0.2 takes 20"),
        (
            b"PK\x03\x04" + b"\x00" * 16,
            "x: begins with version 67324752.0.0, so it is no file of darknet; expected a .weights file",
        ),
        (
            reference.header() + b"\x00" * 6,
            "x: holds 26 bytes, 20 of header and 6 of numbers, which is not a multiple of 4: it is truncated or "
            "damaged",
        ),
    ],
)
def test_headers(data, message):
    with pytest.raises(ModelError) as error:
        parse_weights(data, "x")
    assert str(error.value) == message


def test_what_a_header_says():
    weights = parse_weights(reference.header((0, 1, 7), 12) + np.array([1.5, 2], "<f4").tobytes(), "x")
    assert (weights.version, weights.seen, weights.header, weights.numbers.tolist()) == ((0, 1, 7), 12, 16, [1.5, 2])
    weights = parse_weights(reference.header((1, 0, 0), 2**40), "x")
    assert (weights.seen, weights.header, len(weights.numbers)) == (2**40, 20, 0)


@pytest.mark.parametrize(
    ("place", "value", "words"), [(9, np.nan, "not finite"), (3, -1.0, "a variance of backbone.stem")]
)
def test_damaged_numbers(tmp_path, place, value, words):
    sections = reference.network("yolov3-tiny", classes=3)
    numbers = reference.random_numbers(sections)
    numbers[place] = value
    (tmp_path / "a.weights").write_bytes(reference.header() + numbers.tobytes())
    with pytest.raises(ModelError, match=words):
        import_darknet(tmp_path / "a.weights", ImportOptions(classes=CLASSES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[net]", "[other]"), "x: has no [net] or no [yolo] section; expected the configuration of a YOLOv3"),
        (("mask=0,1,2", "mask=0,1,9"), "x: a mask names no anchor, or one that does not exist (there are 6)"),
        (("mask=0,1,2", "mask=0,1"), "x: its [yolo] sections differ in their anchors; expected the same in all"),
        (("classes=3", "classes=x"), "classes must be a number from 1 to 100000, but is 'x'"),
        (("filters=1\n", "filters=-1\n"), "filters must be a number from 1 to 65536, but is '-1'"),
        (("width=64", "width"), "x:3: expected [section] or key=value, but got 'width'"),
        (("344, 319", "344, big"), "anchors must be numbers"),
        (("344, 319", "344"), "anchors must be pairs of width and height above 0"),
    ],
)
def test_wrong_cfgs(change, message):
    good = reference.text(reference.network("yolov3-tiny", classes=3))
    assert change[0] in good
    with pytest.raises(ModelError) as error:
        parse_cfg(good.replace(*change), "x")
    assert message in str(error.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        read_weights(tmp_path / "a.weights")
    with pytest.raises(ModelError, match="cannot be read"):
        read_cfg(tmp_path / "a.cfg")
