"""A file of a cluster, a Kubernetes `List` in JSON or YAML, to a snapshot.

Items are read one by one, so a broken one is left out and listed and the rest stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from stowage_scheduler.cluster import PODS, Rejected, Snapshot
from stowage_scheduler.kube import objects
from stowage_scheduler.kube.decode import decode_object, name_in
from stowage_scheduler.kube.facts import KubernetesObject
from stowage_scheduler.kube.known_kinds import (
    JOB_KIND,
    POLICY_GROUP,
    POLICY_KIND,
    PROFILE_KIND,
    SERVICE_KIND,
    decoded_as,
    is_known,
    is_needed,
)
from stowage_scheduler.kube.malformed import FieldError, MalformedObject, rejection, shown
from stowage_scheduler.kube.metadata import NO_NAME
from stowage_scheduler.kube.snapshot import build_snapshot
from stowage_scheduler.kube.yaml_documents import YamlError, json_of_yaml

LARGEST_DUMP_BYTES = 512 * 2**20
LARGEST_YAML_BYTES = 64 * 2**20

DEFAULT_PODS = 110
"""Pods that a node takes if the file does not say: the default of the kubelet."""


class DumpError(ValueError):
    """A file that is no dump of a cluster at all; the message is one line."""


class Dump(Struct, frozen=True):
    """What a file holds: the cluster, and as documents what there is of Stowage's own kinds."""

    snapshot: Snapshot
    policies: tuple[dict[str, Any], ...] = ()
    jobs: tuple[dict[str, Any], ...] = ()
    services: tuple[dict[str, Any], ...] = ()
    profiles: tuple[dict[str, Any], ...] = ()


class _List(Struct, rename="camel"):
    kind: str
    items: list[msgspec.Raw] | None = None
    api_version: str | None = None


class _Kind(Struct, rename="camel"):
    kind: str | None = None
    api_version: str | None = None


class _Account(Struct):
    until: datetime


class _Status(Struct):
    goodput: _Account


class _Told(Struct):
    status: _Status


class _Sampled(Struct, rename="camel"):
    last_signal_at: datetime


class _Observed(Struct):
    status: _Sampled


_LIST = msgspec.json.Decoder(_List)
_KIND = msgspec.json.Decoder(_Kind)


def read_dump(data: bytes, *, now: float | None = None) -> Dump:
    """Read a cluster from a `List`, a `PodList` or the like.

    Args:
        data: the file, UTF-8. JSON if it starts with `{`, else YAML.
        now: seconds since the epoch; by default the newest time found in the objects, 0 if there is none.

    Raises:
        DumpError: if the file as a whole can not be read; broken objects are listed in the snapshot.
    """
    content = _list_of(data)
    rejected: list[Rejected] = []
    kinds = (POLICY_KIND, JOB_KIND, SERVICE_KIND, PROFILE_KIND)
    documents: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    raws: list[KubernetesObject] = []
    newest = 0.0
    for index, item in enumerate(content.items or ()):
        try:
            group, kind = _kind_of(item, content, index)
            if is_needed(group, kind):
                raw = _object(decoded_as(group, kind), item)
                newest = max(newest, _newest(raw))
                raws.append(raw)
            elif group == POLICY_GROUP and kind in documents:
                documents[kind].append(_document(item))
                newest = max(newest, _told_at(documents[kind][-1]))
        except MalformedObject as error:
            rejected.append(_placed(error.rejected, index))
    snapshot = build_snapshot(newest if now is None else now, raws, rejected)
    return Dump(snapshot, *(tuple(documents[kind]) for kind in kinds))


def _list_of(data: bytes) -> _List:
    """The outermost object."""
    if len(data) > LARGEST_DUMP_BYTES:
        raise DumpError(f"the file has {len(data)} bytes; at most {LARGEST_DUMP_BYTES} are read")
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise DumpError("the file is empty; it must be a Kubernetes List in JSON or YAML")
    if not text.startswith((b"{", b"[")):
        if len(text) > LARGEST_YAML_BYTES:
            raise DumpError(f"the file has {len(text)} bytes of YAML; at most {LARGEST_YAML_BYTES} are read, use JSON")
        try:
            text = json_of_yaml(text)
        except YamlError as error:
            raise DumpError(f"the file is neither JSON nor YAML: {shown(str(error))}") from error
    try:
        content = _LIST.decode(text)
    except msgspec.ValidationError as error:
        raise DumpError(f"the file is no Kubernetes List with kind and items: {shown(str(error))}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DumpError(f"the file is no complete JSON: {shown(str(error))}") from error
    if not content.kind.endswith("List"):
        raise DumpError(f"the file holds one {shown(content.kind)}; it must be a Kubernetes List of objects")
    if content.items is None:
        raise DumpError(f"the {shown(content.kind)} in the file has no items")
    return content


def _kind_of(item: msgspec.Raw, content: _List, index: int) -> tuple[str, str]:
    """API group and kind of an item; in a `PodList` and the like items may leave both out.

    Raises:
        MalformedObject: if the item tells no kind, or one that Stowage does not know.
    """
    place = f"items[{index}]"
    try:
        head = _KIND.decode(item)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MalformedObject(rejection("?", place, FieldError("kind", "", f"it must be readable: {error}"))) from error
    kind = head.kind or content.kind.removesuffix("List")
    version = head.api_version or (content.api_version if head.kind is None else None)
    if not kind:
        raise MalformedObject(rejection("?", place, FieldError("kind", "", "it must name the kind of the object")))
    group = version.rpartition("/")[0] if version else None
    if not is_known(group, kind):
        unknown = FieldError("kind", f"{version or '?'} {kind}", "it must be a kind that Stowage knows")
        raise MalformedObject(rejection(kind, name_in(kind, item), unknown))
    return group or "", kind


def _placed(rejected: Rejected, index: int) -> Rejected:
    """An object without a name is told by its place in the file."""
    return msgspec.structs.replace(rejected, name=f"items[{index}]") if rejected.name == NO_NAME else rejected


def _object(kind: str, item: msgspec.Raw) -> KubernetesObject:
    """An item of a kind that packing reads; without a name it can not be told apart from others."""
    raw = decode_object(kind, item)
    if not raw.metadata.name:
        nameless = FieldError("metadata.name", "", "the object must have a name")
        raise MalformedObject(rejection(kind, NO_NAME, nameless))
    return _with_pod_count(raw)


def _document(item: msgspec.Raw) -> dict[str, Any]:
    """An item as it is written."""
    try:
        document: dict[str, Any] = msgspec.json.decode(item, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        reason = FieldError("object", "", f"it must be readable: {error}")
        raise MalformedObject(rejection(POLICY_KIND, name_in(POLICY_KIND, item), reason)) from error
    return document


def _with_pod_count(raw: KubernetesObject) -> KubernetesObject:
    """A node that does not tell how many pods it takes gets the kubelet's default: people leave it out."""
    if not isinstance(raw, objects.Node) or raw.status is None:
        return raw
    offered = raw.status.allocatable if raw.status.allocatable is not None else raw.status.capacity
    if offered is None or PODS in offered:
        return raw
    allocatable: objects.ResourceList = {**offered, PODS: DEFAULT_PODS}
    return msgspec.structs.replace(raw, status=msgspec.structs.replace(raw.status, allocatable=allocatable))


def _newest(raw: KubernetesObject) -> float:
    """The newest time that an object tells of its past."""
    return max((time.timestamp() for time in _times(raw) if time is not None), default=0.0)


def _told_at(document: dict[str, Any]) -> float:
    """When a TrainingJob or a ModelService says how it is; nought where it does not."""
    try:
        return msgspec.convert(document, _Told).status.goodput.until.timestamp()
    except msgspec.ValidationError:
        pass
    try:
        return msgspec.convert(document, _Observed).status.last_signal_at.timestamp()
    except msgspec.ValidationError:
        return 0.0


def _times(raw: KubernetesObject) -> Iterator[datetime | None]:
    yield raw.metadata.creation_timestamp
    if isinstance(raw, objects.Pod | objects.Node) and raw.status is not None:
        for condition in raw.status.conditions or ():
            yield condition.last_transition_time
            yield condition.last_heartbeat_time
        if isinstance(raw.status, objects.PodStatus):
            yield raw.status.start_time
