"""What every custom resource has: reading with errors that name the field, writing back what was read."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from stowage.api.durations import Instant
from stowage.api.fields import Integer
from stowage.api.names import API_VERSION

MAX_PROBLEMS_SHOWN: Final = 5
MAX_VALUE_SHOWN: Final = 80
STORED: Final = "stored"
"""Key of the context of validation, while what the API server holds is read."""
_PLAINER_WORDS: Final = {
    "missing": "must be given",
    "extra_forbidden": "is not a known field; check its spelling",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "model_type": "must be a group of fields",
    "dict_type": "must be a map",
}


class InvalidObjectError(ValueError):
    """A custom resource that cannot be used: `problems` says, per field, what is wrong.

    Args:
        kind: of the resource.
        name: of the resource, or a word for where it came from.
        problems: (field path, value as text, what it must be), at least one.
    """

    def __init__(self, kind: str, name: str, problems: tuple[tuple[str, str, str], ...]) -> None:
        self.kind = kind
        self.name = name
        self.problems = problems
        shown = "; ".join(f"{field} = {value}: {rule}" for field, value, rule in problems[:MAX_PROBLEMS_SHOWN])
        more = len(problems) - MAX_PROBLEMS_SHOWN
        rest = f"; and {more} more" if more > 0 else ""
        super().__init__(f"{kind} {name}: {shown}{rest}")


class Fields(BaseModel):
    """Base of every part of a resource: frozen, camelCase outside, `null` means absent."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore", use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: object) -> object:
        """Kubernetes reads `field: null` as if the field were not there."""
        if isinstance(value, Mapping):
            return {key: part for key, part in value.items() if part is not None}
        return value


class SpecFields(Fields):
    """Base of what people write: an unknown field is an error, except in what is stored already."""

    model_config = ConfigDict(extra="forbid")


class StatusFields(Fields):
    """Base of what Stowage writes: fields of newer versions are left unread."""


class ManagedFields(Fields):
    """Who owns which fields, as the API server keeps it."""

    model_config = ConfigDict(extra="allow")

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: Instant | None = None
    fields: Annotated[dict[str, Any], Field(alias="fieldsV1")] = Field(default_factory=dict)


class Metadata(Fields):
    """Object metadata. What is not named here is kept too, so that writing an object back loses nothing."""

    model_config = ConfigDict(extra="allow")

    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: Integer | None = None
    creation_timestamp: Instant | None = None
    deletion_timestamp: Instant | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    managed_fields: tuple[ManagedFields, ...] = ()


class Resource(Fields):
    """Base of every kind; subclasses set `kind`, `plural`, the length of names, spec and status."""

    plural: ClassVar[str]
    max_name_length: ClassVar[int]

    api_version: Literal["stowage.dev/v1alpha1"] = API_VERSION
    metadata: Metadata = Metadata()
    _unread: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _name_fits(self) -> Self:
        if len(self.metadata.name) > self.max_name_length:
            raise ValueError(f"metadata.name must have at most {self.max_name_length} characters")
        return self

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.metadata.name

    @classmethod
    def kind_name(cls) -> str:
        """The kind, as users write it."""
        return str(cls.model_fields["kind"].default)

    @property
    def unread(self) -> tuple[str, ...]:
        """Paths of the fields that `parse_stored` left unread, because this version does not know them."""
        return self._unread

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read what somebody has just written: strictly, for an unknown field is most likely a typing mistake.

        Raises:
            InvalidObjectError: a field is missing, unknown, of the wrong form or breaks a rule.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InvalidObjectError(cls.kind_name(), _name_of(document), problems_of(error)) from error

    @classmethod
    def parse_stored(cls, document: Mapping[str, Any]) -> Self:
        """Read what the API server holds, or a dump of it: another version may have written it or its definition.

        Fields that this version does not know are left unread (`unread` names them), and values that an earlier
        version took are read as this version acts on them.

        Raises:
            InvalidObjectError: a field is missing, of the wrong form or breaks a rule.
        """
        unread: list[str] = []
        while True:
            try:
                resource = cls.model_validate(document, context={STORED: True})
            except ValidationError as error:
                problems = error.errors(include_url=False, include_input=False, include_context=False)
                unknown = [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]
                if not unknown:
                    raise InvalidObjectError(cls.kind_name(), _name_of(document), problems_of(error)) from error
                unread += map(_path, unknown)
                document = _without(document, unknown)
            else:
                resource._unread = tuple(unread)  # noqa: SLF001 - its own class
                return resource

    def to_document(self) -> dict[str, Any]:
        """The resource as camelCase JSON values, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class NamespacedResource(Resource):
    """Base of the kinds that live in a namespace."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def namespace(self) -> str:
        """`metadata.namespace`."""
        return self.metadata.namespace or ""


def part_to_document(part: Fields) -> dict[str, Any]:
    """A part of a resource as camelCase JSON values, for patches and server-side apply."""
    return part.model_dump(mode="json", by_alias=True, exclude_none=True)


def _name_of(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata") if isinstance(document, Mapping) else None
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return _shown(name)[:MAX_VALUE_SHOWN].strip("'\"") if name else "(without a name)"


def _without(document: Mapping[str, Any], places: Iterable[tuple[int | str, ...]]) -> dict[str, Any]:
    """The document without what is at these places."""
    found: Any = copy.deepcopy(dict(document))
    for *path, last in places:
        part = found
        for key in path:
            part = part[key]
        del part[last]
    return dict(found)


def _shown(value: object) -> str:
    """`value` on one line, cut where it gets long; what is within its parts stays out, for some of it is secret."""
    if isinstance(value, Mapping):
        value = {name: _Outline(part) for name, part in value.items()}
    elif isinstance(value, list | tuple):
        value = [_Outline(part) for part in value[:MAX_VALUE_SHOWN]]
    text = repr(value[: MAX_VALUE_SHOWN + 1]) if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_VALUE_SHOWN else text[:MAX_VALUE_SHOWN] + "…"


class _Outline:
    """A part of a value: itself, or brackets for what has parts of its own, as environment variables are of a pod."""

    def __init__(self, part: object) -> None:
        self._part = part

    def __repr__(self) -> str:
        match self._part:
            case Mapping() as fields if fields:
                return "{…}"
            case list() | tuple() as items if items:
                return "[…]"
        return repr(self._part)


def problems_of(error: ValidationError) -> tuple[tuple[str, str, str], ...]:
    """What is wrong, as `InvalidObjectError` takes it."""
    found = []
    problems = error.errors(include_url=False)
    for problem in problems:
        if problem["type"] == "too_short" and any(_is_within(one["loc"], problem["loc"]) for one in problems):
            continue  # items that are wrong do not count, which would be told as if they were missing
        path = _path(problem["loc"])
        value = "(absent)" if problem["type"] == "missing" else _shown(problem["input"])
        rule = _PLAINER_WORDS.get(problem["type"], problem["msg"].removeprefix("Value error, "))
        found.append((path, value, rule))
    return tuple(found)


def _is_within(inner: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "(document)"
