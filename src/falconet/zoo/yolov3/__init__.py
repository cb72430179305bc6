"""YOLOv3: weights of darknet and checkpoints of bubbliiiing/yolo3-pytorch."""
