"""PodGroups of kube-scheduler and of the coscheduling plugin, from files to the gangs of pods."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from stowage_scheduler.cluster import Gang, Pod, Unmodelled
from stowage_scheduler.kube.dump import Dump, read_dump
from stowage_scheduler.kube.ledger import Ledger
from stowage_scheduler.kube.pod_group_facts import GroupFact
from stowage_scheduler.kube.redact import redact

NATIVE, COSCHEDULING = "podgroups.scheduling.k8s.io/g", "podgroups.scheduling.x-k8s.io/g"
LABEL, OLD_LABEL = "scheduling.x-k8s.io/pod-group", "pod-group.scheduling.sigs.k8s.io"


def group(version: str = "scheduling.k8s.io/v1alpha2", name: str = "g", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": "PodGroup", "metadata": {"name": name}, "spec": spec}


def gang_of(least: int, **more: Any) -> dict[str, Any]:
    return group(schedulingPolicy={"gang": {"minCount": least}}, **more)


def basic(**more: Any) -> dict[str, Any]:
    return group(schedulingPolicy={"basic": {}}, **more)


def coscheduling(least: int | None, version: str = "scheduling.x-k8s.io/v1alpha1") -> dict[str, Any]:
    return group(version, **({} if least is None else {"minMember": least}), scheduleTimeoutSeconds=10)


def pod(
    *, labels: dict[str, str] | None = None, named: str | None = "g", notes: dict[str, str] | None = None
) -> dict[str, Any]:
    spec = {"containers": [], **({"schedulingGroup": {"podGroupName": named}} if named else {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": labels or {}, "annotations": notes or {}},
        "spec": spec,
    }


def labelled(label: str = LABEL, **more: Any) -> dict[str, Any]:
    return pod(labels={label: "g"}, named=None, **more)


def read(*items: object) -> Dump:
    return read_dump(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode())


RACK = {"schedulingConstraints": {"topology": [{"key": "rack"}]}}
WHOLE = {"disruptionMode": "PodGroup"}

CASES: dict[str, tuple[list[dict[str, Any]], Gang | None]] = {
    "a gang": ([pod(), gang_of(4)], Gang(NATIVE, 4, elastic=True)),
    "a gang in one rack": ([pod(), gang_of(4, **RACK)], Gang(NATIVE, 4, ("rack",), elastic=True)),
    "a rack of the group and a zone of the pod": (
        [pod(notes={"stowage.dev/required-topology": "zone"}), gang_of(4, **RACK)],
        Gang(NATIVE, 4, ("rack", "zone"), elastic=True),
    ),
    "pods that come one by one": ([pod(), basic()], None),
    "one by one, but in one rack": ([pod(), basic(**RACK)], Gang(NATIVE, 1, ("rack",), elastic=True)),
    "one by one, but none leaves alone": ([pod(), basic(**WHOLE)], Gang(NATIVE, 1, elastic=True)),
    "each leaves alone": ([pod(), basic(disruptionMode="Pod")], None),
    "a gang of one": ([pod(), gang_of(1)], None),
    "no such group": (
        [pod(), group(name="other", schedulingPolicy={"basic": {}})],
        Gang(NATIVE, 0, elastic=True, unknown=True),
    ),
    "the group is of the other kind": ([pod(), coscheduling(4)], Gang(NATIVE, 0, elastic=True, unknown=True)),
    "the coscheduling plugin": ([labelled(), coscheduling(3)], Gang(COSCHEDULING, 3, elastic=True)),
    "its older label": ([labelled(OLD_LABEL), coscheduling(3)], Gang(COSCHEDULING, 3, elastic=True)),
    "its older group": (
        [labelled(OLD_LABEL), coscheduling(3, "scheduling.sigs.k8s.io/v1alpha1")],
        Gang(COSCHEDULING, 3, elastic=True),
    ),
    "no least number": ([labelled(), coscheduling(None)], None),
    "a least number of one": ([labelled(), coscheduling(1)], None),
    "none of the plugin's": ([labelled(), gang_of(3)], Gang(COSCHEDULING, 0, elastic=True, unknown=True)),
    "labels of Stowage come first": (
        [
            pod(labels={LABEL: "g", "stowage.dev/gang": "own", "stowage.dev/gang-size": "2"}, named=None),
            coscheduling(3),
        ],
        Gang("own", 2),
    ),
    "a topology that is none": (
        [pod(notes={"stowage.dev/required-topology": "no such key"}), gang_of(4)],
        Gang(NATIVE, 0, elastic=True),
    ),
    "an empty label": ([pod(labels={LABEL: ""}, named=None), coscheduling(3)], None),
}  # fmt: skip


@pytest.mark.parametrize(("items", "gang"), CASES.values(), ids=CASES.keys())
def test_the_gang_of_a_pod(items: list[dict[str, Any]], gang: Gang | None) -> None:
    (found,) = read(*items).snapshot.pods
    assert found.gang == gang
    assert found.unmodelled == ()
    assert found.scheduling_group == ("schedulingGroup" in items[0]["spec"])


@pytest.mark.parametrize("label", [LABEL, OLD_LABEL, "stowage.dev/gang"])
def test_a_pod_of_two_gangs_is_left_alone(label: str) -> None:
    (found,) = read(pod(labels={label: "g"}), gang_of(2), coscheduling(3)).snapshot.pods
    assert found.unmodelled == (Unmodelled.SCHEDULING_GROUP,)


@pytest.mark.parametrize("items", [items for items, _ in CASES.values()], ids=CASES.keys())
def test_a_dump_without_secrets_says_the_same(items: list[dict[str, Any]]) -> None:
    kept = redact({"apiVersion": "v1", "kind": "List", "items": items})["items"]
    assert read(*kept).snapshot == read(*items).snapshot


MALFORMED = {
    "no policy": (group(schedulingPolicy={}), "spec.schedulingPolicy"),
    "two policies": (group(schedulingPolicy={"basic": {}, "gang": {"minCount": 2}}), "spec.schedulingPolicy"),
    "a least number of none": (gang_of(0), "spec.schedulingPolicy.gang.minCount"),
    "a topology that is no key": (
        gang_of(2, schedulingConstraints={"topology": [{"key": "no key"}]}),
        "spec.schedulingConstraints.topology[].key",
    ),
    "a negative number of members": (coscheduling(-1), "spec.minMember"),
    "a number in words": (group("scheduling.x-k8s.io/v1alpha1", minMember="two"), "spec.minMember"),
}


@pytest.mark.parametrize(("item", "field"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_group_that_makes_no_sense_is_none(item: dict[str, Any], field: str) -> None:
    found = read(item, pod(), gang_of(2)) if item["apiVersion"] != "scheduling.k8s.io/v1alpha2" else read(item, pod())
    assert [(one.name, one.field) for one in found.snapshot.rejected] == [("default/g", field)]


def test_groups_of_another_namespace_are_others() -> None:
    elsewhere = gang_of(2)
    elsewhere["metadata"]["namespace"] = "other"
    (found,) = read(pod(), elsewhere).snapshot.pods
    assert found.gang is not None
    assert found.gang.unknown


def _pod(name: str, gang: str = NATIVE) -> Pod:
    return Pod("default", name, f"uid-{name}", {"cpu": 1}, gang=Gang(gang, 0, elastic=True, unknown=True))


def test_a_ledger_looks_groups_up_as_they_come_and_go() -> None:
    ledger = Ledger()
    for name in "ab":
        ledger.put("Pod", f"default/{name}", _pod(name))
    ledger.put("Pod", "default/c", Pod("default", "c", "uid-c", {"cpu": 1}))
    unknown = ledger.snapshot(0.0)
    ledger.put("PodGroup", "default/g", GroupFact("default", NATIVE, 2))
    known = ledger.snapshot(0.0)
    assert [one.gang for one in known.pods] == [Gang(NATIVE, 2, elastic=True)] * 2 + [None]
    ledger.put("CoschedulingPodGroup", "default/g", GroupFact("default", COSCHEDULING, 3))  # of the same name
    assert ledger.snapshot(0.0).pods == known.pods
    ledger.put("Pod", "default/b", replace(_pod("b"), ready=True))
    later = ledger.snapshot(0.0)
    assert later.pods[0] is known.pods[0], "what has not changed is shared"
    assert later.pods[1].gang == Gang(NATIVE, 2, elastic=True)
    ledger.drop("PodGroup", "default/g")
    assert ledger.snapshot(0.0).pods[0] == unknown.pods[0]


def test_where_no_pod_names_a_group_nothing_is_written() -> None:
    ledger = Ledger()
    ledger.put("Pod", "default/c", Pod("default", "c", "uid-c", {"cpu": 1}))
    first = ledger.snapshot(0.0)
    ledger.put("PodGroup", "default/g", GroupFact("default", NATIVE, 2))
    assert ledger.snapshot(0.0).pods is first.pods
