"""Volumes looked up: what pods' claims say about nodes becomes facts of the pods, and limits facts of the nodes.

A pod names claims; claims name volumes, or a class that makes them; nodes tell how many volumes they attach. Once
that is looked up, packing needs to know nothing of it: a pod has needs (`VolumeNeeds`), an obstacle or none, and asks
for attachments like for any resource. The record is docs/design/volumes.md.

Source: plugins VolumeBinding, VolumeZone, VolumeRestrictions and NodeVolumeLimits of kube-scheduler 1.36, and
`pkg/controller/volume/attachdetach` for what happens to volumes that one node at a time may attach.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from stowage_scheduler.cluster import (
    ATTACHMENTS,
    Node,
    NodeSelectorTerm,
    Pod,
    Resources,
    Unmodelled,
    VolumeNeeds,
)
from stowage_scheduler.kube.claim_lookup import ClaimLookup, Found, Storage, on_node
from stowage_scheduler.kube.sharing import Memo, shared

UNLIMITED = 2**31 - 1
"""What a node offers where its driver tells no limit: limits are 32 bits wide."""

_requests: Memo[Resources] = Memo()


class _Outcome(Struct, frozen=True):
    """What is written into a pod."""

    needs: VolumeNeeds
    obstacle: str
    unmodelled: bool
    local: bool
    shared: bool
    unbound: bool
    attachments: tuple[tuple[str, int], ...]


class _User(Struct):
    """A pod that holds or wants volumes, with what was found for each claim."""

    pod: Pod
    found: tuple[Found, ...]


class _Written(Struct):
    """A pod before and after; `alone`: nothing that was found depends on other pods."""

    before: Pod
    alone: bool
    outcome: _Outcome
    after: Pod


class VolumeResolution:
    """Looks claims up for one state of storage; remembers what it found, so asking again about the same pods is cheap.

    Args:
        storage: claims, volumes, classes, nodes and drivers.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lookup = ClaimLookup(storage)
        self._limited = {driver for node in storage.nodes for driver, _ in node.limits}
        self._written: dict[str, _Written] = {}

    def pods(self, pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
        """The pods, in the order given, with their claims looked up; the same tuple when none has claims."""
        users = [
            _User(pod, tuple([self._lookup.of(pod, use) for use in pod.claims]))
            for pod in pods
            if pod.claims and not pod.finished
        ]
        if not users:
            return pods
        by_claim: dict[str, list[Pod]] = defaultdict(list)
        for user in users:
            for found in user.found:
                by_claim[found.key].append(user.pod)
        together: list[_User] = []
        written: dict[str, _Written] = {}
        for user in users:
            if any(found.free or len(by_claim[found.key]) > 1 for found in user.found):
                together.append(user)
                continue
            known = self._written.get(user.pod.uid)
            if known is None or not known.alone or known.before is not user.pod:
                known = self._write(user.pod, _outcome(user, self._attached(user)), alone=True)
            written[user.pod.uid] = known
        for user, outcome in self._outcomes(together, by_claim):
            written[user.pod.uid] = self._write(user.pod, outcome, alone=False)
        self._written = written
        return tuple([written[pod.uid].after if pod.uid in written else pod for pod in pods])

    def nodes(self, nodes: tuple[Node, ...], drivers: Collection[str]) -> tuple[Node, ...]:
        """The nodes with their limits for some drivers (`drivers_of`); the same tuple without any."""
        if not drivers:
            return nodes
        limits = {node.name: dict(node.limits) for node in self._storage.nodes}
        return tuple([_with_limits(node, limits.get(node.name, {}), drivers) for node in nodes])

    def _write(self, pod: Pod, outcome: _Outcome, *, alone: bool) -> _Written:
        known = self._written.get(pod.uid)
        if known is not None and known.before is pod and known.outcome == outcome:
            return _Written(pod, alone, outcome, known.after)
        unmodelled = {*pod.unmodelled, Unmodelled.VOLUMES} if outcome.unmodelled else pod.unmodelled
        after = msgspec.structs.replace(
            pod,
            requests=_with_attachments(pod.requests, outcome.attachments),
            volume_needs=shared(outcome.needs),
            volume_obstacle=outcome.obstacle,
            unmodelled=shared(tuple(sorted(unmodelled))),
            local_volume=pod.local_volume or outcome.local,
            shared_volume=outcome.shared,
            unbound_volume=outcome.unbound,
        )
        return _Written(pod, alone, outcome, after)

    def _attached(self, user: _User) -> set[tuple[str, str]]:
        """Driver and handle of what a pod attaches through drivers with a limit."""
        return {found.attachment for found in user.found if found.attachment[0] in self._limited}

    def _outcomes(
        self, users: Iterable[_User], by_claim: Mapping[str, Sequence[Pod]]
    ) -> Iterator[tuple[_User, _Outcome]]:
        """For pods that are not alone with their claims. Those that come first by name have the first choice.

        A volume is attached once to a node. Of pods that stay on their node only the first is charged for it; one
        that may move takes it along, so it is charged in any case: that may be one too many, never one too few.
        """
        taken: set[str] = set()  # free volumes that an earlier pod may get
        charged: set[tuple[str, str, str]] = set()  # node, driver, handle
        for user in sorted(users, key=lambda user: (user.pod.key, user.pod.uid)):
            pod = user.pod
            pinned = _is_shared(user, by_claim)
            attached = self._attached(user)
            if pod.node is not None and (pod.leaving or pinned):
                attached = {one for one in attached if (pod.node, *one) not in charged}
                charged.update((pod.node, *one) for one in attached)
            outcome = _outcome(user, attached, _beside_others(user, by_claim), pinned=pinned)
            free = {name for found in user.found for name in found.free}
            if len(free) < sum(len(found.free) for found in user.found) or not free.isdisjoint(taken):
                outcome = msgspec.structs.replace(outcome, unmodelled=True)  # who gets which is open
            elif not outcome.obstacle and not outcome.unmodelled:
                taken |= free
            yield user, outcome


def drivers_of(pods: Iterable[Pod]) -> frozenset[str]:
    """The drivers whose limits pods run against."""
    with_claims = (pod for pod in pods if pod.claims)
    names = (name for pod in with_claims for name in pod.requests if name.startswith(ATTACHMENTS))
    return frozenset(name.removeprefix(ATTACHMENTS) for name in names)


def _outcome(
    user: _User, attached: Iterable[tuple[str, str]], beside: _Beside | None = None, *, pinned: bool = False
) -> _Outcome:
    """What is written into a pod: what was found for its claims, and what other pods with them add."""
    beside = beside or _Beside()
    terms = {*beside.terms, *(rule for found in user.found for rule in found.terms)}
    count = Counter(driver for driver, _ in attached)
    return _Outcome(
        needs=VolumeNeeds(
            tuple(sorted(terms, key=repr)), tuple(sorted({zone for found in user.found for zone in found.zones}))
        ),
        obstacle=min([found.obstacle for found in user.found if found.obstacle] + beside.obstacles, default=""),
        unmodelled=beside.open_question or not all(found.modelled for found in user.found),
        local=any(found.local for found in user.found),
        shared=pinned,
        unbound=any(found.unbound for found in user.found),
        attachments=tuple(sorted(count.items())),
    )


class _Beside(Struct):
    """What other pods with the same claims mean for a pod: obstacles, nodes that it has to be on, an open question."""

    obstacles: list[str] = []
    terms: list[tuple[NodeSelectorTerm, ...]] = []
    open_question: bool = False


def _beside_others(user: _User, by_claim: Mapping[str, Sequence[Pod]]) -> _Beside:
    """Look at the other users of a waiting pod's claims; one that stands is left as it is."""
    pod, beside = user.pod, _Beside()
    if pod.node is not None:
        return beside
    for found in user.found:
        others = [other for other in by_claim[found.key] if other.uid != pod.uid]
        standing = [other for other in others if other.node is not None]
        waiting = [other for other in others if other.node is None and not other.leaving]
        first = all((pod.key, pod.uid) < (other.key, other.uid) for other in waiting)
        if found.one_pod and (standing or not first):
            holder = min(other.key for other in standing or waiting)
            name = found.key.partition("/")[2]
            beside.obstacles.append(f"claim {name} is for one pod at a time, and {holder} has it")
        elif found.one_node:
            nodes = sorted({other.node or "" for other in standing if not other.leaving})
            if nodes:
                beside.terms.append(tuple([on_node(name) for name in nodes]))
            elif not first:
                beside.open_question = True  # they have to be on one node, and none of them has one yet
    return beside


def _is_shared(user: _User, by_claim: Mapping[str, Sequence[Pod]]) -> bool:
    """Whether it has a volume that a single node may attach, and another pod that stays uses it too."""
    return any(
        found.one_node and any(other.uid != user.pod.uid and not other.leaving for other in by_claim[found.key])
        for found in user.found
    )


def _with_attachments(requests: Resources, attachments: tuple[tuple[str, int], ...]) -> Resources:
    if not attachments:
        return requests
    key = tuple(requests.items()), attachments
    return _requests.of(key, lambda: {**requests, **{ATTACHMENTS + driver: count for driver, count in attachments}})


def _with_limits(node: Node, limits: Mapping[str, int], drivers: Iterable[str]) -> Node:
    told = {ATTACHMENTS + driver: limits.get(driver, UNLIMITED) for driver in sorted(drivers)}
    return msgspec.structs.replace(node, allocatable={**node.allocatable, **told})
