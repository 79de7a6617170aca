"""Bytes of one Kubernetes object to its struct, with errors that name the field and its value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from stowage_scheduler.kube import objects, pod_group_objects, quota_objects, volume_objects, workload_objects
from stowage_scheduler.kube.facts import KubernetesObject
from stowage_scheduler.kube.malformed import FieldError, MalformedObject, rejection
from stowage_scheduler.kube.metadata import NO_NAME, full_name

LARGEST_OBJECT_BYTES = 4 * 2**20
"""Larger objects are refused: etcd takes 1.5 MiB by default."""

DECODERS: Mapping[str, msgspec.json.Decoder[Any]] = MappingProxyType(
    {
        kind.__name__: msgspec.json.Decoder(kind)
        for kind in (
            objects.Node,
            objects.Pod,
            objects.Namespace,
            objects.PriorityClass,
            objects.PodDisruptionBudget,
            workload_objects.ReplicaSet,
            workload_objects.Deployment,
            workload_objects.StatefulSet,
            workload_objects.DaemonSet,
            workload_objects.Job,
            volume_objects.PersistentVolumeClaim,
            volume_objects.PersistentVolume,
            volume_objects.StorageClass,
            volume_objects.CSINode,
            volume_objects.CSIDriver,
            quota_objects.ResourceQuota,
            pod_group_objects.PodGroup,
            pod_group_objects.CoschedulingPodGroup,
        )
    }
)
"""How to read each kind that Stowage needs; the keys are those kinds."""

_PATH = re.compile(r"(?P<message>.*) - at `(?P<path>\$[^`]*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


class _Names(msgspec.Struct):
    name: str | None = None
    namespace: str | None = None


class _Head(msgspec.Struct):
    metadata: _Names


class _Binding(msgspec.Struct, rename="camel"):
    node_name: str | None = None


class _Bound(msgspec.Struct):
    spec: _Binding


_HEAD = msgspec.json.Decoder(_Head)
_BOUND = msgspec.json.Decoder(_Bound)


def decode_object(kind: str, data: bytes | msgspec.Raw) -> KubernetesObject:
    """Read one object of a kind in `DECODERS` from its JSON.

    Raises:
        MalformedObject: if it is too large, no JSON, or a field has the wrong type.
    """
    size = memoryview(data).nbytes
    if size > LARGEST_OBJECT_BYTES:
        error = FieldError("object", f"{size} bytes", f"it must have at most {LARGEST_OBJECT_BYTES} bytes")
        raise _malformed(kind, data, error)
    try:
        decoded: KubernetesObject = DECODERS[kind].decode(data)
    except msgspec.ValidationError as error:
        raise _malformed(kind, data, _with_field(error, data)) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _malformed(kind, data, FieldError("object", "", _sentence(str(error)))) from error
    return decoded


def _malformed(kind: str, data: bytes | msgspec.Raw, error: FieldError) -> MalformedObject:
    return MalformedObject(rejection(kind, name_in(kind, data), error, _node_in(kind, data)))


def _node_in(kind: str, data: bytes | msgspec.Raw) -> str:
    """The node that a pod which may be broken elsewhere is bound to, as far as it can be told."""
    if kind != "Pod":
        return ""
    try:
        return _BOUND.decode(data).spec.node_name or ""
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""


def name_in(kind: str, data: bytes | msgspec.Raw) -> str:
    """`namespace/name` of an object that may be broken elsewhere, or `(no name)`."""
    try:
        names = _HEAD.decode(data).metadata
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return NO_NAME
    return full_name(kind, names.namespace, names.name)


def _with_field(error: msgspec.ValidationError, data: bytes | msgspec.Raw) -> FieldError:
    """A message of msgspec split into field, value and rule."""
    found = _PATH.fullmatch(str(error))
    if found is None:
        return FieldError("object", "", _sentence(str(error)))
    field = found["path"].removeprefix("$").lstrip(".") or "object"
    return FieldError(field, _value_at(found["path"], data), _sentence(found["message"]))


def _value_at(path: str, data: bytes | msgspec.Raw) -> object:
    """What an object has at a path such as `$.spec.containers[0].name`, empty if that can not be told."""
    try:
        value: Any = msgspec.json.decode(data)
        for key, index in _STEP.findall(path.partition("[...]")[0]):
            value = value[int(index)] if index else value[key]
    except (LookupError, TypeError, msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
    return value


def _sentence(message: str) -> str:
    return f"it must be readable: {message}"
