"""Average precision over minutes of training, of several runs, as one SVG picture for the documentation.

python benchmarks/curves.py NAME=RUN_FOLDER ... --out docs/models/bccd.svg [--metric AP50]
"""

import argparse
import json
from html import escape
from pathlib import Path

from falconet.core.charts import Series, line_chart
from falconet.core.files import replace_file

COLOURS = ("#1666b0", "#c2410c", "#15803d", "#7c3aed", "#111827", "#0e7490", "#be185d", "#4d7c0f")
WIDTH, HEIGHT, LEGEND_ROW = 640, 320, 18


def curve(name: str, folder: Path, metric: str) -> Series:
    """The validations of a run: minutes spent in its epochs up to there, and the metric."""
    minutes, points = 0.0, []
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        epoch = json.loads(line)
        minutes += epoch["seconds"] / 60
        if metric in epoch:
            points.append((minutes, epoch[metric]))
    return Series(name, points)


def picture(series: list[Series], metric: str) -> str:
    """The chart as a file of its own: with colours, background and legend inside."""
    longest = max(x for one in series for x, _ in one.points)
    chart = line_chart(
        series,
        x_label="minutes of training",
        y_label=metric,
        x_range=(0, longest),
        y_range=(0, 1),
        width=WIDTH,
        height=HEIGHT,
    )
    svg = chart.partition('<div class="legend">')[0]
    rules = [f".s{index}{{stroke:{colour};fill:none}}" for index, colour in enumerate(COLOURS)]
    style = (
        "<style>text{font:12px sans-serif;fill:#333}.line{stroke-width:2}.grid{stroke:#ddd}.axis{stroke:#333}"
        + "".join(rules)
        + "</style>"
    )
    height = HEIGHT + LEGEND_ROW * len(series) + 6
    legend = "".join(
        f'<rect x="46" y="{HEIGHT + LEGEND_ROW * row}" width="14" height="4" fill="{COLOURS[row % len(COLOURS)]}"/>'
        f'<text x="68" y="{HEIGHT + LEGEND_ROW * row + 7}">{escape(one.name)}</text>'
        for row, one in enumerate(series)
    )
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">'
    body = svg.partition(">")[2].removesuffix("</svg>")
    return f'{opening}{style}<rect width="{WIDTH}" height="{height}" fill="#fff"/>{body}{legend}</svg>\n'


def main() -> None:
    """Read the runs, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="NAME=RUN_FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metric", default="AP50")
    arguments = parser.parse_args()
    series = []
    for run in arguments.runs:
        name, separator, folder = run.partition("=")
        if not separator:
            parser.error(f"{run}: expected NAME=RUN_FOLDER")
        series.append(curve(name, Path(folder), arguments.metric))
    replace_file(arguments.out, picture(series, arguments.metric).encode())


if __name__ == "__main__":
    main()
