"""Simulated nodes: a small file that declares groups of equal nodes, and the Node objects it stands for.

    groups:
    - namePrefix: h100-             # nodes are named h100-1, h100-2, ...
      count: 6
      cpu: "96"                     # capacity and allocatable, Kubernetes quantities
      memory: 1Ti
      pods: 110                     # default 110
      gpus: 8                       # nvidia.com/gpu, default none
      gpuProduct: NVIDIA-H100-80GB-HBM3     # label nvidia.com/gpu.product
      resources: {ephemeral-storage: 1Ti}   # any other resource
      zones: [zone-a, zone-b]       # dealt out in turn: label topology.kubernetes.io/zone
      racksPerZone: 2               # dealt out in turn within a zone: label topology.kubernetes.io/rack
      labels: {example.com/pool: train}
      taints: [{key: nvidia.com/gpu, effect: NoSchedule}]

The smallest group has `namePrefix`, `count`, `cpu` and `memory`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$", max_length=32)]
LabelText = Annotated[str, Field(max_length=317)]
NamePrefix = Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]*)$", max_length=200)]


class NodeFileError(ValueError):
    """A node file that can't be used; the message names the file, the field and what is wrong with it."""


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, coerce_numbers_to_str=True
    )


class Taint(_Model):
    """A taint of each node of a group."""

    key: LabelText
    value: LabelText = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class NodeGroup(_Model):
    """Equal nodes, but for their names, zones and racks."""

    name_prefix: NamePrefix
    count: int = Field(ge=1, le=10_000)
    cpu: Quantity
    memory: Quantity
    pods: int = Field(default=110, ge=0, le=100_000)
    gpus: int = Field(default=0, ge=0, le=1024)
    gpu_product: LabelText | None = None
    resources: dict[LabelText, Quantity] = Field(default_factory=dict)
    labels: dict[LabelText, LabelText] = Field(default_factory=dict)
    zones: tuple[LabelText, ...] = ()
    racks_per_zone: int = Field(default=0, ge=0, le=10_000)
    taints: tuple[Taint, ...] = ()

    def documents(self) -> list[dict[str, Any]]:
        """The Node objects of the group, in the order of their numbers."""
        return [self._document(index) for index in range(self.count)]

    def _document(self, index: int) -> dict[str, Any]:
        name = f"{self.name_prefix}{index + 1}"
        capacity = {"cpu": self.cpu, "memory": self.memory, "pods": str(self.pods), **self.resources}
        if self.gpus:
            capacity["nvidia.com/gpu"] = str(self.gpus)
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {**self._labels(name, index), **self.labels},
                "annotations": {"kwok.x-k8s.io/node": "fake"},
            },
            "spec": {"taints": [taint.model_dump(by_alias=True) for taint in self.taints]},
            "status": {"capacity": capacity, "allocatable": dict(capacity)},
        }

    def _labels(self, name: str, index: int) -> dict[str, str]:
        labels = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/os": "linux",
            "node.kubernetes.io/instance-type": self.name_prefix.rstrip("-."),
        }
        if self.gpus:
            labels["nvidia.com/gpu.count"] = str(self.gpus)
        if self.gpu_product is not None:
            labels["nvidia.com/gpu.product"] = self.gpu_product
        zone = self.zones[index % len(self.zones)] if self.zones else ""
        if zone:
            labels["topology.kubernetes.io/zone"] = zone
        if self.racks_per_zone:
            rack = index // max(len(self.zones), 1) % self.racks_per_zone + 1
            labels["topology.kubernetes.io/rack"] = f"{zone}-rack-{rack}".lstrip("-")
        return labels


class NodeFile(_Model):
    """All simulated nodes of a cluster."""

    groups: tuple[NodeGroup, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> NodeFile:
        seen: set[str] = set()
        for name in (f"{group.name_prefix}{index + 1}" for group in self.groups for index in range(group.count)):
            if name in seen:
                raise ValueError(f"two groups make a node named {name}: give them different namePrefix values")
            seen.add(name)
        return self

    def documents(self) -> list[dict[str, Any]]:
        """The Node objects of all groups."""
        return [document for group in self.groups for document in group.documents()]


def read_node_file(path: Path) -> NodeFile:
    """Reads a node file.

    Raises:
        NodeFileError: it can't be read, is no YAML, or a field is missing, unknown or out of bounds.
    """
    try:
        return NodeFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise NodeFileError(f"{path}: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise NodeFileError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise NodeFileError(f"{path}: {field}: {first['msg']}") from error
