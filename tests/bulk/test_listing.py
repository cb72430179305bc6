"""Which pictures are meant, and how they are cut into blocks."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from falconet.bulk.listing import Sources, plain
from falconet.core.errors import ConfigError, DataError


def names(*arguments: str, **options) -> list[str]:
    return [one.name for block in Sources(arguments, **options).blocks() for one in block.pictures()]


def contents(*arguments: str, **options) -> list[bytes]:
    return [one.load() for block in Sources(arguments, **options).blocks() for one in block.pictures()]


@pytest.fixture
def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in (folder / "in").rglob("*.png"))


def test_a_folder_is_all_below_it(files: list[str]) -> None:
    assert names("in") == files
    assert names("in/") == files
    assert contents("in") == [Path(name).read_bytes() for name in files]


def test_what_is_no_picture_is_counted(folder: Path, files: list[str]) -> None:
    (folder / "in" / "notes.doc").write_text("x")
    (folder / "in" / "clip.mp4").write_bytes(b"x")
    (folder / "in" / ".hidden.png").write_bytes(b"x")
    sources = Sources(["in"])
    assert sum(block.count for block in sources.blocks()) == len(files)
    assert sources.others == 2


def test_the_results_are_not_listed(folder: Path, files: list[str]) -> None:
    parquet.write_table(pa.table({"source": ["x"]}), folder / "in" / "part-1.parquet")
    (folder / "in" / "found").mkdir()
    (folder / "in" / "part-1.parquet").rename(folder / "in" / "found" / "part-1.parquet")
    assert names("in", leave_out="in/found") == files
    assert names("./in", leave_out="in/found") == [f"./{name}" for name in files]


def test_globs_and_files(files: list[str]) -> None:
    assert names("in/*.png") == files[:20]
    assert names("in/**/*.png") == files
    assert names("in/03.png", "in/01.png") == ["in/03.png", "in/01.png"]


def test_a_text_list(folder: Path) -> None:
    (folder / "in" / "list.txt").write_bytes("\ufeff03.png\r\n\n  deep/22.png\ngone.png\n".encode())
    assert names("in/list.txt") == ["in/03.png", "in/deep/22.png", "in/gone.png"]
    (folder / "list.txt").write_text("03.png\n")
    assert names("list.txt", images="in") == ["in/03.png"]
    (folder / "list.txt").write_text(f"{folder / 'in' / '03.png'}\n")
    assert names("list.txt", images="elsewhere") == [f"{folder}/in/03.png"]
    (folder / "list.txt").write_bytes(b"a.png\n\xff\xfe.png\n")
    with pytest.raises(DataError, match=r"list\.txt:2: is not UTF-8"):
        names("list.txt")


def test_a_coco_json(folder: Path) -> None:
    (folder / "coco.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "05.png"}]}))
    assert names("coco.json", images="in") == ["in/05.png"]
    (folder / "coco.json").write_text('{"pictures": []}')
    with pytest.raises(DataError, match=r"coco\.json: is not COCO JSON"):
        names("coco.json")


def test_parquet_with_paths(folder: Path, files: list[str]) -> None:
    parquet.write_table(pa.table({"id": range(30), "path": files, "who": ["x"] * 30}), folder / "t.parquet")
    assert names("t.parquet") == files
    assert names("t.parquet", column="path") == files
    with pytest.raises(ConfigError, match=r"--column pth: t\.parquet has no such column; did you mean 'path'\?"):
        names("t.parquet", column="pth")
    with pytest.raises(ConfigError, match=r"--column id: t\.parquet has int64 there; expected paths"):
        names("t.parquet", column="id")
    parquet.write_table(pa.table({"left": files, "right": files}), folder / "t.parquet")
    with pytest.raises(ConfigError, match=r"which column has the pictures.*one of left, right"):
        names("t.parquet")


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_parquet_with_pictures(folder: Path, files: list[str], form: str) -> None:
    data = [Path(name).read_bytes() for name in files]
    cells = pa.array(data) if form == "bytes" else pa.array([{"bytes": one, "path": "x"} for one in data])
    parquet.write_table(pa.table({"image": cells, "label": range(30)}), folder / "t.parquet", row_group_size=8)
    blocks = list(Sources(["t.parquet"]).blocks())
    assert [block.count for block in blocks] == [8, 8, 8, 6]
    assert names("t.parquet") == [f"t.parquet#{index}" for index in range(30)]
    assert contents("t.parquet") == data


def test_a_row_without_a_picture(folder: Path) -> None:
    parquet.write_table(pa.table({"image": pa.array([b"x", None])}), folder / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet#1: the row has no picture"):
        contents("t.parquet")


def test_a_damaged_table(folder: Path) -> None:
    (folder / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read as Parquet"):
        names("t.parquet")


def test_tars(folder: Path, files: list[str]) -> None:
    for number, part in enumerate((files[:10], files[10:])):
        with tarfile.open(folder / f"shard-{number}.tar", "w") as shard:
            for name in part:
                shard.add(name, arcname=Path(name).name)
                about = tarfile.TarInfo(f"{Path(name).stem}.json")
                about.size = 2
                shard.addfile(about, io.BytesIO(b"{}"))
    assert names("shard-*.tar")[9:11] == ["shard-0.tar/09.png", "shard-1.tar/10.png"]
    assert contents("shard-*.tar") == [Path(name).read_bytes() for name in files]
    assert len(names("shard-0.tar")) == 10
    with tarfile.open(folder / "s.tar.gz", "w:gz") as shard:
        shard.add(files[0])
    with pytest.raises(DataError, match=r"s\.tar\.gz: is compressed.*unpack it to \.tar"):
        names("s.tar.gz")
    (folder / "bad.tar").write_bytes(b"x" * 2000)


def test_a_damaged_tar_is_a_place_that_says_so(folder: Path, files: list[str]) -> None:
    (folder / "bad.tar").write_bytes(b"x" * 2000)
    with tarfile.open(folder / "cut.tar", "w") as shard:
        for name in files[:3]:
            shard.add(name, Path(name).name)
    whole = (folder / "cut.tar").read_bytes()
    (folder / "cut.tar").write_bytes(whole[: whole.index(b"02.png")])
    pictures = [one for block in Sources(["*.tar"]).blocks() for one in block.pictures()]
    assert [one.name for one in pictures] == ["bad.tar", "cut.tar/00.png", "cut.tar/01.png", "cut.tar"]
    with pytest.raises(DataError, match=r"bad\.tar: cannot be read as a tar"):
        pictures[0].load()
    assert pictures[2].load() == Path(files[1]).read_bytes()
    with pytest.raises(DataError, match=r"cut\.tar: "):
        pictures[3].load()


def test_links_are_followed(folder: Path, files: list[str]) -> None:
    (folder / "in" / "linked").symlink_to("deep")
    (folder / "in" / "deep" / "round").symlink_to("..")
    (folder / "in" / "nowhere.png").symlink_to("gone.png")
    found = names("in")
    deep = [name for name in files if "/deep/" in name]
    assert deep
    assert sorted(found) == sorted([*files, *(name.replace("/deep/", "/linked/") for name in deep), "in/nowhere.png"])
    assert names("in/deep") == deep + [name.replace("in/", "in/deep/round/") for name in files[:20]] + [
        "in/deep/round/nowhere.png"
    ]


def test_paths_are_plain(folder: Path, files: list[str]) -> None:
    (folder / "in" / "lists").mkdir()
    (folder / "in" / "lists" / "all.txt").write_text("../03.png\n./../deep/22.png\n")
    assert names("in/lists/all.txt") == ["in/03.png", "in/deep/22.png"]
    assert [plain(one) for one in ("in/", "./in", "in/../in", "", "s3://a/../b/")] == [
        "in",
        "in",
        "in",
        "",
        "s3://a/../b/",
    ]
    assert files


def test_what_is_not_there(folder: Path) -> None:
    (folder / "empty").mkdir()
    for argument, message in {
        "absent": "absent: no such file or folder",
        "empty": "empty: has no pictures",
        "*.xyz": "has no pictures",
    }.items():
        with pytest.raises(DataError, match=message):
            names(argument)
    with pytest.raises(ConfigError, match="addresses with ftp:// are not read; expected s3"):
        names("ftp://host/x")


def test_an_added_picture_changes_one_block(folder: Path) -> None:
    def cut() -> list[str]:
        return [block.name for block in Sources(["in/*.png"], pictures=4).blocks()]

    before = cut()
    assert len(before) > 2
    assert cut() == before
    (folder / "in" / "00a.png").write_bytes(b"x")
    assert len(set(before) - set(cut())) == 1
    (folder / "in" / "00a.png").unlink()
    assert cut() == before
    (folder / "in" / "19.png").write_bytes(b"another one")
    assert len(set(before) - set(cut())) == 1


@pytest.mark.usefixtures("folder")
def test_blocks_end_at_a_few_times_the_average() -> None:
    counts = [block.count for block in Sources(["in/*.png"] * 3, pictures=2).blocks()]
    assert sum(counts) == 60
    assert max(counts) <= 8


@pytest.mark.usefixtures("folder")
def test_pictures_that_are_listed_twice_are_done_twice() -> None:
    blocks = list(Sources(["in/03.png", "in/03.png"]).blocks())
    assert len({block.name for block in blocks}) == 2
