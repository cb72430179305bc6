"""Pages: everything escaped, a missing value told, shared parts nest, pictures small, nothing from outside."""

import subprocess
import sys
from pathlib import Path

import jinja2
import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.core.images import write_image
from falconet.core.page import Html, _environment, render_page, write_page
from falconet.core.page_picture import LONGEST_SIDE, PagePicture, PictureBox

BASE = "falconet.core/pages/base.html"
PARTS = '{% import "falconet.core/pages/parts.html" as parts %}'


def render(text: str, **values: object) -> str:
    return _environment().from_string(PARTS + text).render(**values)


def test_a_page_holds_its_style_title_and_lead() -> None:
    page = render_page(BASE, {}, title="a <b> & c", lead=["It is <fine>.", "So is this."])
    assert "<title>a &lt;b&gt; &amp; c</title>" in page
    assert "<h1>a &lt;b&gt; &amp; c</h1>" in page
    assert page.index("It is &lt;fine&gt;.") < page.index("So is this.")
    assert "@media print" in page
    assert page.endswith("</html>\n")


def test_only_markup_is_taken_as_it_stands() -> None:
    assert render("{{ one }}{{ other }}", one=Html("<i>"), other="<i>") == "<i>&lt;i&gt;"


def test_a_missing_value_and_a_missing_template_are_errors() -> None:
    with pytest.raises(jinja2.UndefinedError, match="nothing"):
        render("{{ nothing }}")
    with pytest.raises(jinja2.TemplateNotFound, match=r"no\.html"):
        render_page("falconet.core/pages/no.html", {}, title="")


def test_writing(tmp_path: Path) -> None:
    write_page(tmp_path / "deep" / "page.html", BASE, {}, title="t")
    assert (tmp_path / "deep" / "page.html").read_text(encoding="utf-8") == render_page(BASE, {}, title="t")
    with pytest.raises(DataError, match="cannot be written"):
        write_page(tmp_path, BASE, {}, title="t")


@pytest.mark.parametrize(("fraction", "width"), [(0.5, "50.0"), (-1.0, "0.0"), (2.0, "100.0")])
def test_a_bar_stays_in_its_cell(fraction: float, width: str) -> None:
    assert f'style="width:{width}%"' in render("{{ parts.bar(fraction, '<1') }}", fraction=fraction)
    assert "&lt;1" in render("{{ parts.bar(fraction, '<1') }}", fraction=fraction)


def test_a_picture_is_made_small_and_its_boxes_are_in_pixels_of_the_file(tmp_path: Path) -> None:
    write_image(tmp_path / "<a>.png", np.zeros((1000, 2000, 3), np.uint8))
    nan = float("nan")
    boxes = [PictureBox((10, 20, 110, 70), "marked", "<t>", "l<"), PictureBox((nan, 0, 1, 1), "plain", "not drawn")]
    picture = PagePicture.read(
        tmp_path / "<a>.png", [*boxes, PictureBox((9, 9, 5, 5), "plain", "turned")], caption="c&"
    )
    assert (picture.width, picture.height) == (2000, 1000)
    drawn = render("{{ parts.figure(picture) }}", picture=picture)
    assert 'viewBox="0.0 0.0 2000.0 1000.0"' in drawn
    assert '<rect class="marked" x="10.0" y="20.0" width="100.0" height="50.0"><title>&lt;t&gt;</title></rect>' in drawn
    assert 'x="5.0" y="5.0" width="4.0" height="4.0"><title>turned' in drawn
    assert "not drawn" not in drawn
    assert "<b>&lt;a&gt;.png</b><br>c&amp;" in drawn
    assert len(picture.jpeg) < LONGEST_SIDE * LONGEST_SIDE // 10


@pytest.mark.parametrize(
    ("room", "corners", "view"),
    [
        (0.0, (-50, 10, 250, 20), (0, 0, 200, 100)),
        (0.5, (-50, 10, 250, 20), (-50, 0, 300, 100)),
        (0.5, (10, -1e9, 20, 1e9), (0, -50, 200, 200)),
        (0.5, (10, 10, 20, 20), (0, 0, 200, 100)),
    ],
)
def test_boxes_beside_the_picture_widen_the_view(
    room: float, corners: tuple[float, ...], view: tuple[float, ...]
) -> None:
    assert PagePicture("a", 200, 100, "", [PictureBox(corners, "marked", "")], room=room).view == view


def test_a_box_without_extent_is_seen() -> None:
    picture = PagePicture("a", 200, 100, "", [PictureBox((5, 5, 5, 9), "marked", "")])
    assert 'width="0.1" height="4.0"' in render("{{ parts.drawing(picture) }}", picture=picture)


def test_an_unreadable_picture_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a\.jpg"):
        PagePicture.read(tmp_path / "a.jpg")


def test_the_device_never_loads_jinja2() -> None:
    text = "import sys, falconet, falconet.core.page, falconet.core.charts; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
