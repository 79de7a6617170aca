"""Bindings, gates and taints, one request at a time, against the real API server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness.waiting import eventually
from harness.workbench import Document, Workbench, pod_template
from stowage.act.answers import Answer
from stowage.act.bindings import bind
from stowage.act.gates import open_gate, ungate
from stowage.act.taints import release, reserve
from stowage.act.unhealthy_nodes import cordon
from stowage.transport import paths
from stowage_scheduler.packing import PodRef

GATE = {"name": "stowage.dev/gang"}
RESERVED = "stowage.dev/reserved"
OURS = {"key": RESERVED, "value": "plan-1", "effect": "NoSchedule"}
THEIRS = {"key": RESERVED, "value": "plan-2", "effect": "NoSchedule"}
UNHEALTHY = {"key": "stowage.dev/unhealthy", "effect": "NoSchedule"}
TEAM = {"key": "example.com/team", "value": "a", "effect": "PreferNoSchedule"}


def leads() -> bool:
    return True


async def pod(bench: Workbench, name: str = "p", **spec: object) -> PodRef:
    """A pod that no scheduler looks at."""
    document = pod_template(name, scheduler_name="nobody", **spec)
    made = await bench.api.create(
        paths.in_namespace(paths.PODS, bench.namespace),
        {**document, "metadata": {**document["metadata"], "name": name}},
    )
    return PodRef(bench.namespace, name, made["metadata"]["uid"])


async def spec_of(bench: Workbench, ref: PodRef) -> Document:
    document: Document = await bench.api.get(paths.pod(ref.namespace, ref.name))
    return dict(document["spec"])


class TestBinding:
    async def test_a_pod_is_bound_once_and_asking_again_changes_nothing(self, workbench: Workbench) -> None:
        first, second = await workbench.nodes(2)
        ref = await pod(workbench)
        assert (await bind(workbench.api, ref, first)).answer is Answer.BOUND
        assert (await bind(workbench.api, ref, first)).answer is Answer.BOUND
        elsewhere = await bind(workbench.api, ref, second)
        assert (elsewhere.answer, first in elsewhere.message) == (Answer.ELSEWHERE, True)
        assert (await spec_of(workbench, ref))["nodeName"] == first

    async def test_another_pod_of_the_same_name_is_left_alone(self, workbench: Workbench) -> None:
        (node,) = await workbench.nodes(1)
        ref = await pod(workbench)
        stale = PodRef(ref.namespace, ref.name, "0d9f6a1e-0000-4000-8000-000000000000")
        assert (await bind(workbench.api, stale, node)).answer is Answer.GONE
        assert "nodeName" not in await spec_of(workbench, ref)

    async def test_what_is_gone_or_gated_is_not_bound(self, workbench: Workbench) -> None:
        (node,) = await workbench.nodes(1)
        gated = await pod(workbench, "gated", schedulingGates=[GATE])
        assert (await bind(workbench.api, gated, node)).answer is Answer.REFUSED
        gone = PodRef(workbench.namespace, "gone", "0d9f6a1e-0000-4000-8000-000000000000")
        assert (await bind(workbench.api, gone, node)).answer is Answer.GONE


class TestGate:
    async def test_a_pod_is_pinned_and_let_go_at_once(self, workbench: Workbench) -> None:
        ref = await pod(workbench, schedulingGates=[GATE])
        assert (await ungate(workbench.api, ref, "n1", tolerate="plan-1")).answer is Answer.UNGATED
        spec = await spec_of(workbench, ref)
        assert "schedulingGates" not in spec
        required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert required["nodeSelectorTerms"] == [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
        ]
        assert {"key": RESERVED, "operator": "Equal", "value": "plan-1", "effect": "NoSchedule"} in spec["tolerations"]
        again = await ungate(workbench.api, ref, "n2", tolerate=None)
        assert again.answer is Answer.UNGATED
        assert (await spec_of(workbench, ref))["affinity"] == spec["affinity"], "it keeps its first pin"

    async def test_each_term_of_its_own_affinity_keeps_holding(self, workbench: Workbench) -> None:
        terms = [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]},
            {},
        ]
        affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
        ref = await pod(workbench, schedulingGates=[GATE], affinity=affinity)
        assert (await ungate(workbench.api, ref, "n1", tolerate=None)).answer is Answer.UNGATED
        spec = await spec_of(workbench, ref)
        found = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        only = [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]
        assert found == [{**terms[0], "matchFields": only}, {**terms[1], "matchFields": only}, {}]

    async def test_gates_of_others_stay(self, workbench: Workbench) -> None:
        ref = await pod(workbench, schedulingGates=[{"name": "example.com/quota"}, GATE])
        assert (await ungate(workbench.api, ref, "n1", tolerate=None)).answer is Answer.UNGATED
        assert (await spec_of(workbench, ref))["schedulingGates"] == [{"name": "example.com/quota"}]

    async def test_another_pod_of_the_same_name_stays_gated(self, workbench: Workbench) -> None:
        ref = await pod(workbench, schedulingGates=[GATE])
        stale = PodRef(ref.namespace, ref.name, "0d9f6a1e-0000-4000-8000-000000000000")
        assert (await ungate(workbench.api, stale, "n1", tolerate=None)).answer is Answer.GONE
        assert (await spec_of(workbench, ref))["schedulingGates"] == [GATE]

    async def test_without_a_policy_the_gate_goes_and_the_place_is_left_to_the_scheduler(
        self, workbench: Workbench
    ) -> None:
        other = {"name": "example.com/quota"}
        ref = await pod(workbench, schedulingGates=[other, GATE])
        stale = PodRef(ref.namespace, ref.name, "0d9f6a1e-0000-4000-8000-000000000000")
        await open_gate(workbench.api, stale)
        assert (await spec_of(workbench, ref))["schedulingGates"] == [other, GATE]
        for _ in range(2):
            assert (await open_gate(workbench.api, ref)).answer is Answer.UNGATED
        spec = await spec_of(workbench, ref)
        assert (spec["schedulingGates"], spec.get("affinity")) == ([other], None)


class TestTaint:
    @staticmethod
    async def taints(bench: Workbench, node: str) -> list[Document]:
        return list((await bench.api.get(paths.node(node)))["spec"].get("taints") or [])

    @staticmethod
    async def put(bench: Workbench, node: str, *taints: Document) -> None:
        await bench.api.merge_patch(paths.node(node), {"spec": {"taints": list(taints)}})

    @pytest.mark.parametrize(
        ("before", "over", "after"),
        [
            pytest.param((), (), (OURS,), id="an open node"),
            pytest.param((TEAM,), (), (TEAM, OURS), id="a node with a taint of somebody else"),
            pytest.param((OURS, TEAM), ("plan-1",), (TEAM, OURS), id="a node that is kept already"),
            pytest.param((THEIRS,), (), (THEIRS,), id="a node of another plan"),
            pytest.param((THEIRS, TEAM), ("plan-2",), (TEAM, OURS), id="a node left behind by another plan"),
        ],
    )
    async def test_a_node_is_kept(
        self, workbench: Workbench, before: tuple[Document, ...], over: tuple[str, ...], after: tuple[Document, ...]
    ) -> None:
        (node,) = await workbench.nodes(1)
        await self.put(workbench, node, *before)
        await reserve(workbench.api, node, uid="plan-1", until=1_800_000_000.0, over=over, leads=leads)
        assert await self.taints(workbench, node) == list(after)
        annotations = (await workbench.api.get(paths.node(node)))["metadata"]["annotations"]
        assert annotations.get("stowage.dev/reserved-until") == ("2027-01-15T08:00:00Z" if OURS in after else None)

    async def test_a_node_is_given_back_once(self, workbench: Workbench) -> None:
        (node,) = await workbench.nodes(1)
        await self.put(workbench, node, TEAM)
        await reserve(workbench.api, node, uid="plan-1", until=1_800_000_000.0, over=(), leads=leads)
        await release(workbench.api, node, uid="plan-1", leads=leads)
        found = await workbench.api.get(paths.node(node))
        assert found["spec"]["taints"] == [TEAM]
        assert "stowage.dev/reserved-until" not in found["metadata"]["annotations"]
        await release(workbench.api, node, uid="plan-1", leads=leads)
        assert (await workbench.api.get(paths.node(node)))["spec"] == found["spec"]

    async def test_who_leads_no_longer_writes_nothing(self, workbench: Workbench) -> None:
        (node,) = await workbench.nodes(1)
        await reserve(workbench.api, node, uid="plan-1", until=1_800_000_000.0, over=(), leads=lambda: False)
        assert await self.taints(workbench, node) == []

    async def test_a_node_that_is_gone_needs_nothing(self, workbench: Workbench) -> None:
        await reserve(workbench.api, "gone", uid="plan-1", until=1_800_000_000.0, over=(), leads=leads)
        await release(workbench.api, "gone", uid="plan-1", leads=leads)


class TestCordon:
    async def test_a_node_is_tainted_once_for_each_failure_and_admins_have_the_last_word(
        self, workbench: Workbench
    ) -> None:
        api, (node,) = workbench.api, await workbench.nodes(1)
        first, second = datetime(2026, 1, 1, 10, tzinfo=UTC), datetime(2026, 1, 1, 11, tzinfo=UTC)
        await TestTaint.put(workbench, node, TEAM)
        await cordon(api, node, at=first, reason="TrainingJob a/b: DeviceUnhealthy", leads=leads)
        assert await TestTaint.taints(workbench, node) == [TEAM, UNHEALTHY]
        annotations = (await api.get(paths.node(node)))["metadata"]["annotations"]
        assert annotations["stowage.dev/unhealthy-reason"] == "TrainingJob a/b: DeviceUnhealthy"
        assert annotations["stowage.dev/unhealthy-since"] == "2026-01-01T10:00:00Z"
        await TestTaint.put(workbench, node, TEAM)
        await cordon(api, node, at=first, reason="the same again", leads=leads)
        assert await TestTaint.taints(workbench, node) == [TEAM], "who took it off has looked"
        await cordon(api, node, at=second, reason="it failed again", leads=lambda: False)
        assert await TestTaint.taints(workbench, node) == [TEAM]
        await cordon(api, node, at=second, reason="it failed again", leads=leads)
        assert await TestTaint.taints(workbench, node) == [TEAM, UNHEALTHY]

    async def test_a_node_that_is_gone_needs_no_taint(self, workbench: Workbench) -> None:
        await cordon(workbench.api, "gone", at=datetime(2026, 1, 1, tzinfo=UTC), reason="any", leads=leads)


async def test_a_pod_let_go_behind_a_taint_lands_on_its_node(workbench: Workbench) -> None:
    """What pin and toleration are for: the default scheduler binds the pod, and nobody else, to the kept node."""
    kept, _ = await workbench.nodes(2)
    await reserve(workbench.api, kept, uid="plan-1", until=1_800_000_000.0, over=(), leads=leads)
    document = pod_template("p", scheduler_name="default-scheduler", schedulingGates=[GATE])
    document["metadata"]["name"] = "p"
    made = await workbench.api.create(paths.in_namespace(paths.PODS, workbench.namespace), document)
    await ungate(workbench.api, PodRef(workbench.namespace, "p", made["metadata"]["uid"]), kept, tolerate="plan-1")

    async def lands() -> bool:
        return await workbench.bound("p") == {kept: 1}

    await eventually(lands, what=f"the pod is bound to {kept}")
