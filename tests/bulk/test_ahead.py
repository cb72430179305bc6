"""What lies in object storage is asked for before it is needed: in order, within bounds, with few requests."""

import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import falconet.bulk.storage as module
from falconet.bulk.ahead import ReadAhead
from falconet.bulk.listing import Sources
from falconet.bulk.storage import Remote
from falconet.core.errors import DataError
from falconet.runtime.stream import ImageBytes
from tests.bulk.conftest import run, table


class Counting:
    """pyarrow's file system of a folder, as if it were a bucket; counts what is read."""

    def __init__(self, folder: Path) -> None:
        from pyarrow import fs

        self._own = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
        self.opened: list[str] = []
        self.asked: list[str] = []

    def __getattr__(self, name: str):
        return getattr(self._own, name)

    def open_input_file(self, path: str):
        self.opened.append(path)
        return self._own.open_input_file(path)

    def get_file_info(self, what):
        self.asked.append(str(what))
        return self._own.get_file_info(what)


@pytest.fixture
def system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    """s3:// is the folder."""
    made = Counting(folder)
    monkeypatch.setattr(module, "_remote", lambda scheme, _: Remote(scheme, made))
    return made


def pictures(count: int, load=lambda index: b"%d" % index) -> Iterator[ImageBytes]:
    for index in range(count):
        yield ImageBytes(lambda index=index: load(index), f"s3://b/{index}")


def test_pictures_in_order() -> None:
    with closing(ReadAhead(4).over(pictures(50))) as found:
        assert [(one.name, one.load()) for one in found] == [(f"s3://b/{index}", b"%d" % index) for index in range(50)]


def test_many_requests_at_once_but_no_more_than_that() -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(4)

    def load(index: int) -> bytes:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        if index < 4:
            together.wait(30)  # which ends only where four are under way
        with lock:
            at_once -= 1
        return b"x"

    with closing(ReadAhead(4).over(pictures(40, load))) as found:
        assert [one.load() for one in found] == [b"x"] * 40
    assert most == 4


def test_bytes_that_wait_are_bounded() -> None:
    waiting, most, lock = 0, 0, threading.Lock()

    def load(_: int) -> bytes:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        return b"x" * 100

    with closing(ReadAhead(4, held=300).over(pictures(60, load))) as found:
        for one in found:
            one.load()
            with lock:
                waiting -= 1
            time.sleep(0.001)
    assert most <= 3 + 4 + 1  # what fills the room, what went on at that moment, and the one just taken


def test_whoever_stops_is_not_kept_waiting() -> None:
    ahead = ReadAhead(4, held=1)
    with closing(ahead.over(pictures(1000))) as found:
        next(found).load()
        ahead.stop()
    assert threading.active_count() < 20


def test_errors_stay_with_their_picture() -> None:
    def load(index: int) -> bytes:
        if index == 2:
            raise DataError("broken")
        return b"x"

    with closing(ReadAhead(4).over(pictures(5, load))) as found:
        got = list(found)
        with pytest.raises(DataError, match="broken"):
            got[2].load()
        assert got[4].load() == b"x"


def test_a_run_over_object_storage(folder: Path, predictor, system: Counting) -> None:
    run(predictor)
    (folder / "far").mkdir()
    run(predictor, "s3://in", out="s3://far")
    local, far = table(), table("far")
    for one in far:
        assert one["source"].startswith("s3://in/")
        one["source"] = one["source"].removeprefix("s3://")
    assert [{**one, "error": one["error"] is not None} for one in far] == [
        {**one, "error": one["error"] is not None} for one in local
    ]
    assert len([name for name in system.opened if name.endswith(".png")]) == 30


def test_pictures_of_a_tar_come_together(folder: Path, system: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    import falconet.bulk.blocks as blocks

    files = sorted((folder / "in").rglob("*.png"))
    with tarfile.open(folder / "shard.tar", "w") as shard:
        for path in files:
            shard.add(path, arcname=path.name)
    listed = list(Sources(["s3://shard.tar"]).blocks())
    assert system.opened == ["shard.tar"]
    want = [path.read_bytes() for path in files]
    assert [one.load() for block in listed for one in block.pictures()] == want
    assert len(system.opened) == 2
    monkeypatch.setattr(blocks, "STRETCH", 5000)
    assert [one.load() for block in listed for one in block.pictures()] == want
    assert 2 < len(system.opened) - 2 < len(files)
    again = next(listed[0].pictures())
    assert again.load() == again.load() == want[0]


def test_lists_of_addresses_are_looked_up_at_once(folder: Path, system: Counting) -> None:
    names = [f"s3://in/{index:02}.png" for index in range(20)]
    (folder / "list.txt").write_text("\n".join([*names, "s3://in/gone.png"]))
    places = [place for block in Sources(["list.txt"]).blocks() for place in block.places]
    assert [one.path for one in places] == [*names, "s3://in/gone.png"]
    assert all(one.state for one in places[:-1])
    assert places[-1].state == ""
    assert len(system.asked) == 21
