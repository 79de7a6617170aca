"""Passes over a service where something goes wrong in their midst: who no longer leads, what others have written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from stowage.act.events import announce_service
from stowage.api.model_service import ModelService
from stowage.decide.serving.service_announcements import ServiceAnnouncement, ServiceEventReason
from stowage.decide.serving.service_facts import LEAVING_COST_ANNOTATION, pod_fact, seconds_of, written
from stowage.run.activators import is_activator
from stowage.run.lease import Lease
from stowage.run.serving_children import ServingChildren
from stowage.run.serving_profiles import Profiles
from stowage.run.serving_signals import Look
from stowage.transport import Api, NotFound
from stowage_scheduler.cluster import OwnerRef
from unit.builders import NOW
from unit.serving_services import service
from unit.test_reconcile_serving import DEPLOYMENT, SERVICE, Server, Silence, Theatre, replica


class _Elections(Silence):
    """Signals that take so long that somebody else leads when they are there."""

    def __init__(self, theatre: Theatre) -> None:
        super().__init__()
        self.lease = SimpleNamespace(leading=True, epoch=1)
        self.again = False
        self.theatre = theatre

    async def look(self, *args: Any, **options: Any) -> Look:
        found = await super().look(*args, **options)
        self.lease.leading = False
        self.theatre.reconciler.stand_by()
        if self.again:
            self.lease.leading, self.lease.epoch = True, self.lease.epoch + 1
        return found


@pytest.mark.parametrize("again", [False, True], ids=["somebody else leads", "and then this process again"])
async def test_who_lost_the_lease_during_a_pass_writes_no_more(again: bool) -> None:
    theatre = Theatre()
    await theatre.look()
    theatre.show(replica())
    await theatre.look()
    assert await theatre.look() == [], "the status is as it should be, so that nothing asks who leads to write it"
    elections = _Elections(theatre)
    elections.again = again
    theatre.reconciler._signals = elections
    theatre.reconciler._lease = cast("Lease", elections.lease)
    theatre.server.objects[DEPLOYMENT]["spec"]["replicas"] = 3
    assert await theatre.look() == []
    assert theatre.reconciler._memories == {}, "what was found before the term ended is not remembered after it"


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "0001-01-01", "soon"])
def test_an_annotation_that_is_no_time_of_this_world_is_none(text: str) -> None:
    found = seconds_of(text)
    assert found is None or written(found)


def test_a_cost_of_thousands_of_digits_is_none() -> None:
    pod = structs.replace(replica(), annotations={LEAVING_COST_ANNOTATION: "9" * 5000})
    found = pod_fact(pod)
    assert found is not None
    assert found.deletion_cost is None


async def test_a_pod_that_is_taken_out_twice_by_hand_comes_back_twice() -> None:
    theatre = Theatre()
    await theatre.look()
    theatre.show(replica())
    await theatre.look()
    out = structs.replace(replica(), labels={**replica().labels, "stowage.dev/takes-requests": "false"})
    for _ in range(2):
        theatre.show(out)
        writes = await theatre.look()
        assert ("patch", replica().name) in writes
        theatre.show(replica())
        await theatre.look()


async def test_a_deployment_that_changes_while_it_is_listed_is_listed_again() -> None:
    theatre = Theatre()
    await theatre.look()
    wanted = service()
    children = ServingChildren(cast("Api", theatre.server), theatre.store, lambda: theatre.now)
    get = theatre.server.get
    lists = 0

    async def slow(path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
        nonlocal lists
        found = await get(path, query)
        lists += 1
        if lists == 1:
            children._service_of["team/chat-unified-default"] = "team/chat"
            children.deployment_changed("team/chat-unified-default")
        return found

    theatre.server.get = slow  # type: ignore[method-assign]
    await children.deployments(wanted, 1)
    await children.deployments(wanted, 1)
    assert lists == 2
    await children.deployments(wanted, 1)
    assert lists == 2


async def test_a_profile_that_changes_while_it_is_asked_for_is_asked_for_again() -> None:
    asked = 0

    class Slow(Server):
        async def get(self, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
            nonlocal asked
            assert query is None
            asked += 1
            if asked == 1:
                profiles.changed("fast")  # told while the answer is on its way
            raise NotFound(path, status=404)

    profiles = Profiles(cast("Api", Slow()), lambda: NOW)
    document = service().to_document()
    document["spec"]["roles"][0]["variants"][0]["profile"] = "fast"
    named = ModelService.parse(document)
    await profiles.of(named)
    await profiles.of(named)
    assert asked == 2
    await profiles.of(named)
    assert asked == 2


async def test_long_words_of_the_server_fit_into_the_status() -> None:
    theatre = Theatre()
    await theatre.look()
    theatre.reconciler._refused["team/chat"] = "no " * 40_000
    await theatre.look()
    assert all(len(one["message"]) <= 32_768 for one in theatre.status["conditions"])
    assert len(theatre.status.get("message", "")) <= 32_768


@pytest.mark.parametrize("digits", [400, 5000])
async def test_more_gpus_than_can_be_counted_do_not_end_the_pass(digits: int) -> None:
    theatre = Theatre()
    (container,) = theatre.server.objects[SERVICE]["spec"]["roles"][0]["variants"][0]["template"]["spec"]["containers"]
    container["resources"] = {"limits": {"nvidia.com/gpu": "9" * digits}}
    assert ("status", "chat") in await theatre.look()


async def test_an_event_in_words_of_another_language_is_as_short_as_the_server_takes_it() -> None:
    notes: list[str] = []

    async def create(_path: str, body: dict[str, Any]) -> dict[str, Any]:
        notes.append(body["note"])
        return body

    told = ServiceAnnouncement(ServiceEventReason.UNAVAILABLE, "kein Knoten für\u2026" * 60)
    api = cast("Api", SimpleNamespace(create=create))
    await announce_service(api, service(), [told], identity="a", now=NOW)
    (note,) = notes
    assert 1000 < len(note.encode()) <= 1024


async def test_a_service_that_became_unreadable_is_no_longer_shown_as_it_was() -> None:
    theatre = Theatre()
    await theatre.look()
    shown = theatre.metrics.registry.get_sample_value
    assert shown("stowage_serving_replicas", {"state": "desired"}) == 1
    theatre.server.objects[SERVICE]["spec"]["roles"] *= 2
    await theatre.look()
    assert shown("stowage_serving_replicas", {"state": "desired"}) == 0
    assert shown("stowage_serving_services", {"reason": "InvalidSpec"}) == 1
    assert theatre.condition("Accepted") == ("False", "InvalidSpec")
    assert theatre.status["reason"] == "InvalidSpec", "kubectl get shows it"
    assert "spec.roles" in theatre.status["message"]
    theatre.server.objects[SERVICE]["spec"]["roles"].pop()
    theatre.server.objects[SERVICE]["metadata"]["generation"] += 1
    await theatre.look()
    assert theatre.status["reason"] != "InvalidSpec"


async def test_a_new_leader_does_not_decide_before_the_first_answers_are_there() -> None:
    """Else each change of the leader would tell of all services that their signals are missing."""
    theatre = Theatre()
    await theatre.look()
    theatre.reconciler.stand_by()
    theatre.signals.is_awaited = True
    theatre.server.objects[SERVICE]["spec"]["replicas"] = 3
    assert await theatre.look() == []
    theatre.signals.is_awaited = False
    assert await theatre.look() != []


async def test_a_new_service_is_made_before_the_first_answers_are_there() -> None:
    theatre = Theatre()
    theatre.signals.is_awaited = True
    assert ("apply", "chat-unified-default") in await theatre.look()


@pytest.mark.parametrize(
    ("scaling", "forbidden", "leaves"),
    [
        pytest.param({}, "", True, id="the Service can be led"),
        pytest.param({}, "/services/chat", False, id="the Service is refused"),
        pytest.param({"scaleToZero": {"after": "1h"}}, "", True, id="the Service can be led, after an activator"),
        pytest.param(
            {"scaleToZero": {"after": "1h"}}, "/services/chat", False, id="the Service is refused, an activator is not"
        ),
        pytest.param(
            {"scaleToZero": {"after": "1h"}}, "-activator", True, id="an activator is refused, the Service is not"
        ),
    ],
)
async def test_nobody_is_asked_to_leave_before_the_service_leads_to_others(
    scaling: dict[str, Any], forbidden: str, leaves: bool
) -> None:
    """The status says who answers, and whoever wrote it was killed before the Service did."""
    theatre = Theatre()
    theatre.server.objects[SERVICE]["spec"]["scaling"] = scaling
    await theatre.look()
    theatre.show(replica())
    other = structs.replace(
        replica("chat-main-default-1-a"),
        labels={**replica().labels, "stowage.dev/role": "main"},
        owner=OwnerRef("ReplicaSet", "chat-main-default-1", "rs-2"),
    )
    theatre.show(other)
    document = theatre.server.objects[SERVICE]
    document["spec"]["roles"][0]["name"], document["metadata"]["generation"] = "main", 2
    document["status"]["selector"] = "stowage.dev/service=chat,stowage.dev/role=main"
    theatre.server.forbids = forbidden
    theatre.reconciler.stand_by()
    writes = await theatre.look()
    assert (("patch", replica().name) in writes) is leaves
    if leaves:
        assert writes.index(("apply", "chat")) < writes.index(("patch", replica().name))


async def test_a_role_may_be_called_activator() -> None:
    theatre = Theatre()
    document = theatre.server.objects[SERVICE]
    document["spec"]["scaling"] = {"scaleToZero": {"after": "1h"}}
    document["spec"]["roles"][0]["name"] = "activator"
    labels = {**replica().labels, "stowage.dev/role": "activator"}
    owner = OwnerRef("ReplicaSet", "chat-activator-default-1", "rs-3")
    theatre.show(structs.replace(replica("chat-activator-default-1-a"), labels=labels, owner=owner))
    found = ModelService.parse_stored(document)
    assert [is_activator(found, one) for one in theatre.store.pods.values()] == [False]
