"""What all sections of the configuration share."""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen values, checked when they are made."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def replace(self, **changes: object) -> Self:
        """A validated copy with `changes`. For a section, a mapping changes only the fields it names.

            config.replace(model={"dropout": 0.2}, training={"num_steps": 100})

        Raises:
          pydantic.ValidationError: an unknown field, a value out of bounds, or contradictory fields.
        """
        values = self.model_dump()
        for name, change in changes.items():
            nested = isinstance(change, Mapping) and isinstance(values.get(name), dict)
            values[name] = {**values[name], **change} if nested else change
        return type(self).model_validate(values)
