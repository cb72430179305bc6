"""Anchors in a run file: reading what they are for, writing new ones. Needs no torch, so the file is only edited."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from falconet.core.config import plain, read_yaml, yaml_text
from falconet.core.errors import ConfigError
from falconet.core.files import replace_file
from falconet.core.manifest import Preprocess
from falconet.data.anchors import Sides

LEVELS = 3
"""Levels of a YOLOv3 whose run file does not say."""


@dataclass(frozen=True, slots=True)
class RunAnchors:
    """What a run file says about anchors.

    Attributes:
        path: of the run file.
        tree: its content, with comments.
        preprocess: network input.
        anchors: (width, height) in input pixels; None where the file leaves them to the preset.
        masks: which of them each level has, finest first; None likewise.
    """

    path: Path
    tree: CommentedMap
    preprocess: Preprocess
    anchors: tuple[tuple[float, float], ...] | None
    masks: tuple[tuple[int, ...], ...] | None

    @property
    def levels(self) -> int:
        """How many levels the model has."""
        return LEVELS if self.masks is None else len(self.masks)

    def write(self, anchors: Sides) -> None:
        """Put `anchors`, smallest first, into the file; all else stays, comments included.

        Raises:
            ConfigError: they cannot be shared equally by the levels.
            DataError: the file cannot be written; it is unchanged then.
        """
        if len(anchors) % self.levels:
            raise ConfigError(
                f"{self.path}: {len(anchors)} anchors cannot be shared equally by {self.levels} levels; "
                f"expected --count {LEVELS * self.levels}, or another multiple of {self.levels}"
            )
        each = len(anchors) // self.levels
        model: Any = self.tree["model"]
        head = model.setdefault("head", CommentedMap())
        head["anchors"] = _on_one_line([[float(width), float(height)] for width, height in anchors])
        head["masks"] = _on_one_line([[level * each + i for i in range(each)] for level in range(self.levels)])
        replace_file(self.path, yaml_text(self.tree))


def read_run_anchors(path: Path) -> RunAnchors:
    """What the run file `path` says about anchors.

    Raises:
        ConfigError: unreadable, of a model without anchors, or with a wrong input, anchors or masks.
    """
    tree = read_yaml(path)
    model = plain(tree).get("model")
    name = model.get("name") if isinstance(model, dict) else None
    if name != "yolov3":
        raise ConfigError(f"{path}: model.name is {name!r}, which has no anchors; expected 'yolov3'")
    try:
        given = model.get("input")
        preprocess = Preprocess(resize="letterbox") if given is None else TypeAdapter(Preprocess).validate_python(given)
        head = model.get("head") or {}
        anchors = _rows(head.get("anchors"), "anchors", float)
        masks = _rows(head.get("masks"), "masks", int)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"{path}: model.input.{where}: {problem['msg']}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: model.head.{error}") from error
    if anchors is not None and any(len(row) != 2 or min(row) <= 0 for row in anchors):
        raise ConfigError(f"{path}: model.head.anchors: expected a list of [width, height], both above 0")
    return RunAnchors(path, tree, preprocess, anchors, masks)


def _rows(value: Any, name: str, kind: type) -> Any:
    """`value` as tuples of numbers; None stays."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value) or not value:
        raise ValueError(f"{name}: expected a list of lists")
    try:
        return tuple(tuple(kind(number) for number in row) for row in value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected numbers in its lists") from None


def _on_one_line(rows: list[Any]) -> CommentedSeq:
    sequence = CommentedSeq(rows)
    sequence.fa.set_flow_style()
    return sequence
