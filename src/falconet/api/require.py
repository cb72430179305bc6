"""What the base install leaves out."""

from collections.abc import Sequence
from importlib.util import find_spec

from falconet.core.errors import ConfigError


def require(modules: Sequence[str], *, extra: str, purpose: str, note: str = "") -> None:
    """Raise ConfigError with the install command, and a note on it, unless all `modules` are installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{purpose} needs {', '.join(missing)}, which the base install leaves out; "
            f"install it with: pip install 'falconet[{extra}]'{note and f' ({note})'}"
        )
