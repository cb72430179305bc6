"""Answers as rows of Parquet, with the model that gave them in each file."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from falconet.core.types import Classification, Detections
from falconet.runtime.pipeline import Result
from falconet.runtime.stream import Broken

SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("boxes", pa.list_(pa.list_(pa.float32(), 4))),
        ("scores", pa.list_(pa.float32())),
        ("labels", pa.list_(pa.string())),
        ("error", pa.string()),
    ]
)
"""A row per picture: its size in pixels as displayed; boxes xyxy in pixels of it, the best first, with scores and class
names (of a classifier no boxes); where it could not be read why, and nothing else."""

KEY = "falconet"
"""Of the file's metadata: JSON with model, version, engine and selection."""

Row = dict[str, Any]


def row(item: Result | Broken, *, top: int) -> Row:
    """The row of a picture; of a classifier the `top` most probable classes."""
    if isinstance(item, Broken):
        return {"source": str(item.source), "error": str(item.error)}
    height, width = item.frame.original
    known = {"source": str(item.frame.source), "width": width, "height": height}
    answer = item.answer
    if isinstance(answer, Detections):
        labels = [answer.name(label) for label in answer.labels.tolist()]
        return {**known, "boxes": answer.boxes.tolist(), "scores": answer.scores.tolist(), "labels": labels}
    assert isinstance(answer, Classification)
    best = answer.top(top)
    return {**known, "scores": [score for _, score in best], "labels": [name for name, _ in best]}


def encode(rows: Sequence[Row], head: Mapping[str, Any]) -> bytes:
    """A Parquet file with the rows of one block."""
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA.with_metadata({KEY: json.dumps(head, ensure_ascii=False)}))
    stream = io.BytesIO()
    parquet.write_table(table, stream, compression="zstd")
    return stream.getvalue()
