"""What must be true of every run, whatever was killed in it: pure functions that tell what is wrong.

They know Kubernetes' objects and nothing of the product. Each returns sentences, none when all is well.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from faults.traffic import Exchange
from faults.watch_log import Change
from harness.plan_checker import amount

Document = dict[str, Any]
EndState = Mapping[tuple[str, int], int]

_EVICTION = re.compile(r"^/api/v1/namespaces/(?P<namespace>[^/]+)/pods/(?P<name>[^/]+)/eviction$")
_DELETION = re.compile(r"^/api/v1/namespaces/(?P<namespace>[^/]+)/pods/(?P<name>[^/]+)$")
_ALARMS = ("Traceback (most recent call last)", "panic:", "fatal error:", "never awaited", "never retrieved")


def end_state(pods: Iterable[Document]) -> Counter[tuple[str, int]]:
    """How many pods are Ready and stay, by owner and priority (O1, as the design reads it)."""
    return Counter(
        (owner(pod), int(pod["spec"].get("priority") or 0)) for pod in pods if is_ready(pod) and not _terminating(pod)
    )


def other_end_state(reference: EndState, found: EndState) -> list[str]:
    """Where the numbers of placed pods differ from those of the undisturbed run."""
    return [
        f"{reference.get(key, 0)} pods of {key[0]} (priority {key[1]}) expected, {found.get(key, 0)} are placed"
        for key in sorted({*reference, *found})
        if reference.get(key, 0) != found.get(key, 0)
    ]


def evicted_twice(exchanges: Iterable[Exchange]) -> list[str]:
    """Pods that were evicted or deleted more than once, by UID, whatever the client was told."""
    counts: Counter[tuple[str, str]] = Counter(
        (str(_uid_of_precondition(exchange)), exchange.request.path.removesuffix("/eviction"))
        for exchange in departures(exchanges)
    )
    return [f"pod {path} ({uid}) was evicted {count} times" for (uid, path), count in counts.items() if count > 1]


def evicted_without_uid(exchanges: Iterable[Exchange]) -> list[str]:
    """Evictions that could have hit another pod of the same name."""
    return [
        f"{exchange.request.path}: no UID as a precondition"
        for exchange in departures(exchanges)
        if not _uid_of_precondition(exchange)
    ]


def departures(exchanges: Iterable[Exchange]) -> list[Exchange]:
    """Evictions and deletions of pods that the API server accepted."""
    return [
        exchange
        for exchange in exchanges
        if exchange.took_effect
        and (
            (exchange.request.method == "POST" and _EVICTION.match(exchange.request.path))
            or (exchange.request.method == "DELETE" and _DELETION.match(exchange.request.path))
        )
    ]


def _uid_of_precondition(exchange: Exchange) -> str | None:
    body = exchange.request.document or {}
    options = body.get("deleteOptions") or body
    uid: str | None = (options.get("preconditions") or {}).get("uid")
    return uid


def oversubscribed(changes: Iterable[Change], nodes: Iterable[Document]) -> Iterator[str]:
    """Nodes that held more than they have at any resourceVersion (O4); pods count until they are gone or finished."""
    room = {
        node["metadata"]["name"]: {name: amount(text) for name, text in node["status"]["allocatable"].items()}
        for node in nodes
    }
    held: dict[str, tuple[str, Counter[str]]] = {}
    for change in changes:
        pod = change.object
        uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName")
        held.pop(uid, None)
        if change.type == "DELETED" or not node or pod["status"].get("phase") in {"Succeeded", "Failed"}:
            continue
        held[uid] = (node, requests(pod))
        total: Counter[str] = Counter()
        for where, amounts in held.values():
            if where == node:
                total.update(amounts)
        for name, used in total.items():
            limit = room.get(node, {}).get(name, 0)
            if used > limit:
                yield f"{node} held {used} of {name}, {limit} allocatable, at {change.version}"


def bound_twice(changes: Iterable[Change]) -> Iterator[str]:
    """Pods that were on one node and then on another (O4)."""
    places: dict[str, str] = {}
    for change in changes:
        uid, node = change.object["metadata"]["uid"], change.object["spec"].get("nodeName")
        before = places.get(uid)
        if node is not None and before is not None and node != before:
            yield f"pod {_name(change.object)} was bound to {before}, then to {node}, at {change.version}"
        if node is None and before is not None:
            yield f"pod {_name(change.object)} was bound to {before}, then to no node, at {change.version}"
        if node is not None:
            places[uid] = node


def budget_overdrawn(changes: Iterable[Change], budgets: Mapping[str, int]) -> Iterator[str]:
    """Disruption budgets that a departure broke: by label `app`, how many pods must stay Ready."""
    ready: dict[str, set[str]] = defaultdict(set)
    for change in changes:
        pod = change.object
        app, uid = pod["metadata"].get("labels", {}).get("app", ""), pod["metadata"]["uid"]
        stays = change.type != "DELETED" and is_ready(pod) and not _terminating(pod)
        before = len(ready[app])
        (ready[app].add if stays else ready[app].discard)(uid)
        if len(ready[app]) < min(before, budgets.get(app, 0)):
            yield f"{len(ready[app])} pods of {app} Ready, its budget asks for {budgets[app]}, at {change.version}"


def rules_broken(pods: Sequence[Document], nodes: Iterable[Document]) -> Iterator[str]:
    """Hard rules of Kubernetes that do not hold for pods on their nodes: selectors, taints, ports, anti-affinity."""
    by_name = {node["metadata"]["name"]: node for node in nodes}
    placed = [pod for pod in pods if pod["spec"].get("nodeName") and not _terminating(pod)]
    for pod in placed:
        spec, node = pod["spec"], by_name.get(pod["spec"]["nodeName"])
        if node is None:
            yield f"pod {_name(pod)} is on {spec['nodeName']}, which does not exist"
            continue
        labels = node["metadata"].get("labels", {})
        for key, value in spec.get("nodeSelector", {}).items():
            if labels.get(key) != value:
                yield f"pod {_name(pod)} needs {key}={value}, {spec['nodeName']} has {labels.get(key)}"
        if spec.get("schedulingGates"):
            yield f"pod {_name(pod)} is gated and on {spec['nodeName']}"
        for other in placed:
            if other is not pod and other["spec"]["nodeName"] == spec["nodeName"] and _repels(pod, other):
                yield f"pods {_name(pod)} and {_name(other)} must not be together on {spec['nodeName']}"
    ports = Counter((pod["spec"]["nodeName"], port) for pod in placed for port in _host_ports(pod))
    yield from (f"port {port} of {node} is used {count} times" for (node, port), count in ports.items() if count > 1)


def _repels(pod: Document, other: Document) -> bool:
    """Whether required anti-affinity by host name keeps `other` away; matchLabels alone are understood."""
    terms = (pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
    labels = other["metadata"].get("labels", {})
    return any(
        term.get("topologyKey") == "kubernetes.io/hostname"
        and all(labels.get(key) == value for key, value in term["labelSelector"]["matchLabels"].items())
        for term in terms.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    )


def leftovers(
    plans: Iterable[Document], nodes: Iterable[Document], pods: Iterable[Document], taint_key: str, gate: str
) -> Iterator[str]:
    """What must not stay after the end: plans that run, taints that keep room, half a gang behind its gate."""
    for plan in plans:
        phase = plan.get("status", {}).get("phase")
        if phase not in {"Done", "Aborted", "Superseded"}:
            yield f"plan {plan['metadata']['name']} is still {phase}"
    for node in nodes:
        if any(taint["key"] == taint_key for taint in node["spec"].get("taints") or ()):
            yield f"node {node['metadata']['name']} still carries the taint {taint_key}"
    gangs: dict[str, set[bool]] = defaultdict(set)
    for pod in pods:
        gang = pod["metadata"].get("labels", {}).get("stowage.dev/gang")
        if gang is not None and not _terminating(pod):
            gangs[gang].add(any(item["name"] == gate for item in pod["spec"].get("schedulingGates") or ()))
    yield from (f"gang {gang} is half behind its gate" for gang, gated in gangs.items() if len(gated) > 1)


def still_writing(exchanges: Iterable[Exchange]) -> list[str]:
    """Changes asked for when there was nothing left to do (O3); renewals of leases are no such change."""
    return [
        f"{exchange.request.user_agent.split('/')[0]}: {exchange.request.method} {exchange.request.path}"
        for exchange in exchanges
        if exchange.request.mutating and not is_lease(exchange)
    ]


def is_lease(exchange: Exchange) -> bool:
    """Whether a request is about a lease."""
    return "/leases" in exchange.request.path


def alarms(log: str) -> list[str]:
    """Lines of a log that tell of a defect (O5)."""
    return [line for line in log.splitlines() if any(word in line for word in _ALARMS)]


def requests(pod: Document) -> Counter[str]:
    """What a pod asks for, its place among the pods of a node included; init containers are not used here."""
    total: Counter[str] = Counter({"pods": 1})
    for container in pod["spec"]["containers"]:
        for name, text in container.get("resources", {}).get("requests", {}).items():
            total[name] += amount(text)  # type: ignore[assignment]
    return total


def owner(pod: Document) -> str:
    """What made a pod: kind and name; the kind alone says Pod when nobody did."""
    for reference in pod["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return f"{reference['kind']}/{reference['name']}"
    return f"Pod/{pod['metadata']['name']}"


def is_ready(pod: Document) -> bool:
    """Whether a pod says that it is Ready."""
    conditions = pod["status"].get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _host_ports(pod: Document) -> Iterator[tuple[str, int]]:
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                yield port.get("protocol", "TCP"), port["hostPort"]


def _terminating(pod: Document) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _name(pod: Document) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
