"""Services under load on real kubelets: replicas follow it, and no planned change loses a request.

`--faults=all` plays every story; otherwise a sample. What each cost is kept in `build/e2e/serving.md`.
"""

from __future__ import annotations

import pytest

from harness.waiting import eventually
from results_table import Table
from serving_answers import row
from serving_scene import OUTPUT_TOKENS, SLOWLY_SECONDS, Load, Service, ServingScene, seconds
from serving_watch import watched

rare = pytest.mark.rare


async def most_desired(service: Service, load: Load) -> int:
    """The most replicas that the service shall have while a load lasts."""
    async with watched(service) as seen:
        await load.until("Succeeded", "Failed", timeout_seconds=3 * SLOWLY_SECONDS)
    return seen.most("unified")


# --- the load changes ---


async def test_replicas_follow_a_ramp(serving: ServingScene, serving_table: Table) -> None:
    service = await serving.begin("chat", [serving.role(1, 6)])
    load = await serving.load(service.url, "ramp", seconds=45.0, low=1.0, high=10.0)
    most = await most_desired(service, load)
    answers = await load.answers()
    serving_table.add(row("a ramp", load.about, f"1 → {most}", answers))
    assert most >= 2, answers.summary
    assert answers.lost == 0, answers.summary


@rare
async def test_a_spike_is_worked_off(serving: ServingScene, serving_table: Table) -> None:
    """Five times the load in one step, for 40 s: replicas rise, work off what waits, and fall, once each."""
    service = await serving.begin("chat", [serving.role(2, 30)])
    load = await serving.load(service.url, "steady", seconds=300.0, high=4.0)

    async def known() -> bool:
        inputs = [one.get("inputs", {}) for one in (await service.status())["decisions"]]
        assert any(
            float(one.get("arrivalsPerSecond", 0)) > 3 and float(one["outputTokensPerRequest"]) < 2 * OUTPUT_TOKENS
            for one in inputs
        ), inputs
        return True

    await eventually(known, timeout_seconds=SLOWLY_SECONDS, what="the load before the spike is known")
    before = (await service.role())["desired"]
    async with watched(service) as seen:
        spike = await serving.load(service.url, "steady", seconds=40.0, high=16.0, seed="2")
        extra = await spike.answers()
        ended = seconds()
        await service.until_falls()
        rested = await service.until_rests()
        settled = seconds() - ended
    answers = (await load.answers()).beside(extra)
    most = seen.most("unified")
    counts = f"{before} → {most} → {rested}"
    serving_table.add(row("a spike, and then as before", "4/s, and 20/s for 40 s", counts, answers, settled))
    assert answers.lost == 0, answers.summary
    assert before < most < 20, seen.counts  # ten bear 20/s
    assert rested < most, seen.counts
    assert seen.is_one_hill("unified"), seen.counts


@rare
async def test_a_pair_follows_the_load_together(serving: ServingScene, serving_table: Table) -> None:
    """Prefill and decode apart: one decision for both, and their ratio holds at every instant."""
    roles = [
        serving.role(1, 4, "--role", "prefill", name="prefill"),
        serving.role(2, 8, "--role", "decode", name="decode"),
    ]
    service = await serving.begin("pair", roles, ratio={"prefill": 1, "decode": 2, "tolerance": "0.5"})
    urls = {name: service.role_url(name) for name in ("prefill", "decode")}
    async with watched(service, "prefill", "decode") as seen:
        load = await serving.load(
            urls["decode"], "ramp", seconds=120.0, low=1.0, high=16.0, prefill_url=urls["prefill"]
        )
        answers = await load.answers()
        ended = seconds()
        for name, least in (("prefill", 1), ("decode", 2)):
            await service.until_settled(least, name, timeout_seconds=2 * SLOWLY_SECONDS)
        settled = seconds() - ended
    grown = f"1+2 → {seen.most('prefill')}+{seen.most('decode')} → 1+2"
    serving_table.add(row("prefill and decode", load.about, grown, answers, settled))
    assert answers.lost == 0, answers.summary
    assert seen.most("decode") > 2, seen.counts
    assert all(1.0 <= decode / prefill <= 3.0 for prefill, decode in seen.counts), seen.counts


# --- people change the service ---


async def test_planned_changes_under_load_lose_no_request(serving: ServingScene, serving_table: Table) -> None:
    """A new version, and replicas set by hand: more, fewer, and not any more."""
    service = await serving.begin("chat", [serving.role(2, 4)])
    load = await serving.load(service.url, "steady", seconds=75.0, high=2.0)
    before = {pod["metadata"]["uid"] for pod in await service.pods()}
    began = seconds()
    await service.patch({"roles": [serving.role(2, 4, "--metric-names", "both")]})

    async def replaced() -> bool:
        assert not before & {pod["metadata"]["uid"] for pod in await service.pods()}
        return True

    await eventually(replaced, timeout_seconds=SLOWLY_SECONDS, what="every replica is a new one")
    rolled_out = seconds() - began
    for count in (4, 2):
        await service.scale(count)
        assert (await service.condition("Scaling"))["reason"] == "ManualOverride"
    settled = seconds() - began
    answers = await load.answers()
    await service.patch({"replicas": None})

    async def follows() -> bool:
        scaling = await service.condition("Scaling")
        assert scaling["reason"] != "ManualOverride", scaling
        return True

    await eventually(follows, timeout_seconds=SLOWLY_SECONDS, what="replicas follow the load again")
    note = f"a new version ({rolled_out:.0f} s), then replicas by hand"
    serving_table.add(row(note, load.about, "2 → 4 → 2", answers, settled))
    assert answers.lost == 0, answers.summary


@rare
async def test_a_node_is_drained_under_load(serving: ServingScene, serving_table: Table) -> None:
    service = await serving.begin("chat", [serving.role(4, 4)])
    load = await serving.load(service.url, "steady", seconds=60.0, high=4.0)
    node = await serving.a_node_of(service)
    began = seconds()
    try:
        serving.cluster.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        await service.until_settled(4)
        settled = seconds() - began
        assert node not in await service.nodes()
        answers = await load.answers()
    finally:
        serving.cluster.kubectl("uncordon", node)
    serving_table.add(row("`kubectl drain` of a node", load.about, "4", answers, settled))
    assert answers.lost == 0, answers.summary


# --- nothing to do ---


@rare
async def test_at_zero_a_request_is_held_until_a_replica_answers(serving: ServingScene, serving_table: Table) -> None:
    """Nobody asks: the last replica goes. One asks: it is answered after a cold start. Nobody asks any more: zero."""
    scale_down = {"stabilization": "10s", "maxPercentPerMinute": 100}
    to_zero = {"after": "30s", "hold": {"requests": 20, "longest": "170s"}}
    scaling = {"scaleDown": scale_down, "scaleToZero": to_zero}
    service = await serving.begin("chat", [serving.role(1, 3)], scaling=scaling)
    await service.until_settled(0, timeout_seconds=2 * SLOWLY_SECONDS)
    assert (await service.condition("Available"))["reason"] == "AtZero"
    assert (await service.condition("Accepted"))["reason"] == "Accepted"
    load = await serving.load(service.url, "steady", seconds=5.0, high=1.0)
    await service.until(lambda role: role.get("ready", 0) >= 1, "has come back")
    assert "RequestsHeld" in [one["reason"] for one in (await service.status())["decisions"]]
    answers = await load.answers()
    # requests while the Service is turned over to the replicas are answered as well
    meanwhile = await serving.load(service.url, "steady", seconds=60.0, high=1.0)
    after = await meanwhile.answers()
    ended = seconds()
    await service.until_settled(0, timeout_seconds=2 * SLOWLY_SECONDS)
    serving_table.add(row("nobody asks, then one", load.about, "1 → 0 → 1 → 0", answers, seconds() - ended))
    assert answers.summary["requests"] >= 1, answers.summary
    assert answers.lost == 0, answers.summary
    assert after.lost == 0, after.summary
