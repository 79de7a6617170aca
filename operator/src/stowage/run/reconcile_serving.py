"""One pass over one ModelService: read, ask for signals, decide, write the status, act on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from stowage.act.events import announce_service
from stowage.act.serving import ChildTaken, get_service, patch_pod, refuse_unreadable_service
from stowage.act.workload_status import write_workload_status
from stowage.api.model_service import ModelService
from stowage.api.names import ROLE_LABEL, SERVICE_LABEL, VARIANT_LABEL
from stowage.api.resource import InvalidObjectError
from stowage.decide.serving.hold import Held
from stowage.decide.serving.pod_patches import pod_patches
from stowage.decide.serving.role_memory import RoleMemory
from stowage.decide.serving.service_announcements import service_announcements
from stowage.decide.serving.service_facts import PodFact, PodRef, pod_fact
from stowage.decide.serving.service_shown import told_after_seconds
from stowage.decide.serving.service_step import Ask, Document, Seen, ServiceStep, asks, next_step
from stowage.observe.store import Store
from stowage.run.activators import Activators, address_of, is_activator
from stowage.run.event_allowance import EventAllowance
from stowage.run.free_gpus import FreeGpus
from stowage.run.labelled_pods import LabelledPods
from stowage.run.lease import Lease, term_of
from stowage.run.metrics import Metrics
from stowage.run.profile_statuses import tell_profile
from stowage.run.service_signals import Signals, serving_pod
from stowage.run.serving_children import ServingChildren
from stowage.run.serving_groups import ServingGroups
from stowage.run.serving_look import Look
from stowage.run.serving_metrics import ServingMetrics
from stowage.run.serving_mix import Mixes, Solve
from stowage.run.serving_prefetch import ServingPrefetch
from stowage.run.serving_profiles import Profiles, kv_tokens
from stowage.run.serving_signals import ServingSignals
from stowage.run.settings import OperatorSettings
from stowage.transport import Api, Forbidden, Invalid
from stowage_scheduler.cluster import Pod

AGAIN_SECONDS: Final = 0.5
AWAITED_SECONDS: Final = 2.0
"""The answers ring; this is in case they never come."""
BETWEEN_SECONDS: Final = 1.0
"""From one pass to the next at least: a hundred pods that start ring hundreds of times."""
LEFT_OVER_SECONDS: Final = 60.0
"""Of a cold start that is never made."""
RING_SECONDS: Final = 0.1  # one pass for the many events of one change
WRITES_AT_ONCE: Final = 16

Ring = Callable[[str, float], None]
"""Told the key of a service and after how many seconds to look at it."""

logger = logging.getLogger(__name__)


class ServingReconciler:
    """Carries services through their lives. What it remembers saves requests and time: a new process does without.

    Args:
        api: the connection.
        store: facts of the cluster.
        lease: of the leader; nothing is written without it.
        metrics: of the process.
        clock: wall clock, seconds since the epoch.
        settings: of the process.
        ring: called when a service has to be looked at.
        signals: who asks Prometheus.
        solve: who works out mixes of variants; None: nobody does.
        on_profile: told the name of a profile that a service begins or ceases to name.
    """

    def __init__(
        self,
        *,
        api: Api,
        store: Store,
        lease: Lease,
        metrics: Metrics,
        clock: Callable[[], float],
        settings: OperatorSettings,
        ring: Ring,
        signals: Signals | ServingSignals,
        solve: Solve | None = None,
        on_profile: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._api = api
        self._lease = lease
        self._clock = clock
        self._settings = settings
        self._ring = ring
        self._signals = signals
        self._pods = LabelledPods(store.pods, SERVICE_LABEL)
        self._children = ServingChildren(api, store, clock)
        self._groups = ServingGroups(api, store, clock)
        self._profiles = Profiles(api, clock, on_profile)
        self._activators = Activators(ring, address_of(api, settings.activator_address), clock)
        metrics.serving_held_requests.set_function(lambda: float(self._activators.waiting()))
        self._prefetch = ServingPrefetch(api, store, clock)
        self._metrics = ServingMetrics(metrics, lambda: lease.epoch if lease.leading else 0, clock)
        self._mixes = Mixes(solve, signals.lengths, lambda key: ring(key, RING_SECONDS), clock) if solve else None
        self._free_gpus = FreeGpus(store, clock)
        self._events = EventAllowance(clock)
        self._profile_versions: dict[str, tuple[str, int] | None] = {}  # by name
        self._uids: dict[str, str] = {}  # by key
        self._memories: dict[str, Mapping[str, RoleMemory]] = {}  # by UID, then by role
        self._refused: dict[str, str] = {}  # by key: the API server's words about a child
        self._sent: dict[str, dict[str, Document]] = {}  # by key, then by UID of a pod: the last patch
        self._shown_at: dict[str, float] = {}  # by key: when the status was written last
        self._written: dict[str, str] = {}  # by key: the resource version that we wrote last
        self._seen_at: dict[str, float] = {}  # by key: when the last pass began
        self._writes = asyncio.Semaphore(WRITES_AT_ONCE)

    def on_store_event(self, kind: str, key: str) -> None:
        """Ring the services that a change of the cluster may concern."""
        if kind == "Pod":
            concerned = self._pods.changed(key)
        elif kind == "Deployment":
            service = self._children.deployment_changed(key)
            concerned = (service,) if service is not None else ()
        else:
            return
        for one in concerned:
            self._ring(one, RING_SECONDS)

    def profile_changed(self, name: str) -> None:
        """A profile came, changed or is gone: ring the services that name it."""
        for service in self._profiles.changed(name):
            self._ring(service, RING_SECONDS)

    async def reconcile_profile(self, name: str) -> None:
        """Bring the status of a profile up to date, and ring its services where its spec is another one.

        Operators that are held to some namespaces do not know all services, so they write no status.
        """
        version = None
        if not self._settings.watch_namespaces:
            version = await tell_profile(self._api, self._lease, self._clock, name, self._profiles.services(name))
        if version is None or self._profile_versions.get(name) != version:
            self.profile_changed(name)
        self._profile_versions[name] = version

    def is_own(self, key: str, version: str) -> bool:
        """Whether a version of a service is what this process wrote last, and so nothing to look at."""
        return self._written.get(key) == version

    async def close(self) -> None:
        """End what goes on between passes."""
        await self._activators.close()

    def stand_by(self) -> None:
        """Somebody else leads: what is remembered will be old."""
        self._signals.clear()
        self._activators.clear()
        self._children.clear()
        self._groups.clear()
        self._profiles.clear()
        self._profile_versions.clear()
        if self._mixes is not None:
            self._mixes.clear()
        self._prefetch.clear()
        memories = (self._uids, self._memories, self._refused, self._sent, self._shown_at, self._written, self._seen_at)
        for memory in memories:
            memory.clear()

    async def reconcile(self, key: str) -> float | None:
        """Bring one service up to date; returns after how many seconds to look again, None: at the next ring."""
        namespace, _, name = key.partition("/")
        if self._settings.watch_namespaces and namespace not in self._settings.watch_namespaces:
            return None
        wait_seconds = self._seen_at.get(key, 0.0) + BETWEEN_SECONDS - self._clock()
        if wait_seconds > 0:
            return min(wait_seconds, BETWEEN_SECONDS)
        try:
            service = await get_service(self._api, namespace, name)
        except InvalidObjectError as error:
            self._metrics.unreadable(key)
            leads = term_of(self._lease)
            await refuse_unreadable_service(self._api, namespace, name, error, now=self._clock(), leads=leads)
            return None
        if service is None:
            self._let_go(key)
            return None
        leads = term_of(self._lease)  # what is found now is no longer worth anything when this term is over
        self._begin(service)
        self._seen_at[key] = self._clock()
        seen = await self._seen(service)
        if seen is None:
            return AWAITED_SECONDS
        step = next_step(seen)
        late_seconds = self._rests_seconds(service, step, seen.now)
        if late_seconds > 0:
            written: ModelService | None = service
        else:
            written = await write_workload_status(self._api, service, step.status, leads=leads)
        if written is None or not leads():
            return AGAIN_SECONDS
        self._memories[service.metadata.uid or ""] = step.memories
        if self._mixes is not None:
            self._mixes.used(service, seen.mixes)
            self._mixes.ask(service, step.questions)
        self._wrote(service, written, step, seen)
        try:
            again = await self._act(written, step, seen, leads)
        finally:
            await self._announce(service, written, seen.now)
        return min(again, late_seconds) if late_seconds > 0 else again

    def _begin(self, service: ModelService) -> None:
        """A service of this name that was deleted and made anew is another one."""
        uid, before = service.metadata.uid or "", self._uids.get(service.key)
        if before is not None and before != uid:
            self._let_go(service.key)
        self._uids[service.key] = uid

    def _let_go(self, key: str) -> None:
        """The service is gone: its children are the garbage collector's."""
        uid = self._uids.pop(key, None)
        if uid is not None:
            self._signals.forget(uid)
            self._memories.pop(uid, None)
            if self._mixes is not None:
                self._mixes.forget(uid)
        self._children.forget(key)
        self._groups.forget(key)
        self._activators.forget(key)
        self._profiles.forget(key)
        self._prefetch.forget(key)
        self._metrics.gone(key)
        self._events.forget(key)
        for memory in (self._refused, self._sent, self._shown_at, self._written, self._seen_at):
            memory.pop(key, None)

    async def _seen(self, service: ModelService) -> Seen | None:
        """What there is to decide from; None: the store is behind, or the first answers have not come yet."""
        found = (pod_fact(pod) for pod in self._pods.of(service.key) if _is_of(service, pod))
        pods = tuple(one for one in found if one is not None)
        groups = await self._groups.seen(service, self._pods.of(service.key), self._clock())
        if groups is None:
            return None
        deployments = await self._children.deployments(service, len(pods))
        pods += groups.facts
        others = await self._children.others(service)
        profiles = await self._profiles.of(service)
        memories = self._memories.get(service.metadata.uid or "", {})
        now = self._clock()
        # replicas of roles that are gone from the spec drain too, and somebody has to see when they are empty
        left_over = {pod.role: Ask(0, LEFT_OVER_SECONDS) for pod in pods}
        asked = {**left_over, **asks(service, pods, deployments, memories)}
        looks = await self._looks(service, pods, asked, kv_tokens(service, profiles), now)
        if service.status.roles and any(one.is_awaited for one in looks.values()):
            return None
        return Seen(
            service=service,
            pods=pods,
            deployments=deployments,
            looks=looks,
            profiles=profiles,
            now=now,
            memories=memories,
            others=others,
            refused=self._refused.get(service.key, ""),
            groups=groups,
            held=self._held(service),
            image=self._settings.worker_image,
            free_gpus=self._free_gpus.of(frozenset(one.node for one in pods if one.node is not None)),
            mixes=self._mixes.of(service) if self._mixes is not None else {},
            cached_nodes=self._prefetch.look(service, self._pods.of(service.key)).cached_nodes,
        )

    def _held(self, service: ModelService) -> Held:
        """What its activator has told by now."""
        pods = [one for one in self._pods.of(service.key) if is_activator(service, one)]
        followed = [one for one in pods if one.ready or one.terminating]
        self._activators.follow(service.key, [(one.uid, one.name) for one in followed])
        return self._activators.held(service.key, is_ready=any(one.ready and not one.terminating for one in pods))

    async def _looks(
        self,
        service: ModelService,
        pods: tuple[PodFact, ...],
        asked: Mapping[str, Ask],
        kv_tokens: Mapping[str, int],
        now: float,
    ) -> Mapping[str, Look]:
        async def look(role: str, ask: Ask) -> Look:
            own = tuple(serving_pod(pod) for pod in pods if pod.role == role and not pod.is_terminating)
            starts, holds = ask.cold_start_seconds, kv_tokens.get(role, 0)
            return await self._signals.look(service, role, own, ask.desired, starts, now, kv_tokens=holds)

        found = await asyncio.gather(*(look(role, ask) for role, ask in asked.items()))
        return dict(zip(asked, found, strict=True))

    def _rests_seconds(self, service: ModelService, step: ServiceStep, now: float) -> float:
        """For how long nothing has to be written: what is new only shows, and something was told a moment ago."""
        if step.status == service.status:
            return 0.0
        after = told_after_seconds(service.status, step.status)
        return after - (now - self._shown_at.setdefault(service.key, now)) if after > 0 else 0.0

    def _wrote(self, before: ModelService, after: ModelService, step: ServiceStep, seen: Seen) -> None:
        self._metrics.looked(after.key, step.status, seen.pods, seen.now)
        if after is before:
            return
        self._written[after.key] = after.metadata.resource_version or ""
        self._shown_at[after.key] = seen.now
        self._metrics.wrote(before.status, after.status)
        old, new = before.status, after.status
        if (old.desired_replicas, old.reason) != (new.desired_replicas, new.reason):
            words = (after.key, old.desired_replicas, new.desired_replicas, new.reason, new.message)
            logger.info("service %s: from %d to %d replicas, %s. %s", *words)

    async def _announce(self, before: ModelService, after: ModelService, now: float) -> None:
        """The events of one write, once what it asks for is under way."""
        told = self._events.allowed(after.key, service_announcements(before, after))
        await announce_service(self._api, after, told, identity=self._settings.identity, now=now)

    async def _act(self, service: ModelService, step: ServiceStep, seen: Seen, leads: Callable[[], bool]) -> float:
        """The Service first: it leads to who stays before others are asked to leave; nobody is where it was refused.

        Then pods, for a ReplicaSet that shrinks has to know whom to take. Else nothing that is refused keeps anything
        back: a number never falls before its pods are seen as they were patched.
        """
        refused: list[str] = []
        patches = dict(pod_patches(step, seen.now))
        for document in step.apply:
            if not leads():
                return AGAIN_SECONDS
            found = await _refusals(self._children.apply(service, (document,)))
            refused += found
            if (document["kind"], document["metadata"]["name"]) != ("Service", service.name):
                continue
            if found:
                patches = {pod: patch for pod, patch in patches.items() if pod not in {*step.drain, *step.spare}}
            else:
                self._activators.led(service.key, to_activator=step.leads_to_activator)
            if not leads():
                return AGAIN_SECONDS
            refused += await self._patch(service.key, patches)
        if not leads():
            return AGAIN_SECONDS
        refused += await _refusals(self._children.delete(service, step.delete, step.lower))
        if not leads():
            return AGAIN_SECONDS
        own = self._pods.of(service.key)
        refused += await _refusals(self._groups.carry_out(service, step.groups, seen.groups, own))
        refused += await self._prefetch.act(service, leads)
        self._keep_refusals(service.key, "; ".join(sorted({*refused})))
        return max(RING_SECONDS, step.again_seconds)

    async def _patch(self, key: str, patches: Mapping[PodRef, Document]) -> tuple[str, ...]:
        """Patches that were not sent before; what was refused. The first other error is raised when all have ended."""
        sent = self._sent.get(key, {})
        asked_for = {pod.uid for pod in patches}  # what is not asked for has been seen, and may be asked for again
        self._sent[key] = sent = {uid: patch for uid, patch in sent.items() if uid in asked_for}

        async def one(pod: PodRef, patch: Document) -> None:
            async with self._writes:
                if await patch_pod(self._api, pod, patch):
                    sent[pod.uid] = patch

        fresh = {pod: patch for pod, patch in patches.items() if sent.get(pod.uid) != patch}
        asked = (_refusals(one(pod, patch)) for pod, patch in fresh.items())
        results = await asyncio.gather(*asked, return_exceptions=True)
        refused: list[str] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            refused += result
        return tuple(refused)

    def _keep_refusals(self, key: str, words: str) -> None:
        if self._refused.get(key, "") == words:
            return
        self._refused[key] = words
        if words:
            logger.warning("service %s: %s", key, words)
        self._ring(key, RING_SECONDS)


async def _refusals(asked: Awaitable[None]) -> tuple[str, ...]:
    """What the API server says where it refuses what is asked; nothing where it does not."""
    try:
        await asked
    except ChildTaken as error:
        return (str(error),)
    except (Invalid, Forbidden) as error:
        return (error.message or str(error),)
    return ()


def _is_of(service: ModelService, pod: Pod) -> bool:
    """Whether a pod with the service's name in its label is made by one of its Deployments."""
    role, variant = pod.labels.get(ROLE_LABEL, ""), pod.labels.get(VARIANT_LABEL, "")
    made_by = f"{service.name}-{role}-{variant}-"
    return pod.owner is not None and pod.owner.kind == "ReplicaSet" and pod.owner.name.startswith(made_by)
