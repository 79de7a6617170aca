"""What is said about an object: problems refuse it, warnings are shown to whoever writes it."""

from __future__ import annotations

from msgspec import Struct


class Problem(Struct, frozen=True):
    """Why an object may not be stored.

    Attributes:
        field: path of the field.
        value: what it says, as text.
        rule: what it must be, and what to do.
    """

    field: str
    value: str
    rule: str

    @property
    def told(self) -> tuple[str, str, str]:
        """Field, value and rule, as errors of resources take them."""
        return self.field, self.value, self.rule

    def __str__(self) -> str:
        return f"{self.field} = {self.value}: {self.rule}"


class Verdict(Struct, frozen=True):
    """The answer to one question."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the object may be stored."""
        return not self.problems


ALLOWED = Verdict()
