"""The page of a data set's problems: each on its picture, bounded, whole whatever the data hold."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from falconet.core.images import write_image
from falconet.core.types import Record
from falconet.data import check_page
from falconet.data.check import check_splits, open_splits
from falconet.data.check_page import DRAWN, LISTED, MARKED, PLAIN, TOLD, write_check_page
from falconet.data.dataset import DataSet, Problem
from falconet.data.kinds import KINDS
from tests.data.build import coco_tree, voc_text, write_coco, write_voc


def page_of(splits: dict[str, DataSet], folder: Path, problems: Sequence[Problem] | None = None) -> str:
    found = check_splits(splits) if problems is None else problems
    write_check_page(folder / "check.html", str(folder), splits, found)
    return (folder / "check.html").read_text(encoding="utf-8")


def section(page: str, kind: str) -> str:
    return page[page.index(f'<section id="{kind}">') :].partition("</section>")[0]


def pictures(folder: Path, count: int, boxes: Sequence[Sequence[float]] = ((2, 2, 9, 9),)) -> DataSet:
    chance, records = np.random.default_rng(0), []
    for number in range(count):
        path = folder / f"{number}.png"
        write_image(path, chance.integers(0, 255, (20, 30, 3), dtype=np.uint8))
        flags = np.zeros(len(boxes), np.bool_)
        records.append(Record(number, path, 30, 20, boxes, [0] * len(boxes), flags, source=f"{number}.txt"))
    return DataSet(("cat",), tuple(records), "memory")


def test_a_box_is_marked_among_the_others_with_its_class(tmp_path: Path) -> None:
    boxes = [(0, 1, 1, 5, 5), (1, 8, 3, 8, 9)]
    splits = open_splits(write_coco(tmp_path / "a.json", coco_tree({"a.png": boxes}), folder="a"))
    found = section(page_of(splits, tmp_path), "no-area")
    assert found.count('<rect class="plain"') == 1
    assert '<rect class="plain" x="1.0" y="1.0" width="4.0" height="4.0"><title>cat</title>' in found
    assert '<rect class="marked" x="8.0" y="3.0" width="0.1" height="6.0"><title>dog</title>' in found
    assert '<text class="marked" x="8.0" y="3.0" dx=".15em" dy="1em">dog</text>' in found
    assert "(annotation 2): image a.png has box [8, 3, 8, 9] of no area" in found
    assert KINDS["no-area"].remedy in found
    assert '<span class="pill problem">problem</span>' in found


def test_two_boxes_of_an_object_are_told_apart(tmp_path: Path) -> None:
    boxes = [(0, 1.0, 1.0, 21.0, 21.0), (1, 1.0, 1.0, 21.0, 21.5)]
    splits = open_splits(write_coco(tmp_path / "a.json", coco_tree({"a.png": boxes}), folder="a"))
    found = section(page_of(splits, tmp_path), "two-classes")
    assert found.index('<rect class="twin"') < found.index('<rect class="marked"')
    assert re.findall(r"<text[^>]*>([^<]*)</text>", found) == ["dog / cat"]


def test_copies_stand_side_by_side(tmp_path: Path) -> None:
    dataset = pictures(tmp_path, 2)
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes())
    found = section(page_of({"all": dataset}, tmp_path), "duplicate-file")
    assert found.count('<figure class="pair">') == 1
    assert found.count("data:image/jpeg;base64,") == 2
    assert "<small>1.png</small>" in found
    assert "<small>0.png</small>" in found


def test_a_readers_problem_is_shown_on_the_picture_of_its_annotation(tmp_path: Path) -> None:
    text = voc_text([("x", 1, 1, 9, 9)]).replace("</annotation>", "<object></object></annotation>")
    root = write_voc(tmp_path / "voc", {"a": text})
    found = section(page_of(open_splits(root), tmp_path), "bad-annotation")
    assert found.count("<svg") == 1
    assert '<rect class="plain"' in found


def test_what_is_about_classes_and_unreadable_pictures_is_text_alone(tmp_path: Path) -> None:
    dataset = pictures(tmp_path, 2)
    (tmp_path / "1.png").write_bytes(b"no picture")
    page = page_of({"all": DataSet(("cat", "<i>"), dataset.records, "memory")}, tmp_path)
    for kind in ("broken-file", "unused-class"):
        assert "<svg" not in section(page, kind)
    assert "1.txt: " in section(page, "broken-file")
    assert "the class &#39;&lt;i&gt;&#39; has no box" in section(page, "unused-class")


def test_pictures_and_texts_are_bounded_and_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_page, "LISTED", 5)
    count = DRAWN + 8
    splits = {"all": pictures(tmp_path, count, [(2, 2, 9, 9), (-5, 2, 9, 9)])}
    found = section(page_of(splits, tmp_path), "out-of-image")
    assert f"{count} findings, of which those on {DRAWN} pictures are drawn" in found
    assert found.count("<svg") == DRAWN
    assert found.count("<li>") == 5
    assert "and 3 more, which <code>falconet data check --json</code> lists" in found
    assert LISTED > DRAWN


def test_many_findings_on_one_picture_are_one_drawing(tmp_path: Path) -> None:
    boxes = [(-5 - n, 2, 9, 9) for n in range(TOLD + 3)]
    found = section(page_of({"all": pictures(tmp_path, 1, boxes)}, tmp_path), "out-of-image")
    assert found.count("<svg") == 1
    assert found.count('<rect class="marked"') == TOLD + 3
    assert "and 3 more on this picture" in found
    assert f'viewBox="-{5.0 + TOLD + 2} 0.0' in found  # what lies outside is shown


def test_a_picture_is_not_hidden_under_thousands_of_boxes(tmp_path: Path) -> None:
    boxes = [(-1 - n, 2, 9, 9) for n in range(MARKED + 5)] + [(1, 1, 2, 2 + n / 99) for n in range(PLAIN + 5)]
    found = section(page_of({"all": pictures(tmp_path, 1, boxes)}, tmp_path), "out-of-image")
    assert found.count('<rect class="marked"') == MARKED
    assert found.count('<rect class="plain"') == PLAIN
    assert f"and {MARKED + 5 - TOLD} more on this picture" in found


def test_damaged_data_make_a_whole_page(tmp_path: Path) -> None:
    nan = float("nan")
    boxes = [(nan, 2, 9, 9), (9, 9, 2, 2), (0.1, 0.1, 0.2, 0.3), (-1e30, 2, 1e30, 9), (2, 2, 9, 9)]
    dataset = pictures(tmp_path, 3, boxes)
    (tmp_path / "1.png").unlink()
    odd = Problem("a\udc80\x1b[31m.txt", "<script>", "bad-annotation", str(tmp_path / "\udc80.png"))
    splits = {"all": dataset}
    page = page_of(splits, tmp_path, [*check_splits(splits), odd])
    assert page.endswith("</html>\n")
    assert "<script" not in page
    assert "\x1b" not in page
    for kind in ("not-finite", "no-area", "not-pixels", "out-of-image", "missing-file"):
        assert kind in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", section(page, "not-finite").partition("<figcaption>")[0])


def test_hints_come_last_and_all_is_counted_above(tmp_path: Path) -> None:
    page = page_of({"all": pictures(tmp_path, 1, [(2, 2, 2, 9), (2, 2, 9, 9)])}, tmp_path)
    assert '<p class="lead">1 problem and 1 hint in 1 picture.</p>' in page
    kinds = re.findall(r'<section id="([^"]*)">', page)
    assert kinds == ["no-area", "few-to-learn"]
    assert [f'href="#{kind}"' in page for kind in kinds] == [True, True]


def test_nothing_found(tmp_path: Path) -> None:
    page = page_of({"all": pictures(tmp_path, 2)}, tmp_path, [])
    assert "Nothing was found in 2 pictures." in page
    assert "Findings" not in page
    assert "<td>class cat</td><td>2</td>" in page


def test_every_kind_says_what_to_do() -> None:
    for name, kind in KINDS.items():
        assert kind.remedy.endswith("."), name
        assert kind.remedy[0].isupper(), name
        assert not kind.meaning.endswith("."), name
