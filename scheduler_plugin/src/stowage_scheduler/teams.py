"""Teams: whose pods share one claim to the nodes."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from stowage_scheduler.cluster import LabelSelector, Pod
from stowage_scheduler.kube.matching import NAMESPACE_NAME_LABEL, matches_selector

NOBODY = "(no team)"
"""Name of the team of all pods that no team selects; its weight is 1."""


class Team(Struct, frozen=True):
    """Pods that share one claim. The label `kubernetes.io/metadata.name` stands for the namespace of a pod."""

    name: str
    selector: LabelSelector
    weight: int = 1


class Membership:
    """Which team a pod belongs to: the first that selects it, or the one after the last."""

    def __init__(self, teams: Sequence[Team]) -> None:
        self._teams = teams
        self._known: dict[object, int] = {}  # by what selectors see, which replicas share

    def of(self, pod: Pod) -> int:
        """The number of a pod's team."""
        key = pod.namespace, *pod.labels.items()
        if key not in self._known:
            labels = {**pod.labels, NAMESPACE_NAME_LABEL: pod.namespace}
            found = (number for number, team in enumerate(self._teams) if matches_selector(team.selector, labels))
            self._known[key] = next(found, len(self._teams))
        return self._known[key]
