"""What the addresses take and answer, for OpenAPI and for people."""

import base64
import re
from hashlib import sha256
from typing import Any, NamedTuple

from falconet.core.page import render_page
from falconet.serving.problems import KINDS, MEDIA_TYPE

_NUMBER, _TEXT = {"type": "number"}, {"type": "string"}


def _object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_INTEGER = {"type": "integer"}
_CLASS = {"label": _TEXT, "label_id": _INTEGER, "score": {"type": "number", "minimum": 0, "maximum": 1}}
_BOX = {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4, "description": "x1, y1, x2, y2"}
_RESULT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "file": {"type": ["string", "null"], "description": "its name in the form"},
        "width": _INTEGER,
        "height": _INTEGER,
        "detections": _list(_object(**_CLASS, box=_BOX)) | {"description": "of a detector, best first"},
        "classes": _list(_object(**_CLASS)) | {"description": "of a classifier, best first"},
        "milliseconds": _object(decode=_NUMBER, queue=_NUMBER, detect=_NUMBER),
    },
    "required": ["file", "width", "height", "milliseconds"],
}
ANSWER = _object(model=_object(name=_TEXT, sha256=_TEXT), results=_list(_RESULT))
"""Of `POST /v1/detect`."""

_MODEL = _object(
    name=_TEXT,
    task={"enum": ["detect", "classify"]},
    architecture=_TEXT,
    classes=_list(_TEXT),
    input=_object(height=_INTEGER, width=_INTEGER),
    score_threshold={"type": ["number", "null"], "description": "of a detector; what is told scores above"},
    calibrated={"type": "boolean", "description": "whether scores say how often a detection is right"},
    operating_points=_list(_object(name=_TEXT, thresholds={"type": "object", "additionalProperties": _NUMBER})),
    licence=_TEXT,
    source=_TEXT,
    sha256=_TEXT,
    engine=_TEXT,
    precision=_TEXT,
    ap={"type": ["number", "null"], "description": "AP or top-1, a fraction"},
    ap_source={"type": ["string", "null"], "description": "who says so"},
    receipt={"type": ["object", "null"], "description": "of the comparison with torch, as 'falconet export' wrote it"},
    loaded_at=_TEXT,
    refused={"type": ["object", "null"], "description": "why the newest file is not taken, and since when"},
)

PROBLEM = {
    **_object(type=_TEXT, title=_TEXT, status=_INTEGER, detail=_TEXT),
    "description": "RFC 9457; `detail` says what to do, `picture` counts from 0",
}

_BYTES = {"schema": {"type": "string", "format": "binary"}}
BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "image/*": _BYTES,
        "application/octet-stream": _BYTES,
        "multipart/form-data": {"schema": _object(image=_list({"type": "string", "format": "binary"}))},
    },
}
"""Of `POST /v1/detect`."""


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    told: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        titles = [f"{kind.title} ({name})" for name, kind in KINDS.items() if kind.status == status]
        told[status] = {"description": "; ".join(titles), "content": {MEDIA_TYPE: {"schema": PROBLEM}}}
    return told


DETECT_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answers, in the order of the pictures",
        "content": {"application/json": {"schema": ANSWER}, "image/jpeg": _BYTES},
    },
    422: {"description": "Never answered; a wrong parameter is a problem of status 400"},
    **_problems(400, 401, 404, 408, 413, 415, 429, 503, 504),
}
MODELS_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The models",
        "content": {"application/json": {"schema": _object(models=_list(_MODEL))}},
    },
    **_problems(401),
}


class Docs(NamedTuple):
    """A page about the addresses."""

    text: str
    policy: str
    """What it may load: its own style, which is known by its sum."""


def docs_page(openapi: dict[str, Any]) -> Docs:
    """The page at /docs: addresses, parameters and problems, without a script."""
    addresses = [
        (method.upper(), path, one)
        for path, methods in openapi["paths"].items()
        for method, one in methods.items()
    ]  # fmt: skip
    text = render_page(
        "falconet.serving/pages/docs.html",
        {"addresses": addresses, "problems": KINDS},
        title="Falconet's HTTP interface",
        lead=["The same for programs is at /openapi.json."],
    )
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(sha256(style[1].encode()).digest()).decode()
    return Docs(text, f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'")
