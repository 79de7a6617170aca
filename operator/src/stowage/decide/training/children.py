"""The objects that a TrainingJob is made of, as they are applied: Secret, Service, coordinator and seat pods."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from stowage.api.names import (
    API_VERSION,
    ATTEMPT_LABEL,
    COORDINATOR_SUFFIX,
    EPOCH_LABEL,
    GANG_GATE,
    GANG_LABEL,
    GANG_SIZE_LABEL,
    JOB_LABEL,
    RANK_ORDER_ANNOTATION,
    SEAT_LABEL,
    TRACKING_FINALIZER,
)
from stowage.api.resource import part_to_document
from stowage.api.training_job import Pack, TrainingJob
from stowage.decide.restricted import RESTRICTED
from stowage.decide.training.node_terms import apart_from, close_to, within, without_nodes
from stowage_scheduler.kube.gang_facts import PREFERRED_TOPOLOGY, REQUIRED_TOPOLOGY

Document = dict[str, Any]

COORDINATOR_PORT: Final = 7070
TOKEN_KEY: Final = "token"  # noqa: S105 - the key within a Secret
ROLE_LABEL: Final = "stowage.dev/role"
COORDINATOR_ROLE: Final = "coordinator"
SEAT_ROLE: Final = "seat"
MARGIN_SECONDS: Final = 5
"""Of a pod's grace period, kept for the supervisor to end what does not end by itself."""

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
QUEUE_GROUP_LABEL: Final = "kueue.x-k8s.io/pod-group-name"
QUEUE_GROUP_SIZE: Final = "kueue.x-k8s.io/pod-group-total-count"
QUEUE_GROUP_RETRIES: Final = "kueue.x-k8s.io/retriable-in-group"
QUEUE_GATE: Final = "kueue.x-k8s.io/admission"
"""Kueue's gate: it puts it on pods with its label, and takes it away when their queue has quota for all of them."""

_WORKER_VOLUME: Final = "stowage-worker"
_TOKEN_VOLUME: Final = "stowage-token"  # noqa: S105 - the name of a volume
_CHECKPOINT_VOLUME: Final = "stowage-checkpoints"
_WORKER_PATH: Final = "/stowage/worker"
_TOKEN_PATH: Final = "/stowage/secret"  # noqa: S105 - a path


class SeatPod(Struct, frozen=True):
    """What the pod of one seat depends on beside its job.

    Attributes:
        seat: like `s0`.
        attempt: the last part of the pod's name.
        gang_size: how many pods are placed together with this one, itself among them.
        gated: a PackingPolicy covers it: it waits for its gang.
        avoid: names of nodes that it must not use.
        spare: it waits for a member to fail: a gang of its own, and rather not on a node of the others.
        domains: labels that its node must have: of where the job stands already, where it must be in one domain.
    """

    seat: str
    attempt: int
    gang_size: int
    gated: bool
    avoid: tuple[str, ...] = ()
    spare: bool = False
    domains: tuple[tuple[str, str], ...] = ()


def seat_pod_name(job: str, seat: str, attempt: int) -> str:
    """The name of a seat's pod; another one for each attempt, so that a pod that does not go blocks nothing."""
    return f"{job}-{seat}-{attempt}"


def coordinator_name(job: str) -> str:
    """The name of the job's coordinator pod."""
    return job + COORDINATOR_SUFFIX


def secret_name(job: str) -> str:
    """The name of the Secret that holds the job's token."""
    return f"{job}-token"


def coordinator_host(job: TrainingJob) -> str:
    """The DNS name of the coordinator within the cluster."""
    return f"{coordinator_name(job.name)}.{job.name}.{job.namespace}.svc"


def token_secret(job: TrainingJob, token: str) -> Document:
    """The Secret that lets supervisors and operator talk to the coordinator of this job."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(job, secret_name(job.name)),
        "type": "Opaque",
        "immutable": True,
        "stringData": {TOKEN_KEY: token},
    }


def service(job: TrainingJob) -> Document:
    """The headless Service that gives the pods their DNS names, also before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(job, job.name),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {JOB_LABEL: job.name},
            "ports": [
                {"name": "coordinator", "port": COORDINATOR_PORT, "targetPort": COORDINATOR_PORT, "protocol": "TCP"}
            ],
        },
    }


def coordinator_pod(job: TrainingJob, image: str) -> Document:
    """The pod that holds the membership; it runs where the job's tolerations let it, beside any seat.

    Args:
        job: whose.
        image: of Stowage.
    """
    template = part_to_document(job.spec.template.spec)
    taken = {key: template[key] for key in ("tolerations", "imagePullSecrets", "priorityClassName") if key in template}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(job, coordinator_name(job.name), {ROLE_LABEL: COORDINATOR_ROLE}),
        "spec": {
            **taken,
            "restartPolicy": "OnFailure",
            "hostname": coordinator_name(job.name),
            "subdomain": job.name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": MARGIN_SECONDS,
            "containers": [
                {
                    "name": "coordinator",
                    "image": image,
                    "command": ["python", "-m", "stowage_worker", "coordinator"],
                    "args": [
                        "--host=0.0.0.0",
                        f"--port={COORDINATOR_PORT}",
                        f"--job={job.key}",
                        f"--token-file={_TOKEN_PATH}/{TOKEN_KEY}",
                    ],
                    "ports": [{"name": "coordinator", "containerPort": COORDINATOR_PORT, "protocol": "TCP"}],
                    "readinessProbe": {"tcpSocket": {"port": COORDINATOR_PORT}, "periodSeconds": 5},
                    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
                    "securityContext": RESTRICTED,
                    "volumeMounts": [{"name": _TOKEN_VOLUME, "mountPath": _TOKEN_PATH, "readOnly": True}],
                }
            ],
            "volumes": [_token_volume(job)],
        },
    }


def seat_pod(job: TrainingJob, pod: SeatPod, image: str) -> Document:
    """The pod of a seat: the template, with the supervisor around the trainer's command.

    Args:
        job: whose.
        pod: which seat, and how it is placed.
        image: of Stowage, for the init container that brings the worker files.
    """
    spec = part_to_document(job.spec.template.spec)
    trainer = job.spec.template.spec.trainer.name
    spec["containers"] = [
        _wrapped(job, pod, container) if container["name"] == trainer else container for container in spec["containers"]
    ]
    spec["initContainers"] = [_install(image), *spec.get("initContainers", [])]
    spec["volumes"] = [*spec.get("volumes", []), *_volumes(job)]
    spec["restartPolicy"] = "OnFailure"
    spec["hostname"] = f"{job.name}-{pod.seat}"
    spec["subdomain"] = job.name
    if pod.avoid:
        spec["affinity"] = without_nodes(spec.get("affinity") or {}, pod.avoid)
    if pod.domains:
        spec["affinity"] = within(spec.get("affinity") or {}, pod.domains)
    topology = job.spec.topology
    if topology is not None and not pod.gated:  # nobody but kube-scheduler places it, one by one
        required = topology.pack is Pack.REQUIRED and not pod.domains
        seats = {JOB_LABEL: job.name, ROLE_LABEL: SEAT_ROLE}
        spec["affinity"] = close_to(spec.get("affinity") or {}, seats, topology.keys, required=required)
    if pod.spare:
        spec["affinity"] = apart_from(spec.get("affinity") or {}, {JOB_LABEL: job.name, ROLE_LABEL: SEAT_ROLE})
    if pod.gated:
        spec["schedulingGates"] = [{"name": GANG_GATE}]
    template = job.spec.template.metadata
    labels = {
        **template.labels,
        ROLE_LABEL: SEAT_ROLE,
        SEAT_LABEL: pod.seat,
        ATTEMPT_LABEL: str(pod.attempt),
        **({GANG_LABEL: gang_name(job, pod), GANG_SIZE_LABEL: str(pod.gang_size)} if pod.gated else {}),
    }
    metadata = _metadata(job, seat_pod_name(job.name, pod.seat, pod.attempt), labels)
    metadata["labels"] |= _queue_labels(job, pod)
    metadata["annotations"] = {
        **template.annotations,
        **_topology(job),
        **_queue_annotations(job, pod),
        **({} if pod.spare else {RANK_ORDER_ANNOTATION: pod.seat[1:]}),
        EPOCH_LABEL: str(job.status.epoch),
    }
    metadata["finalizers"] = [TRACKING_FINALIZER]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def gang_name(job: TrainingJob, pod: SeatPod) -> str:
    """The gang of the pods that were asked for together; the UID tells it from one of an earlier job of the name."""
    together = f"{(job.metadata.uid or '')[:8]}-{pod.attempt}"
    return f"{together}-{pod.seat}" if pod.spare else together


def _queue_labels(job: TrainingJob, pod: SeatPod) -> dict[str, str]:
    """What Kueue reads of pods whose owner it does not know: a queue, and which pods are admitted together."""
    queue = job.spec.queue_name
    return {} if queue is None else {QUEUE_LABEL: queue, QUEUE_GROUP_LABEL: f"{job.kind.lower()}-{gang_name(job, pod)}"}


def _queue_annotations(job: TrainingJob, pod: SeatPod) -> dict[str, str]:
    """How many pods the group has, and that none of it is replaced within it: another attempt is another group."""
    if job.spec.queue_name is None:
        return {}
    return {QUEUE_GROUP_SIZE: str(pod.gang_size), QUEUE_GROUP_RETRIES: "false"}


def _metadata(job: TrainingJob, name: str, labels: dict[str, str] | None = None) -> Document:
    owner = {
        "apiVersion": API_VERSION,
        "kind": job.kind,
        "name": job.name,
        "uid": job.metadata.uid or "",
        "controller": True,
    }
    return {
        "name": name,
        "namespace": job.namespace,
        "labels": {**(labels or {}), JOB_LABEL: job.name},
        "ownerReferences": [owner],
    }


def _wrapped(job: TrainingJob, pod: SeatPod, container: Document) -> Document:
    """The trainer's container with the supervisor as its first process."""
    own = {
        "STOWAGE_JOB": job.key,
        "STOWAGE_SEAT": pod.seat,
        "STOWAGE_COORDINATOR": f"{coordinator_host(job)}:{COORDINATOR_PORT}",
        "STOWAGE_TOKEN_FILE": f"{_TOKEN_PATH}/{TOKEN_KEY}",
        "STOWAGE_PROCESSES": str(job.spec.processes_per_node),
        "STOWAGE_FRAMEWORK": job.spec.framework.value,
        "STOWAGE_CHECKPOINT_DIR": f"{job.spec.checkpoint.directory}/{job.name}",
        "STOWAGE_GRACE_SECONDS": str(max(1, job.spec.template.spec.grace_seconds - MARGIN_SECONDS)),
    }
    told = {
        "STOWAGE_POD_UID": "metadata.uid",
        "STOWAGE_ADDRESS": "status.podIP",
        "STOWAGE_NODE": "spec.nodeName",
    }
    mounts = [
        {"name": _WORKER_VOLUME, "mountPath": _WORKER_PATH, "readOnly": True},
        {"name": _TOKEN_VOLUME, "mountPath": _TOKEN_PATH, "readOnly": True},
    ]
    if job.spec.checkpoint.volume is not None:
        mounts.append({"name": _CHECKPOINT_VOLUME, "mountPath": job.spec.checkpoint.directory})
    program = [*container["command"], *container.get("args", [])]
    return {
        **{key: value for key, value in container.items() if key != "args"},
        "command": ["python3", f"{_WORKER_PATH}/stowage_worker", "run", "--", *program],
        "lifecycle": _lifecycle(container, job.spec.template.spec.grace_seconds),
        "env": [
            *container.get("env", []),
            *({"name": name, "value": value} for name, value in own.items()),
            *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in told.items()),
        ],
        "volumeMounts": [*(container.get("volumeMounts") or []), *mounts],
    }


def _lifecycle(container: Document, grace_seconds: int) -> Document:
    """With a hook that lets the job make a checkpoint before the container is stopped, unless the template has one.

    The hook's time counts against the pod's grace: half of it at least is the hook's, and some seconds are left in any
    case for the processes to end. Without a hook the supervisor does the same when it gets SIGTERM.
    """
    seconds = max(grace_seconds / 2, grace_seconds - 2 * MARGIN_SECONDS)
    command = ["python3", f"{_WORKER_PATH}/stowage_worker", "leave", f"--seconds={seconds:g}"]
    return {"preStop": {"exec": {"command": command}}, **(container.get("lifecycle") or {})}


def _install(image: str) -> Document:
    """Brings the worker files; small enough that the pod's request is that of its containers."""
    amounts = {"cpu": "100m", "memory": "64Mi"}
    return {
        "name": "stowage-install",
        "image": image,
        "command": ["python", "-m", "stowage_worker", "install", _WORKER_PATH],
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": _WORKER_VOLUME, "mountPath": _WORKER_PATH}],
    }


def _volumes(job: TrainingJob) -> list[Document]:
    volumes = [{"name": _WORKER_VOLUME, "emptyDir": {"sizeLimit": "16Mi"}}, _token_volume(job)]
    if job.spec.checkpoint.volume is not None:
        volumes.append({"name": _CHECKPOINT_VOLUME, **job.spec.checkpoint.volume})
    return volumes


def _token_volume(job: TrainingJob) -> Document:
    return {"name": _TOKEN_VOLUME, "secret": {"secretName": secret_name(job.name)}}


def _topology(job: TrainingJob) -> dict[str, str]:
    topology = job.spec.topology
    if topology is None:
        return {}
    key = REQUIRED_TOPOLOGY if topology.pack is Pack.REQUIRED else PREFERRED_TOPOLOGY
    return {key: ",".join(topology.keys)}
