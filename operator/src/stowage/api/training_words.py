"""The closed sets of words of a TrainingJob: what users write in rules and read in its status."""

from __future__ import annotations

from enum import StrEnum


class Framework(StrEnum):
    """Whose environment variables the processes get, beside those of Stowage."""

    TORCH = "Torch"
    JAX = "Jax"
    PLAIN = "Plain"


class JobPhase(StrEnum):
    """Where a job is in its life."""

    PENDING = "Pending"
    """Its pods wait for nodes."""
    STARTING = "Starting"
    """Its pods have nodes; not every rank runs yet."""
    RUNNING = "Running"
    RECOVERING = "Recovering"
    """Something failed, and is being put right."""
    RESIZING = "Resizing"
    SUSPENDED = "Suspended"
    """`spec.suspend`: it has no pods."""
    PAUSED = "Paused"
    """A rule stopped it until somebody looks; its pods are gone, its state is kept."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def ended(self) -> bool:
        """Whether nothing will run any more."""
        return self in {JobPhase.SUCCEEDED, JobPhase.FAILED}


class Event(StrEnum):
    """What may go wrong."""

    PROCESS_EXITED = "ProcessExited"
    """A rank ended with a code other than 0, or by a signal."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The kernel killed the container for its memory."""
    CONTAINER_EXITED = "ContainerExited"
    """A seat's container ended for another reason than its ranks."""
    SUPERVISOR_LOST = "SupervisorLost"
    """No sign of life from a seat, and nothing yet says why."""
    NODE_LOST = "NodeLost"
    """A seat's node is not ready, unreachable or gone."""
    NODE_CONDITION = "NodeCondition"
    """A condition of the node says that its hardware is at fault."""
    NODE_TAINT = "NodeTaint"
    """A taint of the node says so, or asks pods to leave."""
    DEVICE_UNHEALTHY = "DeviceUnhealthy"
    """A device that the pod uses is reported as unhealthy."""
    DISRUPTION = "Disruption"
    """A pod was evicted, preempted or deleted by something else than a failure."""
    POD_DELETED = "PodDeleted"
    """A seat's pod is gone, and nobody says why."""
    HANG = "Hang"
    """No step for far longer than steps take."""
    NON_FINITE = "NonFinite"
    """A loss that is no number, or infinite."""
    PROMQL = "Promql"
    """A rule that an admin wrote for Prometheus fires."""
    LOG = "Log"
    """A line of output matched a rule of the job."""
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    """A seat's image can not be pulled."""
    START_TIMEOUT = "StartTimeout"
    """Not every rank started in time."""
    COORDINATOR_LOST = "CoordinatorLost"
    """The coordinator does not answer; training goes on without it."""


class Domain(StrEnum):
    """Whose fault it is (the words of NVIDIA's Resiliency Extension)."""

    WORKLOAD = "Workload"
    INFRASTRUCTURE = "Infrastructure"
    UNKNOWN = "Unknown"


class Action(StrEnum):
    """What is done about it, by rising cost."""

    IGNORE = "Ignore"
    RESTART_PROCESSES = "RestartProcesses"
    RESTART_CONTAINER = "RestartContainer"
    REPLACE_NODE = "ReplaceNode"
    SHRINK = "Shrink"
    PAUSE = "Pause"
    FAIL = "Fail"


class Scope(StrEnum):
    """What was started again."""

    PROCESS = "Process"
    CONTAINER = "Container"
    NODE = "Node"


class Lost(StrEnum):
    """Why time was lost (after Google's ML Goodput)."""

    INITIALIZATION = "Initialization"
    """Pods that wait for nodes, images and the first barrier."""
    PROGRAM_STARTUP = "ProgramStartup"
    """From the start of the processes to the first step."""
    CHECKPOINT_SAVE = "CheckpointSave"
    CHECKPOINT_RESTORE = "CheckpointRestore"
    WASTED_PROGRESS = "WastedProgress"
    """Steps that had to be done again."""
    INFRASTRUCTURE_RECOVERY = "InfrastructureRecovery"
    """From a failure of hardware, node or cluster to the start of the processes."""
    WORKLOAD_RECOVERY = "WorkloadRecovery"
    """The same for a failure of the program."""
    RESIZE = "Resize"
    SUSPENDED = "Suspended"
    OTHER = "Other"
