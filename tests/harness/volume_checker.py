"""The rules of volumes in plain Python over Kubernetes objects; a part of the plan checker.

It reads a cluster the way kube-scheduler's plugins do, claim by claim, and shares no code with the product. Clusters
that it is used on name zones by today's labels, and their free volumes are told apart by their class alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

Document = dict[str, Any]
_MANY = {"ReadWriteMany", "ReadOnlyMany"}
_LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class VolumeChecker:
    def __init__(self, items: Iterable[Document]) -> None:
        kinds: dict[str, dict[str, Document]] = defaultdict(dict)
        for item in items:
            meta = item["metadata"]
            key = f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"]
            kinds[item["kind"]][key] = item
        self.claims, self.volumes = kinds["PersistentVolumeClaim"], kinds["PersistentVolume"]
        self.classes, self.pods, self.nodes = kinds["StorageClass"], kinds["Pod"], kinds["Node"]
        self.limits: dict[tuple[str, str], int] = {}
        for name, node in kinds["CSINode"].items():
            for driver in node["spec"].get("drivers", []):
                if "count" in driver.get("allocatable", {}):
                    self.limits[name, driver["name"]] = driver["allocatable"]["count"]

    def arrival(self, pod: Document, node: Document) -> Iterator[str]:
        """Why a pod can not start on a node."""
        name, labels = pod["metadata"]["name"], node["metadata"].get("labels", {})
        for key in _claims(pod):
            claim = self.claims.get(key)
            if claim is None or "deletionTimestamp" in claim["metadata"] or claim["status"]["phase"] == "Lost":
                yield f"{name} is placed without claim {key}"
                continue
            volume = self._volume(claim)
            if volume is not None:
                if not _admits(volume, labels):
                    yield f"{name} goes to {node['metadata']['name']}, where volume {volume['metadata']['name']} is not"
                continue
            kind = self.classes.get(claim["spec"].get("storageClassName", ""))
            if kind is None or kind["volumeBindingMode"] != "WaitForFirstConsumer" or claim["spec"].get("volumeName"):
                yield f"{name} is placed with claim {key}, which is not bound"
            elif kind["provisioner"] == "kubernetes.io/no-provisioner":
                if not any(_admits(one, labels) for one in self._free(claim)):
                    yield f"{name} goes to {node['metadata']['name']}, where no volume is free for {key}"
            elif not _in_topologies(kind, labels):
                yield f"{name} goes to {node['metadata']['name']}, where class {kind['metadata']['name']} makes nothing"

    def departure(self, pod: Document) -> Iterator[str]:
        """Why a pod has to stay where it is."""
        name = pod["metadata"]["name"]
        if any("ephemeral" in volume for volume in pod["spec"].get("volumes", [])):
            yield f"{name} has an ephemeral volume and must not move"
        for key in _claims(pod):
            claim = self.claims.get(key)
            if claim is None or "deletionTimestamp" in claim["metadata"]:
                yield f"{name} must not move: claim {key} is not there for a replacement"
                continue
            volume = self._volume(claim)
            if volume is None:
                continue
            if "local" in volume["spec"] or "hostPath" in volume["spec"]:
                yield f"{name} has data on its node and must not move"
            if _for_one_node(volume) and len(self._users(key)) > 1:
                yield f"{name} shares volume {volume['metadata']['name']} and must not move"

    def together(self, before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
        """What is wrong with all pods together; what was wrong before is not counted. Both map a pod to its node."""
        yield from self.limits_broken(before, after)
        for key, claim in self.claims.items():
            volume = self._volume(claim)
            users = [name for name in self._users(key) if name in after]
            arrived = any(before.get(name) != after[name] for name in users)
            many = volume is not None and _for_one_node(volume) and len({after[name] for name in users}) > 1
            if arrived and many:
                yield f"claim {key} is used on several nodes"
            if arrived and len(users) > 1 and "ReadWriteOncePod" in claim["spec"]["accessModes"]:
                yield f"claim {key} is used by several pods"
        taken = Counter((after[name], kind) for name in after if name not in before for kind in self._drawn(name))
        for (node, kind), count in taken.items():
            labels = self.nodes[node]["metadata"].get("labels", {})
            if count > sum(1 for one in self.volumes.values() if _is_free(one, kind) and _admits(one, labels)):
                yield f"{count} pods want volumes of class {kind} on {node}, fewer are free"

    def limits_broken(self, before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
        """Nodes that attach more volumes than they can, and more than before."""
        old, new = self._attached(before), self._attached(after)
        for place, count in new.items():
            if place in self.limits and count > max(self.limits[place], old[place]):
                yield f"{place[0]} attaches {count} volumes of {place[1]}, at most {self.limits[place]}"

    def _attached(self, where: dict[str, str]) -> Counter[tuple[str, str]]:
        """Volumes by node and driver, each once."""
        handles: set[tuple[str, str, str]] = set()
        for name, node in where.items():
            for key in _claims(self.pods[name]):
                claim = self.claims.get(key)
                volume = self._volume(claim) if claim else None
                kind = self.classes.get(claim["spec"].get("storageClassName", "")) if claim else None
                if volume is not None and "csi" in volume["spec"]:
                    source = volume["spec"]["csi"]
                    handles.add((node, source["driver"], source["volumeHandle"]))
                elif volume is None and kind is not None:
                    handles.add((node, kind["provisioner"], key))
        return Counter((node, driver) for node, driver, _ in handles)

    def _volume(self, claim: Document) -> Document | None:
        bound = "pv.kubernetes.io/bind-completed" in claim["metadata"].get("annotations", {})
        return self.volumes.get(claim["spec"].get("volumeName", "")) if bound else None

    def _users(self, key: str) -> list[str]:
        return [name for name, pod in self.pods.items() if key in _claims(pod) and _stays(pod)]

    def _free(self, claim: Document) -> list[Document]:
        return [one for one in self.volumes.values() if _is_free(one, claim["spec"]["storageClassName"])]

    def _drawn(self, name: str) -> Iterator[str]:
        """Classes without a provisioner from which a pod takes a volume."""
        for key in _claims(self.pods[name]):
            claim = self.claims.get(key)
            if claim is not None and self._volume(claim) is None:
                kind = claim["spec"].get("storageClassName", "")
                if self.classes.get(kind, {}).get("provisioner") == "kubernetes.io/no-provisioner":
                    yield str(kind)


def _claims(pod: Document) -> set[str]:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    volumes = pod["spec"].get("volumes", [])
    named = {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}
    return {f"{namespace}/{one}" for one in named | {f"{name}-{v['name']}" for v in volumes if "ephemeral" in v}}


def _stays(pod: Document) -> bool:
    over = pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
    return not over and "deletionTimestamp" not in pod["metadata"]


def _admits(volume: Document, labels: dict[str, str]) -> bool:
    required = volume["spec"].get("nodeAffinity", {}).get("required")
    if required is not None and not any(
        all(labels.get(one["key"]) in one["values"] for one in term["matchExpressions"])
        for term in required["nodeSelectorTerms"]
    ):
        return False
    if not any(key in labels for key in _LABELS):
        return True
    zones = {key: text for key, text in volume["metadata"].get("labels", {}).items() if key in _LABELS}
    return all(labels.get(key) in text.split("__") for key, text in zones.items())


def _in_topologies(kind: Document, labels: dict[str, str]) -> bool:
    terms = kind.get("allowedTopologies", [])
    return not terms or any(
        all(labels.get(one["key"]) in one["values"] for one in term["matchLabelExpressions"]) for term in terms
    )


def _for_one_node(volume: Document) -> bool:
    return "csi" in volume["spec"] and _MANY.isdisjoint(volume["spec"]["accessModes"])


def _is_free(volume: Document, kind: str) -> bool:
    return volume["spec"].get("storageClassName") == kind and volume["status"]["phase"] == "Available"
