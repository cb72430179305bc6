"""Every kind of problem says how it is found, and the documentation has all of them."""

from falconet.data.criteria import CRITERIA, OTHER_COMMANDS
from falconet.data.kinds import HINTS, KINDS
from tests.checks_table import table, written


def test_every_kind_says_how_it_is_found() -> None:
    assert list(CRITERIA) == [kind for kind in KINDS if kind not in OTHER_COMMANDS]
    assert len(CRITERIA) >= 40
    assert set(KINDS) >= HINTS
    assert all(one.found for one in CRITERIA.values())


def test_the_table_of_the_documentation() -> None:
    assert written() == table(), "write it with python -m tests.checks_table"
