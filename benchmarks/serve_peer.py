"""The peer of benchmarks/serve.py: LitServe with the same ONNX Runtime session and the same code around it.

    python benchmarks/serve_peer.py MODEL PORT WORKERS

As many processes as workers, each with a session of one thread. Pictures come as base64 within JSON, as LitServe's
documentation has it for pictures.
"""

import base64
import sys
from pathlib import Path
from typing import Any

import litserve

from falconet.core.images import decode_image
from falconet.runtime.engines import Use
from falconet.runtime.onnx_engine import OnnxEngine
from falconet.runtime.predictor import Predictor


class Detect(litserve.LitAPI):
    """A picture in, boxes out."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        self.predictor: Predictor[Any] = Predictor(OnnxEngine(Path(sys.argv[1]), threads=Use(1).threads))

    def decode_request(self, request: dict[str, str]) -> bytes:
        return base64.b64decode(request["image"])

    def predict(self, data: bytes) -> dict[str, Any]:
        image, original = decode_image(data, "picture", at_least=self.predictor.input_size)
        (found,) = self.predictor.answer([self.predictor.resize(image, original)])
        return self.predictor.task.entry(found)

    def encode_response(self, found: dict[str, Any]) -> dict[str, Any]:
        return found


if __name__ == "__main__":
    server = litserve.LitServer(Detect(), accelerator="cpu", workers_per_device=int(sys.argv[3]))
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error")
