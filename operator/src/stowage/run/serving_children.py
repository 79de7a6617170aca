"""What a ModelService consists of: known without asking again and again, applied only where it has to be.

What is remembered here saves requests and nothing else: a new process lists and applies once, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Struct

from stowage.act.serving import (
    ChildTaken,
    Document,
    apply_child,
    delete_child,
    list_children,
    lower_deployment,
)
from stowage.api.model_service import ModelService
from stowage.decide.serving.activator_child import activator_name
from stowage.decide.serving.service_facts import ChildRef, DeploymentFact
from stowage.observe.deployment_facts import deployment_fact
from stowage.observe.store import Store
from stowage.transport import Api, Conflict, Forbidden, Invalid

LISTED_SECONDS: Final = 60.0
"""Children are listed anew after so long: of Deployments an event may be lost, of others there is none …"""
SHORT_SECONDS: Final = 10.0
"""… or after so long while pods are fewer than asked for: the Deployment's status says why, and rings nobody."""
APPLIED_SECONDS: Final = 600.0
"""A child is applied anew after so long: what somebody changed meanwhile comes back."""
TAKEN_SECONDS: Final = 5.0
"""A child whose name is taken is tried anew after so long …"""
REFUSED_SECONDS: Final = 30.0
"""… and one that was refused after so long, unless it is another one by then."""
OTHER_KINDS: Final = ("Service", "PodDisruptionBudget")

NOTHING: Final[Mapping[ChildRef, int]] = MappingProxyType({})

_encode = msgspec.json.Encoder(order="sorted").encode


class _Applied(Struct, frozen=True):
    """How a child was applied: what was sent, and what it became."""

    sent: bytes
    at: float
    uid: str
    version: int | str


class _Refused(Struct, frozen=True):
    """How a child was refused: what was sent, and until when nobody tries again."""

    sent: bytes
    until: float
    error: ChildTaken | Invalid | Forbidden


class _Known:
    """What is known of one service's children."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.deployments: dict[str, Document] = {}
        self.listed_at: float | None = None
        self.others: tuple[ChildRef, ...] = ()
        self.versions: dict[ChildRef, int | str] = {}  # of these, as they were listed
        self.others_of: int | None = None  # generation of the spec that they were listed for
        self.others_at = 0.0
        self.applied: dict[tuple[str, str], _Applied] = {}
        self.refused: dict[tuple[str, str], _Refused] = {}


class ServingChildren:
    """Children of all services.

    Args:
        api: the connection.
        store: facts of the cluster.
        clock: seconds since 1970.
    """

    def __init__(self, api: Api, store: Store, clock: Callable[[], float]) -> None:
        self._api = api
        self._store = store
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._service_of: dict[str, str] = {}  # by key of a Deployment: of the service that owns it, or did

    def deployment_changed(self, key: str) -> str | None:
        """A Deployment came, changed or is gone; the key of the service that it concerns."""
        namespace, _, name = key.partition("/")
        workload = self._store.workload("Deployment", namespace, name)
        owner = workload.owner if workload is not None else None
        if owner is not None and owner.kind == ModelService.kind_name():
            self._service_of[key] = f"{namespace}/{owner.name}"
        service = self._service_of.get(key)
        if workload is None:
            self._service_of.pop(key, None)
        if service in self._known:
            self._known[service].listed_at = None
        return service

    async def deployments(self, service: ModelService, pods: int) -> Mapping[str, DeploymentFact]:
        """The Deployments that the service owns, by name.

        Args:
            service: whose.
            pods: how many it has.
        """
        known, now = self._of(service), self._clock()
        replicas = (one for name, one in known.deployments.items() if name != activator_name(service.name))
        asked_for = sum(int((one.get("spec") or {}).get("replicas", 1)) for one in replicas)
        lasts = SHORT_SECONDS if pods < asked_for else LISTED_SECONDS
        if known.listed_at is None or now - known.listed_at >= lasts:
            known.listed_at = now  # a change that is told while the list is on its way takes it back
            try:
                listed = await list_children(self._api, service, "Deployment")
            except BaseException:
                known.listed_at = None
                raise
            known.deployments = {one["metadata"]["name"]: one for one in listed if _stays(one)}
        wanted = _wanted(service)
        return {name: deployment_fact(one, wanted.get(name)) for name, one in known.deployments.items()}

    async def others(self, service: ModelService) -> tuple[ChildRef, ...]:
        """Services and PodDisruptionBudgets that the service owns; they change with its spec, or by somebody's hand."""
        known, now = self._of(service), self._clock()
        if known.others_of != service.metadata.generation or now - known.others_at >= LISTED_SECONDS:
            found = {
                ChildRef(kind, one["metadata"]["name"], one["metadata"]["uid"]): _version(one)
                for kind in OTHER_KINDS
                for one in await list_children(self._api, service, kind)
                if _stays(one)
            }
            known.others, known.versions = tuple(sorted(found)), found
            known.others_of, known.others_at = service.metadata.generation, now
        return known.others

    async def apply(self, service: ModelService, documents: Sequence[Document]) -> None:
        """Apply the children that are not as they were applied last; in order, the first error ends it.

        Raises:
            ChildTaken: another object has the name of a child.
            ApiError: the API server refuses one, or does not answer.
        """
        known = self._of(service)
        for document in documents:
            kind, name = document["kind"], document["metadata"]["name"]
            sent = _encode(document)
            before = known.applied.get((kind, name))
            if before is not None and before.sent == sent and not self._has_changed(known, kind, name, before):
                known.refused.pop((kind, name), None)
                continue
            refused = known.refused.get((kind, name))
            if refused is not None and refused.sent == sent and self._clock() < refused.until:
                raise refused.error
            uid = before.uid if before is not None else self._uid(known, kind, name)
            try:
                now_there = await self._applied(service, document, uid)
            except (ChildTaken, Invalid, Forbidden) as error:
                lasts = TAKEN_SECONDS if isinstance(error, ChildTaken) else REFUSED_SECONDS
                known.refused[kind, name] = _Refused(sent, self._clock() + lasts, error)
                raise
            known.refused.pop((kind, name), None)
            known.applied[kind, name] = _Applied(sent, self._clock(), now_there["metadata"]["uid"], _version(now_there))
            if kind == "Deployment":
                known.deployments[name] = now_there

    async def _applied(self, service: ModelService, document: Document, uid: str | None) -> Document:
        try:
            return await apply_child(self._api, service, document, uid)
        except Conflict:  # gone, or another one: it is looked for before it is made anew
            self._of(service).applied.pop((document["kind"], document["metadata"]["name"]), None)
            return await apply_child(self._api, service, document, None)

    async def delete(
        self, service: ModelService, children: Sequence[ChildRef], lower: Mapping[ChildRef, int] = NOTHING
    ) -> None:
        """Delete children that nobody asks for any more, then let Deployments that still drain have fewer replicas.

        One that is refused keeps no other back.

        Args:
            service: whose.
            children: those that go.
            lower: Deployments that are still needed, and how many replicas of each.

        Raises:
            ApiError: the API server refused one, or does not answer.
        """
        known, refused = self._of(service), list[Invalid | Forbidden]()
        for child in children:
            try:
                await delete_child(self._api, service.namespace, child)
            except (Invalid, Forbidden) as error:
                refused.append(error)
                continue
            known.applied.pop((child.kind, child.name), None)
            known.deployments.pop(child.name, None) if child.kind == "Deployment" else None
            known.others = tuple(one for one in known.others if one != child)
        for child, replicas in lower.items():
            try:
                lowered = await lower_deployment(self._api, service.namespace, child, replicas)
            except (Invalid, Forbidden) as error:
                refused.append(error)
                continue
            if lowered is not None:
                known.deployments[child.name] = lowered
        if refused:
            raise refused[0]

    def forget(self, key: str) -> None:
        """The service is gone: its children are the garbage collector's."""
        self._known.pop(key, None)

    def clear(self) -> None:
        """Somebody else leads: what is known will be old."""
        self._known.clear()

    def _of(self, service: ModelService) -> _Known:
        known = self._known.get(service.key)
        uid = service.metadata.uid or ""
        if known is None or known.uid != uid:
            known = self._known[service.key] = _Known(uid)
        return known

    def _has_changed(self, known: _Known, kind: str, name: str, before: _Applied) -> bool:
        """Whether somebody changed or deleted a child since, or may have."""
        if self._clock() - before.at >= APPLIED_SECONDS:
            return True
        if kind != "Deployment":
            child = ChildRef(kind, name, before.uid)
            return known.others_at > before.at and known.versions.get(child) != before.version
        if known.listed_at is None:
            return False
        there = known.deployments.get(name)
        if there is None or there["metadata"]["uid"] != before.uid:
            return True
        return _version(there) != before.version

    @staticmethod
    def _uid(known: _Known, kind: str, name: str) -> str | None:
        if kind == "Deployment" and name in known.deployments:
            return str(known.deployments[name]["metadata"]["uid"])
        return next((one.uid for one in known.others if (one.kind, one.name) == (kind, name)), None)


def _wanted(service: ModelService) -> dict[str, int]:
    """By name of the Deployment, what the last status asked of it."""
    return {
        f"{service.name}-{role.name}-{variant.name}": variant.desired + variant.spare
        for role in service.status.roles
        for variant in role.variants
    }


def _version(document: Mapping[str, Any]) -> int | str:
    """Another one where somebody has changed the spec since; Services have no generation."""
    metadata = document["metadata"]
    found: int | str = metadata.get("generation") or metadata.get("resourceVersion", "")
    return found


def _stays(document: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" not in document["metadata"]
