"""From weights to the file a device runs, and the proof that both do the same. Needs torch.

Import the modules: `torch_engine` (weights as an engine), `onnx` (write the file), `rewrite` (make its graph
fast), `verify` and `compare` (run both on images, say how they differ), `receipt` (what is written about it).
"""
