"""What every preset and classifier costs, counted once, so that `falconet models` needs no torch; a test counts anew.

Parameters and multiply-adds (of convolutions and linear layers, at the model's own input size) are those of detectors
with 80 classes and of classifiers with 1000.
"""

from typing import Literal, NamedTuple


class Preset(NamedTuple):
    """One network of a preset."""

    task: Literal["detect", "classify"]
    height: int
    """Of the input, pixels."""
    width: int
    parameters: int
    macs: int


PRESETS: dict[str, Preset] = {
    "nanodet-plus-m-320": Preset("detect", 320, 320, 1_197_924, 450_712_800),
    "nanodet-plus-m-416": Preset("detect", 416, 416, 1_197_924, 762_090_840),
    "nanodet-plus-m-1.5x-320": Preset("detect", 320, 320, 2_477_792, 879_196_800),
    "nanodet-plus-m-1.5x-416": Preset("detect", 416, 416, 2_477_792, 1_486_468_128),
    "nanodet-plus-demo": Preset("detect", 224, 224, 320_096, 72_261_024),
    "nanodet-m-320": Preset("detect", 320, 320, 950_036, 342_223_200),
    "nanodet-m-416": Preset("detect", 416, 416, 950_036, 578_357_208),
    "nanodet-m-1.5x": Preset("detect", 416, 416, 2_065_392, 1_176_656_416),
    "yolov3-darknet53": Preset("detect", 320, 320, 61_949_149, 19_486_412_800),
    "yolov3-mobilenet-v2": Preset("detect", 320, 320, 22_680_317, 5_425_753_600),
    "yolov3-spp": Preset("detect", 320, 320, 62_998_749, 19_591_270_400),
    "yolov3-tiny": Preset("detect", 320, 320, 8_852_366, 1_646_438_400),
    "yolov3-lite-mobilenet-v2": Preset("detect", 320, 320, 3_082_045, 899_136_000),
    "yolov3-lite-mobilenet-v3-large": Preset("detect", 320, 320, 4_048_365, 746_396_800),
    "yolov3-lite-mobilenet-v3-small": Preset("detect", 320, 320, 2_076_893, 425_898_752),
    "ppyoloe-s": Preset("detect", 640, 640, 8_084_588, 8_795_718_912),
    "ppyoloe-m": Preset("detect", 640, 640, 24_134_892, 25_617_183_552),
    "ppyoloe-l": Preset("detect", 640, 640, 54_078_556, 56_884_712_448),
    "ppyoloe-x": Preset("detect", 640, 640, 102_331_484, 107_221_051_200),
    "ppyoloe-plus-s": Preset("detect", 640, 640, 8_084_594, 8_795_718_912),
    "ppyoloe-plus-m": Preset("detect", 640, 640, 24_134_904, 25_617_183_552),
    "ppyoloe-plus-l": Preset("detect", 640, 640, 54_078_574, 56_884_712_448),
    "ppyoloe-plus-x": Preset("detect", 640, 640, 102_331_508, 107_221_051_200),
    "shufflenet-v2-0.5": Preset("classify", 224, 224, 1_366_792, 40_476_448),
    "shufflenet-v2-1.0": Preset("classify", 224, 224, 2_278_604, 144_907_992),
    "shufflenet-v2-1.5": Preset("classify", 224, 224, 3_503_624, 295_759_392),
    "shufflenet-v2-2.0": Preset("classify", 224, 224, 7_393_996, 583_253_464),
    "ghostnet-0.5": Preset("classify", 224, 224, 2_587_292, 42_328_152),
    "ghostnet-1.0": Preset("classify", 224, 224, 5_182_508, 141_150_512),
    "ghostnet-1.3": Preset("classify", 224, 224, 7_358_820, 227_003_256),
    "mobilenet-v2-0.35": Preset("classify", 224, 224, 1_677_128, 59_285_808),
    "mobilenet-v2-0.5": Preset("classify", 224, 224, 1_968_680, 97_131_840),
    "mobilenet-v2-0.75": Preset("classify", 224, 224, 2_636_424, 209_069_792),
    "mobilenet-v2-1.0": Preset("classify", 224, 224, 3_504_872, 300_774_272),
    "mobilenet-v2-1.4": Preset("classify", 224, 224, 6_108_776, 582_195_824),
    "mobilenet-v3-large": Preset("classify", 224, 224, 5_483_032, 216_589_760),
    "mobilenet-v3-small": Preset("classify", 224, 224, 2_542_856, 56_510_400),
    "mobilenet-v4-conv-s": Preset("classify", 224, 224, 3_774_024, 186_005_568),
    "mnasnet-0.5": Preset("classify", 224, 224, 2_218_512, 104_455_968),
    "mnasnet-0.75": Preset("classify", 224, 224, 3_170_208, 215_493_104),
    "mnasnet-1.0": Preset("classify", 224, 224, 4_383_312, 314_415_872),
    "mnasnet-1.3": Preset("classify", 224, 224, 6_282_256, 526_362_432),
    "efficientnet-b0": Preset("classify", 224, 224, 5_288_548, 385_814_752),
    "efficientnet-b1": Preset("classify", 240, 240, 7_794_184, 686_802_832),
    "efficientnet-b2": Preset("classify", 260, 260, 9_109_994, 993_561_872),
    "efficientnet-b3": Preset("classify", 300, 300, 12_233_232, 1_827_141_392),
    "efficientnet-b4": Preset("classify", 380, 380, 19_341_616, 4_393_771_024),
    "efficientnet-lite0": Preset("classify", 224, 224, 4_652_008, 385_187_552),
    "efficientnet-lite1": Preset("classify", 240, 240, 5_416_680, 600_185_232),
    "efficientnet-lite2": Preset("classify", 260, 260, 6_092_072, 859_736_272),
    "efficientnet-lite3": Preset("classify", 280, 280, 8_197_096, 1_383_321_872),
    "efficientnet-lite4": Preset("classify", 300, 300, 13_006_568, 2_553_034_336),
    "lcnet-0.25": Preset("classify", 224, 224, 1_522_464, 16_773_440),
    "lcnet-0.35": Preset("classify", 224, 224, 1_644_370, 27_357_832),
    "lcnet-0.5": Preset("classify", 224, 224, 1_880_856, 44_731_008),
    "lcnet-0.75": Preset("classify", 224, 224, 2_358_288, 94_786_496),
    "lcnet-1.0": Preset("classify", 224, 224, 2_953_800, 155_700_480),
    "lcnet-1.5": Preset("classify", 224, 224, 4_501_112, 334_188_416),
    "lcnet-2.0": Preset("classify", 224, 224, 6_522_792, 580_194_816),
    "lcnet-2.5": Preset("classify", 224, 224, 9_018_840, 893_719_680),
    "cspresnet-s": Preset("classify", 256, 256, 3_505_976, 704_564_480),
    "cspresnet-m": Preset("classify", 256, 256, 10_086_424, 2_184_737_088),
    "cspresnet-l": Preset("classify", 256, 256, 22_183_752, 4_954_756_096),
    "cspresnet-x": Preset("classify", 256, 256, 41_521_640, 9_418_061_120),
    "cspresnet-50": Preset("classify", 256, 256, 21_616_168, 4_517_240_832),
    "darknet53": Preset("classify", 256, 256, 41_609_928, 9_285_115_904),
}
"""By name, in the order of the documentation."""
