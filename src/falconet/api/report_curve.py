"""The learning curve that a report shows: what `falconet data curve` wrote, read back from its folder."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from falconet.core.config import plain, read_yaml
from falconet.core.errors import ConfigError
from falconet.core.run_files import CURVE, CURVE_PICTURE, RUN_FILE
from falconet.eval.bootstrap import Interval
from falconet.eval.report_content import Expected, LearningCurve


def read_curve(folder: Path) -> LearningCurve:
    """The curve in the folder of `falconet data curve`.

    Raises:
        ConfigError: none there, or one that is not finished.
    """
    try:
        return _curve(folder, json.loads((folder / CURVE).read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"--curve {folder}: has no {CURVE}; expected the folder of 'falconet data curve'") from error
    except KeyError as error:
        raise ConfigError(
            f"--curve {folder}: its trainings are not finished; the same 'falconet data curve' command goes on"
        ) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--curve {folder}: {CURVE} cannot be read ({error}); draw the curve again") from error


def own_curve(run: Path | None) -> LearningCurve | None:
    """The newest finished curve of the same network and training data in the run's folder or beside it; None where
    there is none.

    Args:
        run: the run's folder.
    """
    if run is None:
        return None
    with suppress(ConfigError, OSError, KeyError, TypeError):
        settings = plain(read_yaml(run / RUN_FILE))
        wanted = (settings["model"], settings["data"]["train"])
        for path in _newest_first(run):
            with suppress(OSError, ValueError, KeyError, TypeError):  # none, unfinished, or somebody else's
                told = json.loads(path.read_text(encoding="utf-8"))
                if (told["run"]["model"], told["run"]["data"]["train"]) == wanted:
                    return _curve(path.parent, told)
    return None


def _newest_first(run: Path) -> Iterator[Path]:
    beside = run.resolve().parent
    found = {path for place in (run, beside) for path in (place / CURVE, *place.glob(f"*/{CURVE}")) if path.is_file()}
    yield from sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _curve(folder: Path, told: Mapping[str, Any]) -> LearningCurve:
    """Raises KeyError where the curve is not finished."""
    rows = {"all": told["predicted"], **(told["per_class"] if len(told["per_class"]) > 1 else {})}
    picture = folder / CURVE_PICTURE
    return LearningCurve(
        figure=told["figure"],
        total=told["predicted"][0]["pictures"],
        images=told["images"],
        expected={} if told["falls"] else {name: _expected(own) for name, own in rows.items()},
        sentences=tuple(told["sentences"]),
        svg=base64.b64encode(picture.read_bytes()).decode("ascii") if picture.is_file() else "",
    )


def _expected(told: list[dict[str, Any]]) -> tuple[Expected, ...]:
    return tuple(Expected(one["pictures"], one["value"], Interval(*one["interval"])) for one in told)
