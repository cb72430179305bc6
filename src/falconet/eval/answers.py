"""Run a predictor over the images of a data set, in constant memory."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from falconet.core.errors import DataError
from falconet.core.types import Record

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Answered(Generic[Answer]):
    """What a model says of each image that could be read.

    Attributes:
        records, answers: aligned lists.
        left_out: why each other image is missing.
    """

    records: list[Record]
    answers: list[Answer]
    left_out: list[str]


def answer_records(
    predict: Callable[[Path], Answer],
    records: Sequence[Record],
    *,
    progress: Callable[[Sequence[Record]], Iterable[Record]] = iter,
) -> Answered[Answer]:
    """The answer for every record's image; only one image is in memory at a time.

    An image that cannot be read is reported and left out: its boxes count neither for nor against the model.

    Args:
        predict: from an image's path to the answer, with boxes in pixels of the image.
        progress: wraps the records, to show how far the loop is.
    """
    result: Answered[Answer] = Answered([], [], [])
    for record in progress(records):
        try:
            found = predict(record.path)
        except DataError as error:
            _log.warning("left out: %s", error)
            result.left_out.append(str(error))
            continue
        result.records.append(record)
        result.answers.append(found)
    return result
