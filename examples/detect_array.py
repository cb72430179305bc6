"""Detect in pixels that are already in memory.

python detect_array.py model.onnx picture.jpg
"""

import sys

import cv2

import falconet

if len(sys.argv) != 3:
    sys.exit(__doc__)
model, picture = sys.argv[1:]
predictor = falconet.load(model)

image = cv2.imread(picture)  # uint8 [height, width, 3], blue, green, red
for name, score, (x1, y1, x2, y2) in predictor.predict(image):
    print(f"{name} {score:.2f} at {x1:.0f},{y1:.0f} to {x2:.0f},{y2:.0f}")
