"""The webhook agrees with those who work with what it lets through: the operator reads and carries out all of that."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from property.test_execution import a_full_cluster
from stowage.admission.judge import judge
from stowage.admission.known import Known
from stowage.api.packing_plan import PackingPlan, PlanSteering
from stowage.api.packing_policy import PackingPolicy
from stowage.decide.document import plan_document
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack
from unit.admission_requests import plan, policy, request, slot, step
from unit.builders import NOW, policy_resource, replica_set
from unit.one_move import BEFORE
from unit.test_run_reconcile import Cluster, enforcing

Document = dict[str, Any]
NAME = "gpu-1"


class ClusterWithNodes(Cluster):
    """Plans of steering Bind look at the taints of nodes."""

    def parts(self) -> Document:
        parts = super().parts()
        parts["store"].nodes = {node.name: node for node in BEFORE.nodes}
        return parts


numbers = st.integers(1, 3)
step_ids = st.lists(numbers.map(lambda number: f"s{number:03}"), max_size=2)
nodes = st.sampled_from(["n1", "n2"])


@st.composite
def plans(draw: st.DrawFn) -> Document:
    """Plans as a hurried hand writes them: some are right, many are not."""
    steps = []
    for number in draw(st.lists(numbers, max_size=3, unique=draw(st.booleans()))):
        fields: Document = {"after": draw(step_ids), "node": draw(nodes), "swap": draw(st.booleans())}
        fields["action"] = draw(st.sampled_from(["Evict", "Evict", "Place", "Bind", "Ungate"]))
        if draw(st.booleans()):
            fields["slot"] = f"k{draw(numbers):03}"
        if draw(st.booleans()):
            pod = draw(numbers)
            fields["pod"] = {"namespace": "team", "name": f"pod-{pod}", "uid": f"uid-{pod}"}
        steps.append(step(number, **fields))
    slots = [
        slot(number, node=draw(nodes), after=draw(st.one_of(st.just([]), step_ids)))
        for number in draw(st.lists(numbers, max_size=3, unique=draw(st.booleans())))
    ]
    return plan(*steps, *slots, policy="default", steering=draw(st.sampled_from(["Extender", "Bind"])))


@given(plans(), st.sampled_from(["Pending", "Approved"]), st.sampled_from([None, "Approved", "Running"]))
@settings(max_examples=300)
def test_a_plan_that_is_let_through_never_ends_as_an_invalid_one(
    document: Document, approval: str, phase: str | None
) -> None:
    document["spec"]["approval"] = approval
    of_policy = PackingPolicy.parse(enforcing())
    allowed = judge(request(document), Known({"default": of_policy})).allowed
    if phase is not None:
        document["status"] = {"phase": phase, "epoch": 3}
    document["metadata"] |= {"resourceVersion": "1", "creationTimestamp": "2027-01-15T08:00:00Z"}
    cluster = ClusterWithNodes(enforcing(), document)

    async def passes() -> None:
        for _ in range(3):
            await cluster.plan_pass().reconcile(NAME)

    if allowed:
        asyncio.run(passes())
        assert cluster.plans[NAME].get("status", {}).get("reason") != "InvalidSpec"


durations = st.sampled_from(["0", "1s", "5s", "1m", "25h", "5", "-1s"])
conditions = st.fixed_dictionaries(
    {"key": st.sampled_from(["a", "b"]), "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"])},
    optional={"values": st.lists(st.sampled_from(["x", "y"]), max_size=2)},
)
selectors = st.fixed_dictionaries(
    {}, optional={"matchLabels": st.just({"a": "x"}), "matchExpressions": st.lists(conditions, max_size=3)}
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["Recommend", "Enforce", "enforce"]),
        "trigger": st.fixed_dictionaries({}, optional={"quiet": durations, "longest": durations}),
        "podSelector": selectors,
        "namespaceSelector": selectors,
        "nodeAutoscaler": st.sampled_from(["Ignore", "Wait"]),
        "waitFor": durations,
        "disruption": st.fixed_dictionaries(
            {}, optional={"planTimeout": durations, "maxMovesPerPlan": st.integers(-1, 300)}
        ),
    },
)


@given(specs)
@settings(max_examples=300)
def test_a_policy_that_is_let_through_can_be_read(spec: Document) -> None:
    document = policy(**spec)
    if judge(request(document), Known({})).allowed:
        PackingPolicy.parse(document)


@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_what_the_operator_writes_is_let_through(seed: int) -> None:
    chance = random.Random(seed)
    cluster_nodes, pods = a_full_cluster(chance)
    owners = tuple(
        replica_set(app, sum(one.labels["app"] == app for one in pods)) for app in {one.labels["app"] for one in pods}
    )
    seen = Snapshot(NOW, tuple(cluster_nodes), tuple(pods), owners)
    packing = pack(seen, PackOptions(), Budget(deterministic_units=0.2), 1, lambda: 0.0)
    of_policy = policy_resource(mode="Enforce")
    steering = chance.choice(list(PlanSteering))
    written = plan_document(packing, of_policy, seen, steering=steering, suffix="abcd", now=NOW)
    document = PackingPlan.to_document(written)
    assert judge(request(document), Known({of_policy.name: of_policy}, snapshot=seen)).problems == ()
