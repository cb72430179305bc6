"""Detection on the device: engines that run an exported model, the predictor around them, streams, results.

NumPy, OpenCV and ONNX Runtime only; never torch.
"""
