"""Durations and instants as Kubernetes writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

PATTERN: Final = r"^(0|([0-9]{1,9}(\.[0-9]{1,9})?(ns|us|ms|s|m|h))+)$"
MAX_LENGTH: Final = 32

LONGEST_SECONDS: Final = 999_999_999.0
"""What nine digits can say."""

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h)")
_DATE_AND_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]")
_UNIT_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(str):
    """A span of time, kept as written: `1h2m3s`, `500ms`, `0`; never negative.

    The form is that of metav1.Duration (Go's time.ParseDuration) with the units ns, us, ms, s, m and h.

    Raises:
        ValueError: the text has another form or is longer than 32 characters.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check `text`; nothing of it is changed."""
        if len(text) > MAX_LENGTH or not re.fullmatch(PATTERN, text):
            raise ValueError("must be a duration such as 30s, 1h30m or 500ms")
        return super().__new__(cls, text)

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return sum(float(amount) * _UNIT_SECONDS[unit] for amount, unit in _PART.findall(self))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read from a string, write as that string."""
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A bounded string with a pattern."""
        return {"type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH}


@dataclass(frozen=True)
class Within:
    """Annotation of a `Duration` field: `shortest` ≤ value ≤ `longest`, here and as CEL in the resource definition."""

    shortest: Duration
    longest: Duration

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the bounds after the form."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of the field with the bounds as a validation rule."""
        result = handler(schema)
        rule = f"duration(self) >= duration('{self.shortest}') && duration(self) <= duration('{self.longest}')"
        return {**result, "x-kubernetes-validations": [{"rule": rule, "message": self._message}]}

    @property
    def _message(self) -> str:
        return f"must be between {self.shortest} and {self.longest}"

    def _check(self, value: Duration) -> Duration:
        if not self.shortest.seconds <= value.seconds <= self.longest.seconds:
            raise ValueError(self._message)
        return value


def within(shortest: str, longest: str) -> Within:
    """Bounds of a duration field, both included."""
    return Within(Duration(shortest), Duration(longest))


def lasting(seconds: float) -> Duration:
    """A span as text, to the millisecond; below nought and without a number it is nought, and it never is too long.

    Clocks of others may stand in 1970: a status that cannot be written would help nobody.
    """
    text = f"{min(max(0.0, seconds), LONGEST_SECONDS):.3f}"
    return Duration(f"{text.rstrip('0').rstrip('.')}s")


def instant(seconds: float) -> datetime:
    """The UTC instant that lies `seconds` after the epoch."""
    return datetime.fromtimestamp(seconds, UTC)


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("must carry a time zone, as in 2026-01-01T10:15:00Z")
    return value.astimezone(UTC)


def _from_text(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE_AND_TIME.match(value)):
        return value
    raise ValueError("must be a time such as 2026-01-01T10:15:00Z")


def _to_text(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


Instant = Annotated[
    datetime,
    BeforeValidator(_from_text),
    AfterValidator(_in_utc),
    PlainSerializer(_to_text, when_used="json"),
    Field(json_schema_extra={"format": "date-time", "maxLength": 40}),
]
"""A moment in UTC, written as RFC 3339; `.timestamp()` gives seconds since the epoch."""
