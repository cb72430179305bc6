"""The pictures of docs/tutorial.md and of the README, made anew from drawn data: python benchmarks/tutorial.py.

Trains for three minutes. The report is photographed where a Chromium is installed, and left as it is elsewhere.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from falconet.core.charts import Series, line_chart
from falconet.core.images import read_image, write_image

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
CHROMIUM = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--hide-scrollbars",
)


def falconet(folder: Path, *words: str | Path) -> None:
    """Run a command as the tutorial shows it."""
    subprocess.run([sys.executable, "-m", "falconet", *map(str, words)], cwd=folder, check=True)


def shrink(source: Path, name: str, *, width: int) -> None:
    """A JPEG of a certain width."""
    image = read_image(source)[0]
    height = round(image.shape[0] * width / image.shape[1])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    write_image(PICTURES / name, np.asarray(small, np.uint8), jpeg_quality=80)


def curve(metrics: Path) -> None:
    """AP and AP50 over the epochs."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    series = [Series(key, [(e["epoch"], 100 * e[key]) for e in lines if key in e]) for key in ("AP", "AP50")]
    chart = line_chart(series, x_label="epoch", y_label="percent, on the validation data", y_range=(0, 100))
    svg = chart[chart.index("<svg") : chart.index("</svg>") + len("</svg>")]
    style = (
        "<style>text{font:13px system-ui,sans-serif;fill:#777}.s0{stroke:#2563eb}.s1{stroke:#d97706}"
        ".line{fill:none;stroke-width:2.5}.grid,.axis{stroke:#bbb}</style>"
    )
    end = svg.index(">") + 1
    root = svg[:end] if "xmlns" in svg[:end] else svg[:end].replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"')
    (PICTURES / "curve.svg").write_text(root + style + svg[end:] + "\n", encoding="utf-8")


def photograph(page: Path, name: str, folder: Path) -> None:
    """The upper part of a page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium: the picture of the report stays as it is")
        return
    shot = folder / "shot.png"
    where = [f"--screenshot={shot}", "--window-size=1100,1000", f"--user-data-dir={folder / 'browser'}"]
    subprocess.run([browser, *CHROMIUM, *where, page.as_uri()], check=True, capture_output=True)
    shrink(shot, name, width=900)


def main() -> None:
    """The tutorial's steps, and a picture of each."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        falconet(folder, "data", "demo", "photos")
        falconet(folder, "data", "show", "photos", "--split", "train", "--out", "look")
        falconet(folder, "train", "nanodet-plus-demo", "data=photos", "train.minutes=3", "output=runs/mine")
        falconet(folder, "eval", "runs/mine")
        falconet(folder, "export", "runs/mine", "--out", "exported")
        falconet(folder, "predict", "photos/val", "--model", "exported/mine.onnx", "--out", "found")
        PICTURES.mkdir(exist_ok=True)
        shrink(folder / "look" / "sheet.jpg", "sheet.jpg", width=900)
        curve(folder / "runs" / "mine" / "metrics.jsonl")
        photograph(folder / "runs" / "mine" / "report" / "report.html", "report.jpg", folder)
        some = sorted((folder / "found" / "annotated").iterdir())[:6]
        rows = [np.hstack([read_image(path)[0] for path in some[start : start + 3]]) for start in (0, 3)]
        write_image(folder / "found.png", np.vstack(rows))
        shrink(folder / "found.png", "found.jpg", width=900)
    for path in sorted(PICTURES.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
