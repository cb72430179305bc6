"""The checker behind `tests/conftest.py`: annotations hold while tests run; an int is a good float (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
