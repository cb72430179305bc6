"""Draw what is found into a video, or into the pictures of a camera until Ctrl-C.

python detect_video.py model.onnx video.mp4 drawn.mp4
python detect_video.py model.onnx 0 drawn.mp4
"""

import sys
from contextlib import suppress

import cv2

import falconet
from falconet.core.draw import draw_boxes
from falconet.runtime.pipeline import predict_frames
from falconet.runtime.stream import Broken, find_sources

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, video, drawn = sys.argv[1:]
predictor = falconet.load(model)

writer = cv2.VideoWriter()
with suppress(KeyboardInterrupt):
    for item in predict_frames(predictor, find_sources([video])):
        if isinstance(item, Broken):
            sys.exit(str(item.error))
        frame, found = item.frame, item.answer
        if not writer.isOpened():
            height, width = frame.original
            writer.open(drawn, cv2.VideoWriter.fourcc(*"mp4v"), frame.rate or 25.0, (width, height))
        writer.write(draw_boxes(frame.image, found.boxes, found.labels, found.names, found.scores))
        print(f"frame {frame.index}: {len(found)} found in {item.milliseconds.network:.0f} ms")
writer.release()
