from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from stowage.api.packing_plan import PackingPlan
from stowage.decide.trigger import Considered, Memory, fingerprint, pends, remembered, ripens_at, trigger
from stowage_scheduler.cluster import Gang, Pod
from stowage_scheduler.packing import Action
from unit.builders import NOW, budget, node, place, plan_resource, pod, policy_resource, replica_set, slot, snapshot

# defaults of a policy: unschedulableFor 2 s, quiet 1 s, longest 5 s
POLICY = policy_resource()
REFUSED = "0/2 nodes are available: 2 reserved by plan default-20270115-080000-abcd."


def waiting(name: str = "new-1", since: float = 60.0, **fields: Any) -> Pod:
    """A pod that has been unschedulable for `since` seconds."""
    return pod(name, **{"unschedulable_since": NOW - since, **fields})


def ask(*pods: Pod, plans: tuple[PackingPlan, ...] = (), memory: Memory = Memory(), mark: str = "") -> Any:  # noqa: B008
    return trigger(POLICY, Considered(snapshot(node("n1"), *pods), plans, memory, mark), NOW)


@pytest.mark.parametrize(
    ("pods", "due", "look_again_seconds"),
    [
        pytest.param((), False, None, id="nobody-waits"),
        pytest.param((waiting(since=1),), False, 1, id="not-unschedulable-for-long-enough"),
        pytest.param((waiting(since=2.5),), False, 0.5, id="quiet-time-not-over"),
        pytest.param((waiting(since=3),), True, None, id="quiet-time-over"),
        pytest.param((waiting("a", 6), waiting("b", 2.5)), False, 0.5, id="another-pod-came"),
        pytest.param((waiting("a", 7), waiting("b", 2.5)), True, None, id="longest-time-over"),
        pytest.param((waiting(gates=("example.com/quota",)),), False, None, id="gated"),
        pytest.param((waiting(terminating=True),), False, None, id="terminating"),
        pytest.param((waiting(nominated_node="n1"),), False, None, id="nominated"),
        pytest.param((waiting(unschedulable_since=None),), False, None, id="not-seen-by-the-scheduler-yet"),
        pytest.param((waiting(scheduler_name="default-scheduler"),), False, None, id="pod-of-another-scheduler"),
        pytest.param((pod("web-1", "n1"),), False, None, id="running"),
    ],
)
def test_when_pods_call_for_a_packing(pods: tuple[Pod, ...], due: bool, look_again_seconds: float | None) -> None:
    seen = ask(*pods)
    assert (seen.due, seen.look_again_seconds) == (due, look_again_seconds)


@pytest.mark.parametrize(("failures", "due"), [(0, True), (3, True), (4, False)])
def test_a_gang_that_was_let_go_in_vain_too_often_waits_for_the_hour_to_pass(failures: int, due: bool) -> None:
    members = [
        waiting(f"ring-{one}", gates=("stowage.dev/gang",), gang=Gang("ring", 2), unschedulable_since=None)
        for one in range(2)
    ]
    earlier = pod("ring-0-of-before", unschedulable_since=None)
    step = structs.replace(place(1, earlier, slot(1, earlier, "n1")), action=Action.UNGATE, gang="ring")
    status = {"phase": "Superseded", "reason": "GangIncomplete", "startedAt": "2027-01-15T07:50:00Z"}
    status["finishedAt"] = "2027-01-15T07:52:00Z"
    place_for = slot(1, earlier, "n1")
    plans = tuple(plan_resource(f"default-{one}", step, slots=(place_for,), status=status) for one in range(failures))
    seen = ask(*members, plans=plans)
    assert (seen.due, seen.limited) == (due, 0 if due else 2)


@pytest.mark.parametrize(
    ("spec", "labels", "due"),
    [
        pytest.param({"podSelector": {"matchLabels": {"app": "web"}}}, {}, True, id="pod-selected"),
        pytest.param({"podSelector": {"matchLabels": {"app": "db"}}}, {}, False, id="pod-not-selected"),
        pytest.param({"namespaceSelector": {"matchLabels": {"a": "b"}}}, {"a": "b"}, True, id="namespace-selected"),
        pytest.param({"namespaceSelector": {"matchLabels": {"a": "b"}}}, {}, False, id="namespace-not-selected"),
    ],
)
def test_selectors(spec: dict[str, Any], labels: dict[str, str], due: bool) -> None:
    seen = structs.replace(snapshot(waiting()), namespace_labels={"team": labels})
    assert trigger(policy_resource(**spec), Considered(seen), NOW).due is due


@pytest.mark.parametrize(
    ("status", "due"),
    [
        pytest.param({"phase": "Running"}, False, id="plan-runs"),
        pytest.param({"phase": "Done", "finishedAt": "2027-01-15T07:59:50Z"}, False, id="plan-ended-10-s-ago"),
        pytest.param({"phase": "Done", "finishedAt": "2027-01-15T07:59:40Z"}, True, id="plan-ended-20-s-ago"),
    ],
)
def test_a_pod_that_a_plan_kept_away_is_woken_not_planned_for(status: dict[str, str], due: bool) -> None:
    kept_away = waiting(unschedulable_message=REFUSED)
    seen = ask(kept_away, plans=(plan_resource("default-20270115-080000-abcd", status=status),))
    assert seen.due is due
    assert ask(kept_away).due, "the plan was deleted"


@pytest.mark.parametrize(("group", "due"), [(True, False), (False, True)], ids=["a scheduling group", "own gang"])
def test_a_group_is_woken_as_a_whole(group: bool, due: bool) -> None:
    """kube-scheduler tries it as one: who was not refused by name waits for those that were."""
    usual: dict[str, Any] = {"gang": Gang("ring", 2, elastic=group), "scheduling_group": group}
    refused, other = waiting("a", unschedulable_message=REFUSED, **usual), waiting("b", **usual)
    plans = (plan_resource("default-20270115-080000-abcd", status={"phase": "Running"}),)
    assert ask(refused, other, plans=plans).due is due
    assert ask(refused, other).due, "the plan was deleted"


@pytest.mark.parametrize(
    ("plans", "started", "due"),
    [
        pytest.param(3, "2027-01-15T07:30:00Z", True, id="planned-and-planned-again-twice"),
        pytest.param(4, "2027-01-15T07:30:00Z", False, id="planned-again-three-times"),
        pytest.param(4, "2027-01-15T06:30:00Z", True, id="longer-than-an-hour-ago"),
    ],
)
def test_a_pod_is_planned_again_three_times_an_hour(plans: int, started: str, due: bool) -> None:
    one = waiting()
    target = slot(1, one, "n1")
    past = tuple(
        plan_resource(
            f"default-{number}", place(1, one, target), slots=(target,), status={"phase": "Done", "startedAt": started}
        )
        for number in range(plans)
    )
    seen = ask(one, plans=past)
    assert seen.due is due
    assert (seen.limited, seen.pending) == (0 if due else 1, 1)
    assert ask(one, waiting("new-2"), plans=past).due, "others are not held up"


@pytest.mark.parametrize(
    ("status", "pause"),
    [
        pytest.param({"reason": "AbortedByUser"}, 290, id="aborted-by-a-person"),
        pytest.param({"reason": "AbortedByUser", "startedAt": "2027-01-15T07:59:00Z"}, 290, id="aborted-on-the-way"),
        pytest.param({"reason": "ExtenderUnavailable"}, 20, id="extender-is-away"),
        pytest.param({"reason": "LostRace"}, None, id="overtaken-before-its-start"),
        pytest.param({"reason": "LostRace", "startedAt": "2027-01-15T07:59:00Z"}, None, id="overtaken-on-the-way"),
    ],
)
def test_pods_of_a_plan_that_did_not_start_are_left_alone_for_a_while(
    status: dict[str, str], pause: float | None
) -> None:
    one = waiting()
    target = slot(1, one, "n1")
    ended = {"phase": "Aborted", "finishedAt": "2027-01-15T07:59:50Z", **status}
    plans = (plan_resource("default-1", place(1, one, target), slots=(target,), status=ended),)
    seen = ask(one, plans=plans)
    assert (seen.due, seen.look_again_seconds) == (pause is None, pause)
    assert ask(one, waiting("new-2"), plans=plans).due


class TestFruitlessPackings:
    """A packing that found nothing is not repeated at once."""

    ONE = waiting()

    def after(self, times: int, *, found: bool = False) -> Memory:
        memory = Memory()
        for _ in range(times):
            memory = remembered(memory, ask(self.ONE), "same", NOW, found=found)
        return memory

    @pytest.mark.parametrize(
        ("times", "mark", "pause"),
        [
            pytest.param(1, "same", 300, id="nothing-changed"),
            pytest.param(1, "other", 5, id="cluster-changed"),
            pytest.param(3, "other", 20, id="cluster-changes-all-the-time"),
            pytest.param(30, "other", 300, id="never-longer-than-5-min"),
        ],
    )
    def test_pause(self, times: int, mark: str, pause: float) -> None:
        seen = ask(self.ONE, memory=self.after(times), mark=mark)
        assert (seen.due, seen.look_again_seconds) == (False, pause)
        late = structs.replace(self.after(times), at=NOW - pause)
        assert ask(self.ONE, memory=late, mark=mark).due

    @pytest.mark.parametrize(
        ("ripens_in", "pause"),
        [
            pytest.param(40, 40, id="a pod comes of age soon"),
            pytest.param(2, 5, id="but not at once again"),
            pytest.param(900, 300, id="long after the next look"),
        ],
    )
    def test_an_unchanged_cluster_is_looked_at_when_the_next_pod_may_move(self, ripens_in: float, pause: float) -> None:
        facts = Considered(snapshot(node("n1"), self.ONE), (), self.after(1), "same", NOW + ripens_in)
        assert trigger(POLICY, facts, NOW).look_again_seconds == pause

    def test_a_new_pod_ends_the_pause(self) -> None:
        assert ask(self.ONE, waiting("new-2"), memory=self.after(3), mark="same").due

    def test_what_a_plan_left_is_looked_at_at_once(self) -> None:
        assert ask(self.ONE, memory=self.after(1, found=True), mark="same").due


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param({"unschedulable_message": "other words"}, True, id="words-of-the-scheduler"),
        pytest.param({"uid": "other"}, False, id="another-pod"),
        pytest.param({"node": "n1"}, False, id="pod-bound"),
        pytest.param({"terminating": True}, False, id="pod-goes"),
        pytest.param({"labels": {"app": "other"}}, False, id="pod-labelled"),
        pytest.param({"annotations": {"stowage.dev/movable": "false"}}, False, id="pod-annotated"),
        pytest.param({"created_at": NOW}, True, id="times-alone"),
        pytest.param({"unready_since": NOW}, True, id="pod-that-was-unready-for-a-moment"),
    ],
)
def test_fingerprint(change: dict[str, Any], same: bool) -> None:
    def mark(*pods: Pod) -> str:
        return fingerprint(POLICY, snapshot(node("n1"), *pods), 5, frozenset({"n1"}))

    one, two = waiting(), pod("web-1", "n1")
    assert mark(one, two) == mark(two, one)
    assert (mark(structs.replace(one, **change), two) == mark(one, two)) is same


YOUNG = policy_resource(disruption={"minPodAge": "60s", "ownerSettled": "30s"})


@pytest.mark.parametrize(
    ("facts", "at"),
    [
        pytest.param((pod("web-1", "n1", bound_at=NOW - 20),), NOW + 40, id="a young pod"),
        pytest.param((pod("web-1", "n1", bound_at=NOW - 90),), None, id="an old pod"),
        pytest.param((pod("web-1", "n2", bound_at=NOW - 20),), None, id="a young pod elsewhere"),
        pytest.param(
            (pod("web-1", "n1", bound_at=0.0), replica_set("web", 1, replicas_changed_at=NOW - 10)),
            NOW + 20,
            id="an owner that was scaled",
        ),
        pytest.param(
            (pod("web-1", "n1", bound_at=NOW - 20), replica_set("web", 1, replicas_changed_at=NOW - 10)),
            NOW + 20,
            id="what comes first",
        ),
    ],
)
def test_when_the_next_pod_may_move(facts: tuple[Any, ...], at: float | None) -> None:
    nodes, before = frozenset({"n1"}), snapshot(node("n1"), node("n2"), *facts)
    assert ripens_at(YOUNG, before, nodes) == at
    if at is not None:
        after = structs.replace(before, now=at)
        assert fingerprint(YOUNG, after, 5, nodes) != fingerprint(YOUNG, before, 5, nodes)


OWNER, BUDGET = replica_set("web", 1), budget("web")


@pytest.mark.parametrize(
    ("facts", "same"),
    [
        pytest.param((BUDGET, node("n1"), OWNER), True, id="another-order"),
        pytest.param((node("n1", labels={"gpu": "h100"}), OWNER, BUDGET), False, id="node-labelled"),
        pytest.param((node("n1", images=b"many"), OWNER, BUDGET), True, id="image-pulled"),
        pytest.param((node("n1"), replica_set("web", 1, newest=False), BUDGET), False, id="owner-rolls-out"),
        pytest.param((node("n1"), replica_set("web", 1, replicas_changed_at=NOW), BUDGET), False, id="scaled-just-now"),
        pytest.param((node("n1"), replica_set("web", 1, replicas_changed_at=1.0), BUDGET), True, id="scaled-long-ago"),
        pytest.param((node("n1"), OWNER, structs.replace(BUDGET, selector=None)), False, id="budget-selects-others"),
        pytest.param((node("n1"), OWNER, BUDGET, node("n2")), True, id="a-node-of-others"),
    ],
)
def test_fingerprint_of_the_cluster(facts: tuple[Any, ...], same: bool) -> None:
    def mark(*facts: Any) -> str:
        return fingerprint(POLICY, snapshot(waiting(), *facts), 5, frozenset({"n1"}))

    assert (mark(*facts) == mark(node("n1"), OWNER, BUDGET)) is same


def test_pends_is_about_pods_without_a_node() -> None:
    assert pends(waiting())
    assert not pends(waiting(phase="Failed"))
