"""Foreign weights in, published weights by name. The readers and the way to ONNX need no torch."""
