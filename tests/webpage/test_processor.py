"""A site in a browser that has a graphics card: SwiftShader, whose answers are those of a card, but not its speed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from falconet.data.drawn import write_drawn_dataset
from falconet.exporting.web import write_site
from tests.runtime import tiny_model
from tests.serving.here import write_classifier
from tests.webpage.conftest import Host, Page, compare_with_runtime

pytestmark = pytest.mark.slow


@pytest.fixture
def cells(tmp_path: Path, ort: Path) -> Path:
    """A site with one model."""
    write_site(tiny_model.write(tmp_path / "m.onnx"), tmp_path / "site", name="cells", ort=ort)
    return tmp_path / "site"


def open_with_card(page: Page, address: str) -> None:
    page.open(address)
    if page.hidden("runs"):
        pytest.skip("this chromium has no SwiftShader that pages may use through WebGPU")


def fetched(page: Page) -> str:
    """What the page's cache keeps of onnxruntime-web."""
    return page.driver.execute_async_script("""
        const done = arguments[0];
        (async () => {
          const names = [];
          for (const one of await caches.keys()) {
            for (const {url} of await (await caches.open(one)).keys()) if (url.includes("/ort/")) names.push(url);
          }
          done(names.join(" "));
        })();
    """)


def test_the_faster_one_is_measured_and_remembered(
    card_page: Page, cells: Path, host: Callable[[Path], Host], pictures: list[Path]
) -> None:
    page, site = card_page, host(cells)
    open_with_card(page, site.address)
    page.pick(pictures[0])
    page.says("a.png: 1 object: 1 red")
    assert "computed byCPU, " in page.text("times")
    assert "With the second picture the graphics card is compared with it" in page.text("reason")
    assert "webgpu" not in fetched(page), "whoever has one picture needs no files for a card"
    page.pick(pictures[1])
    page.says("b.png: 1 object: 1 green")
    page.wait(lambda: "and the same was found" in page.text("reason"), "the comparison")
    assert "ms on the CPU, " in page.text("reason")
    assert "webgpu" in fetched(page)
    told = page.text("reason")
    page.open(site.address)
    page.pick(pictures[0])
    page.says("a.png: 1 object: 1 red")
    assert page.text("reason") == told, "measured once"
    page.click("#measure")
    page.wait(lambda: "is loaded and compared" in page.text("reason"), "a new comparison")
    page.wait(lambda: "and the same was found" in page.text("reason"), "its end")
    assert not page.errors()


def test_a_card_that_is_chosen_computes_and_may_be_lost(
    card_page: Page, cells: Path, host: Callable[[Path], Host], pictures: list[Path]
) -> None:
    page, site = card_page, host(cells)
    open_with_card(page, site.address)
    page.choose("device", "gpu")
    page.pick(pictures[0])
    page.wait(lambda: "computed bygraphics card (WebGPU)" in page.text("times"), "the card")
    assert "The graphics card computes, as chosen" in page.text("reason")
    page.open(site.address)
    assert page.run("return document.getElementById('device').value") == "gpu", "the choice is remembered"
    page.pick(pictures[1])
    page.says("b.png: 1 object: 1 green")
    assert "computed bygraphics card (WebGPU)" in page.text("times")
    page.driver.execute_cdp_cmd("Browser.crashGpuProcess", {})
    page.pick(pictures[0])
    page.says("a.png: 1 object: 1 red")
    assert "computed byCPU, " in page.text("times")
    assert "The CPU computes: the graphics card cannot be used (" in page.text("reason")
    assert page.hidden("trouble")


def test_without_the_files_for_a_card_the_cpu_computes(
    card_page: Page, cells: Path, host: Callable[[Path], Host], pictures: list[Path]
) -> None:
    """Its README says that they may be left out."""
    for one in (cells / "ort").glob("*asyncify*"):
        one.unlink()
    page = card_page
    open_with_card(page, host(cells).address)
    page.choose("device", "gpu")
    page.pick(*pictures[:2])
    page.says("a.png: 1 object: 1 red")
    page.wait(lambda: "the graphics card cannot be used (" in page.text("reason"), "the sentence")
    assert "computed byCPU, " in page.text("times")
    page.click("#strip li:nth-child(2) button")
    page.says("b.png: 1 object: 1 green")


def test_a_card_that_finds_something_else_does_not_compute(
    card_page: Page, cells: Path, host: Callable[[Path], Host], pictures: list[Path]
) -> None:
    """Boxes that are moved by three pixels, as a driver's mistake would do it."""
    worker = cells / "worker.js"
    text = worker.read_text(encoding="utf-8")
    line = "  return outputs[wanted].data;\n"
    assert line in text
    worker.write_text(
        text.replace(line, "  if (device === 'gpu') outputs[wanted].data[0] += 3;\n" + line), encoding="utf-8"
    )
    page = card_page
    open_with_card(page, host(cells).address)
    page.choose("device", "gpu")
    page.pick(*pictures)
    page.wait(lambda: "the graphics card finds something else (2 boxes" in page.text("reason"), "the sentence")
    page.wait(lambda: not page.disabled("save-json"), "all answers")
    assert "computed byCPU, " in page.text("times")
    assert page.found()[0]["results"][0]["detections"][0]["box"] == [64, 32, 96, 64]


def test_a_classifier_on_a_card(
    card_page: Page, ort: Path, host: Callable[[Path], Host], pictures: list[Path], tmp_path: Path
) -> None:
    write_site(write_classifier(tmp_path / "c.onnx"), tmp_path / "site", name="colours", ort=ort)
    page = card_page
    open_with_card(page, host(tmp_path / "site").address)
    page.choose("device", "gpu")
    page.pick(pictures[0])
    page.wait(lambda: "computed bygraphics card (WebGPU)" in page.text("times"), "the card")
    assert "and the same was found" in page.text("reason")
    assert "a.png: red" in page.text("status")


def test_a_card_finds_what_python_finds(
    card_page: Page, ort: Path, host: Callable[[Path], Host], tmp_path: Path
) -> None:
    """Twenty JPEG files, a network with random weights: boxes within half a pixel, scores within 0.005."""
    from falconet.exporting.onnx import export_onnx
    from tests.exporting.models import write_weights

    model = export_onnx(write_weights(tmp_path / "w.safetensors"), tmp_path / "m.onnx", score=0.1)
    write_drawn_dataset(tmp_path / "drawn", train=1, val=20, size=(160, 200))
    pictures = sorted((tmp_path / "drawn" / "val").glob("*.jpg"))
    write_site(model, tmp_path / "site", name="random", ort=ort)
    worker = tmp_path / "site" / "worker.js"
    text = worker.read_text(encoding="utf-8")
    assert "60_000" in text
    worker.write_text(text.replace("60_000", "600_000"), encoding="utf-8")  # a program takes longer than a card
    page = card_page
    open_with_card(page, host(tmp_path / "site").address)
    page.choose("device", "gpu")
    page.pick(*pictures)
    page.wait(lambda: page.run("return document.querySelectorAll('#strip canvas').length") == 20, "all", seconds=400)
    page.wait(lambda: not page.disabled("save-json"), "the last answer", seconds=400)
    page.slide(0.1)
    assert "The graphics card computes, as chosen" in page.text("reason")
    assert "computed bygraphics card (WebGPU)" in page.text("times")
    assert compare_with_runtime(page.found()[0], model, pictures) > 20
