"""Run a predictor over the pictures of a data set, in constant memory."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from falconet.core.errors import DataError
from falconet.core.types import Detections, Record

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Detected:
    """What was found in each picture that could be read.

    Attributes:
        records, detections: aligned lists.
        left_out: why each other picture is missing.
    """

    records: list[Record]
    detections: list[Detections]
    left_out: list[str]


def detect(
    predict: Callable[[Path], Detections],
    records: Sequence[Record],
    *,
    progress: Callable[[Sequence[Record]], Iterable[Record]] = iter,
) -> Detected:
    """Detections of every record's picture; only one picture is in memory at a time.

    A picture that cannot be read is reported and left out: its boxes count neither for nor against the model.

    Args:
        predict: from a picture's path to its detections, in pixels of the picture.
        progress: wraps the records, to show how far the loop is.
    """
    result = Detected([], [], [])
    for record in progress(records):
        try:
            found = predict(record.path)
        except DataError as error:
            _log.warning("left out: %s", error)
            result.left_out.append(str(error))
            continue
        result.records.append(record)
        result.detections.append(found)
    return result
