"""The space of `falconet fit`: families, what is drawn of them, sizes of the input."""

import json
from pathlib import Path

import pytest

from falconet.core.errors import ConfigError
from falconet.models import PRESETS, build
from falconet.search.space import Space, at_size, common_form, default_text, input_sizes, read_space, shapes

FAMILY = {"name": "own", "preset": "nanodet-plus-m-416"}


def space(**family) -> Space:
    return Space.model_validate({"families": [FAMILY | family]})


def read(tmp_path: Path, text: str) -> Space:
    (tmp_path / "space.yaml").write_text(text, encoding="utf-8")
    return read_space(tmp_path / "space.yaml")


def test_the_default_space_is_what_is_printed(tmp_path: Path) -> None:
    assert read(tmp_path, default_text()) == read_space(None)


def test_each_network_of_the_default_space_is_one() -> None:
    found = shapes(read_space(None), seed=0)
    assert len({shape.name for shape in found}) == len(found) > 60
    assert {shape.family for shape in found} == {family.name for family in read_space(None).families}
    for shape in found:
        build(shape.at((128, 192)), 2)


def test_drawn_by_the_seed_and_never_twice() -> None:
    many = {"choices": {"backbone.width": [0.5, 1.0], "neck.channels": [32, 64, 96, 128], "neck.blocks": [1, 2, 3]}}
    some = space(**many, sample=6)
    first, again, other = (shapes(some, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert {shape.name for shape in first} != {shape.name for shape in other}
    assert len(first) == len({shape.model.model_dump_json() for shape in first}) == 6
    assert len(shapes(space(**many, sample=24), seed=0)) == 24


def test_shares_are_filled_from_the_whole_network() -> None:
    whole, half = shapes(space(share=[1, 0.5]), seed=0)
    assert (whole.name, half.name) == ("own", "own 0.5")
    assert whole.model == whole.whole == half.whole == PRESETS["nanodet-plus-m-416"]
    assert half.model.head.channels == 48


def test_settings_of_stages_go_by_their_names() -> None:
    rows = [[3, 1, 16, 1, 1, 0], [3, 3, 24, 2, 2, 0], [5, 3, 40, 2, 2, 0], [5, 3, 80, 2, 2, 0], [5, 3, 96, 1, 2, 0]]
    one, other = shapes(
        space(
            model={"backbone.name": "mnasnet", "backbone.rows": rows, "neck.channels": 64},
            choices={"backbone.rows.2.expansion": [3, 6]},
        ),
        seed=0,
    )
    assert [shape.model.backbone.rows[2][1] for shape in (one, other)] == [3, 6]
    assert one.model.backbone.rows[1] == (3, 3, 24, 2, 2, 0)
    assert one.model.neck.channels == 64
    assert (one.name, other.name) == ("own 2e3", "own 2e6")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("preset: nanodet-plus-m-417", "nanodet-plus-m-416"),
        ("share: [1, 2]", "shares above 0"),
        ("choices: {neck.channels: []}", "no values to choose from"),
        ("smaple: 3", "sample"),
        ("sample: 0", "sample"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, change: str, told: str) -> None:
    key = change.partition(":")[0]
    lines = [
        f"    {line}" for line in ("preset: nanodet-m-416", change) if not (key == "preset" and "nanodet-m" in line)
    ]
    with pytest.raises(ConfigError, match=r"space\.yaml:\d+") as caught:
        read(tmp_path, "\n".join(["families:", "  - name: own", *lines, ""]))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"choices": {"neck.chanels": [64]}}, "unknown key; did you mean 'channels'"),
        ({"choices": {"nekc.channels": [64]}}, "there is no nekc; did you mean 'neck'"),
        ({"choices": {"neck.channels": [63]}}, "even"),
        ({"model": {"backbone.out_stages.9": 3}}, "expected a place from 0 to 2 instead of '9'"),
        ({"model": {"neck.channels.wide": 3}}, "nothing below neck.channels"),
    ],
)
def test_settings_that_are_none(settings: dict, told: str) -> None:
    with pytest.raises(ConfigError, match="family own") as caught:
        shapes(space(**settings), seed=0)
    assert told in str(caught.value)


def test_sides(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiples of 32"):
        read(tmp_path, f"sides: [100]\nfamilies: [{json.dumps(FAMILY)}]\n")
    with pytest.raises(ConfigError, match="two families are called 'own'"):
        read(tmp_path, f"families: [{json.dumps(FAMILY)}, {json.dumps(FAMILY)}]\n")
    assert input_sizes([64, 320, 640], 1) == [(64, 64), (320, 320), (640, 640)]
    assert input_sizes([320, 640], 4 / 3) == [(256, 320), (480, 640)]
    assert input_sizes([320, 640], 3 / 4) == [(320, 256), (640, 480)]
    assert at_size(PRESETS["yolov3-tiny"], (320, 416)).input.width == 416


def test_the_form_of_most_pictures() -> None:
    assert common_form([(480, 640)] * 8 + [(640, 480)] * 2) == pytest.approx(4 / 3)
    assert common_form([(480, 640)] * 7 + [(640, 480)] * 3) == 1
    assert common_form([(600, 640)] * 10) == 1
    assert common_form([]) == 1
