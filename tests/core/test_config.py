"""Configuration: every mistake at once, each with line, path and the nearest right name."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from falconet.core.config import Config, apply_overrides, parse_yaml, read_yaml, validate, write_yaml
from falconet.core.errors import ConfigError


class Small(Config):
    name: Literal["small"] = "small"
    width: float = Field(default=1.0, gt=0, description="multiple of the channels")


class Large(Config):
    name: Literal["large"] = "large"
    depth: int = Field(default=3, ge=1)


class Train(Config):
    epochs: int = Field(default=10, ge=1, description="passes over the data")
    rate: float = 1e-3
    stages: tuple[int, ...] = (2, 3, 4)
    weights: Path | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class Run(Config):
    output: Path
    backbone: Annotated[Small | Large, Field(discriminator="name")] = Small()
    train: Train = Train()


def fail(text: str, *overrides: str) -> list[str]:
    tree = apply_overrides(parse_yaml(text, "run.yaml"), overrides)
    with pytest.raises(ConfigError) as error:
        validate(Run, tree, name="run.yaml", overrides=overrides)
    return str(error.value).splitlines()


def test_every_mistake_at_once_with_lines() -> None:
    text = "output: runs\ntrain:\n  epoch: 5\n  rate: fast\n  precision: float3\nbackbone:\n  name: large\n  depht: 2\n"
    assert set(fail(text)) == {
        "run.yaml:3: train.epoch: unknown key; did you mean 'epochs'?",
        "run.yaml:4: train.rate: input should be a valid number, unable to parse string as a number, but got 'fast'",
        "run.yaml:5: train.precision: input should be 'auto', 'float32' or 'bfloat16', but got 'float3'; "
        "did you mean 'float32'?",
        "run.yaml:8: backbone.depht: unknown key; did you mean 'depth'?",
    }


def test_a_key_that_stands_elsewhere_is_found() -> None:
    assert fail("output: a", "epochs=3") == ["override 'epochs=3': epochs: unknown key; did you mean 'train.epochs'?"]


def test_a_value_in_place_of_keys_names_them() -> None:
    (line,) = fail("output: a", "train=3")
    assert line.startswith("override 'train=3': train: expected keys and values (epochs, ")
    assert line.endswith("), as in train.epochs=3, but got 3")


def test_a_missing_key_is_named() -> None:
    assert fail("train:\n  epochs: 3\n") == ["run.yaml: output: is missing"]


def test_keys_of_the_chosen_union_member_alone_are_suggested() -> None:
    assert fail("output: a\nbackbone:\n  name: small\n  depth: 2\n") == [
        "run.yaml:4: backbone.depth: unknown key; did you mean 'width'?"
    ]
    assert fail("output: a\nbackbone:\n  name: large\n  xyz: 2\n") == [
        "run.yaml:4: backbone.xyz: unknown key; expected one of: depth, name"
    ]


def test_an_unknown_union_member_lists_the_known_ones() -> None:
    (line,) = fail("output: a\nbackbone:\n  name: smal\n")
    assert line.startswith("run.yaml:2: backbone: ")
    assert "'small', 'large'" in line


def test_a_value_out_of_range_and_a_list_item() -> None:
    lines = fail("output: a\ntrain:\n  epochs: 0\n  stages:\n    - 1\n    - two\n")
    assert lines == [
        "run.yaml:3: train.epochs: input should be greater than or equal to 1, but got 0",
        "run.yaml:6: train.stages.1: input should be a valid integer, unable to parse string as an integer, "
        "but got 'two'",
    ]


def test_overrides_are_named_in_messages() -> None:
    assert fail("output: a\n", "train.epochz=3", "train.stages=[1, x]", "train.epochs=-1") == [
        "override 'train.epochs=-1': train.epochs: input should be greater than or equal to 1, but got -1",
        "override 'train.stages=[1, x]': train.stages.1: input should be a valid integer, unable to parse string as "
        "an integer, but got 'x'",
        "override 'train.epochz=3': train.epochz: unknown key; did you mean 'epochs'?",
    ]


def test_overrides_are_yaml_and_make_missing_sections() -> None:
    tree = apply_overrides({"output": "a"}, ["train.rate=1e-2", "train.stages=[1, 2]", "train.weights=null"])
    run = validate(Run, tree)
    assert run.train.rate == 0.01
    assert run.train.stages == (1, 2)
    assert run.train.weights is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "override 'train.epochs': expected KEY=VALUE with a dotted key, as in train.epochs=50"),
        ("=3", "override '=3': expected KEY=VALUE with a dotted key, as in train.epochs=50"),
        ("train..epochs=3", "override 'train..epochs=3': expected KEY=VALUE"),
        ("output.x.y=3", "override 'output.x.y=3': output is a value, it has no keys below it"),
        ("train.stages=[1", "override 'train.stages=[1': the value is not valid YAML"),
    ],
)
def test_a_broken_override_says_what_was_expected(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        apply_overrides({"output": "a"}, [override])
    assert str(error.value).startswith(message)


def test_broken_yaml_has_a_line() -> None:
    with pytest.raises(ConfigError, match=r"^run\.yaml:3: is not valid YAML: expected "):
        parse_yaml("train: [1,\nepochs: 3\n", "run.yaml")
    with pytest.raises(ConfigError, match=r"^run\.yaml:2: is not valid YAML: .*duplicate key"):
        parse_yaml("output: a\noutput: b\n", "run.yaml")
    with pytest.raises(ConfigError, match="expected keys and values at the top, but found a CommentedSeq"):
        parse_yaml("- a\n", "run.yaml")


def _laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_laughs(9), r"a\.yaml:5: holds more than 100,000 values, aliases written out"),
        ("a: &a [1, *a]", r"a\.yaml:1: the alias \*a lies within what it stands for"),
        ("a: " + "[" * 20_000 + "]" * 20_000, r"a\.yaml:1: nests more than 64 lists and mappings"),
        ("- " * 20_000 + "x", r"a\.yaml:1: nests more than 64"),
        ("a:\n" + "\n".join(f"{' ' * n}b:" for n in range(1, 3000)), r"a\.yaml:65: nests more than 64"),
        ("a: [" + "1, " * 100_001 + "]", r"holds more than 100,000 values"),
    ],
    ids=["aliases", "itself", "brackets", "dashes", "mappings", "long"],
)
def test_yaml_that_would_grow_without_end_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "a.yaml")
    if "\n" not in text:
        with pytest.raises(ConfigError, match="override 'epochs'"):
            apply_overrides({}, [f"epochs={text.removeprefix('a: ')}"])


def test_aliases_of_ordinary_files_are_read() -> None:
    tree = parse_yaml("size: &size [320, 320]\nval: {size: *size}\ntrain: {size: *size}", "a.yaml")
    assert tree["train"]["size"] == [320, 320]
    assert len(parse_yaml(_laughs(3), "a.yaml")["a2"]) == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[a], b]: 1\n", "a list or a mapping stands where a key is expected"),
        ("a: 2024-13-45\n", "month must be in 1..12"),
        (f"a: {'9' * 5000}\n", "Exceeds the limit"),
    ],
)
def test_values_that_no_file_of_ours_holds(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"run.yaml: is not valid YAML: .*{message}"):
        parse_yaml(text, "run.yaml")


def test_an_anchor_given_again_means_the_last_one() -> None:
    assert parse_yaml("a: &x 1\nb: &x 2\nc: *x\n", "run.yaml") == {"a": 1, "b": 2, "c": 2}


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        read_yaml(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match=r"binary\.yaml: is not UTF-8 \(byte 0\); save it as UTF-8"):
        read_yaml(tmp_path / "binary.yaml")


def test_an_empty_file_lacks_what_is_required() -> None:
    assert fail("") == ["run.yaml: output: is missing"]


@pytest.mark.parametrize("comments", [False, True])
def test_written_yaml_reads_back(comments: bool) -> None:
    run = Run(output=Path("runs/null"), backbone=Large(depth=7), train=Train(rate=1e-5, weights=Path("1e3")))
    text = write_yaml(run, comments=comments)
    assert validate(Run, parse_yaml(text, "x")) == run
    assert ("# passes over the data" in text) == comments
    assert "stages: [2, 3, 4]" in text
    assert list(parse_yaml(text, "x")) == ["output", "backbone", "train"]


def test_values_do_not_change_and_are_numbers() -> None:
    with pytest.raises(ConfigError, match="finite number"):
        validate(Run, {"output": "a", "train": {"rate": float("nan")}})
    with pytest.raises(ValueError, match="frozen"):
        Train().epochs = 3  # type: ignore[misc]
