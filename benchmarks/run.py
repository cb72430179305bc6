"""Run all benchmarks, one process each, on a machine that should have nothing else to do: `make bench`."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = ("detect.py", "selection.py", "assigner.py", "training.py", "ppyoloe.py", "yolov3.py", "backbones.py")

if __name__ == "__main__":
    here = Path(__file__).parent
    for script in SCRIPTS:
        subprocess.run([sys.executable, str(here / script)], check=True)
