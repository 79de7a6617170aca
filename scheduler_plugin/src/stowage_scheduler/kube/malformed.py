"""Objects that can not be taken as they are: one typed error that names object, field, value and rule."""

from __future__ import annotations

from stowage_scheduler.cluster import Rejected

LONGEST_SHOWN = 100
"""Most characters of a value, a name or a rule that an error repeats."""


class FieldError(ValueError):
    """A field that breaks a rule, before it is known whose field it is."""

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.value = value
        self.rule = rule


class MalformedObject(ValueError):  # noqa: N818 - it says what was found, and it is handed on, not only raised
    """An object that is left out of snapshots; `rejected` is the line for people."""

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(
            f"{rejected.kind} {rejected.name}: {rejected.field} is {rejected.value!r}, but {rejected.rule}"
        )
        self.rejected = rejected


def rejection(kind: str, name: str, error: FieldError, node: str = "") -> Rejected:
    """The line that tells people which object was left out and why; `node` is where a pod stands."""
    return Rejected(shown(kind), shown(name), shown(error.field), shown(error.value), shown(error.rule), node)


def shown(value: object) -> str:
    """A value as one printable line of at most `LONGEST_SHOWN` characters."""
    text = value[: LONGEST_SHOWN + 1] if isinstance(value, str) else repr(value)
    if not text.isprintable():
        text = repr(text)[1:-1]
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"
