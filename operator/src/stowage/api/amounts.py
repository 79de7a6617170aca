"""Numbers that are not whole, as text: prices, shares, milliseconds, for JSON libraries differ in floating point.

`float(text)` reads one; what is written stays as it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

Amount = Annotated[str, StringConstraints(min_length=1, max_length=22, pattern=r"^[0-9]{1,9}(\.[0-9]{1,12})?$")]
"""A number of at least 0."""


@dataclass(frozen=True)
class Between:
    """Annotation of an `Amount`: `least` ≤ value ≤ `most`, here and as CEL in the resource definition."""

    least: str
    most: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the bounds after the form."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of the field with the bounds as a validation rule."""
        rule = f"double(self) >= {float(self.least)} && double(self) <= {float(self.most)}"
        return {**handler(schema), "x-kubernetes-validations": [{"rule": rule, "message": self._message}]}

    @property
    def _message(self) -> str:
        return f"must be between {self.least} and {self.most}"

    def _check(self, value: str) -> str:
        if not float(self.least) <= float(value) <= float(self.most):
            raise ValueError(self._message)
        return value
