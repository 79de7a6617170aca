"""A number of pods, or a share of them in percent: a whole number or a text such as `25%`, as Kubernetes has it."""

from __future__ import annotations

import re
from typing import Any, Final, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from stowage_scheduler.unavailable import MaxUnavailable

_PERCENT: Final = r"^([1-9][0-9]?|100)%$"
_MOST: Final = 100_000
_RULE: Final = f"must be a whole number from 1 to {_MOST}, or a percentage from 1% to 100%"


class IntOrPercent:
    """A number of at least 1, or a percentage; `value` is as users write it."""

    def __init__(self, value: int | str) -> None:
        """Check what was written.

        Raises:
            ValueError: it is neither such a number nor such a percentage.
        """
        number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST
        if not number and not (isinstance(value, str) and re.match(_PERCENT, value)):
            raise ValueError(_RULE)
        self.value = value

    def to_fact(self) -> MaxUnavailable:
        """As the packer and the executor read it."""
        if isinstance(self.value, int):
            return MaxUnavailable(pods=self.value)
        return MaxUnavailable(percent=int(self.value.removesuffix("%")))

    def __eq__(self, other: object) -> bool:
        """Equal when written alike."""
        return isinstance(other, IntOrPercent) and self.value == other.value

    def __hash__(self) -> int:
        """Goes with equality."""
        return hash(self.value)

    def __repr__(self) -> str:
        """For people who debug."""
        return f"IntOrPercent({self.value!r})"

    @classmethod
    def _read(cls, value: Any) -> Self:  # noqa: ANN401 - whatever stands in a file
        return value if isinstance(value, cls) else cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Reads both forms and writes what was read."""
        return core_schema.no_info_plain_validator_function(
            cls._read, serialization=core_schema.plain_serializer_function_ser_schema(lambda one: one.value)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Kubernetes' own form of such a field, with its bounds as a rule."""
        rule = f"type(self) == int ? self >= 1 && self <= {_MOST} : self.matches('{_PERCENT}')"
        return {
            "x-kubernetes-int-or-string": True,
            "x-kubernetes-validations": [{"rule": rule, "message": _RULE}],
        }
