"""Checks a plan against the PodGroups of its dump: enough of each together, in one domain; shares no code with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

Document = dict[str, Any]
_LABELS = ("scheduling.x-k8s.io/pod-group", "pod-group.scheduling.sigs.k8s.io")


def group_problems(dump: Document, plan: Document) -> Iterator[str]:
    """What is wrong with a plan, as far as PodGroups are concerned."""
    groups = {_key(item): item for item in dump["items"] if item["kind"] == "PodGroup"}
    nodes = {item["metadata"]["name"]: item for item in dump["items"] if item["kind"] == "Node"}
    end = {one["pod"]: one["node"] for one in plan["assignments"]}
    members: dict[tuple[str, str, str], list[Document]] = defaultdict(list)
    for item in dump["items"]:
        group = _named(item) if item["kind"] == "Pod" else None
        if group is not None:
            members[group].append(item)
    for key, pods in members.items():
        yield from _group(key, groups.get(key), pods, end, nodes)


def _group(
    key: tuple[str, str, str],
    group: Document | None,
    pods: list[Document],
    end: Mapping[str, str],
    nodes: Mapping[str, Document],
) -> Iterator[str]:
    name = "/".join(key[1:])
    ran = {_name(pod): pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")}
    come = [_name(pod) for pod in pods if _name(pod) in end and _name(pod) not in ran]
    if group is None:
        if come:
            yield f"nobody knows how many pods of {name} start together, but {len(come)} of them do"
        return
    least, key_of_domain, stays = _asks(group)
    if stays:
        for pod, node in ran.items():
            if end.get(pod) != node:
                yield f"{pod} of group {name} runs and leaves its node"
    if come and len(ran) + len(come) < least:
        yield f"{len(ran) + len(come)} pods of group {name} run, and it needs {least}"
    if come and key_of_domain:
        domains = {nodes[end[pod]]["metadata"]["labels"].get(key_of_domain) for pod in (*ran, *come)}
        if len(domains) != 1 or None in domains:
            yield f"group {name} stands in {len(domains)} domains of {key_of_domain}"


def _asks(group: Document) -> tuple[int, str | None, bool]:
    """The least number of pods, the label of their domain, and whether those that run have to stay."""
    spec = group["spec"]
    if "x-k8s.io" in group["apiVersion"]:
        least = spec.get("minMember", 0)
        return least, None, least > 1
    gang = spec["schedulingPolicy"].get("gang")
    topology = spec.get("schedulingConstraints", {}).get("topology", [])
    domain = topology[0]["key"] if topology else None
    least = gang["minCount"] if gang else 0
    return least, domain, least > 1 or domain is not None or spec.get("disruptionMode") == "PodGroup"


def _key(group: Document) -> tuple[str, str, str]:
    metadata = group["metadata"]
    return group["apiVersion"].partition("/")[0], metadata.get("namespace", "default"), metadata["name"]


def _named(pod: Document) -> tuple[str, str, str] | None:
    """API group, namespace and name of the PodGroup that a pod names."""
    namespace = pod["metadata"].get("namespace", "default")
    labels = pod["metadata"].get("labels", {})
    for label in _LABELS:
        if labels.get(label):
            return "scheduling.x-k8s.io", namespace, labels[label]
    name = pod["spec"].get("schedulingGroup", {}).get("podGroupName")
    return ("scheduling.k8s.io", namespace, name) if name else None


def _name(pod: Document) -> str:
    return f"{pod['metadata'].get('namespace', 'default')}/{pod['metadata']['name']}"
