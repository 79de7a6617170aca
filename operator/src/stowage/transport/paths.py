"""Paths of the resources that Stowage reads and writes. Names are quoted, so any name is safe in a path."""

from __future__ import annotations

from urllib.parse import quote

VERSION = "/version"
NODES = "/api/v1/nodes"
PODS = "/api/v1/pods"
NAMESPACES = "/api/v1/namespaces"
SECRETS = "/api/v1/secrets"
SERVICES = "/api/v1/services"
EVENTS = "/apis/events.k8s.io/v1/events"
DISRUPTION_BUDGETS = "/apis/policy/v1/poddisruptionbudgets"
PRIORITY_CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
REPLICA_SETS = "/apis/apps/v1/replicasets"
DEPLOYMENTS = "/apis/apps/v1/deployments"
STATEFUL_SETS = "/apis/apps/v1/statefulsets"
DAEMON_SETS = "/apis/apps/v1/daemonsets"
JOBS = "/apis/batch/v1/jobs"
PERSISTENT_VOLUME_CLAIMS = "/api/v1/persistentvolumeclaims"
PERSISTENT_VOLUMES = "/api/v1/persistentvolumes"
RESOURCE_QUOTAS = "/api/v1/resourcequotas"
STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
CSI_NODES = "/apis/storage.k8s.io/v1/csinodes"
CSI_DRIVERS = "/apis/storage.k8s.io/v1/csidrivers"
POD_GROUPS = "/apis/scheduling.k8s.io/v1alpha2/podgroups"
COSCHEDULING_POD_GROUPS = "/apis/scheduling.x-k8s.io/v1alpha1/podgroups"
PACKING_POLICIES = "/apis/stowage.dev/v1alpha1/packingpolicies"
PACKING_PLANS = "/apis/stowage.dev/v1alpha1/packingplans"
TRAINING_JOBS = "/apis/stowage.dev/v1alpha1/trainingjobs"
MODEL_SERVICES = "/apis/stowage.dev/v1alpha1/modelservices"
PERFORMANCE_PROFILES = "/apis/stowage.dev/v1alpha1/performanceprofiles"


def named(collection: str, name: str) -> str:
    """The path of one object of a cluster-scoped collection."""
    return f"{collection}/{quote(name, safe='')}"


def in_namespace(collection: str, namespace: str) -> str:
    """The path of a namespaced collection within one namespace, from its path over all namespaces."""
    prefix, _, plural = collection.rpartition("/")
    return f"{prefix}/namespaces/{quote(namespace, safe='')}/{plural}"


def node(name: str) -> str:
    """The path of a Node."""
    return named(NODES, name)


def pod(namespace: str, name: str) -> str:
    """The path of a Pod."""
    return named(in_namespace(PODS, namespace), name)


def eviction(namespace: str, name: str) -> str:
    """The eviction subresource of a Pod."""
    return pod(namespace, name) + "/eviction"


def binding(namespace: str, name: str) -> str:
    """The binding subresource of a Pod."""
    return pod(namespace, name) + "/binding"


def events(namespace: str) -> str:
    """The events of a namespace."""
    return in_namespace(EVENTS, namespace)


def leases(namespace: str) -> str:
    """The leases of a namespace."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace, safe='')}/leases"


def lease(namespace: str, name: str) -> str:
    """The path of a Lease."""
    return named(leases(namespace), name)


def packing_policy(name: str) -> str:
    """The path of a PackingPolicy."""
    return named(PACKING_POLICIES, name)


def packing_policy_status(name: str) -> str:
    """The status subresource of a PackingPolicy."""
    return packing_policy(name) + "/status"


def packing_plan(name: str) -> str:
    """The path of a PackingPlan."""
    return named(PACKING_PLANS, name)


def training_job(namespace: str, name: str) -> str:
    """The path of a TrainingJob."""
    return named(in_namespace(TRAINING_JOBS, namespace), name)


def training_job_status(namespace: str, name: str) -> str:
    """The status subresource of a TrainingJob."""
    return training_job(namespace, name) + "/status"


def model_service(namespace: str, name: str) -> str:
    """The path of a ModelService."""
    return named(in_namespace(MODEL_SERVICES, namespace), name)


def model_service_status(namespace: str, name: str) -> str:
    """The status subresource of a ModelService."""
    return model_service(namespace, name) + "/status"


def performance_profile(name: str) -> str:
    """The path of a PerformanceProfile."""
    return named(PERFORMANCE_PROFILES, name)


def performance_profile_status(name: str) -> str:
    """The status subresource of a PerformanceProfile."""
    return performance_profile(name) + "/status"


def packing_plan_status(name: str) -> str:
    """The status subresource of a PackingPlan."""
    return packing_plan(name) + "/status"
