"""Claims, volumes and what nodes can attach: bound and not, tied to zones and hosts, counted, for one pod alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.agreement.draws import Draws
from harness.agreement.nodes import node_name
from harness.agreement.vocabulary import HOST, NAMESPACES, ZONE, Document
from stowage.transport import paths

CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
CSI_NODES = "/apis/storage.k8s.io/v1/csinodes"

DISK, FILES = "disk.example.com", "files.example.com"
_CLAIMS_OF_A_NAMESPACE = 8
_BOUND = {"pv.kubernetes.io/bind-completed": "yes"}
_KINDS = (
    *("zone", "zone", "host", "zone label", "zone labels"),
    *("disk", "disk", "disk", "disk", "files", "one pod alone"),
    *("waits", "immediate", "no volume", "half bound"),
)


@dataclass(frozen=True)
class Object:
    """An object and where it is created; `status` is written afterwards."""

    collection: str
    document: Document
    status: Document = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where it is then."""
        return paths.named(self.collection, self.document["metadata"]["name"])


def storage(draws: Draws, nodes: int) -> tuple[Object, ...]:
    """All of a state: classes, what the drivers of each node attach, and the claims of each namespace."""
    return (
        *(_class(name) for name in ("Immediate", "WaitForFirstConsumer")),
        *(_csi_node(draws.within(f"node-{number}"), number) for number in range(nodes) if draws.chance(75)),
        *(
            made
            for namespace in NAMESPACES
            for number in range(_CLAIMS_OF_A_NAMESPACE)
            for made in _claim(draws.within(f"{namespace}/{number}"), namespace, _claim_name(number), nodes)
        ),
    )


def _claim_name(number: int) -> str:
    return f"claim-{number}"


def _class(mode: str) -> Object:
    document = {"metadata": {"name": mode.lower()}, "provisioner": DISK, "volumeBindingMode": mode}
    return Object(CLASSES, document)


def _csi_node(draws: Draws, number: int) -> Object:
    drivers = []
    for name in (DISK, FILES):
        if draws.chance(80):
            limit = {"allocatable": {"count": draws.one((0, 1, 1, 2, 3))}} if draws.chance(60) else {}
            drivers.append({"name": name, "nodeID": f"id-{number}", **limit})
    return Object(CSI_NODES, {"metadata": {"name": node_name(number)}, "spec": {"drivers": drivers}})


def _claim(draws: Draws, namespace: str, name: str, nodes: int) -> Iterator[Object]:
    """A claim, and its volume if it has one."""
    kind = draws.one(_KINDS)
    modes = ["ReadWriteOncePod"] if kind == "one pod alone" else [draws.one(("ReadWriteOnce", "ReadWriteMany"))]
    spec: Document = {"accessModes": modes, "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    metadata: Document = {"name": name, "namespace": namespace}
    volume = f"{namespace}-{name}"
    match kind:
        case "waits":
            spec["storageClassName"] = "waitforfirstconsumer"
        case "immediate":
            spec["storageClassName"] = "immediate"
        case "half bound":
            spec["volumeName"] = volume
        case _:
            spec["volumeName"] = volume
            metadata["annotations"] = _BOUND
    bound = "annotations" in metadata
    collection = paths.in_namespace(CLAIMS, namespace)
    yield Object(collection, {"metadata": metadata, "spec": spec}, {"phase": "Bound" if bound else "Pending"})
    if "volumeName" in spec and kind != "no volume":
        yield _volume(draws, volume, kind, spec, {"namespace": namespace, "name": name}, nodes)


def _volume(draws: Draws, name: str, kind: str, claim: Document, owner: Document, nodes: int) -> Object:
    labels: Document = {}
    spec: Document = {
        "capacity": {"storage": "1Gi"},
        "accessModes": claim["accessModes"],
        "claimRef": owner,
        "persistentVolumeReclaimPolicy": "Retain",
        # some volumes are one and the same for their driver
        "csi": {"driver": FILES if kind == "files" else DISK, "volumeHandle": name if draws.chance(85) else "shared"},
    }
    match kind:
        case "zone":
            spec["nodeAffinity"] = _affinity(ZONE, draws.some(("z1", "z2", "z3"), most=2))
        case "host":
            spec["nodeAffinity"] = _affinity(HOST, [node_name(draws.between(0, nodes - 1)) for _ in range(3)])
        case "zone label":
            labels[ZONE] = draws.one(("z1", "z2", "z3"))
        case "zone labels":
            labels[ZONE] = draws.one(("z1__z2", "z2__z3", "z1__z9"))
    return Object(VOLUMES, {"metadata": {"name": name, "labels": labels}, "spec": spec}, {"phase": "Bound"})


def _affinity(key: str, values: list[str]) -> Document:
    expression = {"key": key, "operator": "In", "values": sorted(set(values))}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}


def use_claims(draws: Draws, pod: Document) -> None:
    """Volumes of one or more claims, one that is not there now and then, and volumes that tie a pod to nothing."""
    names = draws.some([_claim_name(number) for number in range(_CLAIMS_OF_A_NAMESPACE)], most=draws.one((1, 1, 2, 3)))
    if draws.chance(8):
        names.append("absent")
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names]
    if draws.chance(25):
        volumes.append({"name": "scratch", "emptyDir": {}})
    pod["spec"].setdefault("volumes", []).extend(volumes)
