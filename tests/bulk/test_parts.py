"""Several runs, each with a part of the blocks, leave what a single one does."""

import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from falconet.bulk.blocks import Part, read_part
from falconet.bulk.listing import Sources
from falconet.bulk.plan import Plan
from falconet.bulk.run import SUPERSEDED, Results, in_streams, run_blocks
from falconet.core.errors import ConfigError, DataError
from falconet.core.lock import locked
from tests.bulk.conftest import HEAD, run, table
from tests.runtime.tiny_model import picture, save


def share(predictor, number: int, of: int, *, out: str = "out", arguments: tuple[str, ...] = ("in",)) -> tuple:
    sources = Sources(arguments, leave_out=out, pictures=3, part=Part(number, of))
    results = Results(out, HEAD, sources)
    said: list[str] = []
    done = run_blocks(in_streams(predictor, results), sources, results, say=said.append)
    return done, said


@pytest.mark.parametrize("of", [1, 2, 3, 16])
def test_the_parts_together_are_the_whole(predictor, of: int) -> None:
    arguments = ("in", "in/03.png", "in/03.png")  # some twice, which a single run does twice, too
    done = [share(predictor, number, of, arguments=arguments)[0] for number in range(of, 0, -1)]
    assert sum(one.pictures for one in done) == 32
    run(predictor, *arguments, out="single", pictures=3)
    files = {path.name: path.read_bytes() for path in Path("single").glob("*.parquet")}
    assert {path.name: path.read_bytes() for path in Path("out").glob("*.parquet")} == files
    assert run(predictor, *arguments, pictures=3).kept == 32


def test_a_part_says_how_much_is_its(predictor) -> None:
    done, said = share(predictor, 2, 3)
    assert 0 < done.pictures < 30
    assert said[0] == f"part 2/3 has {done.pictures} of 30 pictures"
    done, said = share(predictor, 2, 3)
    assert done.kept == done.pictures
    assert said[1] == f"out: has {done.kept} of {done.pictures} pictures already"


def test_the_first_part_puts_aside_what_changed(folder: Path, predictor) -> None:
    for number in (1, 2):
        share(predictor, number, 2)
    save(folder / "in" / "05.png", picture((1, 1, "red"), value=90))
    (folder / "in" / "deep" / "25.png").unlink()
    share(predictor, 2, 2)
    assert not Path("out", SUPERSEDED).exists()
    share(predictor, 1, 2)
    run(predictor, out="anew", pictures=3)
    assert table() == table("anew")


def test_parts_do_not_look_into_tars_of_others(folder: Path, predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    import falconet.bulk.listing as listing

    for number in range(6):
        with tarfile.open(folder / f"shard-{number}.tar", "w") as shard:
            for path in sorted((folder / "in").glob(f"*{number}.png")):
                shard.add(path, arcname=path.name)
    data = [path.read_bytes() for path in sorted((folder / "in").glob("*.png"))]
    parquet.write_table(pa.table({"image": data}), folder / "pictures.parquet", row_group_size=4)
    opened = []
    real = listing._headers
    monkeypatch.setattr(listing, "_headers", lambda path: opened.append(path) or real(path))
    arguments = ("shard-*.tar", "pictures.parquet")
    done = [share(predictor, number, 4, arguments=arguments) for number in range(1, 5)]
    assert sorted(opened) == [f"shard-{number}.tar" for number in range(6)]
    assert sum(one.pictures for one, _ in done) == 12 + 20
    assert any("tars of other parts were not looked into" in said[0] for _, said in done)
    assert run(predictor, *arguments, pictures=3).kept == 32


def test_parts_as_people_write_them() -> None:
    assert read_part("3/16") == Part(3, 16)
    for text in ("0/4", "5/4", "3", "a/b", "1/", "-1/2", "1/2/3", "²/4"):
        with pytest.raises(ConfigError, match=r"--part .*expected the number of a part and how many there are"):
            read_part(text)


def test_each_part_has_a_lock_of_its_own(tmp_path: Path) -> None:
    with locked(tmp_path, "a.lock"), locked(tmp_path, "b.lock"):
        assert {path.name for path in tmp_path.iterdir()} == {"a.lock", "b.lock"}
        (tmp_path / "a.lock").write_text("1 another-machine\n")
        with pytest.raises(DataError, match=r"process 1 on another-machine"), locked(tmp_path, "a.lock"):
            pass
    assert not list(tmp_path.iterdir())


def test_pictures_are_listed_once(predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    real = Sources.blocks

    def counted(self):
        rounds.append(1)
        return real(self)

    monkeypatch.setattr(Sources, "blocks", counted)
    run(predictor)
    assert len(rounds) == 1


def test_a_plan_lies_in_a_file_where_it_is_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import falconet.bulk.plan as module

    monkeypatch.setattr(module, "MEMORY", 100)
    blocks = list(Sources(["in"], pictures=3).blocks())
    plan = Plan()
    for block in blocks:
        plan.put(block)
    assert list(plan.blocks()) == blocks
    plan.close()
    if os.path.exists("/dev/full"):  # noqa: PTH110
        with Path("/dev/full").open("wb", buffering=0) as full:
            plan._file = full
            with pytest.raises(DataError, match=r"the list of pictures cannot be kept there: No space left on device"):
                plan.put(blocks[0])
    assert folder.is_dir()
