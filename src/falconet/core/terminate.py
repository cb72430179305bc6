"""SIGTERM, by which `kill`, systemd, Slurm and `timeout` end a program, as an exception, so that half files go."""

import signal
import threading

EXIT_CODE = 128 + signal.SIGTERM
"""143, as shells say it of a program that SIGTERM ended."""


class Terminated(SystemExit):
    """SIGTERM has come. Uncaught, it ends the program with code 143, and not with that of success."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


def raise_on_sigterm() -> None:
    """From now on SIGTERM raises `Terminated` in the main thread; further ones are ignored meanwhile.

    Does nothing outside the main thread, or where somebody handles SIGTERM already.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise)


def _raise(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated
