"""Volumes looked up: what pods' claims say about nodes becomes facts of the pods, and limits facts of the nodes.

A pod names claims; claims name volumes, or a class that makes them; nodes tell how many volumes they attach. Once
that is looked up, packing needs to know nothing of it: a pod has needs (`VolumeNeeds`), an obstacle or none, and asks
for attachments like for any resource. The record is docs/design/volumes.md.

Source: plugins VolumeBinding, VolumeZone, VolumeRestrictions and NodeVolumeLimits of kube-scheduler 1.36, and
`pkg/controller/volume/attachdetach` for what happens to volumes that one node at a time may attach.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

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
from stowage_scheduler.kube.free_volumes import Places, Pools
from stowage_scheduler.kube.sharing import Memo, shared
from stowage_scheduler.kube.volume_facts import CSINode

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
    takes: tuple[tuple[str, int], ...]  # resources


class _User(Struct):
    """A pod that holds or wants volumes, with what was found for each claim, and how it was written last."""

    pod: Pod
    found: tuple[Found, ...]
    draws: bool  # on volumes that are free
    alone: bool = False  # nothing that was written depends on other pods
    outcome: _Outcome | None = None
    after: Pod | None = None


class VolumeResolution:
    """Looks claims up; what it answers depends on the arguments alone, but what it found before makes it cheap."""

    def __init__(self) -> None:
        self._lookup = ClaimLookup(Storage())
        self._limited: frozenset[str] = frozenset()
        self._places = Places(())
        self._users: dict[str, _User] = {}
        self._pools = Pools((), {}, self._places)
        self._offered: tuple[tuple[object, ...], tuple[Node, ...]] | None = None

    def resolve(
        self, storage: Storage, pods: tuple[Pod, ...], nodes: tuple[Node, ...]
    ) -> tuple[tuple[Pod, ...], tuple[Node, ...]]:
        """Pods with their claims looked up, and nodes with the limits of drivers, each in the order given.

        Where there is nothing to write the same tuple comes back.
        """
        changed = self._lookup.storage is not storage
        if changed:
            self._lookup = ClaimLookup(storage, self._lookup)
            limited = frozenset(driver for node in storage.nodes for driver, _ in node.limits)
            if limited != self._limited:
                self._limited, self._users = limited, {}
        if not self._places.are_of(nodes):
            self._places, self._users = Places(nodes), {}
        written = self._pods(pods, changed=changed)
        return written, nodes if written is pods else self._nodes(storage.nodes, nodes, _drivers_of(written))

    def _pods(self, pods: tuple[Pod, ...], *, changed: bool) -> tuple[Pod, ...]:
        users = [
            (place, self._user(pod, changed=changed))
            for place, pod in enumerate(pods)
            if pod.claims and not pod.finished
        ]
        self._users = {user.pod.uid: user for _, user in users}
        if not users:
            self._pools = Pools((), {}, self._places)
            return pods
        by_claim: dict[str, list[Pod]] = defaultdict(list)
        for _, user in users:
            for found in user.found:
                by_claim[found.key].append(user.pod)
        shared_claims = {key for key, sharing in by_claim.items() if len(sharing) > 1}
        together: list[_User] = []
        for _, user in users:
            if user.draws or not shared_claims.isdisjoint([found.key for found in user.found]):
                together.append(user)
            elif not user.alone:
                self._write(user, _outcome(user, self._attached(user)), alone=True)
        waiting = [user for user in together if user.pod.node is None]
        wishes = [found for user in waiting for found in user.found if not found.obstacle]
        self._pools = Pools(wishes, self._lookup.volumes, self._places)
        for user, outcome in self._outcomes(together, by_claim):
            self._write(user, outcome, alone=False)
        written = list(pods)
        for place, user in users:
            written[place] = user.after or user.pod
        return tuple(written)

    def _nodes(self, limits: tuple[CSINode, ...], nodes: tuple[Node, ...], drivers: frozenset[str]) -> tuple[Node, ...]:
        """The nodes with their limits for the drivers that pods use, and with free volumes that pods wait for."""
        free = self._pools.offers
        if not drivers and not free:
            return nodes
        sources = limits, nodes, drivers, free
        if self._offered is None or not _same(self._offered[0], sources):
            by_name = {node.name: dict(node.limits) for node in limits}
            self._offered = (
                sources,
                tuple([_offering(one, by_name.get(one.name, {}), drivers, free.get(one.name, {})) for one in nodes]),
            )
        return self._offered[1]

    def _user(self, pod: Pod, *, changed: bool) -> _User:
        """What is found for the claims of a pod; what was written of it before stands if that is still the same."""
        known = self._users.get(pod.uid)
        if known is not None and known.pod is pod and not changed:
            return known
        found = tuple([self._lookup.of(pod, use) for use in pod.claims])
        if known is not None and known.pod is pod and known.found == found:
            return known
        return _User(pod, found, any(one.free for one in found))

    def _write(self, user: _User, outcome: _Outcome, *, alone: bool) -> None:
        user.alone = alone
        if user.outcome == outcome:
            return
        pod = user.pod
        unmodelled = {*pod.unmodelled, Unmodelled.VOLUMES} if outcome.unmodelled else pod.unmodelled
        user.outcome = outcome
        user.after = msgspec.structs.replace(
            pod,
            requests=_with(pod.requests, outcome.takes),
            volume_needs=shared(outcome.needs),
            volume_obstacle=outcome.obstacle,
            unmodelled=shared(tuple(sorted(unmodelled))),
            local_volume=pod.local_volume or outcome.local or self._places.hold(pod.node, outcome.needs),
            shared_volume=outcome.shared,
            unbound_volume=outcome.unbound,
        )

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
            pooled = [resource for found in user.found if (resource := self._pools.resource(found)) is not None]
            pooled = pooled if pod.node is None else []
            outcome = _outcome(user, attached, _beside_others(user, by_claim), pooled=pooled, pinned=pinned)
            single = [found.free for found in user.found if found.free and self._pools.resource(found) is None]
            free = frozenset().union(*single)
            if len(free) < sum(map(len, single)) or not free.isdisjoint(taken):
                outcome = msgspec.structs.replace(outcome, unmodelled=True)  # who gets which is open
            elif not outcome.obstacle and not outcome.unmodelled:
                taken |= free
            yield user, outcome


def _drivers_of(pods: Iterable[Pod]) -> frozenset[str]:
    """The drivers whose limits pods run against."""
    each = {id(pod.requests): pod.requests for pod in pods if pod.claims}  # pods of one template share theirs
    return frozenset(
        name.removeprefix(ATTACHMENTS)
        for requests in each.values()
        for name in requests
        if name.startswith(ATTACHMENTS)
    )


def _outcome(
    user: _User,
    attached: Iterable[tuple[str, str]],
    beside: _Beside | None = None,
    *,
    pooled: Iterable[str] = (),
    pinned: bool = False,
) -> _Outcome:
    """What is written into a pod: what was found for its claims, and what other pods with them add."""
    beside = beside or _Beside()
    terms = {*beside.terms, *(rule for found in user.found for rule in found.terms)}
    takes = Counter([*(ATTACHMENTS + driver for driver, _ in attached), *pooled])
    return _Outcome(
        needs=VolumeNeeds(
            tuple(sorted(terms, key=repr)), tuple(sorted({zone for found in user.found for zone in found.zones}))
        ),
        obstacle=min([found.obstacle for found in user.found if found.obstacle] + beside.obstacles, default=""),
        unmodelled=beside.open_question or not all(found.modelled for found in user.found),
        local=any(found.local for found in user.found),
        shared=pinned,
        unbound=any(found.unbound for found in user.found),
        takes=tuple(sorted(takes.items())),
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


def _with(requests: Resources, takes: tuple[tuple[str, int], ...]) -> Resources:
    """Requests with what volumes take; equal ones are one object."""
    if not takes:
        return requests
    return _requests.of((tuple(requests.items()), takes), lambda: {**requests, **dict(takes)})


def _offering(node: Node, limits: Mapping[str, int], drivers: Iterable[str], free: Mapping[str, int]) -> Node:
    """A node with what it attaches and what is free on it."""
    told = {ATTACHMENTS + driver: limits.get(driver, UNLIMITED) for driver in sorted(drivers)}
    return msgspec.structs.replace(node, allocatable={**node.allocatable, **told, **free})


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether tuples hold the same objects, or equal ones that are not tuples themselves: those are long."""
    return all(a is b or (not isinstance(a, tuple) and a == b) for a, b in zip(one, other, strict=True))
