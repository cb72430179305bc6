"""Errors a user can act on. Each message says what is wrong, where, what was expected and what to do."""

from collections.abc import Sequence
from typing import Any


class FalconetError(Exception):
    """Base of every error that is the input's fault; the command line prints it without a traceback."""


class ConfigError(FalconetError):
    """A run file, an override or an option is wrong."""


class DataError(FalconetError):
    """A picture, an annotation file or a data set is wrong."""


class PicturesError(DataError):
    """Some pictures of a list are wrong; the others were answered nevertheless.

    Attributes:
        answers: for each picture of the list, None where it is wrong.
        errors: of the wrong ones, by their place in the list, from 0.
    """

    def __init__(self, results: "Sequence[Any | DataError]") -> None:
        self.errors = {place: one for place, one in enumerate(results) if isinstance(one, DataError)}
        self.answers = [None if isinstance(one, DataError) else one for one in results]
        place, first = next(iter(self.errors.items()))
        if len(results) == 1:
            super().__init__(str(first))
            return
        wrong = f"{len(self.errors)} of {len(results)} pictures cannot be used; the first of them is number {place}"
        super().__init__(f"{wrong} (from 0): {first}. The answers for the others are this error's 'answers'")


class ProcessError(FalconetError):
    """A process that worked for this one was ended from outside."""


class ModelError(FalconetError):
    """A weights file, an exported model or a request to one is wrong."""


class StorageError(FalconetError):
    """Files elsewhere cannot be reached, or not now; no picture is to blame."""
