"""Checks a plan document against the dump it was made for; shares no code with the product.

Knows the format of `stowage plan -o json` (design section 6) and plain Kubernetes objects: resources,
pod count, node selector, taints, host ports, cordons, PodDisruptionBudgets, gangs, volumes, devices of GPU shares and
what never moves. It replays the steps in many orders that their edges allow and checks capacity after each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Any

from harness.device_checker import DeviceChecker
from harness.group_checker import group_problems
from harness.volume_checker import VolumeChecker

Document = dict[str, Any]
_ARRIVES = {"Place", "Ungate"}

_SUFFIXES = {"m": Decimal("0.001"), "": Decimal(1), "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9}
_SUFFIXES |= {"Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30, "Ti": Decimal(2) ** 40}


def amount(text: str | int) -> Decimal:
    """A Kubernetes quantity in its base unit."""
    digits = str(text).rstrip("kKMGTim")
    return Decimal(digits) * _SUFFIXES[str(text)[len(digits) :]]


def problems(dump: Document, plan: Document) -> list[str]:
    """Everything that is wrong with a plan; empty when it is valid."""
    return list(_Checker(dump, plan).check())


class _Checker:
    def __init__(self, dump: Document, plan: Document) -> None:
        items = dump["items"]
        self.dump, self.plan = dump, plan
        self.nodes = {i["metadata"]["name"]: i for i in items if i["kind"] == "Node"}
        self.pods = {_name(i): i for i in items if i["kind"] == "Pod" and not _ends(i)}
        self.volumes = VolumeChecker(i for i in items if i["kind"] != "Pod" or not _ends(i))
        self.devices = DeviceChecker(self.nodes, self.pods)
        self.budgets = [i for i in items if i["kind"] == "PodDisruptionBudget"]
        self.start = {name: pod["spec"].get("nodeName") for name, pod in self.pods.items()}
        self.end = {entry["pod"]: entry["node"] for entry in plan["assignments"]}
        self.gone = {entry["pod"] for entry in plan["evictions"]}

    def check(self) -> Iterator[str]:
        yield from self._bookkeeping()
        yield from self._capacity(self.end, "at the end")
        yield from self.devices.problems([self.end])
        for name, node in self.end.items():
            if self.start.get(name) != node:
                yield from self._arrival(name, node)
            if self.start.get(name) not in {None, node}:
                yield from self._departure(name)
        for name in self.gone:
            yield from self._departure(name)
        yield from self.volumes.together({name: node for name, node in self.start.items() if node}, self.end)
        yield from self._counts()
        yield from self._steps()
        for (namespace, name), members in self._gangs().items():
            yield from self._gang(f"{namespace}/{name}", members)
        yield from group_problems(self.dump, self.plan)

    def _bookkeeping(self) -> Iterator[str]:
        if len(self.end) != len(self.plan["assignments"]):
            yield "a pod is assigned twice"
        for name, node in self.end.items():
            if name not in self.pods:
                yield f"{name} was invented"
            if node not in self.nodes:
                yield f"{name} is on {node}, which does not exist"
        moved = {m["pod"]: (m["from"], m["to"]) for m in self.plan["moves"]}
        really = {n: (s, self.end[n]) for n, s in self.start.items() if s and n in self.end and self.end[n] != s}
        if moved != really:
            yield f"moves are {moved}, but assignments say {really}"
        lost = {name for name, node in self.start.items() if node and name not in self.end}
        if lost != self.gone:
            yield f"evictions are {sorted(self.gone)}, but assignments say {sorted(lost)}"
        waiting = {name for name, node in self.start.items() if node is None and name not in self.end}
        unplaced = {entry["pod"] for entry in self.plan["unplaced"]}
        if waiting != unplaced:
            yield f"unplaced are {sorted(unplaced)}, but {sorted(waiting)} have no place"

    def _capacity(self, where: dict[str, str], when: str) -> Iterator[str]:
        used: dict[str, Counter[str]] = defaultdict(Counter)
        ports: dict[str, Counter[object]] = defaultdict(Counter)
        for name, node in where.items():
            used[node].update(_requests(self.pods[name]))
            ports[node].update(_ports(self.pods[name]))
        for node, amounts in used.items():
            have = self.nodes[node]["status"]["allocatable"]
            for resource, sum_ in amounts.items():
                limit = amount(have.get(resource, 110 if resource == "pods" else 0))
                if sum_ > limit:
                    yield f"{when} {node} holds {sum_} of {resource}, {limit} allocatable"
            for port, count in ports[node].items():
                if count > 1:
                    yield f"{when} {node} has port {port} twice"

    def _arrival(self, name: str, node: str) -> Iterator[str]:
        spec, target = self.pods[name]["spec"], self.nodes[node]
        labels = target["metadata"].get("labels", {})
        for key, value in spec.get("nodeSelector", {}).items():
            if labels.get(key) != value:
                yield f"{name} needs {key}={value}, {node} has not"
        if target.get("spec", {}).get("unschedulable"):
            yield f"{name} goes to {node}, which is cordoned"
        for taint in target.get("spec", {}).get("taints", []):
            tolerated = any(
                t.get("key") in {None, taint["key"]}
                and t.get("effect") in {None, "", taint["effect"]}
                and (t.get("operator") == "Exists" or t.get("value", "") == taint.get("value", ""))
                for t in spec.get("tolerations", [])
            )
            if taint["effect"] != "PreferNoSchedule" and not tolerated:
                yield f"{name} does not tolerate {taint['key']} of {node}"
        yield from self.volumes.arrival(self.pods[name], target)

    def _departure(self, name: str) -> Iterator[str]:
        meta = self.pods[name]["metadata"]
        kinds = {owner["kind"] for owner in meta.get("ownerReferences", []) if owner.get("controller")}
        if not kinds & {"ReplicaSet", "StatefulSet", "ReplicationController"}:
            yield f"{name} is owned by {kinds or 'nobody'} and must not move"
        if meta["namespace"] == "kube-system":
            yield f"{name} is in kube-system and must not move"
        notes = meta.get("annotations", {})
        if "true" in {notes.get("stowage.dev/do-not-disrupt"), notes.get("karpenter.sh/do-not-disrupt")}:
            yield f"{name} must not be disrupted"
        covering = [
            b
            for b in self.budgets
            if b["metadata"]["namespace"] == meta["namespace"]
            and all(meta.get("labels", {}).get(k) == v for k, v in b["spec"]["selector"]["matchLabels"].items())
        ]
        if len(covering) > 1 or any(b["status"]["disruptionsAllowed"] < 1 for b in covering):
            yield f"{name} is protected by a PodDisruptionBudget"
        yield from self.volumes.departure(self.pods[name])

    def _counts(self) -> Iterator[str]:
        before = Counter(self.pods[n]["spec"].get("priority", 0) for n, node in self.start.items() if node)
        after = Counter(self.pods[n]["spec"].get("priority", 0) for n in self.end)
        told = {int(p): count for p, count in self.plan["placedByPriority"].items()}
        bound = {int(p): count for p, count in self.plan["bound"].items()}
        tiers_before, tiers_after = [], []
        for priority in sorted(told, reverse=True):
            count = sum(n for p, n in after.items() if p >= priority)
            tiers_after.append(count)
            tiers_before.append(sum(n for p, n in before.items() if p >= priority))
            if count != told[priority]:
                yield f"{told[priority]} pods of priority {priority} or higher claimed, {count} assigned"
            if count > bound[priority]:
                yield f"bound {bound[priority]} at priority {priority} is below the {count} placed"
        if tiers_after < tiers_before:
            yield f"worse than the start: {tiers_after} after {tiers_before}"
        if self.plan["certified"] and told != bound:
            yield "certified, but below the bound"

    def _gangs(self) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name, pod in self.pods.items():
            gang = pod["metadata"].get("labels", {}).get("stowage.dev/gang")
            if gang is not None:
                found[pod["metadata"]["namespace"], gang].append(name)
        return found

    def _gang(self, gang: str, members: list[str]) -> Iterator[str]:
        waiting = [name for name in members if self.start[name] is None]
        placed = [name for name in waiting if name in self.end]
        for name in set(members) - set(waiting):
            if self.end.get(name) != self.start[name]:
                yield f"{name} of gang {gang} runs and leaves its node"
        if not placed:
            return
        sizes = {self.pods[name]["metadata"]["labels"].get("stowage.dev/gang-size") for name in members}
        if len(sizes) != 1 or not str(size := sizes.pop()).isdigit():
            yield f"nobody knows the size of gang {gang}, but it is placed"
            return
        if len(placed) != len(waiting):
            yield f"{len(placed)} of {len(waiting)} waiting pods of gang {gang} get a place"
        if len(members) - len(waiting) + len(placed) < int(size or 0):
            yield f"gang {gang} is placed with {len(members)} of {size} pods"
        for name in waiting:
            if set(_gates(self.pods[name])) - {"stowage.dev/gang"}:
                yield f"gang {gang} is placed, but {name} is behind gates {_gates(self.pods[name])}"
        after = {tuple(sorted(s["after"])) for s in self.plan["steps"] if s["pod"] in placed}
        if len(after) > 1:
            yield f"the pods of gang {gang} start after different steps"

    def _steps(self) -> Iterator[str]:
        steps = {step["id"]: step for step in self.plan["steps"]}
        evicted = Counter(s["pod"] for s in steps.values() if s["action"] == "Evict" and "replacementOf" not in s)
        placed = {s["pod"] for s in steps.values() if s["action"] in _ARRIVES}
        if evicted != Counter({m["pod"] for m in self.plan["moves"]} | self.gone):
            yield "Evict steps do not cover moves and evictions, each once"
        if placed != {n for n in self.end if self.start[n] is None}:
            yield "Place and Ungate steps do not cover the pending pods that get a place"
        for step in steps.values():
            if (step["action"] == "Ungate") != bool(_gates(self.pods[step["pod"]])):
                yield f"{step['pod']} has gates {_gates(self.pods[step['pod']])}, but its step is {step['action']}"
        broken = list(self._ways_over_temporary_places(steps))
        yield from broken
        if broken:
            return
        at_once = self._landing_at_once(steps)
        for seed in range(5):
            yield from self._replay(steps, at_once, Random(seed))

    def _ways_over_temporary_places(self, steps: dict[str, Document]) -> Iterator[str]:
        """A step that sends a replacement on: after the one that sent it there, and to where the pod moves."""
        moved = {move["pod"] for move in self.plan["moves"]}
        onward = [step for step in steps.values() if "replacementOf" in step]
        if len({step["replacementOf"] for step in onward}) != len(onward):
            yield "two steps send the same replacement on"
        for step in onward:
            first = steps.get(step["replacementOf"], {})
            if first.get("pod") != step["pod"] or "Evict" not in first.get("action", ""):
                yield f"step {step['id']} sends nobody on"
            elif step["replacementOf"] not in step["after"] or step["action"] != "Evict":
                yield f"step {step['id']} does not wait for its pod"
            elif step["pod"] not in moved or "replacementOf" in first:
                yield f"{step['pod']} goes over a temporary place and does not move once"
            elif step["node"] in {first["node"], self.end[step["pod"]]}:
                yield f"the temporary place of {step['pod']} is on a node where it stands before or after"
            elif step["node"] not in self.nodes:
                yield f"{step['pod']} is on {step['node']}, which does not exist"
            else:
                yield from self._arrival(step["pod"], step["node"])

    def _target(self, steps: dict[str, Document], step: Document) -> str | None:
        """Where the pod of a step lands: in a temporary place where another step sends it on."""
        onward = (one["node"] for one in steps.values() if one.get("replacementOf") == step["id"])
        return next(onward, self.end.get(step["pod"]))

    def _landing_at_once(self, steps: dict[str, Document]) -> set[str]:
        """Steps whose pods have room where they go once the steps that these wait for are over.

        The others are swaps: their slots open later, even where somebody else has left room by chance.
        """
        found: set[str] = set()
        before: dict[str, set[str]] = {}
        in_order = list(_in_order(steps))
        for step in in_order:
            before[step["id"]] = {other for one in step["after"] for other in (one, *before.get(one, ()))}
            target = self._target(steps, step)
            if target is None:
                continue
            where = {name: node for name, node in self.start.items() if node}
            for one in in_order:
                if one["id"] in before[step["id"]]:
                    where.pop(one["pod"], None)
                    lands = self._target(steps, one)
                    if one["id"] in found and lands is not None:
                        where[one["pod"]] = lands
            if self._has_room(step["pod"], target, {**where, step["pod"]: target}):
                found.add(step["id"])
        return found

    def _has_room(self, name: str, target: str, where: dict[str, str]) -> bool:
        """Whether a pod fits on a node beside those that stand there now."""
        others = {other: node for other, node in where.items() if node == target and other != name}
        fits = not list(self._capacity({**others, name: target}, "trial"))
        crowd = {other: node for other, node in self.end.items() if node == target and self.start[other] != target}
        fits = fits and self.devices.has_room(name, {**others, **crowd, name: target})
        return fits and not list(self.volumes.limits_broken(others, {**others, name: target}))

    def _replay(self, steps: dict[str, Document], at_once: set[str], random: Random) -> Iterator[str]:
        """Run the steps in one order that their edges allow.

        A replacement lands at once, or when all else is over: in between it might take room kept for others,
        and the document does not tell when its slot opens.
        """
        where = {name: node for name, node in self.start.items() if node}
        moments = [dict(where)]
        done: set[str] = set()
        homeless: list[Document] = []
        while len(done) < len(steps):
            ready = sorted(i for i, s in steps.items() if i not in done and set(s["after"]) <= done)
            if not ready:
                yield "the steps wait for each other"
                return
            step = steps[random.choice(ready)]
            done.add(step["id"])
            if step["action"] == "Evict" and where.pop(step["pod"], None) != step["node"]:
                yield f"step {step['id']} evicts {step['pod']} from {step['node']}, where it is not"
            if self._target(steps, step) is not None:
                homeless.append(step)
            arrives = step["action"] in _ARRIVES or step["id"] in at_once
            for one in [h for h in homeless if (h is step and arrives) or len(done) == len(steps)]:
                target = self._target(steps, one)
                if target is not None and self._has_room(one["pod"], target, where):
                    homeless.remove(one)
                    where[one["pod"]] = target
            moments.append(dict(where))
            if step["action"] in _ARRIVES and step in homeless:
                yield f"step {step['id']} places {step['pod']} where no room is yet"
        if homeless:
            yield f"{[step['pod'] for step in homeless]} find no room"
        yield from self.devices.problems(moments)


def _in_order(steps: dict[str, Document]) -> Iterator[Document]:
    """Each step after those that it waits for, as far as they do not wait for each other."""
    left = dict(steps)
    while ready := [step for step in left.values() if not any(one in left for one in step["after"])]:
        for step in ready:
            yield left.pop(step["id"])


def _ends(pod: Document) -> bool:
    over = pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
    return over or (pod["metadata"].get("deletionTimestamp") is not None and not pod["spec"].get("nodeName"))


def _gates(pod: Document) -> list[str]:
    return [gate["name"] for gate in pod["spec"].get("schedulingGates", [])]


def _name(item: Document) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _requests(pod: Document) -> Counter[str]:
    total: Counter[str] = Counter({"pods": 1})  # type: ignore[dict-item]
    for container in pod["spec"]["containers"]:
        for resource, text in container.get("resources", {}).get("requests", {}).items():
            total[resource] += amount(text)  # type: ignore[assignment]
    return total


def _ports(pod: Document) -> list[object]:
    containers = pod["spec"]["containers"]
    return [
        (p.get("protocol", "TCP"), p["hostPort"]) for c in containers for p in c.get("ports", []) if "hostPort" in p
    ]
