"""The page in a real browser, before a service that is a process of its own."""

from pathlib import Path

import numpy as np
import pytest

from tests.runtime import tiny_model
from tests.serving.here import write_classifier
from tests.serving.process import served
from tests.webpage.conftest import Page

pytestmark = pytest.mark.slow

TOKEN = "0123456789abcdef0123"


def test_the_service_detects_for_the_page(page: Page, tmp_path: Path, pictures: list[Path]) -> None:
    points = [{"name": "recall=0.9", "thresholds": [0.1, 0.1, 0.99]}]
    strict = tiny_model.manifest(operating_points=points, source="drawn", licence="CC0-1.0")
    tiny_model.write(tmp_path / "cells.onnx", text=strict.to_json())
    write_classifier(tmp_path / "colours.onnx")
    with served(tmp_path, "cells.onnx", "colours.onnx") as service:
        page.open(service.url)
        page.pick(*pictures)
        page.says("a.png: 1 object: 1 red")
        page.click("#strip li:nth-child(2) button")
        page.says("b.png: 1 object: 1 green")
        page.slide(0.1)
        page.says("b.png: 2 objects")
        assert "CC0-1.0" in page.run("return document.getElementById('card').textContent")
        assert not page.errors()
        page.choose("model", "colours")
        page.says("b.png: green ")
        page.wait(lambda: not page.disabled("save-json"), "the other pictures, since the service is stopped then")
        assert not page.errors()
        assert service.stop() == 0


def test_pictures_that_browsers_do_not_open_are_shown_by_the_service(page: Page, tmp_path: Path) -> None:
    """TIFF: the file goes to the service as it is, which also draws it for the page."""
    tiny_model.write(tmp_path / "cells.onnx")
    write_classifier(tmp_path / "colours.onnx")
    scan = tiny_model.save(tmp_path / "scan.tif", tiny_model.picture((1, 2, "red")))
    broken = tmp_path / "broken.tif"
    broken.write_bytes(scan.read_bytes()[:50])
    with served(tmp_path, "cells.onnx", "colours.onnx") as service:
        page.open(service.url)
        page.pick(scan)
        page.says("scan.tif: 1 object: 1 red")
        assert page.text("trouble") == ""
        assert "computed bythe server" in page.text("times")
        assert page.hidden("processor")
        pixel = page.run(
            "const context = document.querySelector('#view-first canvas').getContext('2d');"
            "return [...context.getImageData(80, 55, 1, 1).data]"
        )
        assert np.abs(np.subtract(pixel, (255, 0, 0, 255))).max() < 10
        (answer,) = page.found()
        assert answer["results"][0]["detections"][0]["box"] == [64, 32, 96, 64]
        page.choose("model", "colours")
        page.says("scan.tif: red ")
        assert not page.errors()
        page.pick(broken)
        page.wait(lambda: page.text("trouble").startswith("broken.tif: "), "the server's sentence")


def test_the_page_asks_for_the_token(page: Page, tmp_path: Path, pictures: list[Path]) -> None:
    tiny_model.write(tmp_path / "cells.onnx")
    (tmp_path / "tokens.txt").write_text(TOKEN, encoding="utf-8")
    with served(tmp_path, "cells.onnx", "--token-file", "tokens.txt") as service:
        page.driver.get(service.url)
        page.wait(lambda: not page.hidden("login"), "the field for the token")
        page.element("#token").send_keys(TOKEN)
        page.click("#login button")
        page.wait(lambda: not page.disabled("pick"), "the page to be ready")
        page.pick(pictures[0])
        page.says("a.png: 1 object: 1 red")
