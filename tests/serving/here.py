"""A service in this process, and how tests ask it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from falconet.core.images import encode_image
from falconet.core.manifest import MANIFEST_KEY
from falconet.runtime.engines import ENGINES, Use
from falconet.runtime.predictor import Predictor
from falconet.serving.app import create_app
from falconet.serving.hosted import Opened, Source
from falconet.serving.limits import Limits
from falconet.serving.service import Service
from tests.runtime import tiny_model
from tests.runtime.tiny_model import SIDE, picture

PNG = encode_image(picture((0, 0, "red"), (2, 3, "blue"), value=204), ".png")
"""Two cells that score 0.8."""


def open_tiny(path: Path) -> Opened:
    """A file in ONNX Runtime, two runs at once, and one with two threads."""
    opener = ENGINES["onnxruntime"].open
    return Opened(Predictor(opener(path, Use(1, 2))), Predictor(opener(path, Use(2))), "float32")


def source(path: Path, name: str = "cells") -> Source:
    return Source(name, path, open_tiny)


def write_classifier(path: Path) -> Path:
    """A model whose probabilities are the means of blue, green and red over their sum."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Add", ["means", "little"], ["more"]),
        helper.make_node("ReduceSum", ["more", "axis"], ["sum"], keepdims=1),
        helper.make_node("Div", ["more", "sum"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["B", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["B", 3])],
        [
            numpy_helper.from_array(np.array(1e-3, np.float32), "little"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    text = tiny_model.manifest(task="classify", model="colours").to_json()
    helper.set_model_props(model, {MANIFEST_KEY: text})
    onnx.save(model, path)
    return path


@contextmanager
def serving(*sources: Source, limits: Limits | None = None, **options: Any) -> Iterator["Asker"]:
    """A service that works, and how to ask it; its files are looked at when a test says so."""
    service = Service(sources, limits or Limits(workers=2), look=3600)
    service.start()
    try:
        yield Asker(service, create_app(service, **options))
    finally:
        service.close()


class Asker:
    """Sends requests to an application without a network."""

    def __init__(self, service: Service, app: Any) -> None:
        self.service, self.app = service, app

    def __call__(self, method: str, address: str, **options: Any) -> httpx.Response:
        """The answer to one request."""
        return asyncio.run(self.send(method, address, **options))

    async def send(self, method: str, address: str, **options: Any) -> httpx.Response:
        """As a call, within a loop."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, address, **options)

    def detect(self, *pictures: bytes, **parameters: Any) -> httpx.Response:
        """Pictures in a form."""
        files = [("image", (f"{index}.png", one, "image/png")) for index, one in enumerate(pictures)]
        return self("POST", "/v1/detect", params=parameters, files=files)

    def raw(self, data: bytes, kind: str = "image/png", **parameters: Any) -> httpx.Response:
        """One picture as the body."""
        return self("POST", "/v1/detect", params=parameters, content=data, headers={"Content-Type": kind})


def refused(answer: httpx.Response, status: int, kind: str) -> str:
    """The sentence of a problem of this kind."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    tree = answer.json()
    assert (answer.status_code, tree["status"], tree["type"]) == (status, status, f"/docs#{kind}"), tree
    assert tree["title"]
    detail: str = tree["detail"]
    return detail


class Held:
    """An engine that answers when it is let; `entered` counts runs that wait."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.manifest, self.name, self.version, self.streams = engine.manifest, engine.name, engine.version, 2
        self.let = threading.Event()
        self.let.set()
        self.entered = threading.Semaphore(0)

    def __call__(self, pixels: Any) -> Any:
        self.entered.release()
        assert self.let.wait(30)
        return self._engine(pixels)


def held_source(path: Path) -> tuple[Source, Held]:
    """A model whose runs wait until they are let."""
    engine = Held(ENGINES["onnxruntime"].open(path, Use(1, 2)))
    return Source("cells", path, lambda _: Opened(Predictor(engine), None, "float32")), engine
