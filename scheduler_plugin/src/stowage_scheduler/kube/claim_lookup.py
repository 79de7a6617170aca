"""What a single claim says: bound or not, where its volume can be used, or why it can not be had now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from stowage_scheduler.cluster import ClaimUse, NodeSelectorTerm, Pod, Requirement
from stowage_scheduler.kube.matching import matches_selector
from stowage_scheduler.kube.metadata import workload_uid
from stowage_scheduler.kube.volume_facts import (
    NO_PROVISIONER,
    Claim,
    CSIDriver,
    CSINode,
    StorageClass,
    Volume,
)

_MANY_NODES: Final = frozenset({"ReadWriteMany", "ReadOnlyMany"})
_ONE_POD: Final = "ReadWriteOncePod"
_IN_TREE = "kubernetes.io/"
_NO_ATTACHMENT = ("", "")


class Storage(Struct, frozen=True):
    """All that volumes are looked up in."""

    claims: tuple[Claim, ...] = ()
    volumes: tuple[Volume, ...] = ()
    classes: tuple[StorageClass, ...] = ()
    nodes: tuple[CSINode, ...] = ()
    drivers: tuple[CSIDriver, ...] = ()


class Found(Struct, frozen=True, gc=False):
    """What is known of a claim.

    `key` is `namespace/name` of the claim. `terms` has one entry per rule, each of ORed terms. `attachment` is driver
    and handle, empty when nothing is attached. `free` names volumes one of which the claim will get; `pool` is their
    class when any of them will do. Not `modelled`: kube-scheduler may know more than is written here.
    """

    key: str
    obstacle: str = ""
    modelled: bool = True
    terms: tuple[tuple[NodeSelectorTerm, ...], ...] = ()
    zones: tuple[tuple[str, tuple[str, ...]], ...] = ()
    attachment: tuple[str, str] = _NO_ATTACHMENT
    one_pod: bool = False
    one_node: bool = False
    local: bool = False
    unbound: bool = False
    free: frozenset[str] = frozenset()
    pool: str = ""


class ClaimLookup:
    """Answers about claims, each looked up once.

    Where a kind is missing altogether nothing is said about it (a file may hold pods alone): not modelled.

    Args:
        storage: what to look in.
        before: answers about an earlier state, which hold for bound claims that have not changed.
    """

    def __init__(self, storage: Storage, before: ClaimLookup | None = None) -> None:
        self.storage = storage
        self._claims = {claim.key: claim for claim in storage.claims}
        self.volumes = {volume.name: volume for volume in storage.volumes}
        self._classes = {one.name: one for one in storage.classes}
        self._drivers = {driver.name: driver for driver in storage.drivers}
        self._by_class: dict[str, list[Volume]] = defaultdict(list)
        for volume in storage.volumes:
            self._by_class[volume.storage_class].append(volume)
        self._found: dict[tuple[str, bool], Found] = {}
        self.of_bound: dict[tuple[str, bool], tuple[Claim, Volume, CSIDriver | None, Found]] = {}
        self._before = before.of_bound if before is not None else {}

    def of(self, pod: Pod, use: ClaimUse) -> Found:
        """What is known of a claim that a pod mounts."""
        name = f"{pod.name}-{use.name}" if use.ephemeral else use.name
        key = f"{pod.namespace}/{name}"
        found = self._found.get((key, use.ephemeral))
        if found is None:
            found = self._found[key, use.ephemeral] = self._look(key, ephemeral=use.ephemeral)
        claim = self._claims.get(key)
        if use.ephemeral and claim is not None and not _made_for(claim, pod):
            return Found(key, f"claim {name} was not made for this pod")
        return found

    def _look(self, key: str, *, ephemeral: bool) -> Found:
        name = key.partition("/")[2]
        claim = self._claims.get(key)
        if claim is None:
            if not self._claims:
                return Found(key, modelled=False)
            return Found(key, f"claim {name} is not made yet" if ephemeral else f"claim {name} does not exist")
        if claim.lost:
            return self._obstructed(claim, f"claim {name} has lost its volume")
        if claim.deleting:
            return self._obstructed(claim, f"claim {name} is being deleted")
        if claim.bound:
            return self._bound(claim, ephemeral=ephemeral)
        return self._unbound(claim)

    def _bound(self, claim: Claim, *, ephemeral: bool) -> Found:
        volume = self.volumes.get(claim.volume)
        if volume is None:
            if not self.volumes:
                return Found(claim.key, modelled=False)
            return self._obstructed(claim, f"volume {claim.volume} of claim {claim.name} does not exist")
        driver = self._drivers.get(volume.driver)
        known = self._before.get((claim.key, ephemeral))
        if known is None or known[0] is not claim or known[1] is not volume or known[2] is not driver:
            known = claim, volume, driver, _of_volume(claim, volume, driver, ephemeral=ephemeral)
        self.of_bound[claim.key, ephemeral] = known
        return known[3]

    def _unbound(self, claim: Claim) -> Found:
        """An unbound claim waits for its volume, or kube-scheduler finds it one together with the node."""
        kind = self._classes.get(claim.storage_class)
        if kind is None and claim.storage_class and not self._classes:
            return Found(claim.key, modelled=False)
        if claim.volume or kind is None or not kind.waits:
            return self._obstructed(claim, f"claim {claim.name} has no volume yet")
        terms: list[tuple[NodeSelectorTerm, ...]] = [(on_node(claim.selected_node),)] if claim.selected_node else []
        if kind.provisioner == NO_PROVISIONER:
            return self._from_free(claim, () if claim.selected_node else self._by_class[kind.name])
        driver = self._drivers.get(kind.provisioner)
        if kind.topologies:
            terms.append(kind.topologies)
        return Found(
            key=claim.key,
            # in-tree names stand for CSI drivers; a driver that tracks capacity has room on some nodes alone
            modelled=not kind.provisioner.startswith(_IN_TREE) and not (driver is not None and driver.tracks_capacity),
            terms=tuple(terms),
            attachment=(kind.provisioner, claim.key),
            one_pod=_ONE_POD in claim.access_modes,
            one_node=driver is not None and driver.attaches and _MANY_NODES.isdisjoint(claim.access_modes),
            unbound=True,
        )

    def _obstructed(self, claim: Claim, obstacle: str) -> Found:
        """A claim that no pod can begin to use; where one stands with it, kube-scheduler counts the attachment."""
        volume, kind = self.volumes.get(claim.volume), self._classes.get(claim.storage_class)
        attachment = _NO_ATTACHMENT
        if volume is not None:
            attachment = (volume.driver, volume.handle) if volume.driver and volume.handle else _NO_ATTACHMENT
        elif kind is not None and not kind.provisioner.startswith(_IN_TREE):
            attachment = kind.provisioner, claim.key
        return Found(claim.key, obstacle, attachment=attachment)

    def _from_free(self, claim: Claim, volumes: Iterable[Volume]) -> Found:
        """A claim that nobody makes a volume for: one of those that are free."""
        own = [volume for volume in volumes if _is_promised(volume, claim) and _suits(volume, claim)]
        free = own[:1] or [volume for volume in volumes if _is_free(volume, claim) and _suits(volume, claim)]
        if not free:
            return Found(claim.key, f"no volume is free for claim {claim.name}")
        anywhere = any(volume.terms is None for volume in free)
        return Found(
            key=claim.key,
            modelled=not own[1:] and all(volume.readable and not volume.driver for volume in free),
            terms=() if anywhere else (tuple({term: None for volume in free for term in volume.terms or ()}),),
            one_pod=_ONE_POD in claim.access_modes,
            unbound=True,
            free=frozenset(volume.name for volume in free),
            pool="" if own else claim.storage_class,
        )


def _of_volume(claim: Claim, volume: Volume, driver: CSIDriver | None, *, ephemeral: bool) -> Found:
    """What the volume of a bound claim says."""
    attached = volume.attachable and (driver is None or driver.attaches)
    modes = volume.access_modes
    return Found(
        key=claim.key,
        modelled=volume.readable,
        terms=() if volume.terms is None else (volume.terms,),
        zones=() if ephemeral else volume.zones,
        attachment=(volume.driver, volume.handle) if volume.driver and volume.handle else _NO_ATTACHMENT,
        one_pod=_ONE_POD in claim.access_modes,
        one_node=attached and bool(modes) and _MANY_NODES.isdisjoint(modes),
        local=volume.local,
    )


def on_node(name: str) -> NodeSelectorTerm:
    """The term that one node alone matches."""
    return NodeSelectorTerm(fields=(Requirement("metadata.name", "In", (name,)),))


def _made_for(claim: Claim, pod: Pod) -> bool:
    """Whether the claim of an ephemeral volume belongs to this very pod (`ephemeral.VolumeIsForPod`)."""
    owner = claim.owner
    uids = {pod.uid, workload_uid("Pod", pod.namespace, pod.name)}
    return owner is not None and owner.kind == "Pod" and owner.uid in uids


def _suits(volume: Volume, claim: Claim) -> bool:
    """What `FindMatchingVolume` asks of every volume."""
    return (
        volume.capacity >= claim.size
        and volume.mode == claim.mode
        and volume.attributes_class == claim.attributes_class
        and not volume.deleting
    )


def _is_promised(volume: Volume, claim: Claim) -> bool:
    """Whether a volume is bound to the claim beforehand, by whoever made it."""
    if volume.claimed_by is None:
        return False
    key, uid = volume.claimed_by
    return key == claim.key and uid in {"", claim.uid}


def _is_free(volume: Volume, claim: Claim) -> bool:
    """Whether a volume that is promised to nobody is for such claims."""
    return (
        volume.claimed_by is None
        and volume.available
        and (claim.selector is None or matches_selector(claim.selector, volume.labels))
        and set(claim.access_modes) <= set(volume.access_modes)
    )
