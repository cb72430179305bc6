"""The base of every configuration value. Apart from `config`, so that the device side loads no YAML reader."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of every configuration value: unknown keys are errors, values do not change after creation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    def settings(self) -> dict[str, Any]:
        """The fields as keyword arguments, without the name that tells one kind of thing from another."""
        return {field: getattr(self, field) for field in type(self).model_fields if field != "name"}
