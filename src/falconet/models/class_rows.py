"""The rows of a network's outputs that belong to classes: taken over by name from a network of other classes."""

from collections.abc import Sequence

from torch import Tensor

ALIASES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""Pascal VOC's names of classes for which COCO has other ones."""


def same_classes(names: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """For each name the place of the class among `known` that means the same, None where there is none.

    Upper and lower case, blanks, hyphens and underscores, and an English plural make no difference; neither do
    the names that VOC and COCO have for the same thing. An exact match comes first; no class is taken twice.
    """
    taken: dict[int, int] = {}
    for forms in (lambda name: {name}, _forms):
        places = {form: place for place, name in reversed(list(enumerate(known))) for form in forms(name)}
        for index, name in enumerate(names):
            found = next((places[form] for form in sorted(forms(name)) if form in places), None)
            if found is not None and index not in taken and found not in taken.values():
                taken[index] = found
    return [taken.get(index) for index in range(len(names))]


def _forms(name: str) -> set[str]:
    """A name as it may be written elsewhere."""
    plain = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    plain = ALIASES.get(plain.replace(" ", ""), plain)
    forms = {plain, plain.replace(" ", "")}
    if plain.endswith("s") and not plain.endswith("ss"):
        forms |= {form.removesuffix("s") for form in forms}
    if plain.endswith(("ches", "shes", "sses", "xes", "toes", "uses")):
        forms |= {form.removesuffix("es") for form in forms}
    if plain.endswith("ies"):
        forms |= {f"{form.removesuffix('ies')}y" for form in forms if form.endswith("ies")}
    return forms


def take_class_rows(
    target: Tensor, trained: Tensor, rows: slice, *, places: Sequence[int | None], count: int, mean: bool
) -> None:
    """Fill rows of `target` with those of the same classes in `trained`, in place.

    Args:
        target: [R, ...].
        trained: as `target`, of a network that is trained; rows start at the same place.
        rows: of `target`, those that belong to classes.
        places: for each class its place in the trained network, None for a new one.
        count: classes of the trained network.
        mean: a new class gets the mean of all trained rows; else its row stays as it is.
    """
    # With several predictions per place (anchors), each has a row for every class.
    groups = (rows.stop - rows.start) // len(places)
    for group in range(groups):
        known = trained[rows.start + group * count : rows.start + (group + 1) * count]
        for index, place in enumerate(places):
            if place is not None or mean:
                target[rows.start + group * len(places) + index] = known.mean(0) if place is None else known[place]
