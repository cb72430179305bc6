"""Where `falconet data check` draws the line for each kind of problem, and what a repaired copy does about it.

docs/data.md has this beside the kinds; a test compares it.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Criterion(NamedTuple):
    """About a kind of problem."""

    found: str
    """how it is found, and where the line is drawn."""
    fix: str = ""
    """what a repaired copy does; empty where it leaves it."""


CRITERIA: Mapping[str, Criterion] = {
    "bad-annotation": Criterion("an entry, a line or a file that does not say what its format asks for", "left out"),
    "not-finite": Criterion("a corner is NaN or infinite", "box taken out"),
    "no-area": Criterion("right <= left or bottom <= top", "box taken out"),
    "not-pixels": Criterion("a box below one pixel between 0 and 1, where pixels are expected", "box taken out"),
    "box-form": Criterion(
        (
            "of all boxes, 98 % are possible in the other form, and 20 % and three at least are not in the format's "
            "own; or all of 20 and more reach from 0 to 100, or to 1,000 and a fifth of them out of their pictures"
        ),
        "converted, where 98 % then lie in their pictures; else refused",
    ),
    "shifted-ids": Criterion(
        "an id just beyond the list, none at its other end, and nine of ten classes between have boxes (COCO, YOLO)",
        "ids lowered or raised by one",
    ),
    "exif-boxes": Criterion(
        "boxes reach 2 % beyond the picture as displayed and lie in it as stored, in three of the turned pictures "
        "or half of them, and in none the other way round (formats in pixels)",
        "boxes turned; their segmentations and key points (COCO) are lost",
    ),
    "key-points": Criterion("another number of columns than 'kpt_shape' asks for"),
    "unclear-line": Criterion("more than five numbers that may be a polygon, key points or several boxes"),
    "empty-split": Criterion("no picture at all, or ten and more of which none has a box"),
    "crowds": Criterion("more than half of all boxes, or all of a class, are crowds or difficult"),
    "out-of-image": Criterion(
        "a corner lies more than half a pixel outside",
        "box cut to the picture; one wholly outside is taken out",
    ),
    "duplicate-box": Criterion("equal corners and class", "the later box taken out"),
    "unknown-image": Criterion("an annotation's picture id is not listed", "annotation left out"),
    "unknown-class": Criterion("a box's class is not in the list of classes"),
    "duplicate-image-id": Criterion("two entries have one id"),
    "duplicate-annotation-id": Criterion("two annotations have one id", "the later one gets a new id"),
    "duplicate-file": Criterion(
        "a file listed twice in a split, or two of the same bytes",
        "the one with fewer boxes, else the later one, is left out, if the other has all its boxes",
    ),
    "duplicate-class": Criterion("a name stands twice in the list", "made one class"),
    "spelt-twice": Criterion(
        "names differ in case, blanks, hyphens or underscores; or in a letter or two, the rarer one having 5 % of "
        "the boxes or three at most",
        "made one class, named as the more frequent; one that differs in letters stays",
    ),
    "unused-class": Criterion("no box in any split"),
    "blank-class": Criterion("a blank at an end of the name", "blanks taken off"),
    "different-classes": Criterion(
        "the list of a split differs from the first one's",
        "all splits get all classes, in one order",
    ),
    "wrong-size": Criterion(
        "the annotated width and height are not the file's",
        "corrected where no box depends on it",
    ),
    "no-size": Criterion("'size' is 0 x 0, or missing (Pascal VOC)", "the picture's is written"),
    "no-file-name": Criterion("'filename' is empty or missing (Pascal VOC)", "the picture's is written"),
    "missing-file": Criterion("no such file", "left out, with its boxes"),
    "broken-file": Criterion("header, end and, unless --quick, all pixels are decoded", "left out, with its boxes"),
    "orphan-label": Criterion("no picture has the name of a label file", "left out"),
    "unused-files": Criterion("nothing in the data set names the files", "left out"),
    "other-picture": Criterion("an annotation's name fits two pictures"),
    "other-annotation": Criterion("a picture has several annotations"),
    "other-path": Criterion("file names begin with folders that are not there", "names of the copy"),
    "shared-picture": Criterion(
        "files of the same bytes in two splits",
        "left out of the split used first (train, then val), if the other one has all its boxes and the split "
        "keeps half of its pictures",
    ),
    "similar-in-splits": Criterion(
        "difference hashes at most 3 of 64 bits apart, and a correlation of 0.985 at 16 x 16",
    ),
    "drawn-twice": Criterion("IoU of 0.9 with a box of the same class", "the later box taken out"),
    "two-classes": Criterion("IoU of 0.9 with a box of another class"),
    "whole-picture": Criterion("98 % of the picture, and other boxes in it"),
    "border-sliver": Criterion("a box at the border, below 1 % of the picture's side and five times as long as wide"),
    "thin-box": Criterion("25 times as long as wide"),
    "flat-picture": Criterion("grey values deviate by less than 3 of 255"),
    "dark-picture": Criterion("mean grey value below 12 of 255"),
    "not-learnt": Criterion("boxes in a later split, none in the first"),
    "similar-pictures": Criterion("as similar-in-splits, within a split"),
    "blurred-picture": Criterion("2 % of the usual variance of the Laplacian here"),
    "odd-colour": Criterion("grey as 5 % of the pictures at most, or coloured as 5 %"),
    "small-boxes": Criterion("a tenth of a class's boxes is narrower than 4 pixels at an input of 416"),
    "many-empty": Criterion("half of a split's pictures have no box"),
    "few-to-learn": Criterion("below 10 boxes of a class in train"),
    "few-to-measure": Criterion("below 5 boxes of a class in another split"),
    "not-measured": Criterion("boxes in the first split, none in a later one"),
    "split-skew": Criterion(
        "a class is three times as frequent (four deviations at least), or pictures are 1.5 times as large, as in "
        "the first split; or ten pictures and 5 % have a name (as cam2_17) that none has there, while others have",
    ),
}
"""By kind, in the order of `falconet.data.kinds.KINDS`."""

OTHER_COMMANDS = frozenset({"no-class", "no-crop", "not-expressible"})
"""Kinds that `check` does not know: of image folders, `data crops` and `data convert`."""
