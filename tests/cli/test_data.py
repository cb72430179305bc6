"""`falconet data` as a user types it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from falconet.cli.data import app
from falconet.core.errors import ConfigError, DataError
from tests.data.build import coco_tree, write_coco


def _run(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "good.json", coco_tree({"a.png": [(0, 1, 1, 9, 9), (1, 3, 3, 8, 8)]}), folder="good")


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    tree = coco_tree({"a.png": [(0, 1, 1, 1, 9), (1, 3, 3, 8, 8)], "b.png": []})
    return write_coco(tmp_path / "bad.json", tree, folder="bad")


def test_check_without_problems(good: Path) -> None:
    result = _run("check", good, "--strict")
    *hints, _, counted, verdict, few, flat = result.stdout.splitlines()
    assert len(hints) == 2
    assert all(line.startswith(f"hint: {good}") for line in hints)
    assert counted == "all: 1 pictures (0 without boxes), 2 boxes (cat 1, dog 1)"
    assert verdict == "no problems, but hints:"
    assert few == "     1  few-to-learn (hint): classes with few boxes to learn from"
    assert flat == "     1  flat-picture (hint): pictures that show nothing"


def test_check_lists_problems_and_strict_sets_the_exit_code(bad: Path) -> None:
    result = _run("check", bad)
    lines = [line for line in result.stdout.splitlines() if "hint" not in line]
    assert lines == [
        f"{bad} (annotation 1): image a.png has box [1, 1, 1, 9] of no area; expected x1 < x2 and y1 < y2",
        "",
        "all: 2 pictures (1 without boxes), 2 boxes (cat 1, dog 1)",
        "     1  no-area: boxes of no area",
    ]
    quick = _run("check", bad, "--strict", "--quick", code=1).stdout.splitlines()
    assert [line for line in quick if "hint" not in line] == lines


def test_check_as_json(bad: Path) -> None:
    report = json.loads(_run("check", bad, "--json").stdout)
    assert report["summary"] == {"flat-picture": 2, "no-area": 1, "few-to-learn": 1}
    assert report["splits"]["all"] == {
        "images": 2,
        "images_without_boxes": 1,
        "boxes": 2,
        "classes": {"cat": 1, "dog": 1},
    }
    places = [problem["where"] for problem in report["problems"] if problem["severity"] == "problem"]
    assert places == [f"{bad} (annotation 1)"]
    (problem,) = (problem for problem in report["problems"] if problem["kind"] == "no-area")
    assert problem["picture"] == str(bad.parent / "bad" / "a.png")
    assert problem["boxes"] == [[1, 1, 1, 9]]
    assert problem["other_picture"] is None
    assert report["kinds"]["no-area"] == {
        "meaning": "boxes of no area",
        "remedy": "Delete the boxes (mostly a click without a drag), or draw them again; until then they are left out.",
        "severity": "problem",
    }
    assert set(report["kinds"]) == set(report["summary"])
    assert "fix" not in report


def test_check_as_a_page(bad: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "check.html"
    result = _run("check", bad, "--html", page)
    assert result.stdout.splitlines()[-1] == f"page: {page}"
    assert "of no area; expected" in page.read_text(encoding="utf-8")
    json.loads(_run("check", bad, "--html", page, "--json").stdout)


@pytest.mark.parametrize(
    ("name", "text"), [("bad.json", "expected a file whose name ends in .html"), ("a.html", "is a folder; name a file")]
)
def test_a_page_takes_no_other_files_place(bad: Path, tmp_path: Path, name: str, text: str) -> None:
    before = bad.read_bytes()
    (tmp_path / "a.html").mkdir()
    with pytest.raises(ConfigError, match=text):
        _run("check", bad, "--html", tmp_path / name)
    assert bad.read_bytes() == before


def test_a_page_without_jinja2_says_what_to_install(bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("falconet.api.require.find_spec", {}.get)
    with pytest.raises(ConfigError, match=r"--html needs jinja2.*pip install 'falconet\[eval\]'"):
        _run("check", bad, "--html", tmp_path / "check.html")


def test_check_writes_a_repaired_copy(bad: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines = _run("check", bad, "--fix", out, "--strict", code=1).stdout.splitlines()
    assert lines[lines.index("") + 5 :] == [
        "",
        f"repaired: {bad} (annotation 1): image a.png has box [1, 1, 1, 9] of no area; expected x1 < x2 and y1 < y2 "
        "(box taken out)",
        "",
        "     1  no-area repaired",
        "     1  unused-class left to you: classes without a box",
        "     2  flat-picture left to you (hint): pictures that show nothing",
        f"repaired copy written to {out}; {out / 'fix.json'} lists what was done",
    ]
    with pytest.raises(DataError, match="exists already; give a new or an empty folder"):
        _run("check", bad, "--fix", out)
    report = json.loads(_run("check", bad, "--fix", tmp_path / "other", "--json").stdout)
    assert report["fix"] == json.loads((tmp_path / "other" / "fix.json").read_text())
    with pytest.raises(ConfigError, match="repairs all splits of a data set together; leave --split train out"):
        _run("check", bad, "--fix", tmp_path / "third", "--split", "train")


def test_demo_show_and_convert(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    _run("demo", folder, "--train", "3", "--val", "2", "--height", "64", "--width", "96")
    _run("check", folder, code=0)
    shown = _run("show", folder, "--out", tmp_path / "shown", "--count", "4").stdout.split()
    assert [Path(name).is_file() for name in shown] == [True] * 5
    result = _run("convert", folder, "--to", "voc", "--out", tmp_path / "voc", "--link")
    assert result.stdout.splitlines()[-1] == f"written to {tmp_path / 'voc'}"
    assert (tmp_path / "voc" / "ImageSets" / "Main" / "val.txt").read_text().split() == ["val_000000", "val_000001"]


def test_convert_says_what_it_leaves_out(tmp_path: Path, bad: Path) -> None:
    result = _run("convert", bad, "--to", "yolo", "--out", tmp_path / "yolo")
    assert "of no area; expected x1 < x2 and y1 < y2 (box left out)" in result.stdout


def test_errors_reach_the_entry_point(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        _run("check", tmp_path / "nowhere")
    assert _run("convert", tmp_path, "--to", "pascal", "--out", tmp_path / "x", code=2).stdout == ""


def test_anchors_of_a_data_set_and_into_a_run_file(tmp_path: Path) -> None:
    # 60 x 40 pictures in an input of 120 x 120: letterboxed, everything is twice as large.
    boxes = [(0, 2, 2, 12, 8), (0, 1, 1, 11, 7), (1, 5, 5, 35, 35), (1, 4, 4, 35, 34)]
    data = write_coco(tmp_path / "data.json", coco_tree({"a.png": boxes}), folder="data")
    result = _run("anchors", data, "--count", "2", "--size", "120")
    lines = result.stdout.splitlines()
    assert lines[0] == "4 boxes in 1 pictures, letterbox to 120 x 120"
    assert lines[1] == "found   best possible recall 1.000, mean shape IoU 0.992"
    assert lines[2].startswith("anchors: [[20, 12], [")
    assert len(lines) == 3

    run = tmp_path / "run.yaml"
    run.write_text(
        "model:\n  name: yolov3\n  input: {height: 120, width: 120, resize: letterbox}\n"
        "  head: {anchors: [[5, 5], [60, 60]], masks: [[0], [1]]}\n"
    )
    lines = _run("anchors", data, "--run", run).stdout.splitlines()
    assert lines[1] == "before  best possible recall 0.500, mean shape IoU 0.544"
    assert lines[-1] == f"written to {run}"
    assert lines[3].startswith("anchors: [[20, 12], [")
    assert "masks: [[0], [1]]" in run.read_text()
    assert "[20.0, 12.0]" in run.read_text()
    before = run.read_text()
    with pytest.raises(ConfigError, match=r"run.yaml: 3 anchors cannot be shared equally by 2 levels"):
        _run("anchors", data, "--run", run, "--count", "3")
    assert run.read_text() == before
    with pytest.raises(ConfigError, match=r"says what the input is; leave --size and --resize out"):
        _run("anchors", data, "--run", run, "--size", "64")
    with pytest.raises(ConfigError, match=r"--size 12: expected pixels from 32 to 8192"):
        _run("anchors", data, "--size", "12")


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """A folder with train.json and test.json; test has a class that train has no box of."""
    write_coco(tmp_path / "set" / "test.json", coco_tree({"c.png": [(0, 1, 1, 9, 9), (1, 3, 3, 8, 8)]}), folder="test")
    write_coco(tmp_path / "set" / "train.json", coco_tree({"a.png": [(0, 1, 1, 9, 9)]}), folder="train")
    return tmp_path / "set"


def test_train_is_what_is_learnt_from_whatever_the_alphabet_says(splits: Path) -> None:
    report = json.loads(_run("check", splits, "--json", "--strict", code=1).stdout)
    assert list(report["splits"]) == ["train", "test"]
    assert [one["what"] for one in report["problems"] if one["kind"] == "not-learnt"] == [
        "split 'test' has boxes of dog, of which split 'train' has none to learn from"
    ]


@pytest.mark.parametrize("content", ["", "[1,2", "{}"])
def test_a_split_of_which_nothing_can_be_made_out_is_told(splits: Path, content: str) -> None:
    (splits / "train.json").write_text(content)
    with pytest.raises(DataError, match=r"train\.json"):
        CliRunner().invoke(app, ["check", str(splits)], catch_exceptions=False)


def test_a_copy_lies_outside_of_the_original(splits: Path) -> None:
    for out in (splits, splits / "fixed"):
        with pytest.raises(ConfigError, match="lies in the data set"):
            CliRunner().invoke(app, ["check", str(splits), "--fix", str(out)], catch_exceptions=False)
    assert sorted(path.name for path in splits.iterdir()) == ["test", "test.json", "train", "train.json"]


def test_what_others_follow_from_is_told_last(tmp_path: Path) -> None:
    tree = coco_tree({f"{n}.png": [(n % 2, 20, 10, 50, 30)] for n in range(12)})
    for one in tree["annotations"]:
        one["bbox"] = [20, 10, 50, 30]  # left, top, right, bottom
    path = write_coco(tmp_path / "x.json", tree)
    assert _run("check", path).stdout.splitlines()[-1].startswith("begin with box-form, from which others may follow:")
