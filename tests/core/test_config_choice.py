"""Configurations with a choice by `name`: messages about it, and overrides that change it."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from falconet.core.config import Config, apply_overrides, parse_yaml, validate
from falconet.core.errors import ConfigError


class Small(Config):
    name: Literal["small"] = "small"
    width: float = 1.0


class Large(Config):
    name: Literal["large"] = "large"
    depth: int = 3
    width: float = 2.0

    @model_validator(mode="after")
    def _shallow(self) -> "Large":
        if self.depth > 5:
            raise ValueError("this is too deep")
        return self


class Model(Config):
    backbone: Annotated[Small | Large, Field(discriminator="name")] = Small()
    size: int = 10


class Run(Config):
    model: Model = Model()


def message(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        validate(Run, parse_yaml(text, "run.yaml"), name="run.yaml")
    return str(error.value)


def test_unknown_name() -> None:
    assert message("model:\n  backbone: {name: smal}\n") == (
        "run.yaml:2: model.backbone: there is no 'smal'; did you mean 'small'? expected one of 'small', 'large'"
    )
    assert message("model:\n  backbone: {name: x}\n") == (
        "run.yaml:2: model.backbone: there is no 'x'; expected one of 'small', 'large'"
    )


def test_name_is_missing() -> None:
    assert message("model:\n  backbone:\n    width: 2\n") == (
        "run.yaml:2: model.backbone: name is missing; expected one of 'small', 'large'"
    )


def test_a_message_of_the_chosen_one_carries_its_path_alone() -> None:
    assert message("model:\n  backbone: {name: large, depth: 6}\n") == ("run.yaml:2: model.backbone: this is too deep")


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.backbone.name=large", "model.backbone.depth=4"],
        ["model.backbone.depth=4", "model.backbone.name=large"],
    ],
)
def test_another_name_drops_the_settings_of_the_old_one(overrides: list[str]) -> None:
    tree = apply_overrides(Run().model_dump() | {"model": {"backbone": {"name": "small", "width": 0.5}}}, overrides)
    assert validate(Run, tree, overrides=overrides).model.backbone == Large(depth=4)


def test_the_same_name_keeps_them() -> None:
    tree = apply_overrides({"model": {"backbone": {"name": "small", "width": 0.5}}}, ["model.backbone.name=small"])
    assert validate(Run, tree).model.backbone == Small(width=0.5)


def test_a_name_for_a_section_without_one_keeps_what_is_there() -> None:
    tree = apply_overrides({"model": {"backbone": {"depth": 1}}}, ["model.backbone.name=large"])
    assert validate(Run, tree).model.backbone == Large(depth=1)
