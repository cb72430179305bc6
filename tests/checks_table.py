"""The table of checks in docs/data.md: python -m tests.checks_table writes it, a test compares it."""

from pathlib import Path

from falconet.data.criteria import CRITERIA
from falconet.data.kinds import HINTS, KINDS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"
START, END = "<!-- checks -->\n", "<!-- end of checks -->\n"


def table() -> str:
    """The table as it should be."""
    lines = [
        "| id | severity | what | how it is found | what helps | `--fix` |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, one in CRITERIA.items():
        severity = "hint" if kind in HINTS else "problem"
        fix = one.fix or "left to you"
        lines.append(f"| `{kind}` | {severity} | {KINDS[kind].meaning} | {one.found} | {KINDS[kind].remedy} | {fix} |")
    return "\n".join(lines) + "\n"


def written() -> str:
    """The table in the page."""
    return PAGE.read_text(encoding="utf-8").partition(START)[2].partition(END)[0].strip() + "\n"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n{table()}\n{END}{after}", encoding="utf-8")
