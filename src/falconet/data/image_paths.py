"""Where the pictures lie that an annotation file names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from falconet.core.errors import DataError
from falconet.data.dataset import Problem
from falconet.data.listing import Names

PROBED = 20
"""Names that are looked for before a folder is given up."""


class Located(NamedTuple):
    """Where an annotation file's pictures lie."""

    paths: dict[str, Path]
    """by the name in the file; also of those that are not there."""
    problems: list[Problem]


def locate(source: Path, names: Sequence[str], images: Path | None = None, *, rest_only: bool = False) -> Located:
    """The files that the names in `source` mean.

    Names that begin with folders of another machine (`images/1/a.jpg`, `C:/data/a.jpg`, an address) are found by
    their rest, as far as no two share it.

    Args:
        names: with `/` between folders.
        images: folder of the pictures. None looks for the first of them beside `source`: in a folder of its name
            without "instances_" (`train.json`, `training/`), in `images/` and in its own folder; then one folder up.
        rest_only: it is in the format's nature that only the rest of a name is found here: no problem.

    Raises:
        DataError: the pictures are not found, or two would be the same.
    """
    files = Names()
    place = find_place(source, names, images, files=files)
    rests = {name: place.rest(name) for name in names}
    problems: list[Problem] = []
    if place.cut:
        refuse_shared(source, rests)
        example = next(name for name in names if rests[name] != name)
        if not rest_only:
            problems.append(place.problem(source, example))
    folder = place.folder
    return Located({name: files.find(folder / rest) or folder / rest for name, rest in rests.items()}, problems)


class Place(NamedTuple):
    """Below which folder names are found.

    Attributes:
        folder: it.
        cut: how many leading parts of a name are left out.
    """

    folder: Path
    cut: int

    def rest(self, name: str) -> str:
        """What of a name is looked for in the folder."""
        return _rest(name, self.cut)

    def problem(self, source: Path, example: str) -> Problem:
        """That names begin with folders that are not there; `example` is one of them."""
        what = (
            f"its file names begin with folders that are not in {self.folder}, as in '{example}'; pictures are found "
        )
        return Problem(str(source), f"{what}by the rest, '{self.rest(example)}'", "other-path")


def find_place(source: Path, names: Sequence[str], images: Path | None = None, *, files: Names | None = None) -> Place:
    """Where `locate` finds names, told from the first of them.

    Raises:
        DataError: the pictures are not found.
    """
    folders = [images] if images is not None else list(dict.fromkeys(_folders(source)))
    found = _probe(folders, names, files or Names())
    if found is None and images is None and names:
        looked = ", ".join(str(folder) for folder in folders)
        raise DataError(
            f"{source}: its pictures are not found ({names[0]} is in none of {looked}); "
            "say where they are with the 'images' folder"
        )
    return Place(*(found or (folders[0] if images is not None else source.parent, 0)))


def _probe(folders: Sequence[Path], names: Sequence[str], files: Names) -> tuple[Path, int] | None:
    """(folder, leading parts to leave out) with which the first of the names is found."""
    probed = names[:PROBED]
    for cut in range(max((len(PurePosixPath(name).parts) for name in probed), default=1)):
        for name in probed:
            for folder in folders:
                if files.find(folder / _rest(name, cut)) is not None:
                    return folder, cut
    return None


def _rest(name: str, cut: int) -> str:
    parts = PurePosixPath(name).parts
    return str(PurePosixPath(*parts[min(cut, len(parts) - 1) :])) if cut else name


def refuse_shared(source: Path, rests: Mapping[str, str]) -> None:
    """Raise DataError where two of the names (with their rests) have the same rest."""
    first: dict[str, str] = {}
    for name, rest in rests.items():
        other = first.setdefault(rest, name)
        if other != name:
            raise DataError(
                f"{source}: its file names begin with folders that are not there, and '{other}' and '{name}' cannot "
                f"be told apart by the rest, '{rest}'; correct the names"
            )


def _folders(source: Path) -> Iterator[Path]:
    stem = source.stem
    # "val" for "val-annotations.csv", "train" for "instances_train.json", "train_2" for "instances_train_2.json".
    names = [stem, stem.removeprefix("instances_"), stem.partition("_")[2], *re.split(r"[^A-Za-z0-9]+", stem)]
    for folder in (source.parent, source.parent.parent):
        for name in dict.fromkeys(filter(None, names)):
            yield folder / name
            yield folder / "images" / name
        yield folder / "images"
        yield folder
