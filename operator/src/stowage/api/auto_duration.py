"""A span of time that may be left to Stowage: `Auto`, or a duration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from stowage.api import durations
from stowage.api.durations import Duration

AUTO: Final = "Auto"
PATTERN: Final = durations.PATTERN.replace("^(", f"^({AUTO}|", 1)


class AutoDuration(str):
    """`Auto`, or a span of time as `Duration` has it; kept as written.

    Raises:
        ValueError: the text is neither.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check `text`; nothing of it is changed."""
        if text != AUTO:
            try:
                Duration(text)
            except ValueError as error:
                raise ValueError(f"must be {AUTO}, or a duration such as 30s, 1h30m or 500ms") from error
        return super().__new__(cls, text)

    @property
    def seconds(self) -> float | None:
        """The length in seconds; None: `Auto`."""
        return None if self == AUTO else Duration(self).seconds

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read from a string, write as that string."""
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A bounded string with a pattern."""
        return {"type": "string", "pattern": PATTERN, "maxLength": durations.MAX_LENGTH}


@dataclass(frozen=True)
class AutoWithin:
    """Annotation of an `AutoDuration` field: `Auto`, or `shortest` ≤ value ≤ `longest`, here and as CEL."""

    shortest: Duration
    longest: Duration

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the bounds after the form."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of the field with the bounds as a validation rule."""
        bounds = f"duration(self) >= duration('{self.shortest}') && duration(self) <= duration('{self.longest}')"
        rule = f"self == '{AUTO}' || ({bounds})"
        return {**handler(schema), "x-kubernetes-validations": [{"rule": rule, "message": self._message}]}

    @property
    def _message(self) -> str:
        return f"must be between {self.shortest} and {self.longest}, or {AUTO}"

    def _check(self, value: AutoDuration) -> AutoDuration:
        seconds = value.seconds
        if seconds is not None and not self.shortest.seconds <= seconds <= self.longest.seconds:
            raise ValueError(self._message)
        return value


def auto_or_within(shortest: str, longest: str) -> AutoWithin:
    """Bounds of a field that is `Auto` or a duration, both included."""
    return AutoWithin(Duration(shortest), Duration(longest))
