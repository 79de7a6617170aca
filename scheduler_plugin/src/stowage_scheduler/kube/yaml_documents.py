"""YAML as people write it to JSON, within bounds: no anchors, no deep nesting, one document."""

from __future__ import annotations

import msgspec
import yaml

DEEPEST = 64
"""Most levels of nesting; the C parser recurses."""

_LOADER: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPENING = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSING = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class YamlError(ValueError):
    """Text that is no YAML, or YAML that is refused."""


def json_of_yaml(text: bytes) -> bytes:
    """The document as JSON; times become strings again.

    Raises:
        YamlError: if it can not be read, has anchors (a small file with them can stand for a huge one) or
            is nested deeper than `DEEPEST`.
    """
    try:
        _check(text)
        return msgspec.json.encode(yaml.load(text, Loader=_LOADER))  # noqa: S506 - a safe loader, whichever there is
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise YamlError(str(error) or type(error).__name__) from error


def _check(text: bytes) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise YamlError("anchors and aliases are not accepted")
        if isinstance(event, _OPENING):
            depth += 1
            if depth > DEEPEST:
                raise YamlError(f"it is nested deeper than {DEEPEST} levels")
        elif isinstance(event, _CLOSING):
            depth -= 1
