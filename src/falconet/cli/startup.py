"""A quick start: `falconet predict` is to take little longer than importing what it needs.

Start-up creates many objects and drops almost none, so that the garbage collector, which looks at all of them
again and again, finds nothing and takes a fifth of the time. It rests until the work begins, and never looks at
the objects from before.
"""

import gc


def begin() -> None:
    """No garbage collection until `finish`."""
    gc.disable()


def finish() -> None:
    """Start-up is over. Does nothing where `begin` was not called."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
