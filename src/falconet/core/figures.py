"""Figures as people read them; files for programs hold fractions and seconds."""

import math


def percent(value: float) -> str:
    """A fraction as percent, 0.4567 as "45.7"; a dash where there is no truth to decide it."""
    return "–" if value < 0 or not math.isfinite(value) else f"{100 * value:.1f}"


def clock(seconds: float) -> str:
    """A time as m:ss, from an hour on as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def duration(seconds: float) -> str:
    """A time in words: "45 seconds", "3.2 minutes", "1.5 hours"."""
    if seconds < 90:
        return plural(round(seconds), "second")
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def plural(number: float, one: str, many: str | None = None) -> str:
    """A number with its noun: "1 epoch", "2,000 steps", "2 classes", "1.5 minutes"."""
    if number == 1:
        return f"1 {one}"
    return f"{number:,.6g} {many or one + 's'}" if isinstance(number, float) else f"{number:,} {many or one + 's'}"
