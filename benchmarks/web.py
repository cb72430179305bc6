"""A site of `falconet export --to web` in Chromium against the runtime: milliseconds from pixels to boxes.

The peer of each row is ONNX Runtime in Python with as many threads, on the same pictures in the same run. Also
measured: seconds from opening the site, which the browser has never seen, to the first boxes.

    python benchmarks/web.py [--model m.onnx --images FOLDER]

It takes chromium and chromedriver, selenium, and onnxruntime-web out of the npm registry.
"""

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import write
from detect import drawn, exported
from selenium import webdriver

from falconet.exporting.web import write_site
from falconet.runtime.onnx_engine import OnnxEngine
from falconet.runtime.predictor import Predictor

ANSWER = """
const [bytes, done] = arguments;
(async () => {
  const backend = await import("./browser.js");
  window.benched ??= (await backend.models())[0];
  const { Picture } = await import("./pictures.js");
  const bitmap = await new Picture(new Blob([Uint8Array.from(bytes)], { type: "image/jpeg" }), "a").open();
  const { milliseconds, threads } = await backend.detect(window.benched, { bitmap }, "cpu");
  bitmap.close();
  done([milliseconds.prepare + milliseconds.detect, threads]);
})().catch((error) => done([String(error), 0]));
"""
WAITED = 120


class Quiet(SimpleHTTPRequestHandler):
    """A static host that prints nothing."""

    def log_message(self, *words: object) -> None:
        """Nothing."""


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """The address of a folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium that has never seen anything."""
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
            options.add_argument(word)
        options.add_argument(f"--user-data-dir={profile}")
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver") or ""))
        driver.set_script_timeout(WAITED)
        try:
            yield driver
        finally:
            driver.quit()


def status(driver: Any, word: str) -> None:
    """Wait until the page's status line holds a word."""
    end = time.perf_counter() + WAITED
    script = "return document.getElementById('status')?.textContent ?? ''"
    while word not in driver.execute_script(script):
        if time.perf_counter() > end:
            raise SystemExit(f"the page did not say {word!r}")
        time.sleep(0.01)


def first_boxes(address: str, picture: Path) -> tuple[float, float]:
    """Seconds from opening the site until it is ready, and until the boxes of a picture are there."""
    with browser() as driver:
        start = time.perf_counter()
        driver.get(address)
        status(driver, "Ready.")
        ready = time.perf_counter() - start
        driver.find_element("id", "files").send_keys(str(picture))
        status(driver, picture.name)
        return ready, time.perf_counter() - start


def in_browser(address: str, pictures: list[Path], *, isolated: bool, rounds: int) -> tuple[list[float], int]:
    """Milliseconds of each picture, and the number of threads: one where the page is not isolated."""
    with browser() as driver:
        if not isolated:
            driver.execute_cdp_cmd("Network.enable", {})
            driver.execute_cdp_cmd("Network.setBypassServiceWorker", {"bypass": True})
        driver.get(address)
        status(driver, "Ready.")
        content = [list(path.read_bytes()) for path in pictures]
        found = []
        for turn in range(5 + rounds):
            value, threads = driver.execute_async_script(ANSWER, content[turn % len(content)])
            if not threads:
                raise SystemExit(value)
            found.append(value)
        return found[5:], threads


def native(model: Path, pictures: list[Path], *, threads: int, rounds: int) -> list[float]:
    """Milliseconds of the runtime from pixels to boxes."""
    predictor: Predictor[Any] = Predictor(OnnxEngine(model, threads=threads))
    images = [cv2.imread(str(path)) for path in pictures]
    found = []
    for turn in range(5 + rounds):
        start = time.perf_counter()
        predictor.predict(images[turn % len(images)])
        found.append(1e3 * (time.perf_counter() - start))
    return found[5:]


def main() -> None:
    """One and two threads, each beside the runtime, and the first boxes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model or exported(folder)
        pictures = sorted(arguments.images.glob("*.jpg"))[:20] if arguments.images else drawn(folder, 20)
        write_site(model, folder / "site", name="model")
        with hosted(folder / "site") as address:
            for isolated in (False, True):
                values, threads = in_browser(address, pictures, isolated=isolated, rounds=arguments.rounds)
                beside = native(model, pictures, threads=threads, rounds=arguments.rounds)
                ratio = f"{np.median(values) / np.median(beside):.2f}"
                for where, column in (("runtime", beside), ("browser", values)):
                    row = {"threads": threads, "where": where, "p50_ms": f"{np.median(column):.1f}"}
                    row |= {
                        "p90_ms": f"{np.percentile(column, 90):.1f}",
                        "x runtime": ratio if column is values else "1",
                    }
                    rows.append(row)
            times = [first_boxes(address, pictures[0]) for _ in range(3)]
    ready, boxes = np.median(times, axis=0)
    write(
        "web",
        "The browser against the runtime",
        "python benchmarks/web.py" + (f" --model {arguments.model.name} --images FOLDER" if arguments.model else ""),
        rows,
        f"Pixels to boxes, one picture at a time. A browser that has never seen the site was ready after {ready:.1f} s "
        f"and had the first boxes after {boxes:.1f} s, from a host on the same machine (median of 3).",
    )


if __name__ == "__main__":
    main()
