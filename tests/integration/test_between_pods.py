"""Rules between pods on a real control plane: a pod makes way so that replicas find the zones that they need."""

from __future__ import annotations

from typing import Any

import pytest

from harness.story import Story
from harness.workbench import Document, Workbench

pytestmark = pytest.mark.usefixtures("operator")

SELECTOR: Document = {"matchLabels": {"app": "pair"}}
APART: Document = {
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone", "labelSelector": SELECTOR}]
        }
    }
}
LEVEL: Document = {
    "topologySpreadConstraints": [
        {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": SELECTOR}
    ]
}


async def make_way(story: Story, rule: dict[str, Any]) -> Document:
    """Two replicas of `pair` need a zone each, and the node of zone b is full but for a pod that fits into zone a."""
    bench = story.bench
    label = {"story": bench.namespace}
    pods: Document = {"nodeSelector": label, "scheduler_name": story.scheduler_name}
    [in_b] = await bench.nodes(1, cpu="4", labels={**label, "zone": "b"})
    await bench.deployment("filler", 1, cpu="3", **pods)
    await bench.until_ready("filler", 1)
    in_a = await bench.nodes(2, cpu="4", labels={**label, "zone": "a"})
    await bench.deployment("pair", 2, cpu="2", **pods, **rule)
    await bench.until_unschedulable("pair", 1)
    await story.apply_policy(label)
    plan = await story.plan_in("Done")
    await bench.until_ready("pair", 2)
    await bench.until_ready("filler", 1)
    assert set(await bench.bound("filler")) <= set(in_a)
    assert in_b in await bench.bound("pair")
    return plan


@pytest.mark.parametrize("rule", [pytest.param(APART, id="anti-affinity"), pytest.param(LEVEL, id="spread")])
async def test_bindings_obey_rules_between_pods(workbench: Workbench, rule: Document) -> None:
    plan = await make_way(Story(workbench, scheduler_name="default-scheduler", steering="Bind"), rule)
    assert [step["action"] for step in plan["spec"]["steps"]] == ["Evict", "Bind"]


@pytest.mark.usefixtures("extender")
async def test_slots_agree_with_what_kube_scheduler_itself_finds(workbench: Workbench) -> None:
    plan = await make_way(Story(workbench), APART)
    assert [step["action"] for step in plan["spec"]["steps"]] == ["Evict", "Place"]
