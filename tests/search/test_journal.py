"""The journal of a search: what is written stays, what broke off is left out."""

from pathlib import Path

import pytest

from falconet.core.errors import DataError
from falconet.search.journal import Journal


def test_it_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    assert journal.first("timed") is None
    journal.write("timed", model="a", timing=(1.25, 2.0))
    journal.write("plan", rounds=[(3, 1.5)])
    again = Journal(path)
    assert again.all("timed") == [{"kind": "timed", "model": "a", "timing": [1.25, 2.0]}]
    assert again.first("plan") == {"kind": "plan", "rounds": [[3, 1.5]]}


def test_a_line_that_broke_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).write("timed", model="a")
    with path.open("a", encoding="utf-8") as stream:
        stream.write('{"kind": "tim')
    journal = Journal(path)
    assert len(journal.all("timed")) == 1
    journal.write("timed", model="b")
    assert [event["model"] for event in Journal(path).all("timed")] == ["a", "b"]


@pytest.mark.parametrize("line", ["no json", "[1]", '{"model": 3}'])
def test_foreign_files(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{{"kind": "way"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"journal\.jsonl:2: .*'falconet fit'"):
        Journal(path)


def test_in_memory() -> None:
    journal = Journal(None)
    journal.write("way", engine="onnxruntime")
    assert journal.first("way") == {"kind": "way", "engine": "onnxruntime"}
