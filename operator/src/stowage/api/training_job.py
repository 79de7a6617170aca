"""TrainingJob: a program that trains on several nodes, heals itself and tells how it is."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from stowage.api.auto_duration import AUTO, AutoDuration, auto_or_within
from stowage.api.durations import Duration, within
from stowage.api.fields import MAX_COUNT, Integer, LabelKey, NamespaceName, Switch, Unique, cel
from stowage.api.names import MAX_JOB_NAME, MAX_JOB_NODES
from stowage.api.passed_through import VolumeSource
from stowage.api.resource import NamespacedResource, SpecFields
from stowage.api.training_job_recovery import Recovery
from stowage.api.training_job_status import TrainingJobStatus
from stowage.api.training_job_template import PodTemplate
from stowage.api.training_words import Framework

NOT_YET: Final = "This version accepts the field and does not act on it yet."
MAX_LAYOUT_SIZES: Final = 16

NodeCount = Annotated[Integer, Field(ge=1, le=MAX_JOB_NODES)]
Sizes = Annotated[
    tuple[Annotated[Integer, Field(ge=1, le=65_536)], ...],
    Field(min_length=1, max_length=MAX_LAYOUT_SIZES),
    Unique(),
]

_MAX_RULE: Final = "nodes.max must not be less than nodes.min"
_ALLOWED_RULE: Final = "nodes.allowed must lie between nodes.min and nodes.max"
_TARGET_RULE: Final = "nodes.target must lie between nodes.min and nodes.max, and be one of nodes.allowed where given"
_MOST_CEL: Final = "(has(self.max) ? self.max : self.min)"


class Pack(StrEnum):
    """How close to each other the nodes of a job shall be."""

    PREFERRED = "Preferred"
    REQUIRED = "Required"


class Nodes(SpecFields):
    """How many nodes the job runs on; each has one pod."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("!has(self.max) || self.max >= self.min", _MAX_RULE),
            (f"self.allowed.all(size, size >= self.min && size <= {_MOST_CEL})", _ALLOWED_RULE),
            (
                (
                    f"!has(self.target) || (self.target >= self.min && self.target <= {_MOST_CEL} && "
                    "(size(self.allowed) == 0 || self.target in self.allowed))"
                ),
                _TARGET_RULE,
            ),
        )
    )

    min: NodeCount = 1
    """The job does not run on fewer."""
    max: NodeCount | None = None
    """The job does not run on more; absent: `min`, so that the number is fixed."""
    allowed: Annotated[tuple[NodeCount, ...], Field(max_length=64), Unique()] = ()
    """The only numbers that the job can run on; empty: any from `min` to `max`."""
    target: NodeCount | None = None
    """
    How many are wanted; `kubectl scale` sets it. Fewer go at once, more join when they can begin. Absent: Stowage
    chooses, as many as there is room for.
    """

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of nodes that the job can run on, ascending."""
        return tuple(sorted(self.allowed)) or tuple(range(self.min, self.most + 1))

    @property
    def most(self) -> int:
        """The largest number that the bounds allow."""
        return self.max if self.max is not None else self.min

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.most < self.min:
            raise ValueError(_MAX_RULE)
        if not all(self.min <= size <= self.most for size in self.allowed):
            raise ValueError(_ALLOWED_RULE)
        if self.target is not None and self.target not in self.sizes:
            raise ValueError(_TARGET_RULE)
        return self


class Topology(SpecFields):
    """Where the nodes of a job lie to each other."""

    pack: Pack = Pack.PREFERRED
    """Preferred: as close as room allows. Required: in one domain, or not at all."""
    keys: Annotated[tuple[LabelKey, ...], Field(min_length=1, max_length=4), Unique()]
    """Labels of nodes that name the domains, from the narrowest to the widest."""


_BATCH_RULE: Final = "batch.global must be a multiple of batch.micro"


class Batch(SpecFields):
    """How many samples are used at once. The program reads them from its world file, beside its layout."""

    model_config = ConfigDict(json_schema_extra=cel(("!has(self.micro) || self.global % self.micro == 0", _BATCH_RULE)))

    global_: Annotated[Annotated[Integer, Field(ge=1, le=1_000_000_000)], Field(alias="global")]
    """Samples of one step, of all ranks together: it stays when the number of nodes changes."""
    micro: Annotated[Integer, Field(ge=1, le=1_000_000_000)] | None = None
    """Samples that one rank computes at once."""

    @model_validator(mode="after")
    def _whole_parts(self) -> Self:
        if self.micro is not None and self.global_ % self.micro:
            raise ValueError(_BATCH_RULE)
        return self


def _whole(value: object) -> object:
    """JSON writes 8e9 as a number with a fraction of zero, and the API server takes it for a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Model(SpecFields):
    """The shape of the model, for choosing layouts."""

    layers: Annotated[Integer, Field(ge=1, le=100_000)] | None = None
    """Layers."""
    hidden: Annotated[Integer, Field(ge=1, le=10_000_000)] | None = None
    """Width of a layer."""
    heads: Annotated[Integer, Field(ge=1, le=100_000)] | None = None
    """Heads of attention."""
    parameters: Annotated[Annotated[Integer, Field(ge=1, le=MAX_COUNT)], BeforeValidator(_whole)] | None = None
    """Parameters in all."""


class DataSize(StrEnum):
    """Size of the data dimension of a layout."""

    AUTO = AUTO


class Layouts(SpecFields):
    """Sizes that each dimension of a layout may have."""

    data: DataSize = DataSize.AUTO
    """What tensor and pipeline leave of the ranks."""
    tensor: Sizes = (1,)
    """Ranks that share one layer."""
    pipeline: Sizes = (1,)
    """Ranks that follow each other."""


class InMemory(SpecFields):
    """Checkpoints that are kept in the memory of other nodes."""

    buddies: Annotated[Integer, Field(ge=1, le=8)] = 1
    """Other nodes that hold a copy."""


_VOLUME_RULE: Final = "checkpoint.volume and checkpoint.directory must not change: delete the job and make a new one"


def _absolute(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError("must be an absolute path without ..")
    return path


class Checkpoint(SpecFields):
    """Where the program keeps its state, and how often."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                (
                    "self.directory == oldSelf.directory && has(self.volume) == has(oldSelf.volume) && "
                    "(!has(self.volume) || self.volume == oldSelf.volume)"
                ),
                _VOLUME_RULE,
            )
        )
    )

    volume: VolumeSource | None = None
    """A volume that all pods of the job can write at once; it is mounted at `directory`. Absent: the template's."""
    directory: Annotated[
        str,
        Field(
            min_length=2,
            max_length=1024,
            pattern=r"^/[^:]*[^:/]$",
            json_schema_extra=cel(
                ("!self.split('/').exists(part, part == '..')", "must be an absolute path without .."),
            ),
        ),
        AfterValidator(_absolute),
    ] = "/checkpoints"
    """Directory in the pods below which the job has its own, `STOWAGE_CHECKPOINT_DIR`."""
    interval: Annotated[AutoDuration, auto_or_within("1s", "168h")] = AutoDuration(AUTO)
    """How often one is due; programs ask. Auto: as fits what one costs and how often the job fails."""
    in_memory: Annotated[InMemory | None, Field(description=f"Copies in the memory of other nodes. {NOT_YET}")] = None


class Elastic(SpecFields):
    """When the number of nodes changes by itself, within `nodes`."""

    shrink_after: Annotated[AutoDuration, auto_or_within("0s", "168h")] = AutoDuration(AUTO)
    """After waiting so long for nodes the job goes on with fewer; Auto: as long as a start takes, 15s to 10m."""
    grow_after: Annotated[AutoDuration, auto_or_within("0s", "168h")] = AutoDuration(AUTO)
    """
    When there has been room for more nodes for so long the job takes them, if it has told of a checkpoint and waits in
    no queue; Auto: as long as a start takes, 30s to 10m.
    """
    cooldown: Annotated[Duration, within("0s", "24h")] = Duration("60s")
    """The least time between two changes that the job makes by itself."""


_FRAMEWORK_RULE: Final = "framework must not change: delete the job and make a new one"
_SHAPE_RULE: Final = "may change only while spec.suspend is true"
_SHAPE: Final = ("template", "processesPerNode")
_SHAPE_OPTIONAL: Final = ("topology", "batch", "queueName")


def _while_suspended() -> tuple[tuple[str, str], ...]:
    """Transition rules of what shapes the pods, or the world that the ranks were told."""
    always = [(name, f"oldSelf.suspend || self.{name} == oldSelf.{name}") for name in _SHAPE]
    optional = [
        (
            name,
            (
                f"oldSelf.suspend || (has(self.{name}) == has(oldSelf.{name}) && "
                f"(!has(self.{name}) || self.{name} == oldSelf.{name}))"
            ),
        )
        for name in _SHAPE_OPTIONAL
    ]
    return tuple((rule, f"{name} {_SHAPE_RULE}") for name, rule in (*always, *optional))


class TrainingJobSpec(SpecFields):
    """What shall train, and how. A template with one container and its command is enough."""

    model_config = ConfigDict(json_schema_extra=cel(*_while_suspended()))

    framework: Annotated[
        Framework,
        Field(
            description="Whose variables the processes get beside those of Stowage. Torch: MASTER_ADDR, RANK … and "
            "PET_*. Jax: JAX_*. Plain: none.",
            json_schema_extra=cel(("self == oldSelf", _FRAMEWORK_RULE)),
        ),
    ] = Framework.TORCH
    nodes: Nodes = Nodes()
    """How many nodes the job runs on."""
    processes_per_node: Annotated[Integer, Field(ge=1, le=64)] = 1
    """How often the command is started in each pod. 1 for a command that starts its ranks itself, such as torchrun."""
    template: PodTemplate
    """What each pod is made from."""
    topology: Topology | None = None
    """Where the nodes lie to each other; absent: anywhere."""
    batch: Batch | None = None
    """How many samples are used at once; told to the program."""
    model: Annotated[Model | None, Field(description=f"The shape of the model. {NOT_YET}")] = None
    layouts: Annotated[
        Layouts | None, Field(description=f"Sizes that each dimension of a layout may have. {NOT_YET}")
    ] = None
    checkpoint: Checkpoint = Checkpoint()
    """Where the program keeps its state, and how often."""
    recovery: Recovery = Recovery()
    """What is done about failures."""
    elastic: Elastic | None = None
    """When the number of nodes changes by itself; absent: as with its defaults. A number that is fixed stays."""
    suspend: Switch = False
    """Whether the job shall have no pods; its checkpoints stay, and it goes on when this is false again."""
    queue_name: NamespaceName | None = None
    """LocalQueue of Kueue, where that is installed: it holds the pods until there is quota for all of them."""
    active_deadline: Annotated[Duration, within("1s", "8760h")] | None = None
    """The job fails when it has been active, not suspended, for longer."""
    start_deadline: Annotated[Duration, within("1s", "8760h")] | None = None
    """
    The job fails when not every rank was started for the first time within this time of its creation, or of its last
    resumption before that.
    """
    ttl_after_finished: Annotated[Duration, within("0s", "8760h")] | None = None
    """The job is deleted so long after its end; absent: never."""

    def not_supported(self) -> tuple[str, ...]:
        """The fields that this version accepts but does not act on, where they are given, in the order of the spec."""
        asked = (
            (self.model, "model"),
            (self.layouts, "layouts"),
            (self.checkpoint.in_memory, "checkpoint.inMemory"),
        )
        return tuple(words for value, words in asked if value is not None)


_NAME: Final = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
_NAME_RULE: Final = (
    f"metadata.name must be that of a Service, of at most {MAX_JOB_NAME} characters: a letter, then letters, digits "
    "and -"
)


class TrainingJob(NamespacedResource):
    """A program that trains on several nodes at once, heals itself and tells how it is."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                (f"self.metadata.name.size() <= {MAX_JOB_NAME} && self.metadata.name.matches('{_NAME}')"),
                _NAME_RULE,
            )
        )
    )
    plural: ClassVar[str] = "trainingjobs"
    max_name_length: ClassVar[int] = MAX_JOB_NAME

    kind: Literal["TrainingJob"] = "TrainingJob"
    spec: TrainingJobSpec
    """What shall train, and how."""
    status: TrainingJobStatus = TrainingJobStatus()
    """How it is; only the leading operator writes it."""

    @model_validator(mode="after")
    def _name_is_that_of_a_service(self) -> Self:
        if self.name and not re.fullmatch(_NAME, self.name):
            raise ValueError(_NAME_RULE)
        return self
