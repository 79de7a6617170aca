"""Roles of a ModelService, and the variants that their replicas are made of."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from stowage.api.amounts import Amount
from stowage.api.fields import MAX_INT32, Integer, LabelKey, ResourceName, Unique, cel
from stowage.api.names import MAX_ROLE_NAME
from stowage.api.passed_through import UNKNOWN_KEPT, AtMostBytes
from stowage.api.pod_parts import (
    OF_CONTAINERS,
    Named,
    OfPods,
    TemplateMetadata,
    require_shape,
)
from stowage.api.resource import SpecFields
from stowage.api.training_job import Pack

ENGINE: Final = "engine"
PREFILL: Final = "prefill"
DECODE: Final = "decode"
MAX_REPLICAS: Final = 1000
MAX_ROLES: Final = 4
MAX_VARIANTS: Final = 8
MAX_TEMPLATE_BYTES: Final = 64 * 1024

ReplicaCount = Annotated[Integer, Field(ge=1, le=MAX_REPLICAS)]
PartName = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_ROLE_NAME, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
]
"""Of a role or a variant: part of the names of its children."""

_RESTART_RULE: Final = "restartPolicy must be left out, or Always: an engine that ends is started again"
_PLACE_RULE: Final = "hostname, subdomain and nodeName must be left out: every replica of a variant has this template"
_GATES_RULE: Final = "schedulingGates must be left out: Stowage sets those"
_DEADLINE_RULE: Final = "activeDeadlineSeconds must be left out: engines have no end"


class ServingContainer(Named):
    """A container, as pods have it; what is not named here is kept as it is written."""

    @model_validator(mode="after")
    def _shaped(self) -> Self:
        require_shape(self.model_extra, OF_CONTAINERS)
        return self


class ServingPodSpec(OfPods):
    """The spec of a pod, as Kubernetes has it; what is not named here is kept as it is written."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            **cel(
                ("!has(self.restartPolicy) || self.restartPolicy == 'Always'", _RESTART_RULE),
                ("!has(self.hostname) && !has(self.subdomain) && !has(self.nodeName)", _PLACE_RULE),
                ("!has(self.schedulingGates)", _GATES_RULE),
                ("!has(self.activeDeadlineSeconds)", _DEADLINE_RULE),
            ),
            **UNKNOWN_KEPT,
        },
    )

    containers: Annotated[tuple[ServingContainer, ...], Field(min_length=1, max_length=16), Unique("name")]
    """The container named `engine`, or else the first, is the engine; the others run beside it."""
    init_containers: Annotated[tuple[ServingContainer, ...], Field(max_length=16), Unique("name")] | None = None
    """Run before it."""
    volumes: Annotated[tuple[Named, ...], Field(max_length=64), Unique("name")] | None = None
    """Volumes."""
    restart_policy: Annotated[str, Field(max_length=16)] | None = None
    """Always, and nothing else."""
    hostname: Annotated[str, Field(max_length=253)] | None = None
    """To be left out."""
    subdomain: Annotated[str, Field(max_length=253)] | None = None
    """To be left out."""
    node_name: Annotated[str, Field(max_length=253)] | None = None
    """To be left out: use `nodeSelector` or `affinity`."""
    scheduling_gates: Annotated[tuple[Named, ...], Field(max_length=16), Unique("name")] | None = None
    """To be left out."""
    active_deadline_seconds: Annotated[Integer, Field(ge=0, le=MAX_INT32)] | None = None
    """To be left out."""

    @property
    def engine(self) -> ServingContainer:
        """The container that answers requests."""
        return next((one for one in self.containers if one.name == ENGINE), self.containers[0])

    @model_validator(mode="after")
    def _serves(self) -> Self:
        if self.restart_policy not in {None, "Always"}:
            raise ValueError(_RESTART_RULE)
        if (self.hostname, self.subdomain, self.node_name) != (None, None, None):
            raise ValueError(_PLACE_RULE)
        if self.scheduling_gates is not None:
            raise ValueError(_GATES_RULE)
        if self.active_deadline_seconds is not None:
            raise ValueError(_DEADLINE_RULE)
        return self


class ServingTemplate(SpecFields):
    """What pods of a replica are made from."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the pods."""
    spec: Annotated[ServingPodSpec, AtMostBytes(MAX_TEMPLATE_BYTES)]
    """The spec of the pods; what Stowage does not know of it is handed on as it is."""


class GroupTopology(SpecFields):
    """Where the pods of one replica lie to each other."""

    pack: Pack = Pack.REQUIRED
    """Required: in one domain, or not at all. Preferred: as close as room allows."""
    keys: Annotated[tuple[LabelKey, ...], Field(min_length=1, max_length=4), Unique()]
    """Labels of nodes that name the domains, from the narrowest to the widest."""


class Group(SpecFields):
    """Several pods that are one replica together, each on a node of its own: they come, fail and go together."""

    size: Annotated[Integer, Field(ge=2, le=64)]
    """Pods of one replica, the first included."""
    workers: ServingTemplate | None = None
    """What all pods but the first are made from; absent: `template`."""
    topology: GroupTopology | None = None
    """Where the pods lie to each other; absent: anywhere."""


class Variant(SpecFields):
    """One way to make a replica of a role: on which accelerator, how many, and at which price."""

    name: PartName = "default"
    """Name of the variant, unique in its role."""
    template: ServingTemplate
    """What the pod of a replica is made from; with `group`, its first pod."""
    group: Group | None = None
    """For a replica that spans nodes: how many pods it has; absent: one."""
    gpus: Annotated[Integer, Field(ge=0, le=4096)] | None = None
    """GPUs of one replica, all its pods together; absent: as many as the containers ask for."""
    cost_per_hour: Amount | None = None
    """Price of one replica for an hour, in any currency: the same one everywhere."""
    power_watts: Annotated[Integer, Field(ge=0, le=10_000_000)] | None = None
    """Power that one replica draws under load."""
    profile: ResourceName | None = None
    """
    PerformanceProfile of the model on this variant. Where no variant has one, the recommenders are Saturation and
    Concurrency, and one replica more while too many requests miss their targets.
    """
    max: ReplicaCount | None = None
    """Most replicas of this variant, for example what is in stock; absent: as many as the role may have."""


_BOUNDS_RULE: Final = "bounds.max must not be less than bounds.min"


class Bounds(SpecFields):
    """How many replicas a role may have."""

    model_config = ConfigDict(json_schema_extra=cel(("self.max >= self.min", _BOUNDS_RULE)))

    min: ReplicaCount = 1
    """Never fewer, but none with `scaling.scaleToZero` when nothing is asked for."""
    max: ReplicaCount = 10
    """Never more."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max < self.min:
            raise ValueError(_BOUNDS_RULE)
        return self


class Warm(SpecFields):
    """What is kept so that a new replica is ready sooner."""

    pods: Annotated[Integer, Field(ge=0, le=100)] = 0
    """
    Started replicas beyond those that are asked for, within `bounds.max`; they take requests once they are needed. A
    service at zero keeps them.
    """
    nodes: Annotated[Integer, Field(ge=0, le=1000)] = 0
    """
    Nodes beyond those in use that hold image and weights of `model.uri`: what init containers of the template put on
    the node.
    """


class Role(SpecFields):
    """Replicas that do the same: all of the work, or prefill or decode alone."""

    name: PartName = "unified"
    """Name of the role, unique in the service: `unified`, `prefill` and `decode`, or your own."""
    bounds: Bounds = Bounds()
    """How many replicas it may have."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=MAX_VARIANTS), Unique("name")]
    """What replicas are made of; with several, a mix of least cost is chosen."""
    warm: Warm = Warm()
    """What is kept so that a new replica is ready sooner."""
