"""The pods of a TrainingJob: a pod template that is handed on as it is, but for what Stowage has to set itself."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from stowage.api.fields import ATOMIC, MAX_INT32, Integer, Unique, cel
from stowage.api.passed_through import UNKNOWN_KEPT, AtMostBytes
from stowage.api.pod_parts import (
    OF_CONTAINERS,
    Named,
    OfPods,
    TemplateMetadata,
    Text,
    require_shape,
)
from stowage.api.resource import SpecFields

TRAINER: Final = "trainer"
MAX_TEMPLATE_BYTES: Final = 256 * 1024
OWN_VARIABLES: Final = "STOWAGE_"

Arguments = Annotated[tuple[Text, ...], Field(max_length=1024, json_schema_extra=ATOMIC)]

_VARIABLE_RULE: Final = f"names of variables must not begin with {OWN_VARIABLES}: Stowage sets those"
_RESTART_RULE: Final = "restartPolicy must be left out, or OnFailure: Stowage decides what is started again"
_PLACE_RULE: Final = "hostname, subdomain and nodeName must be left out: Stowage sets them"
_GATES_RULE: Final = "schedulingGates must be left out: Stowage holds the pods back until all of them have a place"
_DEADLINE_RULE: Final = "activeDeadlineSeconds must be left out: spec.activeDeadline is that of the whole job"
_COMMAND_RULE: Final = (
    f"the container named {TRAINER}, or else the first, must have a command: the supervisor runs it, and cannot see "
    "the entrypoint of an image"
)
_NAMED: Final = f"one.name == '{TRAINER}'"
_HAS_COMMAND: Final = "has({0}.command) && size({0}.command) > 0"


class Variable(SpecFields):
    """A variable of the environment, as containers have it."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={**cel((f"!self.name.startsWith('{OWN_VARIABLES}')", _VARIABLE_RULE)), **UNKNOWN_KEPT},
    )

    name: Annotated[str, Field(min_length=1, max_length=512, description="Name of the variable.")]

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name.startswith(OWN_VARIABLES):
            raise ValueError(_VARIABLE_RULE)
        return self


class Container(Named):
    """A container, as pods have it; what is not named here is kept as it is written."""

    command: Arguments | None = None
    """What runs in it. That of the trainer is started once for each process of the node."""
    args: Arguments | None = None
    """Arguments of the command."""
    env: Annotated[tuple[Variable, ...], Field(max_length=512, json_schema_extra=ATOMIC)] | None = None
    """Variables; those of Stowage and of the framework are added."""

    @model_validator(mode="after")
    def _shaped(self) -> Self:
        require_shape(self.model_extra, OF_CONTAINERS)
        return self


class PodSpec(OfPods):
    """The spec of a pod, as Kubernetes has it; what is not named here is kept as it is written."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            **cel(
                ("!has(self.restartPolicy) || self.restartPolicy == 'OnFailure'", _RESTART_RULE),
                ("!has(self.hostname) && !has(self.subdomain) && !has(self.nodeName)", _PLACE_RULE),
                ("!has(self.schedulingGates)", _GATES_RULE),
                ("!has(self.activeDeadlineSeconds)", _DEADLINE_RULE),
                (
                    (
                        f"self.containers.exists(one, {_NAMED}) ? "
                        f"self.containers.exists(one, {_NAMED} && {_HAS_COMMAND.format('one')}) : "
                        f"size(self.containers) == 0 || ({_HAS_COMMAND.format('self.containers[0]')})"
                    ),
                    _COMMAND_RULE,
                ),
            ),
            **UNKNOWN_KEPT,
        },
    )

    containers: Annotated[tuple[Container, ...], Field(min_length=1, max_length=16), Unique("name")]
    """The container named `trainer`, or else the first, trains; the others run beside it."""
    init_containers: Annotated[tuple[Named, ...], Field(max_length=16), Unique("name")] | None = None
    """Run before it; Stowage adds one that brings the supervisor."""
    volumes: Annotated[tuple[Named, ...], Field(max_length=64), Unique("name")] | None = None
    """Volumes; Stowage adds its own, and that of `spec.checkpoint`."""
    restart_policy: Annotated[str, Field(max_length=16)] | None = None
    """OnFailure, and nothing else."""
    hostname: Annotated[str, Field(max_length=253)] | None = None
    """To be left out: each seat has its own."""
    subdomain: Annotated[str, Field(max_length=253)] | None = None
    """To be left out: it is the job's Service."""
    node_name: Annotated[str, Field(max_length=253)] | None = None
    """To be left out: use `nodeSelector` or `affinity`."""
    scheduling_gates: Annotated[tuple[Named, ...], Field(max_length=16), Unique("name")] | None = None
    """To be left out."""
    active_deadline_seconds: Annotated[Integer, Field(ge=0, le=MAX_INT32)] | None = None
    """To be left out: `spec.activeDeadline` is that of the whole job."""

    @property
    def trainer(self) -> Container:
        """The container whose command the supervisor runs."""
        return next((one for one in self.containers if one.name == TRAINER), self.containers[0])

    @model_validator(mode="after")
    def _leaves_to_stowage_what_is_its_own(self) -> Self:
        if self.restart_policy not in {None, "OnFailure"}:
            raise ValueError(_RESTART_RULE)
        if (self.hostname, self.subdomain, self.node_name) != (None, None, None):
            raise ValueError(_PLACE_RULE)
        if self.scheduling_gates is not None:
            raise ValueError(_GATES_RULE)
        if self.active_deadline_seconds is not None:
            raise ValueError(_DEADLINE_RULE)
        if not self.trainer.command:
            raise ValueError(_COMMAND_RULE)
        return self


class PodTemplate(SpecFields):
    """What each pod of the job is made from."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the pods."""
    spec: Annotated[PodSpec, AtMostBytes(MAX_TEMPLATE_BYTES)]
    """The spec of the pods; what Stowage does not know of it is handed on as it is."""
