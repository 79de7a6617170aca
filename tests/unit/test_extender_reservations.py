"""Slots, leases and refusals, told as short stories."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stowage_scheduler.cluster import OwnerRef, Pod
from stowage_scheduler.reservations import LEASE_SECONDS, ActivePlan, Reservations
from stowage_scheduler.slots import Slot, slot_class

NODES = ["n1", "n2", "n3", "n4"]


def pod(name: str, owner: str = "web", kind: str = "ReplicaSet", **fields: object) -> Pod:
    facts = {"owner": OwnerRef(kind, owner, f"{kind}-{owner}"), "template_hash": "r1", **fields}
    return msgspec.convert({"namespace": "a", "name": name, "uid": f"uid-{name}", "requests": {"cpu": 1}, **facts}, Pod)


WEB = slot_class(pod("web"))


class Story:
    """A table with a clock that stands still until told."""

    def __init__(self, *slots: tuple[str, str], standing: int = 0) -> None:
        self.now = 100.0
        self.table = Reservations(lambda: self.now)
        if slots:
            self.plan(*slots, standing=standing)

    def plan(self, *slots: tuple[str, str], standing: int = 0) -> None:
        kept = tuple(Slot(slot_id, WEB, node, standing) for slot_id, node in slots)
        self.table.plan_seen(ActivePlan("plan-uid", "default-1", kept))

    def ask(self, name: str, names: list[str] = NODES, **fields: Any) -> list[str]:
        return list(self.table.filter(pod(name, **fields), names).node_names)

    def bind(self, name: str, node: str, **fields: Any) -> None:
        self.table.pod_seen(pod(name, node=node, **fields))


def test_without_a_plan_the_very_list_comes_back() -> None:
    assert Story().table.filter(pod("web-1"), NODES).node_names is NODES


def test_a_planned_pod_gets_its_node_and_an_outsider_all_others() -> None:
    story = Story(("k001", "n2"))
    outsider = story.table.filter(pod("other-1", "other"), NODES)
    assert story.ask("web-1") == ["n2"]
    assert list(outsider.node_names) == ["n1", "n3", "n4"]
    assert outsider.refused == {"n2": "reserved by plan default-1"}


def test_a_slot_whose_step_has_not_started_is_kept_for_later() -> None:
    story = Story()
    slots = (Slot("k001", WEB, "n1"), Slot("k002", WEB, "n2"))
    story.table.plan_seen(ActivePlan("plan-uid", "default-1", slots, waiting=frozenset({"k001"})))
    assert story.ask("web-1") == ["n2"]
    refused = story.table.filter(pod("web-2"), NODES)
    assert list(refused.node_names) == []
    assert all("reserved by plan default-1" in words for words in refused.refused.values())
    story.plan(("k001", "n1"), ("k002", "n2"))
    assert story.ask("web-2") == ["n1"]


def test_replicas_asked_before_any_bind_is_seen_get_different_slots() -> None:
    story = Story(("k001", "n1"), ("k002", "n1"), ("k003", "n2"))
    assert [story.ask(f"web-{i}") for i in range(3)] == [["n1"], ["n1"], ["n2"]]
    assert {lease.slot_id for lease in story.table.leases()} == {"k001", "k002", "k003"}


def test_a_replica_beyond_the_slots_is_an_outsider() -> None:
    story = Story(("k001", "n1"))
    assert [story.ask("web-1"), story.ask("web-2")] == [["n1"], ["n2", "n3", "n4"]]


def test_the_same_pod_asks_again_and_keeps_its_slot() -> None:
    story = Story(("k001", "n1"), ("k002", "n2"))
    assert [story.ask("web-1"), story.ask("web-2"), story.ask("web-1"), story.ask("web-2")] == [["n1"], ["n2"]] * 2


def test_when_its_node_is_not_offered_another_slot_is_leased_and_the_first_given_back() -> None:
    story = Story(("k001", "n1"), ("k002", "n2"))
    assert [story.ask("web-1"), story.ask("web-1", ["n2", "n3"]), story.ask("web-2")] == [["n1"], ["n2"], ["n1"]]


def test_with_no_slot_on_the_offered_nodes_the_answer_is_none_and_says_reserved() -> None:
    story = Story(("k001", "n1"))
    answer = story.table.filter(pod("web-1"), ["n3", "n4"])
    assert list(answer.node_names) == []
    assert set(answer.refused) == {"n3", "n4"}
    assert all("reserved by plan default-1" in message for message in answer.refused.values())


@pytest.mark.parametrize(
    "end", ["bound there", "bound elsewhere", "deleted", "terminating", "time is over", "plan is over"]
)
def test_a_lease_ends_when_its_pod_is(end: str) -> None:
    story = Story(("k001", "n1"))
    story.ask("web-1")
    match end:
        case "bound there":
            story.bind("web-1", "n1")
        case "bound elsewhere":
            story.bind("web-1", "n4")
        case "deleted":
            story.table.pod_gone("uid-web-1")
        case "terminating":
            story.table.pod_seen(pod("web-1", terminating=True))
        case "time is over":
            story.now += LEASE_SECONDS
        case _:
            story.table.plan_gone("plan-uid")
    assert story.table.leases() == ()
    assert story.ask("web-2") == (NODES if end in {"bound there", "plan is over"} else ["n1"])


def test_another_pod_of_its_name_takes_the_place_of_one_that_nobody_saw_go() -> None:
    """The scheduler asked for the first while it went; of a StatefulSet the next one has its name."""
    story = Story(("k001", "n2"))
    assert story.ask("web-1") == ["n2"]
    assert story.ask("web-1", uid="another") == ["n2"]
    assert [lease.pod_uid for lease in story.table.leases()] == ["another"]


@pytest.mark.parametrize("end", ["gone", "terminating", "finished"])
def test_a_pod_that_has_ended_gets_no_slot(end: str) -> None:
    """The scheduler has not heard of it yet; for the next one the slot would be taken until the lease ends."""
    story = Story(("k001", "n2"))
    if end == "gone":
        story.table.pod_gone("uid-web-1")
    else:
        story.table.pod_seen(pod("web-1", **{"terminating": True} if end == "terminating" else {"phase": "Succeeded"}))
    assert "n2" not in story.ask("web-1")
    assert story.ask("web-2") == ["n2"]


def test_who_is_gone_is_forgotten_after_a_while() -> None:
    story = Story()
    for number in range(5):
        story.table.pod_gone(f"uid-{number}")
        story.now += LEASE_SECONDS / 2
    assert len(story.table._gone) == 2


def test_a_lease_lives_until_just_before_its_time() -> None:
    story = Story(("k001", "n1"))
    story.ask("web-1")
    story.now += LEASE_SECONDS - 0.1
    assert story.ask("web-2") == ["n2", "n3", "n4"]


def test_a_pending_pod_seen_again_keeps_its_lease() -> None:
    story = Story(("k001", "n1"))
    story.ask("web-1")
    story.table.pod_seen(pod("web-1"))
    assert story.ask("web-2") == ["n2", "n3", "n4"]


def test_pods_that_stood_there_before_do_not_fill_the_slot() -> None:
    story = Story()
    story.bind("web-1", "n1")
    story.plan(("k001", "n1"), standing=1)
    assert story.ask("web-2") == ["n1"]
    story.bind("web-2", "n1")
    assert story.table.reserved_nodes == frozenset()


def test_after_a_restart_filled_slots_are_known_from_the_pods_alone() -> None:
    story = Story()
    story.bind("web-1", "n1")
    story.plan(("k001", "n1"), ("k002", "n2"))
    assert [story.ask("web-2"), story.ask("web-3")] == [["n2"], ["n1", "n3", "n4"]]


@pytest.mark.parametrize("change", [{"terminating": True}, {"phase": "Failed"}])
def test_a_slot_opens_again_when_the_pod_in_it_ends(change: dict[str, object]) -> None:
    story = Story(("k001", "n1"))
    story.bind("web-1", "n1")
    story.bind("web-1", "n1", **change)
    assert story.ask("web-2") == ["n1"]


def test_a_stolen_slot_takes_the_promise_back() -> None:
    story = Story(("k001", "n1"), ("k002", "n2"))
    story.ask("web-1")
    story.bind("web-9", "n1")
    assert story.ask("web-1") == ["n2"]


def test_a_stateful_slot_is_for_that_name_alone() -> None:
    story = Story()
    slot = Slot("k001", slot_class(pod("db-0", "db", "StatefulSet")), "n1")
    story.table.plan_seen(ActivePlan("plan-uid", "default-1", (slot,)))
    assert story.ask("db-1", owner="db", kind="StatefulSet") == ["n2", "n3", "n4"]
    assert story.ask("db-0", owner="db", kind="StatefulSet", uid="new-uid") == ["n1"]


def test_another_revision_or_other_requests_are_outsiders() -> None:
    story = Story(("k001", "n1"))
    assert story.ask("web-1", template_hash="r2") == ["n2", "n3", "n4"]
    assert story.ask("web-2", requests={"cpu": 2}) == ["n2", "n3", "n4"]


def test_daemon_set_pods_are_exempt() -> None:
    story = Story(("k001", "n1"))
    daemon = pod("log-1", "log", "DaemonSet")
    assert list(story.table.filter(daemon, ["n1"]).node_names) == ["n1"]
    assert story.table.preempt(daemon, ["n1"]) == ["n1"]


def test_preemption_is_not_for_planned_pods_and_not_on_kept_nodes() -> None:
    story = Story(("k001", "n1"))
    assert story.table.preempt(pod("web-1"), NODES) == []
    assert story.table.preempt(pod("other-1", "other"), NODES) == ["n2", "n3", "n4"]


def test_a_void_slot_is_given_up_and_leases_of_the_others_go_on() -> None:
    story = Story(("k001", "n1"), ("k002", "n2"))
    assert [story.ask("web-1"), story.ask("web-2")] == [["n1"], ["n2"]]
    story.plan(("k002", "n2"))
    assert [(lease.pod_uid, lease.slot_id) for lease in story.table.leases()] == [("uid-web-2", "k002")]
    assert story.ask("other-1", owner="other") == ["n1", "n3", "n4"]


def test_nobody_goes_to_a_node_that_a_plan_empties_but_those_that_belong_to_it() -> None:
    story = Story()
    slots = (Slot("k001", WEB, "n2"),)
    story.table.plan_seen(ActivePlan("plan-uid", "default-1", slots, closed=frozenset({"n1"})))
    assert story.table.reserved_nodes == {"n1", "n2"}
    assert story.ask("web-1") == ["n2"]
    story.bind("web-1", "n2")
    outsider = story.table.filter(pod("other-1", "other"), NODES)
    assert list(outsider.node_names) == ["n2", "n3", "n4"], "also once all slots are filled, until the plan ends"
    assert outsider.refused == {"n1": "reserved by plan default-1"}
    assert story.table.preempt(pod("other-1", "other"), NODES) == ["n2", "n3", "n4"]
    assert story.ask("agent-1", owner="agent", kind="DaemonSet") == NODES
    story.table.plan_gone("plan-uid")
    assert story.ask("other-1", owner="other") == NODES


def test_a_node_that_was_emptied_is_only_for_who_finds_no_other() -> None:
    story = Story(("k001", "n2"))
    story.table.kept_empty.keep("earlier", frozenset({"n1", "n4"}), 60.0)
    assert story.ask("other-1", owner="other") == ["n3"]
    assert story.ask("other-1", ["n1", "n2", "n4"], owner="other") == ["n1", "n4"], "nobody waits for it"
    assert story.ask("agent-1", owner="agent", kind="DaemonSet") == NODES
    assert story.ask("web-1") == ["n2"]
    story.table.plan_gone("plan-uid")
    assert not story.table.idle
    assert story.ask("other-1", owner="other") == ["n2", "n3"]
    story.now += 60
    assert story.table.idle
    assert story.table.filter(pod("other-1", "other"), NODES).node_names is NODES
