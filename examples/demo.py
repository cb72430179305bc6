"""The whole journey on drawn pictures: data, training, export, evaluation, detection. `make demo` runs it.

python examples/demo.py [--out runs/demo] [train.epochs=3 ...]
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path


def falconet(*arguments: str | Path) -> None:
    """Run a falconet command and show it as one would type it; its failure ends the demo."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ falconet {shlex.join(words)}", flush=True)
    # The demo's network is so small that two threads wait for each other more than they compute.
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if words[0] == "train" else {})
    code = subprocess.run([sys.executable, "-m", "falconet", *words], check=False, env=environment).returncode
    if code:
        sys.exit(code)


def prepare(out: Path) -> None:
    """An empty folder; what an earlier demo left there goes, anything else stays."""
    if out.exists() and any(out.iterdir()):
        if not (out / "data" / "train.json").is_file():
            sys.exit(f"{out}: is not empty and not from an earlier demo; choose another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)


def main() -> None:
    """Every step is a command a user would type."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("overrides", nargs="*", help="changes to the run, as in train.epochs=3")
    arguments = parser.parse_args()
    out: Path = arguments.out
    prepare(out)
    data, model = out / "data", out / "demo.onnx"
    start = time.monotonic()

    falconet("data", "demo", data)
    falconet("data", "check", data / "train.json")
    sources = [f"data.train={data / 'train.json'}", f"data.val={data / 'val.json'}"]
    falconet("train", "nanodet-plus-demo", f"output={out}", *sources, *arguments.overrides)
    falconet("export", out, "--to", "onnx", "--out", out, "--name", model.stem)
    falconet("eval", model, "--data", data / "val.json", "--out", out)
    falconet("predict", data / "val", "--model", model, "--out", out / "found", "--save", "images,json")

    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    receipt = json.loads((out / "demo.receipt.json").read_text(encoding="utf-8"))
    print("\nmeasured on the exported file, pictures the training never saw:")
    for key in ("AP", "AP50", "AP75"):
        print(f"  {key:<9} {100 * metrics[key]:.1f}")
    found = {finding["key"]: finding["value"] for finding in receipt["findings"]}
    boxes, scores = found["box difference"], found["score difference"]
    print(f"  drift     {boxes:.2g} pixels, {scores:.2g} score (between file and torch)")
    print(f"  minutes   {(time.monotonic() - start) / 60:.1f}")
    print(f"\nlook at   {out / 'report.html'}\n          {out / 'found'}")


if __name__ == "__main__":
    main()
