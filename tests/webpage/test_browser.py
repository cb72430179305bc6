"""Every control of the page, in a real browser that detects by itself."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from falconet.data.drawn import write_drawn_dataset
from falconet.exporting.web import write_site
from tests.runtime import tiny_model
from tests.webpage.conftest import Host, Page, compare_with_runtime

pytestmark = pytest.mark.slow


def test_pictures_threshold_and_classes(page: Page, site: Host, pictures: list[Path]) -> None:
    page.open(site.address)
    page.pick(*pictures)
    page.says("a.png: 1 object: 1 red")
    assert page.counts() == {"red": 1}
    page.wait(lambda: page.run("return document.querySelectorAll('#strip canvas').length") == 3, "small pictures")
    page.click("#strip li:nth-child(2) button")
    page.says("b.png: 1 object: 1 green")
    page.slide(0.1)
    page.says("b.png: 2 objects")
    assert page.counts() == {"green": 1, "blue": 1}
    page.click("#classes li[data-name=green] input")
    page.says("b.png: 1 object: 1 blue")
    page.click("#hide-all")
    page.says("Nothing of the classes that are shown")
    page.click("#show-all")
    page.says("b.png: 2 objects")
    assert "ms" in page.text("times")
    assert not page.errors()


def test_boxes_are_drawn_over_the_picture(page: Page, site: Host, pictures: list[Path]) -> None:
    page.open(site.address)
    page.pick(pictures[2], pictures[0])
    page.says("c.png: Nothing")
    plain = page.run("return document.querySelector('#view-first canvas').toDataURL()")
    page.click("#strip li:nth-child(2) button")
    page.says("a.png: 1 object")
    # The box of the cell of row 1 and column 2 goes from 64, 32 to 96, 64; its colour is no pure red.
    canvas = (
        "const context = document.querySelector('#view-first canvas').getContext('2d');"
        "return [...context.getImageData(arguments[0], arguments[1], 1, 1).data]"
    )
    assert page.run(canvas, 64, 50) not in ([255, 0, 0, 255], [0, 0, 0, 255])
    assert page.run(canvas, 80, 55) == [255, 0, 0, 255]
    assert page.run("return document.querySelector('#view-first canvas').toDataURL()") != plain
    assert "a.png, cells: 1 object: 1 red" in page.run(
        "return document.querySelector('#view-first canvas').getAttribute('aria-label')"
    )


def test_what_is_found_is_saved(page: Page, site: Host, pictures: list[Path]) -> None:
    page.open(site.address)
    page.pick(*pictures)
    page.wait(lambda: page.run("return document.querySelectorAll('#strip canvas').length") == 3, "all pictures")
    page.says("a.png: 1 object")
    (answer,) = page.found()
    assert answer["model"] == "cells"
    assert answer["hidden_classes"] == []
    assert [(one["file"], len(one["detections"])) for one in answer["results"]] == [
        ("a.png", 1),
        ("b.png", 1),
        ("c.png", 0),
    ]
    assert answer["results"][0]["detections"][0]["box"] == [64, 32, 96, 64]
    lines = page.saved("save-csv", "found.csv").decode().splitlines()
    assert lines[1] == "cells,a.png,red,1.0000,64.00,32.00,96.00,64.00"
    picture = cv2.imdecode(np.frombuffer(page.saved("save-picture", "a-found.jpg"), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (128, 128, 3)
    assert np.abs(picture[55, 80].astype(int) - (0, 0, 255)).max() < 40


def test_two_models_side_by_side_and_stored_thresholds(page: Page, site: Host, tmp_path: Path) -> None:
    dull = tiny_model.save(tmp_path / "dull.png", tiny_model.picture((1, 2, "red"), value=128))
    page.open(site.address)
    page.pick(dull)
    page.says("dull.png: 1 object: 1 red")
    page.choose("second", "strict")
    page.wait(lambda: not page.hidden("view-second"), "the second picture")
    page.wait(lambda: "strict: 1 object" in page.text("view-second"), "its answer")
    page.choose("second", "")
    page.choose("model", "strict")
    page.says("dull.png: 1 object: 1 red")
    assert "CC0-1.0" in page.text("card")
    page.choose("point", "recall=0.9")
    page.says("Nothing is found")
    assert page.text("threshold-says") == "by class"
    page.slide(0.3)
    page.says("dull.png: 1 object: 1 red")
    assert not page.errors()


def test_each_model_has_a_slider_of_its_own(page: Page, site: Host, pictures: list[Path]) -> None:
    from selenium.webdriver import Keys

    page.open(site.address)
    page.pick(pictures[1])
    page.says("b.png: 1 object: 1 green")
    assert page.hidden("level-second")
    page.choose("second", "strict")
    page.wait(lambda: "strict: 1 object" in page.text("view-second"), "its answer")
    assert "cells, score above" in page.text("level-first")
    page.slide(0.1, "threshold-second")
    page.wait(lambda: "strict: 2 objects" in page.text("view-second"), "the second picture to change")
    assert "cells: 1 object: 1 green" in page.text("view-first")
    assert page.run("return [...document.querySelectorAll('#classes .number')].map((one) => one.textContent)") == [
        "0 / 1",
        "1 / 1",
        "0",
    ]
    page.element("#threshold-second").send_keys(Keys.END)
    assert page.text("threshold-second-says") == "0.99"
    assert page.text("threshold-says") == "0.25"
    assert [one["threshold"] for one in page.found()] == [0.25, 0.99]
    page.choose("second", "")
    page.choose("model", "strict")
    assert page.text("threshold-says") == "0.99", "what was set for a model stays"


def test_classes_of_the_picture_come_first(page: Page, site: Host, pictures: list[Path]) -> None:
    order = "return [...document.querySelectorAll('#classes li')].map((row) => row.dataset.name)"
    page.open(site.address)
    page.pick(pictures[0], pictures[1])
    page.says("a.png: 1 object: 1 red")
    assert page.run(order) == ["red", "blue", "green"]
    page.click("#strip li:nth-child(2) button")
    page.says("b.png: 1 object: 1 green")
    assert page.run(order) == ["green", "blue", "red"], "not those of the picture before"
    page.element("#classes li[data-name=green] input").send_keys(" ")
    page.says("Nothing of the classes that are shown")
    assert page.run(order) == ["green", "blue", "red"], "what is hidden stays at its place"
    assert page.counts() == {"green": 1}
    page.run("document.querySelector('#classes li[data-name=blue] input').focus()")
    page.slide(0.1)
    page.wait(lambda: page.run(order) == ["blue", "green", "red"], "blue to come first")
    assert page.run("return document.activeElement.closest('li')?.dataset.name") == "blue", "the focus moves along"


def test_a_slim_picture_can_be_seen(page: Page, site: Host, tmp_path: Path) -> None:
    slim = tiny_model.save(tmp_path / "slim.png", np.full((2, 3000, 3), (0, 0, 255), np.uint8))
    page.open(site.address)
    page.pick(slim)
    page.wait(lambda: "slim.png" in page.text("status"), "its answer")
    assert "slim.png (shown 125 times as high as it is)" in page.text("view-first")
    height = page.run("return document.querySelector('#view-first canvas').getBoundingClientRect().height")
    assert height > 40


def test_tiff_is_told(page: Page, site: Host, pictures: list[Path], tmp_path: Path) -> None:
    scan = tiny_model.save(tmp_path / "scan.tif", tiny_model.picture((1, 2, "red")))
    page.open(site.address)
    page.pick(scan)
    sentence = "scan.tif: this browser opens no TIFF. Save it as JPEG or PNG, or use the page of 'falconet serve'"
    page.wait(lambda: sentence in page.text("trouble"), "the sentence")
    page.pick(pictures[0])
    page.says("a.png: 1 object: 1 red")


def test_without_a_graphics_card_the_cpu_computes(page: Page, site: Host, pictures: list[Path]) -> None:
    page.open(site.address)
    page.pick(*pictures)
    page.says("a.png: 1 object: 1 red")
    assert page.hidden("runs")
    assert "computed byCPU, " in page.text("times")
    assert page.text("reason") == "The CPU computes: this browser offers pages no graphics card (WebGPU)."


def test_camera(page: Page, site: Host) -> None:
    page.open(site.address)
    page.click("#camera")
    page.says("1 object: 1 red")
    page.wait(lambda: "frames a second" in page.text("times"), "the rate")
    page.click("#pause")
    assert page.text("pause") == "Go on"
    page.click("#pause")
    page.click("#stop")
    assert page.hidden("stop")
    assert page.run("return document.getElementById('video').srcObject") is None
    assert not page.errors()


def test_video_file(page: Page, site: Host, tmp_path: Path) -> None:
    path = tmp_path / "film.webm"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), 10, (128, 128))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no WebM")
    for _ in range(30):
        writer.write(tiny_model.picture((1, 2, "red")))
    writer.release()
    page.open(site.address)
    page.pick(path)
    page.says("1 object: 1 red")
    page.wait(lambda: page.hidden("stop"), "the end of the film")
    assert "film.webm at" in page.text("status")


def test_dropped_and_pasted(page: Page, site: Host, pictures: list[Path]) -> None:
    page.open(site.address)
    hand_over = """
        const [name, kind, bytes] = arguments;
        const files = new DataTransfer();
        files.items.add(new File([Uint8Array.from(bytes)], name, {type: "image/png"}));
        const event = kind === "drop" ? new DragEvent("drop", {dataTransfer: files, bubbles: true})
          : new ClipboardEvent("paste", {clipboardData: files, bubbles: true});
        document.getElementById("stage").dispatchEvent(event);
    """
    page.run(hand_over, "dropped.png", "drop", list(pictures[0].read_bytes()))
    page.says("dropped.png: 1 object: 1 red")
    page.run(hand_over, "pasted.png", "paste", list(pictures[1].read_bytes()))
    page.says("pasted.png: 1 object: 1 green")


def test_what_is_no_picture_is_told(page: Page, site: Host, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture either")
    page.open(site.address)
    page.pick(tmp_path / "notes.txt")
    page.wait(lambda: "notes.txt: neither a picture nor a video" in page.text("trouble"), "the sentence")
    page.pick(tmp_path / "broken.jpg", pictures[0])
    page.wait(lambda: "broken.jpg: this browser cannot open it" in page.text("trouble"), "the sentence")
    page.click("#strip li:nth-child(2) button")
    page.says("a.png: 1 object: 1 red")


def test_without_a_network_and_in_several_threads(page: Page, site: Host, pictures: list[Path]) -> None:
    page.open(site.address)
    page.pick(pictures[0])
    page.says("a.png: 1 object: 1 red")
    assert page.run("return self.crossOriginIsolated"), "a host that sets no headers"
    site.stop()
    page.open(site.address)
    page.pick(pictures[1])
    page.says("b.png: 1 object: 1 green")


def test_the_page_comes_up_again_and_again(page: Page, site: Host, pictures: list[Path]) -> None:
    """Also when the service worker is left out, as chromedriver's reload does."""
    page.open(site.address)
    for _ in range(3):
        page.driver.refresh()
        page.wait(lambda: not page.disabled("pick"), "the page to be ready")
    page.pick(pictures[0])
    page.says("a.png: 1 object: 1 red")


def test_pictures_without_an_answer_are_told(page: Page, site: Host, pictures: list[Path], tmp_path: Path) -> None:
    broken = [tmp_path / f"broken-{number}.jpg" for number in range(2)]
    for one in broken:
        one.write_bytes(b"no picture")
    page.open(site.address)
    page.pick(pictures[0], *broken)
    page.wait(lambda: "2 of 3 pictures have no answer" in page.text("trouble"), "the sentence")
    page.says("a.png: 1 object: 1 red")
    assert "no answer: broken-0.jpg" in page.text("strip")
    (answer,) = page.found()
    assert [one.get("error", "")[:12] for one in answer["results"]] == ["", "broken-0.jpg", "broken-1.jpg"]


def test_by_keyboard_alone(page: Page, site: Host, pictures: list[Path]) -> None:
    from selenium.webdriver import Keys

    page.open(site.address)
    page.pick(*pictures)
    page.says("a.png")
    threshold = page.element("#threshold")
    threshold.send_keys(Keys.END)
    page.wait(lambda: page.text("threshold-says") == "0.99", "the slider's end")
    page.element("#strip li:nth-child(3) button").send_keys(Keys.ENTER)
    page.says("c.png: Nothing")
    order = page.run(
        "return [...document.querySelectorAll('a, button, input, select, [tabindex=\"0\"]')]"
        ".filter((one) => one.checkVisibility() && !one.disabled).map((one) => one.id || one.tagName)"
    )
    assert order[:3] == ["A", "model", "second"]
    assert {"pick", "camera", "threshold", "save-json"} <= set(order)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nobody_is_shut_out(
    page: Page, site: Host, pictures: list[Path], tmp_path: Path, width: int, scheme: str
) -> None:
    """axe-core finds no serious fault, and nothing is wider than a phone."""
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    try:
        page.open(site.address)
        page.pick(*pictures)
        page.says("a.png: 1 object")
        page.choose("second", "strict")
        page.wait(lambda: "strict: 1 object" in page.text("view-second"), "its answer")
        assert page.run("return document.documentElement.scrollWidth <= innerWidth")
        page.run(axe(tmp_path))
        found = page.driver.execute_async_script("axe.run().then(({violations}) => arguments[0](violations))")
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
    assert not serious


def axe(folder: Path) -> str:
    """The script of axe-core, from the npm registry."""
    done = subprocess.run(
        ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "axe-core@4"],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("axe-core cannot be fetched from the npm registry")
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


def test_the_browser_finds_what_python_finds(
    page: Page, ort: Path, host: Callable[[Path], Host], tmp_path: Path
) -> None:
    """Twenty JPEG files: boxes within half a pixel, scores within 0.005.

    They are less than twice as large as the input: larger ones are decoded at a reduced scale in Python, which differs.
    """
    from falconet.exporting.onnx import export_onnx
    from tests.exporting.models import write_weights

    model = export_onnx(write_weights(tmp_path / "w.safetensors"), tmp_path / "m.onnx", score=0.1)
    write_drawn_dataset(tmp_path / "drawn", train=1, val=20, size=(160, 200))
    pictures = sorted((tmp_path / "drawn" / "val").glob("*.jpg"))
    assert len(pictures) == 20
    write_site(model, tmp_path / "site", name="random", ort=ort)
    page.open(host(tmp_path / "site").address)
    page.pick(*pictures)
    page.wait(lambda: page.run("return document.querySelectorAll('#strip canvas').length") == 20, "all pictures")
    page.slide(0.1)
    assert compare_with_runtime(page.found()[0], model, pictures) > 20
