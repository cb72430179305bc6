"""PP-YOLOE: checkpoints and YAML files of PaddleDetection."""
