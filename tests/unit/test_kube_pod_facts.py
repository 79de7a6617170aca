from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stowage_scheduler.cluster import (
    Gang,
    HostPort,
    LabelSelector,
    NodeSelectorTerm,
    OwnerRef,
    Pod,
    PodAffinityTerm,
    PriorityClass,
    Requirement,
    SpreadConstraint,
    Toleration,
    Unmodelled,
)
from stowage_scheduler.kube.decode import decode_object
from stowage_scheduler.kube.facts import fact_of
from stowage_scheduler.kube.malformed import MalformedObject
from stowage_scheduler.kube.matching import ANY_ADDRESS
from stowage_scheduler.kube.priorities import Priorities

OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "rs-1"}
TEN_MEGABYTES = "x" * 10_000_000


def read(
    metadata: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    *,
    classes: tuple[PriorityClass, ...] = (),
) -> Pod:
    document = {"metadata": {"name": "p", **(metadata or {})}, "spec": {"containers": [], **(spec or {})}}
    if status is not None:
        document["status"] = status
    fact = fact_of(decode_object("Pod", msgspec.json.encode(document)), Priorities(classes))
    assert isinstance(fact, Pod)
    return fact


def scheduled(status: str, reason: str | None = None) -> dict[str, Any]:
    return {
        "type": "PodScheduled",
        "status": status,
        "reason": reason,
        "message": "0/3 nodes are available",
        "lastTransitionTime": "2026-01-01T00:00:10Z",
    }


AT = 1767225610.0


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(read(), {"namespace": "default", "uid": "default/p", "priority": 0}, id="what people leave out"),
        pytest.param(
            read(status={"phase": "Pending", "conditions": [scheduled("False", "Unschedulable")]}),
            {"unschedulable_since": AT, "unschedulable_message": "0/3 nodes are available", "bound_at": None},
            id="a pod that the scheduler gave up on",
        ),
        pytest.param(
            read(
                status={"conditions": [scheduled("False", "SchedulingGated")]},
                spec={"schedulingGates": [{"name": "g"}]},
            ),
            {"unschedulable_since": None, "gates": ("g",)},
            id="a gated pod is not unschedulable",
        ),
        pytest.param(
            read(spec={"nodeName": "n1"}, status={"phase": "Running", "conditions": [scheduled("True")]}),
            {"bound_at": AT, "unschedulable_since": None, "node": "n1", "phase": "Running"},
            id="a bound pod",
        ),
        pytest.param(
            read(status={"conditions": [{"type": "Ready", "status": "True"}], "nominatedNodeName": "n2"}),
            {"ready": True, "nominated_node": "n2"},
            id="a ready pod with a nominated node",
        ),
        pytest.param(
            read(status={"conditions": [{**scheduled("False"), "type": "Ready"}]}),
            {"ready": False, "unready_since": AT},
            id="a pod that is not ready",
        ),
        pytest.param(
            read(status={"conditions": [{**scheduled("True"), "type": "Ready"}]}),
            {"ready": True, "unready_since": None},
            id="since when a pod is ready is nobody's concern",
        ),
        pytest.param(
            read({"deletionTimestamp": "2026-01-01T00:00:00Z", "creationTimestamp": "2026-01-01T00:00:10Z"}),
            {"terminating": True, "created_at": AT},
            id="a pod that is going",
        ),
        pytest.param(
            read(status={"conditions": [{"type": "DisruptionTarget", "status": "True"}]}),
            {"disruption_target": True},
            id="a pod that somebody disrupts",
        ),
        pytest.param(
            read({"ownerReferences": [{**OWNER, "kind": "Foo"}, {**OWNER, "controller": True}]}),
            {"owner": OwnerRef("ReplicaSet", "web-1", "rs-1")},
            id="the owner is the controller among the references",
        ),
        pytest.param(read({"ownerReferences": [OWNER]}), {"owner": None}, id="a reference alone controls nothing"),
        pytest.param(
            read({"labels": {"pod-template-hash": "7f", "app": "web"}}),
            {"template_hash": "7f", "labels": {"pod-template-hash": "7f", "app": "web"}},
            id="template of a ReplicaSet",
        ),
        pytest.param(
            read({"labels": {"controller-revision-hash": "web-5"}}), {"template_hash": "web-5"}, id="of a StatefulSet"
        ),
        pytest.param(
            read(
                {
                    "annotations": {
                        "stowage.dev/do-not-disrupt": "true",
                        "secret": "x",
                        "karpenter.sh/do-not-disrupt": "y",
                    }
                }
            ),
            {"annotations": {"stowage.dev/do-not-disrupt": "true", "karpenter.sh/do-not-disrupt": "y"}},
            id="only annotations that Stowage reads are kept",
        ),
        pytest.param(
            read({"annotations": {"stowage.dev/slot": "x" * 5000}}),
            {"annotations": {}},
            id="an endless annotation is passed over",  # refusing the pod would close its node
        ),
        pytest.param(
            read({"annotations": {"kubernetes.io/config.mirror": "abc"}}), {"mirror": True}, id="a mirror pod"
        ),
        pytest.param(
            read({"annotations": {"kubernetes.io/config.source": "file"}}), {"mirror": True}, id="a static pod"
        ),
        pytest.param(
            read({"annotations": {"kubernetes.io/config.source": "api"}}), {"mirror": False}, id="a pod from the API"
        ),
        pytest.param(
            read(
                spec={"tolerations": [{"key": "a", "operator": None}, {"operator": "Exists", "tolerationSeconds": 5}]}
            ),
            {"tolerations": (Toleration("a", "Equal"), Toleration("", "Exists"))},
            id="tolerations, Equal by default",
        ),
        pytest.param(
            read(spec={"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/"}}]}),
            {"empty_dir": True, "host_path": True, "unmodelled": ()},
            id="volumes of the node",
        ),
        pytest.param(
            read(spec={"volumes": [{"name": "a", "configMap": {"name": "c"}}, {"projected": {}}]}),
            {"empty_dir": False, "host_path": False, "unmodelled": ()},
            id="volumes that bind to nothing",
        ),
        pytest.param(
            read(spec={"volumes": [{"name": "stowage-worker", "emptyDir": {"sizeLimit": "16Mi"}}]}),
            {"empty_dir": False},
            id="the worker files of a training job, copied anew at each start",
        ),
        pytest.param(
            read(
                spec={
                    "nodeSelector": {"zone": "a"},
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [
                                    {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]},
                                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
                                ]
                            },
                            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}],
                        }
                    },
                }
            ),
            {
                "node_selector": {"zone": "a"},
                "node_affinity": (
                    NodeSelectorTerm(expressions=(Requirement("gpu", "Exists"),)),
                    NodeSelectorTerm(fields=(Requirement("metadata.name", "In", ("n1",)),)),
                ),
            },
            id="node selector and required node affinity",
        ),
    ],
)
def test_reads_a_pod(pod: Pod, expected: dict[str, Any]) -> None:
    assert {name: getattr(pod, name) for name in expected} == expected


def port(container: int, host: int | None = None, **more: Any) -> dict[str, Any]:
    return {"containerPort": container, "hostPort": host, **more}


@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        pytest.param({"containers": [{"ports": [port(80)]}]}, (), id="a container port is not the node's"),
        pytest.param(
            {"containers": [{"ports": [port(80, 8080), port(53, 53, protocol="UDP", hostIP="10.0.0.1")]}]},
            (HostPort("TCP", ANY_ADDRESS, 8080), HostPort("UDP", "10.0.0.1", 53)),
            id="host ports, TCP on every address by default",
        ),
        pytest.param(
            {"hostNetwork": True, "containers": [{"ports": [port(80), port(81, 8081)]}]},
            (HostPort("TCP", ANY_ADDRESS, 80), HostPort("TCP", ANY_ADDRESS, 8081)),
            id="in the network of the node every port is one",
        ),
        pytest.param(
            {"initContainers": [{"ports": [port(1, 1)], "restartPolicy": "Always"}, {"ports": [port(2, 2)]}]},
            (HostPort("TCP", ANY_ADDRESS, 1),),
            id="sidecars keep their ports, init containers do not",
        ),
    ],
)
def test_host_ports(spec: dict[str, Any], ports: tuple[HostPort, ...]) -> None:
    assert read(spec=spec).host_ports == ports


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}


@pytest.mark.parametrize(
    ("spec", "rules"),
    [
        pytest.param({"volumes": [{"name": "v", "rbd": {}}]}, {"Volumes"}, id="a volume of an in-tree driver"),
        pytest.param(
            {"volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]}, set(), id="claims are looked up later"
        ),
        pytest.param({"volumes": [{"csi": {"driver": "d"}}]}, set(), id="no plugin looks at an inline CSI volume"),
        pytest.param({"resourceClaims": [{"name": "gpu"}]}, {"ResourceClaims"}, id="a resource claim"),
        pytest.param({"schedulingGroup": {"podGroupName": "g"}}, set(), id="scheduling groups are looked up later"),
        pytest.param({"schedulingGroup": {}}, {"SchedulingGroup"}, id="a scheduling group of a later kind"),
        pytest.param({"workloadRef": {"name": "w"}}, {"SchedulingGroup"}, id="a workload reference of 1.35"),
    ],
)
def test_rules_that_are_not_modelled_are_told(spec: dict[str, Any], rules: set[str]) -> None:
    assert read(spec=spec).unmodelled == tuple(sorted(Unmodelled(rule) for rule in rules))


@pytest.mark.parametrize(
    ("constraint", "fact"),
    [
        pytest.param({}, SpreadConstraint("z", 1, None), id="without a selector it counts nobody"),
        pytest.param({"whenUnsatisfiable": "ScheduleAnyway"}, None, id="a soft one is no rule"),
        pytest.param(
            {"maxSkew": 2, "minDomains": 3, "nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor"},
            SpreadConstraint("z", 2, None, 3, honors_affinity=False, honors_taints=True),
            id="which domains it counts",
        ),
        pytest.param(
            {"labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["rev", "absent"]},
            SpreadConstraint("z", 1, LabelSelector((("app", "web"), ("rev", "7")))),
            id="its own revision alone",
        ),
    ],
)
def test_spread_constraints(constraint: dict[str, Any], fact: SpreadConstraint | None) -> None:
    usual = {"topologyKey": "z", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    pod = read({"labels": {"app": "web", "rev": "7"}}, {"topologySpreadConstraints": [{**usual, **constraint}]})
    assert pod.spread == (() if fact is None else (fact,))


@pytest.mark.parametrize(
    ("annotations", "gang"),
    [
        pytest.param({}, Gang("ring", 2), id="none"),
        pytest.param({"required-topology": "rack, block"}, Gang("ring", 2, ("block", "rack")), id="two levels"),
        pytest.param({"preferred-topology": "a.io/nvlink"}, Gang("ring", 2, (), ("a.io/nvlink",)), id="a wish"),
        pytest.param({"required-topology": "not a key"}, Gang("ring", 0), id="what is no key makes it unreadable"),
        pytest.param({"required-topology": "a,b,c,d,e"}, Gang("ring", 0), id="too many levels"),
    ],
)
def test_topology_of_a_gang(annotations: dict[str, str], gang: Gang) -> None:
    labels = {"stowage.dev/gang": "ring", "stowage.dev/gang-size": "2"}
    notes = {f"stowage.dev/{key}": value for key, value in annotations.items()}
    assert read({"labels": labels, "annotations": notes}).gang == gang


def test_pod_terms_speak_of_the_own_namespace_unless_they_say_otherwise() -> None:
    web = {"topologyKey": "z", "labelSelector": {"matchLabels": {"app": "web"}}}
    selector = LabelSelector((("app", "web"),))
    terms = required(web, {**web, "namespaces": ["b"]}, {**web, "namespaceSelector": {}})
    pod = read({"namespace": "a"}, {"affinity": {"podAffinity": terms, "podAntiAffinity": required(web)}})
    assert pod.affinity_terms == (
        PodAffinityTerm("z", selector, ("a",)),
        PodAffinityTerm("z", selector, ("b",)),
        PodAffinityTerm("z", selector, (), LabelSelector()),
    )
    assert pod.anti_affinity_terms == (PodAffinityTerm("z", selector, ("a",)),)


CLASSES = (PriorityClass("high", 100, "Never"), PriorityClass("usual", 5, is_default=True))


@pytest.mark.parametrize(
    ("spec", "classes", "priority", "policy"),
    [
        pytest.param({"priority": 7}, CLASSES, 7, "PreemptLowerPriority", id="its own priority"),
        pytest.param({"priority": 7, "priorityClassName": "gone"}, (), 7, "PreemptLowerPriority", id="class is gone"),
        pytest.param({"priorityClassName": "high"}, CLASSES, 100, "Never", id="that of its class"),
        pytest.param({}, CLASSES, 5, "PreemptLowerPriority", id="the default class"),
        pytest.param({}, (), 0, "PreemptLowerPriority", id="no class at all"),
        pytest.param(
            {"priorityClassName": "system-node-critical"}, (), 2_000_001_000, "PreemptLowerPriority", id="built in"
        ),
        pytest.param({"preemptionPolicy": "Never"}, (), 0, "Never", id="its own policy"),
    ],
)
def test_priorities(spec: dict[str, Any], classes: tuple[PriorityClass, ...], priority: int, policy: str) -> None:
    pod = read(spec=spec, classes=classes)
    assert (pod.priority, pod.preemption_policy) == (priority, policy)


def test_of_two_default_classes_the_lower_one_counts() -> None:
    classes = (PriorityClass("a", 9, is_default=True), PriorityClass("b", 3, is_default=True))
    assert read(classes=classes).priority == 3


@pytest.mark.parametrize(
    ("metadata", "spec", "status", "field"),
    [
        pytest.param({"name": ""}, {}, {}, "metadata.name", id="no name"),
        pytest.param({"name": "x" * 254}, {}, {}, "metadata.name", id="a long name"),
        pytest.param({"name": "a\nb"}, {}, {}, "metadata.name", id="a name of two lines"),
        pytest.param({"namespace": "a/b"}, {}, {}, "metadata.namespace", id="a slash in the namespace"),
        pytest.param({"name": 5}, {}, {}, "metadata.name", id="a name that is a number"),
        pytest.param({"labels": {"a": "x" * 64}}, {}, {}, "metadata.labels[a]", id="a long label"),
        pytest.param({"labels": {"a" * 400: ""}}, {}, {}, "metadata.labels", id="a long label key"),
        pytest.param({"labels": {"a": TEN_MEGABYTES}}, {}, {}, "object", id="a label of 10 MB"),
        pytest.param({"creationTimestamp": "yesterday"}, {}, {}, "metadata.creationTimestamp", id="no time"),
        pytest.param({"creationTimestamp": "2026-01-01T00:00:00"}, {}, {}, "metadata.creationTimestamp", id="no zone"),
        pytest.param({}, {"nodeName": "x" * 300}, {}, "spec.nodeName", id="a long node name"),
        pytest.param({}, {"priority": 2**40}, {}, "spec.priority", id="an absurd priority"),
        pytest.param({}, {"priorityClassName": "gone"}, {}, "spec.priorityClassName", id="a class that is not there"),
        pytest.param({}, {"preemptionPolicy": "Always"}, {}, "spec.preemptionPolicy", id="an unknown policy"),
        pytest.param({}, {}, {"phase": "Dancing"}, "status.phase", id="an unknown phase"),
        pytest.param({}, {"containers": {}}, {}, "spec.containers", id="an object instead of a list"),
        pytest.param(
            {},
            {"containers": [{"ports": [port(80, 70000)]}]},
            {},
            "spec.containers[].ports[].hostPort",
            id="a bad port",
        ),
    ],
)
def test_refuses_a_pod_and_names_the_field(
    metadata: dict[str, Any], spec: dict[str, Any], status: dict[str, Any], field: str
) -> None:
    with pytest.raises(MalformedObject) as caught:
        read(metadata, spec, status)
    rejected = caught.value.rejected
    assert (rejected.kind, rejected.field) == ("Pod", field)
    assert rejected.rule
    assert all(len(text) <= 100 and text.isprintable() for text in (rejected.name, rejected.value, rejected.rule))


def test_the_value_at_fault_is_shown() -> None:
    with pytest.raises(MalformedObject, match=r"Pod default/p: spec\.containers\[0\]\.name is '5', but"):
        read(spec={"containers": [{"name": 5}]})
