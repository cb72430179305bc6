"""Count what is in the pictures of a folder; any number of pictures takes the same memory.

python detect_folder.py model.onnx folder
"""

import sys
from collections import Counter

import falconet
from falconet.runtime.pipeline import predict_frames
from falconet.runtime.stream import Broken, find_sources

if len(sys.argv) != 3:
    sys.exit(__doc__)
model, folder = sys.argv[1:]
predictor = falconet.load(model)

total: Counter[str] = Counter()
for item in predict_frames(predictor, find_sources([folder], recursive=True)):
    if isinstance(item, Broken):
        print(f"left out: {item.error}")
        continue
    found = Counter(name for name, _, _ in item.answer)
    total += found
    print(f"{item.frame.source}: {dict(found)}")
print(f"in all: {dict(total)}")
