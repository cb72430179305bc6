"""Errors a user can act on. Each message says what is wrong, where, what was expected and what to do."""


class FalconetError(Exception):
    """Base of every error that is the input's fault; the command line prints it without a traceback."""


class ConfigError(FalconetError):
    """A run file, an override or an option is wrong."""


class DataError(FalconetError):
    """A picture, an annotation file or a data set is wrong."""


class ProcessError(FalconetError):
    """A process that worked for this one was ended from outside."""


class ModelError(FalconetError):
    """A weights file, an exported model or a request to one is wrong."""
