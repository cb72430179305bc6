"""Kinds of problems that a data set may have: what each one is, what to do about it, and how much it matters."""

from typing import Literal, NamedTuple

Severity = Literal["problem", "hint"]
"""A mistake, or probably one; what is worth knowing, but may well be so on purpose."""


class Kind(NamedTuple):
    """One kind of problem.

    Attributes:
        meaning: how a summary calls problems of this kind.
        remedy: what to do, in a sentence.
        severity: see `Severity`.
    """

    meaning: str
    remedy: str
    severity: Severity = "problem"


KINDS = {
    "bad-annotation": Kind(
        "annotations that cannot be read",
        "Correct the place that is named, or export the annotations anew; until then they are left out.",
    ),
    "not-finite": Kind(
        "boxes with NaN or infinite corners", "Draw the boxes again, or delete them; until then they are left out."
    ),
    "no-area": Kind(
        "boxes of no area",
        "Delete the boxes (mostly a click without a drag), or draw them again; until then they are left out.",
    ),
    "not-pixels": Kind(
        "boxes smaller than a pixel: fractions of the picture?",
        "Multiply the corners by width and height of the picture; until then the boxes are left out.",
    ),
    "box-form": Kind(
        "data sets whose boxes seem to be written in another form; not used for anything before that is mended",
        "Convert the boxes to the form that the format asks for, and check again.",
    ),
    "shifted-ids": Kind(
        "data sets whose class ids count from 1 instead of 0; not used for anything before that is mended",
        "Number the classes as in their list, or add the class that the list lacks.",
    ),
    "exif-boxes": Kind(
        "data sets whose boxes do not follow the EXIF rotation of their pictures",
        "Turn the boxes with their pictures, or save the pictures upright, without an EXIF orientation.",
    ),
    "key-points": Kind(
        "lines with another number of key points than 'kpt_shape' says, of which the box is taken",
        "Correct 'kpt_shape' in the yaml or the lines; where only boxes are wanted, nothing needs to be done.",
    ),
    "unclear-line": Kind(
        "lines that may be a polygon, or a box with key points, or two boxes",
        "Say what they are: 'kpt_shape: [points, 2 or 3]' in the yaml for key points, 'kpt_shape: null' for polygons.",
    ),
    "empty-split": Kind(
        "splits without a picture, or without a box in any picture",
        "See whether the annotations lie where they are looked for, and whether all of them were exported.",
    ),
    "crowds": Kind(
        "data sets or classes of which most boxes are crowds, neither learnt nor counted",
        "Where these are single objects, take the flag away ('difficult', 'iscrowd'); a tool may set it by itself.",
    ),
    "out-of-image": Kind(
        "boxes outside the picture, wholly or partly",
        "Look whether the annotations belong to another version of the picture; a box that sticks out a little is cut "
        "to it, one that lies outside is left out.",
    ),
    "duplicate-box": Kind(
        "the same box and class twice in a picture",
        "Delete one of the two; the model is otherwise asked to find one object twice.",
    ),
    "unknown-image": Kind(
        "annotations of a picture that is not listed", "List the picture under 'images', or delete the annotations."
    ),
    "unknown-class": Kind(
        "annotations of a class that is not listed", "Add the class to the list of classes, or correct its name or id."
    ),
    "duplicate-image-id": Kind("picture ids used twice", "Give each picture an id of its own; the second is left out."),
    "duplicate-annotation-id": Kind(
        "annotation ids used twice", "Give each annotation an id of its own; both are read as they are."
    ),
    "duplicate-file": Kind(
        "picture files listed twice",
        "Keep one of the two, with the annotations of both; equal pictures teach nothing twice.",
    ),
    "duplicate-class": Kind(
        "class names used twice", "Give the classes different names, or the boxes of both one class."
    ),
    "spelt-twice": Kind(
        "class names that are almost another's", "Decide for one spelling and rename the other class, if one is meant."
    ),
    "unused-class": Kind("classes without a box", "Annotate objects of the class, or take it off the list."),
    "blank-class": Kind("class names that begin or end with a blank", "Rename the class without the blank."),
    "different-classes": Kind(
        "splits with other classes", "Write the same classes in the same order into every split."
    ),
    "wrong-size": Kind(
        "picture sizes that differ from the file",
        "Look whether the boxes fit the picture; where they do not, take the picture that was annotated, or scale the "
        "boxes.",
    ),
    "no-size": Kind(
        "annotation files that do not say how large their picture is",
        "Nothing needs to be done here; for other readers, write width and height into 'size'.",
        "hint",
    ),
    "no-file-name": Kind(
        "annotation files that do not name their picture",
        "Nothing needs to be done here; for other readers, write the picture's name into 'filename'.",
        "hint",
    ),
    "missing-file": Kind(
        "files that do not exist",
        "Put the pictures where the annotations say, name their folder with --images, or delete their annotations.",
    ),
    "broken-file": Kind(
        "picture files that are truncated, damaged or no pictures",
        "Copy the files once more from where they came; until then the pictures are left out.",
    ),
    "orphan-label": Kind("label files without a picture", "Add the pictures, or delete the label files."),
    "unused-files": Kind(
        "folders with files that are not used",
        "Look whether annotations are missing, or lists leave pictures out; files that belong to nothing can go.",
    ),
    "other-picture": Kind(
        "annotations that fit two pictures", "Rename one of the pictures, so that no two differ in the ending alone."
    ),
    "other-annotation": Kind(
        "pictures with several annotations, or labels, of which one is taken",
        "Decide for one annotation and delete the others.",
    ),
    "other-path": Kind(
        "data sets whose file names begin with folders that are not there",
        "Nothing needs to be done where the right pictures were found; else correct the names.",
    ),
    "shared-picture": Kind(
        "pictures in two splits",
        "Take the picture out of one of the two: figures on pictures that were learnt are too good.",
    ),
    "similar-in-splits": Kind(
        "pictures that look like one of another split: what is measured on them is too good",
        "Put both pictures into the same split; pictures of one scene or video belong together.",
    ),
    "drawn-twice": Kind("objects with two boxes of a class", "Delete the worse one of the two boxes."),
    "two-classes": Kind("boxes with two classes", "Decide which class the object has, and delete the other box."),
    "whole-picture": Kind(
        "boxes of a whole picture, beside others",
        "Look whether a label of the picture was turned into a box; if so, delete it.",
        "hint",
    ),
    "border-sliver": Kind(
        "boxes along the border of a picture that are hardly wider than a line",
        "Delete boxes of objects of which nothing can be seen; tools that cut pictures leave them.",
        "hint",
    ),
    "thin-box": Kind(
        "boxes far longer than wide", "Look whether the box was drawn by mistake, or a corner slipped; draw it again."
    ),
    "flat-picture": Kind("pictures that show nothing", "Take the pictures out, unless a blank view occurs.", "hint"),
    "dark-picture": Kind(
        "pictures that are nearly black",
        "Take the pictures out, unless nights occur where the model is used.",
        "hint",
    ),
    "not-learnt": Kind(
        "classes that only a later split has boxes of",
        "Move pictures of the class into the first split, or take the class out.",
    ),
    "similar-pictures": Kind(
        "splits with pictures that look alike",
        "Set apart whole scenes or videos rather than pictures at random, and keep fewer pictures of each.",
        "hint",
    ),
    "blurred-picture": Kind(
        "pictures far less sharp than the others",
        "Take the pictures out, unless such blur occurs where the model is used.",
        "hint",
    ),
    "odd-colour": Kind(
        "grey pictures among coloured ones, or the other way round",
        "Look whether they come from another camera; if the model meets such pictures, add more of them.",
        "hint",
    ),
    "small-boxes": Kind(
        "classes with boxes that are tiny at a usual input",
        "Train at a larger input, or cut the pictures into parts.",
        "hint",
    ),
    "many-empty": Kind(
        "data in which most pictures have no box",
        "Look whether their annotations are missing; pictures of background alone may be many, but need not be.",
        "hint",
    ),
    "few-to-learn": Kind(
        "classes with few boxes to learn from", "Annotate more objects of the class; hundreds are a good start.", "hint"
    ),
    "few-to-measure": Kind(
        "classes with few boxes to measure on",
        "Add pictures of the class to the split; figures of so few boxes are mostly chance.",
        "hint",
    ),
    "not-measured": Kind(
        "classes without a box to measure on", "Add pictures of the class to the split, or split anew.", "hint"
    ),
    "split-skew": Kind(
        "splits with other classes, sizes or sources than the first",
        "Split at random, by scenes or days, unless the difference is wanted.",
        "hint",
    ),
    "no-class": Kind(
        "pictures outside the folders of the classes", "Move the pictures into the folder of their class."
    ),
    "no-crop": Kind(
        "boxes too small to stand alone, or of crowds", "Nothing needs to be done, or pass a smaller --min-side."
    ),
    "not-expressible": Kind(
        "boxes that the target format cannot express", "Choose another format, or do without these boxes."
    ),
}
"""By name, as JSON has it; in the order of the page."""

HINTS = frozenset(name for name, kind in KINDS.items() if kind.severity == "hint")
"""Kinds that are worth knowing, but may well be so on purpose; all others are mistakes, or probably some."""
