"""NanoDet and NanoDet-Plus: checkpoints, ncnn pairs, ONNX files and YAML files of RangiLyu/nanodet."""
