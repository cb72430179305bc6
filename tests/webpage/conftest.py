"""A real browser that drives the page: Debian's chromium, or what CHROMIUM names, with its chromedriver."""

import http.server
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import falconet
from falconet.core.errors import ModelError
from falconet.exporting.ort_web import ort_web_files
from falconet.exporting.web import write_site
from tests.runtime import tiny_model

SECONDS = 60
"""That anything on the page may take."""


class Page:
    """A page in a browser, as a person sees it."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads

    def open(self, address: str) -> None:
        """Open the page; it is ready when models are there. What the console said of another page is forgotten."""
        self.errors()
        self.driver.get(address)
        self.wait(lambda: not self.disabled("pick"), "the page to be ready")

    def wait(self, condition: Callable[[], Any], what: str, *, seconds: float = SECONDS) -> Any:
        """What the condition gives once that is something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := condition():
                return found
            time.sleep(0.05)
        raise AssertionError(f"waited for {what}; the page says {self.text('status')!r}, {self.text('trouble')!r}")

    def run(self, script: str, *values: Any) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *values)

    def text(self, name: str) -> str:
        """Of the element of that id, hidden or not."""
        return self.run("return document.getElementById(arguments[0])?.textContent ?? ''", name)

    def disabled(self, name: str) -> bool:
        return self.run("return document.getElementById(arguments[0])?.disabled ?? true", name)

    def hidden(self, name: str) -> bool:
        return self.run("return document.getElementById(arguments[0]).checkVisibility() === false", name)

    def element(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.element(selector).click()

    def pick(self, *paths: Path) -> None:
        """Choose files as the file dialog hands them over."""
        self.element("#files").send_keys("\n".join(map(str, paths)))

    def says(self, part: str) -> None:
        """Wait until the status line holds a text."""
        self.wait(lambda: part in self.text("status"), f"{part!r}")

    def choose(self, name: str, value: str) -> None:
        """An option of a select."""
        self.run(
            "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
            "one.dispatchEvent(new Event('change', {bubbles: true}))",
            name,
            value,
        )

    def slide(self, value: float, name: str = "threshold") -> None:
        """Move the threshold, or that of the second model."""
        self.run(
            "const one = document.getElementById(arguments[1]); one.value = arguments[0];"
            "one.dispatchEvent(new Event('input', {bubbles: true}))",
            value,
            name,
        )

    def counts(self) -> dict[str, int]:
        """How many there are of each class that is found."""
        rows = self.run(
            "return [...document.querySelectorAll('#classes li')].map((row) =>"
            "[row.dataset.name, Number(row.querySelector('.number').textContent)])"
        )
        return {name: number for name, number in rows if number}

    def saved(self, button: str, name: str) -> bytes:
        """What a button saves."""
        file = self.downloads / name
        file.unlink(missing_ok=True)
        self.click(f"#{button}")
        self.wait(file.is_file, f"{name} to be saved")
        return file.read_bytes()

    def found(self) -> list[dict]:
        """What the page saves as JSON."""
        return json.loads(self.saved("save-json", "found.json"))["answers"]

    def errors(self) -> list[str]:
        """Of the console; it is emptied."""
        return [row["message"] for row in self.driver.get_log("browser") if row["level"] == "SEVERE"]


def drawn_video(path: Path) -> Path:
    """A film of a red cell, as the browser's fake camera plays it: Motion JPEG."""
    ok, encoded = cv2.imencode(".jpg", tiny_model.picture((1, 2, "red"), scale=5))
    assert ok
    path.write_bytes(encoded.tobytes() * 8)
    return path


NO_CARD = ("--disable-gpu",)

CARD = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
"""A graphics card that is a program: SwiftShader, which comes with chromium. It answers as a card does, but slowly."""


@contextmanager
def browser(folder: Path, *words: str) -> Iterator[Page]:
    """A browser without a window, with a profile and downloads of its own in `folder`."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no browser: install Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    camera = drawn_video(folder / "camera.mjpeg")
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1280,900",
        f"--user-data-dir={folder / 'profile'}",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
        *words,
    ):
        options.add_argument(word)
    options.add_experimental_option(
        "prefs", {"download.default_directory": str(folder), "download.prompt_for_download": False}
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        running.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
        yield Page(running, folder)
    finally:
        running.quit()


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser that has no graphics card."""
    with browser(tmp_path_factory.mktemp("browser"), *NO_CARD) as running:
        yield running


@pytest.fixture
def card_page(tmp_path: Path) -> Iterator[Page]:
    """A browser that has one, and has never seen a site: what it measured once it would remember."""
    (tmp_path / "browser").mkdir()
    with browser(tmp_path / "browser", *CARD) as running:
        yield running


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Nothing is printed."""


class Host:
    """A static host, as somebody would publish a site on."""

    def __init__(self, folder: Path) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def host() -> Iterator[Callable[[Path], Host]]:
    """Serves folders until the test ends."""
    started: list[Host] = []

    def serve(folder: Path) -> Host:
        started.append(Host(folder))
        return started[-1]

    yield serve
    for one in started:
        one.stop()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """A red cell; a green one and a faint blue one; and nothing."""
    images = [
        tiny_model.picture((1, 2, "red")),
        np.maximum(tiny_model.picture((0, 0, "green")), tiny_model.picture((3, 3, "blue"), value=60)),
        tiny_model.picture(),
    ]
    return [
        tiny_model.save(tmp_path / "pictures" / f"{name}.png", one) for name, one in zip("abc", images, strict=True)
    ]


@pytest.fixture(scope="session")
def ort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """onnxruntime-web itself."""
    folder = tmp_path_factory.mktemp("ort")
    try:
        for name, content in ort_web_files().items():
            (folder / name).write_bytes(content)
    except ModelError as error:
        pytest.skip(f"the npm registry is out of reach: {error}")
    return folder


@pytest.fixture
def site(tmp_path: Path, ort: Path, host: Callable[[Path], Host]) -> Host:
    """A site with two models: one as it is, and one with stored thresholds that finds red cells only where they are
    plain."""
    points = [{"name": "recall=0.9", "thresholds": [0.1, 0.1, 0.99]}]
    strict = tiny_model.manifest(operating_points=points, source="drawn", licence="CC0-1.0")
    write_site(tiny_model.write(tmp_path / "n.onnx", text=strict.to_json()), tmp_path / "site", name="strict", ort=ort)
    write_site(tiny_model.write(tmp_path / "m.onnx"), tmp_path / "site", name="cells", ort=ort)
    return host(tmp_path / "site")


def compare_with_runtime(answer: dict[str, Any], model: Path, pictures: list[Path]) -> int:
    """The number of boxes that a page found in pictures; the runtime finds each, too, within 0.5 pixels and 0.005."""
    ours = falconet.load(model)
    together = 0
    for path, result in zip(pictures, answer["results"], strict=True):
        expected = ours.predict(path)
        rows = result["detections"]
        assert len(rows) == len(expected), path.name
        for row in rows:
            same = expected.labels == row["label_id"]
            near = np.abs(expected.boxes - row["box"]).max(axis=1) < 0.5
            close = np.abs(expected.scores - row["score"]) < 0.005
            assert (same & near & close).any(), (path.name, row)
        together += len(rows)
    return together
