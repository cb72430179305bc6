"""The page in a real browser, before a service that is a process of its own."""

from pathlib import Path

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
        page.says("b.png: ")
        assert not page.errors()
        assert service.stop() == 0


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
