"""The report: valid HTML, everything escaped, the numbers in it, nothing from outside."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from falconet.core import charts, page
from falconet.core.errors import DataError
from falconet.core.figures import percent
from falconet.core.images import write_image
from falconet.core.types import Detections, Record
from falconet.eval import curves
from falconet.eval.accuracy import Accuracy
from falconet.eval.bootstrap import resample
from falconet.eval.coco_ap import run, summarize
from falconet.eval.latency import Latency
from falconet.eval.matching import match_all
from falconet.eval.operating_point import OperatingPoint
from falconet.eval.picture import ImageView
from falconet.eval.promise import promises_of
from falconet.eval.reliability import Reliability, Scored
from falconet.eval.report import SECTIONS, read_history, render, write_report
from falconet.eval.report_content import Finding, Report
from falconet.eval.wanted_point import Wanted, wanted_point

NONE = {"small": 0, "medium": 0, "large": 0}
NAMES = ("<b>ant</b>", 'bee "&"')
VOID = {"meta", "br", "img"}


class Tags(HTMLParser):
    """Checks that tags nest and collects addresses, scripts and text."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.names, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data):
        self.text.append(data)


def parse(page):
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert tags.open == []
    return tags


def pictures(folder):
    records = []
    for index, shape in enumerate(((90, 120, 3), (700, 500, 3))):
        path = folder / f"<i>{index}.png"
        write_image(path, np.full(shape, 60 * (index + 1), np.uint8))
        boxes = [[10, 10, 50, 60], [60, 10, 90, 60]]
        records.append(Record(index, path, shape[1], shape[0], boxes, [0, 1], np.zeros(2, bool)))
    found = [
        Detections([[10, 10, 50, 60], [0, 70, 20, 90]], [0.9, 0.6], [0, 1], NAMES),
        Detections([[10, 10, 50, 60], [60, 10, 90, 60]], [0.8, 0.7], [0, 1], NAMES),
    ]
    return records, found


RECEIPT = {
    "model": "m.onnx",
    "size": 2**20,
    "images": 12,
    "findings": [
        {"key": "box difference", "text": "largest 0.012 px"},
        {"key": "matched detections", "text": "77 of 78"},
        {"key": "AP change", "text": ""},
    ],
    "problems": [],
    "sha256": "abc123",
    "torch": {"name": "torch", "metrics": {"AP": 0.5}, "milliseconds": 9.0},
    "exported": {"name": "onnxruntime", "metrics": {"AP": 0.501}, "milliseconds": 3.25},
}


@pytest.fixture
def report(tmp_path):
    records, found = pictures(tmp_path)
    evaluator = run(NAMES, records, found)
    results = curves.pictures(NAMES, records, found, score=0.25)
    worst, best = curves.worst_and_best(results, count=4)

    def views(some):
        return [ImageView(records[r.index], found[r.index].above(0.25), r) for r in some]

    return Report(
        title="run <script>alert(1)</script>",
        facts=[("data", "a & b.json")],
        lead=["It finds <3> of 4 objects."],
        points={NAMES[0]: OperatingPoint(0.25, 31, 7, 59)},
        metrics=summarize(evaluator, NAMES, records),
        curves=curves.precision_recall(evaluator, NAMES),
        confusion=curves.confusion(evaluator, NAMES, score=0.25),
        kinds=curves.error_kinds(evaluator),
        worst=views(worst),
        best=views(best),
        history=[{"epoch": e, "loss": 3 / e, "loss_class": 1 / e, "AP": e / 10, "AP50": e / 9} for e in (1, 2, 3)],
        latency={"network": Latency(1.234, 2.0, 2.5, 3.0, 1.5, 50)},
        machine={"processor": "Some CPU"},
        receipt=RECEIPT,
        notes=["left out: <broken>.jpg"],
    )


def test_page_nests_and_needs_nothing_from_outside(report):
    page = render(report)
    tags = parse(page)
    assert "script" not in tags.names
    assert "link" not in tags.names
    assert len(tags.addresses) == 2
    assert all(address.startswith("data:image/jpeg;base64,") for address in tags.addresses)
    assert not re.search(r"https?://|url\(|@import|//[a-z]", re.sub(r"base64,[^\"]*", "", page))


def test_it_begins_with_what_it_comes_to(report):
    text = " ".join(parse(render(report)).text)
    assert text.index("It finds <3> of 4 objects.") < text.index("AP50")
    assert "Average precision (AP), in percent" in text
    assert "Found, missed and false: with scores above 0.25." in text


def test_everything_from_users_is_escaped(report):
    page = render(report)
    assert "<script>" not in page
    assert "<b>ant</b>" not in page
    assert "&lt;b&gt;ant&lt;/b&gt;" in page
    assert "&lt;broken&gt;.jpg" in page
    assert "<i>0.png" not in page
    text = " ".join(parse(page).text)
    for shown in ("run <script>alert(1)</script>", "a & b.json", "<b>ant</b>", 'bee "&"', "left out: <broken>.jpg"):
        assert shown in text


def test_numbers_are_in_the_page(report):
    text = " ".join(parse(render(report)).text)
    for shown in (
        percent(report.metrics["AP"]),
        "1.23",
        "Some CPU",
        "0.012 px",
        "77",
        "abc123",
        "50.1",
        "3.25",
        "31",
        "59",
    ):
        assert shown in text
    for title in ("Training", "Confusion", "Worst pictures", "Best pictures", "Export receipt", "Time per picture"):
        assert title in text


def test_pictures_show_what_is_right_false_and_missed(report):
    page = render(report)
    assert page.count('<rect class="right"') == 3
    assert page.count('<rect class="false"') == 1
    assert page.count('<rect class="missed"') == 1
    assert "1 right, 1 false, 1 missed" in page


def test_large_pictures_are_made_small(report):
    pages = [render(replace(report, worst=[], best=[view])) for view in (*report.worst, *report.best)]
    assert max(map(len, pages)) < 40_000


def test_parts_without_content_are_left_out(report):
    page = render(Report(title="t", facts=[], metrics=report.metrics))
    text = " ".join(parse(page).text)
    for title in ("Training", "Confusion", "Worst", "Best", "Export", "Time per", "Precision", "goes wrong"):
        assert title not in text


def test_small_medium_and_large_objects_have_a_row_each(report, tmp_path):
    records, found = pictures(tmp_path)
    drawn = resample(NAMES, records, found)
    page = render(replace(report, resampled=drawn))
    text = " ".join(parse(page).text)
    assert report.metrics.sizes == {"small": 0, "medium": 4, "large": 0}
    rows = re.findall(r"<tr><td>(\w+)<small>[^<]*pixels</small></td><td>(\d+)</td>", page)
    assert rows == [("small", "0"), ("medium", "4"), ("large", "0")]
    assert text.count(str(drawn.values["APm"].interval)) >= 2  # above, and in its row
    assert str(drawn.values["ARm"].interval) in text
    assert "Sizes of objects" not in render(replace(report, metrics=replace(report.metrics, sizes=NONE)))


def test_a_classifier_has_its_own_sections():
    found = Accuracy(0.75, 1.0, {"<a>": 1.0, "b": 0.5}, {"<a>": 2, "b": 2}, (("b", "<a>", 1),), 4)
    text = " ".join(parse(render(Report(title="t", facts=[], accuracy=found))).text)
    for shown in ("75.0", "top-1", "<a>", "b taken for <a>", "Classes", "Confusion"):
        assert shown in text
    assert "AP50" not in text


def test_every_template_is_used_and_can_be_read():
    names = {path.name for path in files("falconet.eval").joinpath("pages").iterdir()}
    assert names == {row.template for row in SECTIONS} | {"report.html", "suspects.html"}  # pages of their own
    for name in names:
        page._environment().get_template(f"falconet.eval/pages/{name}")


def test_many_classes_give_a_list_and_grey_curves():
    names = tuple(f"class {n}" for n in range(30))
    boxes = np.tile([[0.0, 0, 30, 30]], (30, 1)) + np.arange(30)[:, None] * 40
    record = Record(1, Path("x.jpg"), None, None, boxes, np.arange(30), np.zeros(30, bool))
    found = Detections(boxes, np.full(30, 0.9), np.roll(np.arange(30), 1) * (np.arange(30) < 3) + 0, names)
    evaluator = run(names, [record], [found])
    metrics = summarize(evaluator, names, [record])
    confusion = curves.confusion(evaluator, names, score=0.1)
    page = render(
        Report(
            title="t",
            facts=[],
            metrics=metrics,
            confusion=confusion,
            curves=curves.precision_recall(evaluator, names),
        )
    )
    text = " ".join(parse(page).text)
    assert "class 2 taken for class 1" in text
    assert "mean of 30 classes" in text
    assert page.count("line muted") == 30


def test_undecided_figures_are_a_dash():
    assert percent(-1) == "–"
    assert percent(float("nan")) == "–"
    assert percent(0.1234) == "12.3"


def test_write_report(report, tmp_path):
    write_report(report, tmp_path / "deep" / "report.html")
    assert (tmp_path / "deep" / "report.html").read_text(encoding="utf-8") == render(report)


def test_history_skips_half_a_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"epoch": 1, "loss": 2.0}) + '\n[1]\n{"loss": 3}\n{"epoch": 2, "lo', encoding="utf-8")
    assert read_history(path) == [{"epoch": 1, "loss": 2.0}]
    with pytest.raises(DataError, match=r"no\.jsonl: cannot be read: No such file"):
        read_history(tmp_path / "no.jsonl")


def test_chart_places_points_and_leaves_out_nan():
    series = charts.Series("a", [(0, 0), (1, float("nan")), (2, 1)])
    chart = charts.line_chart([series], x_label="x", y_label="y", x_range=(0, 2), y_range=(0, 1))
    assert '<polyline class="line s0" points="46.0,246.0 508.0,10.0">' in chart
    parse(chart)


def test_chart_of_one_point_and_of_none():
    assert "<circle" in charts.line_chart([charts.Series("a", [(1, 1)])], x_label="x", y_label="y")
    assert charts.line_chart([charts.Series("a", [])], x_label="x", y_label="y") == ""


def test_a_difference_is_drawn_around_zero():
    chart = charts.around_zero(0.1, (-0.1, 0.2), limit=0.2, told=False)
    assert 'class="around open"' in chart
    assert 'x1="41.5" y1="8.0" x2="142.0"' in chart  # 75 in the middle, 67 for the limit
    assert 'cx="108.5"' in chart
    assert "<path" not in chart
    parse(chart)
    assert charts.around_zero(-1, (-2, -0.5), limit=1, told=True).count("<path") == 1  # further to the left
    assert 'class="around loss"' in charts.around_zero(-1, (-2, -0.5), limit=1, told=True)
    assert 'class="around gain"' in charts.around_zero(1, (0.5, 1), limit=1, told=True)
    assert 'cx="75.0"' in charts.around_zero(0, (0, 0), limit=0, told=False)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 3.15, [0, 1, 2, 3]),
        (1, 30, [10, 20, 30]),
        (0.5, 1.5, [0.6, 0.8, 1, 1.2, 1.4]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_what_scores_mean_and_what_thresholds_do(tmp_path):
    records, found = pictures(tmp_path)
    softer = [replace(one, scores=one.scores / 2) for one in found]
    wanted = wanted_point(Wanted.parse("recall=0.5"), NAMES, records, found)
    scored = Scored.of(NAMES, records, found)
    report = Report(
        "scores",
        [],
        reliability=Reliability.of(Scored.of(NAMES, records, softer), scored),
        wanted=wanted,
        stored={"<f1>": promises_of([0.5, 0.5], NAMES, match_all(NAMES, records, found)).total},
    )
    tags = parse(render(report))
    text = "".join(tags.text)
    assert "before calibration" in text
    assert "falconet calibrate mends it" not in text
    assert "<f1>" in text  # escaped, and so a text
    assert "told of the pictures that its thresholds were chosen on, since they are few" in text
    assert "2 pictures cannot promise it" in text
    plain = render(replace(report, reliability=Reliability.of(scored), wanted=None, stored={}))
    assert "before calibration" not in plain
    assert "<code>falconet calibrate</code> mends it" in plain
    assert "Thresholds" not in plain


def test_what_is_odd_about_the_data_and_labels_in_doubt():
    told = {
        "counts": {"missing": 2, "wrong class": 0},
        "labels": 40,
        "images": 9,
        "suspects": [{"sentence": f"<{n}>"} for n in range(9)],
    }
    finding = Finding("no-area", "boxes of no area", "Delete the boxes.", "problem", 3, "a.json: <box>")
    page_ = render(Report("data", [], findings=[finding], doubted=told, doubted_page="../suspects/suspects.html"))
    tags = parse(page_)
    text = "".join(tags.text)
    assert "Delete the boxes." in text
    assert "a.json: <box>" in text
    assert "of 40 labels in 9 pictures" in text
    assert "<4>" in text
    assert "<5>" not in text  # the first five
    assert tags.addresses == ["../suspects/suspects.html"]
    assert "Labels in doubt" not in render(Report("data", []))
