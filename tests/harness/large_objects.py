"""Objects of a large cluster, as big and as alike as real ones: many replicas of few templates."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

_STARTED = "2026-01-01T10:00:00Z"
_LATER = "2026-01-01T10:00:07Z"
_REPLICAS = 50  # of each Deployment
_DEPLOYMENTS = 20  # of each namespace
_RESOURCES = (
    {"cpu": "250m", "memory": "512Mi"},
    {"cpu": "500m", "memory": "1Gi"},
    {"cpu": "1", "memory": "2Gi"},
    {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "1"},
)


@dataclass(frozen=True)
class LargeCluster:
    """Documents of `nodes` nodes and `pods` pods, all equal from one call to the next.

    Each node has as many pods as the others, of several sizes; the last `pending` pods stand nowhere and are marked
    Unschedulable.
    """

    nodes: int
    pods: int
    pending: int = 0

    def node_documents(self) -> Iterator[Document]:
        """The nodes, Ready."""
        return (self._node(number) for number in range(self.nodes))

    def pod_documents(self) -> Iterator[Document]:
        """The pods, Running but for those that wait for a place."""
        return (self.pod(number) for number in range(self.pods))

    def workload_documents(self) -> Iterator[Document]:
        """Namespaces, Deployments, their ReplicaSets and PodDisruptionBudgets."""
        deployments = -(-self.pods // _REPLICAS)
        for number in range(-(-deployments // _DEPLOYMENTS)):
            name = f"team-{number:03}"
            labels = {"kubernetes.io/metadata.name": name, "team": name, "stage": "production"}
            yield {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {**_metadata("namespace", name, ""), "labels": labels},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            }
        for number in range(deployments):
            yield from _deployment(number)

    @staticmethod
    def node_name(number: int) -> str:
        """The name of a node."""
        return f"node-{number:05}.cluster.example.com"

    def pod(self, number: int, *, ready: bool = True) -> Document:
        """One pod."""
        deployment = number // _REPLICAS
        namespace, app = _place(deployment)
        name = f"{app}-{_hash(deployment)}-{number:05}"
        place = (number + _REPLICAS * (number // self.nodes)) % self.nodes  # each round a template further
        node = None if number >= self.pods - self.pending else self.node_name(place)
        labels = {
            "app.kubernetes.io/name": app,
            "app.kubernetes.io/instance": f"{app}-production",
            "app.kubernetes.io/version": "1.2.3",
            "app.kubernetes.io/managed-by": "Helm",
            "team": namespace,
            "pod-template-hash": _hash(deployment),
        }
        requests = _RESOURCES[deployment % len(_RESOURCES)]
        owner = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": f"{app}-{_hash(deployment)}",
            "uid": _uid("replicaset", namespace, f"{app}-{_hash(deployment)}"),
            "controller": True,
            "blockOwnerDeletion": True,
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **_metadata("pod", name, namespace),
                "generateName": f"{app}-{_hash(deployment)}-",
                "labels": labels,
                "annotations": {
                    "prometheus.io/scrape": "true",
                    "prometheus.io/port": "8080",
                    "checksum/config": uuid.uuid5(uuid.NAMESPACE_DNS, app).hex * 2,
                },
                "ownerReferences": [owner],
                "managedFields": _managed_fields(list(labels)),
            },
            "spec": _pod_spec(app, requests, node),
            "status": _pod_status(app, requests, node, ready=ready),
        }

    def _node(self, number: int) -> Document:
        name = self.node_name(number)
        capacity = {
            "cpu": "64",
            "memory": "263842832Ki",
            "pods": "110",
            "ephemeral-storage": "1885041828Ki",
            "nvidia.com/gpu": "8",
        }
        conditions = [
            {
                "type": kind,
                "status": "True" if kind == "Ready" else "False",
                "reason": f"Kubelet{kind}",
                "message": "as it should be",
                "lastHeartbeatTime": _LATER,
                "lastTransitionTime": _STARTED,
            }
            for kind in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
        ]
        images = [
            {"names": [f"registry.example.com/team/image-{n}@sha256:{n:064x}"], "sizeBytes": 10**8} for n in range(20)
        ]
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                **_metadata("node", name, ""),
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/os": "linux",
                    "node.kubernetes.io/instance-type": "gpu-8x",
                    "topology.kubernetes.io/region": "region-1",
                    "topology.kubernetes.io/zone": f"zone-{number % 3}",
                    "topology.kubernetes.io/rack": f"rack-{number // 32:04}",
                    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
                },
            },
            "spec": {"podCIDR": "10.0.0.0/24", "providerID": f"example:///zone/{name}"},
            "status": {
                "capacity": capacity,
                "allocatable": {**capacity, "cpu": "63500m"},
                "conditions": conditions,
                "images": images,
                "nodeInfo": {"kubeletVersion": "v1.36.3", "architecture": "amd64", "operatingSystem": "linux"},
            },
        }


def _deployment(number: int) -> Iterator[Document]:
    """A Deployment, its ReplicaSet and its PodDisruptionBudget."""
    namespace, app = _place(number)
    selector = {"matchLabels": {"app.kubernetes.io/name": app}}
    template = {
        "metadata": {"labels": {"app.kubernetes.io/name": app, "team": namespace}},
        "spec": _pod_spec(app, _RESOURCES[number % len(_RESOURCES)], None),
    }
    counts = {"replicas": _REPLICAS, "readyReplicas": _REPLICAS, "availableReplicas": _REPLICAS}
    revision = {"deployment.kubernetes.io/revision": "1"}
    owner = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": app,
        "uid": _uid("deployment", namespace, app),
        "controller": True,
    }
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**_metadata("deployment", app, namespace), "annotations": revision},
        "spec": {"replicas": _REPLICAS, "selector": selector, "template": template},
        "status": {**counts, "updatedReplicas": _REPLICAS, "observedGeneration": 1},
    }
    yield {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            **_metadata("replicaset", f"{app}-{_hash(number)}", namespace),
            "annotations": revision,
            "ownerReferences": [owner],
        },
        "spec": {"replicas": _REPLICAS, "selector": selector, "template": template},
        "status": {**counts, "observedGeneration": 1},
    }
    yield {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata("poddisruptionbudget", app, namespace),
        "spec": {"minAvailable": "90%", "selector": selector},
        "status": {
            "disruptionsAllowed": 5,
            "observedGeneration": 1,
            "currentHealthy": _REPLICAS,
            "desiredHealthy": 45,
            "expectedPods": _REPLICAS,
        },
    }


def _place(deployment: int) -> tuple[str, str]:
    """Namespace and name of a Deployment."""
    return f"team-{deployment // _DEPLOYMENTS:03}", f"service-{deployment:04}"


def _hash(deployment: int) -> str:
    """The hash of a Deployment's template."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, str(deployment)).hex[:10]


def _uid(kind: str, namespace: str, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{kind}/{namespace}/{name}"))


def _metadata(kind: str, name: str, namespace: str) -> Document:
    place = {"namespace": namespace} if namespace else {}
    uid = _uid(kind, namespace, name)
    return {"name": name, **place, "uid": uid, "generation": 1, "creationTimestamp": _STARTED}


def _managed_fields(labels: list[str]) -> list[Document]:
    """Who wrote which fields: about a third of a pod's size."""
    written: Document = {
        "f:metadata": {"f:labels": {".": {}, **{f"f:{label}": {} for label in labels}}, "f:ownerReferences": {".": {}}},
        "f:spec": {
            f'k:{{"name":"{name}"}}': {
                f"f:{field}": {}
                for field in ("image", "imagePullPolicy", "name", "resources", "terminationMessagePath", "env")
            }
            for name in ("main", "proxy")
        },
    }
    status: Document = {
        "f:status": {
            "f:conditions": {
                f'k:{{"type":"{kind}"}}': {".": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {}}
                for kind in ("ContainersReady", "Initialized", "PodReadyToStartContainers", "Ready")
            },
            "f:containerStatuses": {},
            "f:phase": {},
            "f:podIPs": {".": {}, 'k:{"ip":"10.1.2.3"}': {".": {}, "f:ip": {}}},
            "f:startTime": {},
        }
    }
    return [
        {
            "manager": manager,
            "operation": "Update",
            "apiVersion": "v1",
            "time": _LATER,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        for manager, fields in (("kube-controller-manager", written), ("kubelet", status))
    ]


def _pod_spec(app: str, requests: Document, node: str | None) -> Document:
    containers = [
        {
            "name": name,
            "image": f"registry.example.com/{app}/{name}:1.2.3",
            "env": [{"name": f"VARIABLE_{number}", "value": f"value-{number}" * 3} for number in range(8)],
            "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
            "resources": {"requests": asked, "limits": asked},
            "volumeMounts": [
                {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True}
            ],
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        }
        for name, port, asked in (("main", 8080, requests), ("proxy", 15001, {"cpu": "100m", "memory": "128Mi"}))
    ]
    place = {"nodeName": node} if node else {}
    return {
        **place,
        "containers": containers,
        "volumes": [
            {
                "name": "token",
                "projected": {
                    "defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}],
                },
            }
        ],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "securityContext": {},
        "schedulerName": "stowage",
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
        "enableServiceLinks": True,
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{what}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            }
            for what in ("not-ready", "unreachable")
        ],
    }


def _pod_status(app: str, requests: Document, node: str | None, *, ready: bool) -> Document:
    if node is None:
        waits = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/5000 nodes are available: 5000 Insufficient nvidia.com/gpu.",
            "lastTransitionTime": _STARTED,
        }
        return {"phase": "Pending", "conditions": [waits], "qosClass": "Guaranteed"}
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    statuses = [
        {
            "name": name,
            "image": f"registry.example.com/{app}/{name}:1.2.3",
            "imageID": f"registry.example.com/{app}/{name}@sha256:{7:064x}",
            "containerID": f"containerd://{11:064x}",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": _LATER}},
            "resources": {"requests": asked, "limits": asked},
            "allocatedResources": asked,
        }
        for name, asked in (("main", requests), ("proxy", {"cpu": "100m", "memory": "128Mi"}))
    ]
    return {
        "phase": "Running",
        "conditions": [
            {"type": kind, "status": "True" if ready or "Ready" not in kind else "False", "lastTransitionTime": _LATER}
            for kind in kinds
        ],
        "hostIP": "10.0.0.1",
        "podIP": "10.1.2.3",
        "podIPs": [{"ip": "10.1.2.3"}],
        "startTime": _STARTED,
        "containerStatuses": statuses,
        "qosClass": "Guaranteed",
    }
