"""The pictures that a search looks at: what networks are timed with, and the form of the input."""

import logging
from collections.abc import Sequence

from falconet.core.errors import DataError
from falconet.core.images import read_image
from falconet.core.types import Pixels, Record
from falconet.data.records import sizes_of_files
from falconet.search.space import Space, common_form

_log = logging.getLogger(__name__)

LOOKED_AT = 8
"""Pictures that networks are timed with."""

FORMS = 300
"""Pictures whose form is looked at."""


def some_pictures(records: Sequence[Record]) -> list[Pixels]:
    """Some of the pictures, decoded."""
    step = max(1, len(records) // LOOKED_AT)
    return [read_image(record.path)[0] for record in records[::step][:LOOKED_AT]]


def input_form(space: Space, records: Sequence[Record]) -> float:
    """Width over height that the input is to have."""
    if space.form == "square":
        return 1.0
    step = max(1, len(records) // FORMS)
    sizes = sizes_of_files(records[::step][:FORMS])
    form = common_form([size for size in sizes if not isinstance(size, DataError)])
    if form != 1:
        _log.info(
            "most pictures are %.2f times as wide as high; the network's input becomes as near to that as steps of 32 "
            "pixels allow",
            form,
        )
    return form
