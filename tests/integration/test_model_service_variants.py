"""Mixes of variants, spares and warm nodes on a real control plane, with engines that the test plays."""

from __future__ import annotations

from harness.model_service import Service
from harness.played_engines import CACHE_TOKENS
from harness.waiting import eventually
from harness.workbench import Document, is_ready
from stowage.transport import paths

TAKES = "stowage.dev/takes-requests"
SPARE = "stowage.dev/spare"


async def test_a_cheaper_mix_takes_over_once_it_is_ready(service: Service) -> None:
    """By price for speed the big variant comes first; for a load that one small replica bears, the small one does."""
    names = {kind: f"{kind}-{service.bench.namespace}" for kind in ("small", "big")}
    for kind, times in (("small", 1.0), ("big", 0.1)):
        fitted = {
            "prefill": {"base": f"{20 * times:g}", "perToken": f"{0.1 * times:g}"},
            "decode": {"base": f"{20 * times:g}", "perRequest": f"{0.2 * times:g}"},
        }
        spec = {"model": "m", "accelerator": kind, "kvCacheTokens": CACHE_TOKENS, "fitted": fitted}
        head = {"apiVersion": "stowage.dev/v1alpha1", "kind": "PerformanceProfile", "metadata": {"name": names[kind]}}
        await service.bench.create(paths.PERFORMANCE_PROFILES, {**head, "spec": spec})
    prices = {"small": "1", "big": "2"}
    variants = [service.variant(name=one, costPerHour=prices[one], profile=names[one]) for one in names]
    await service.apply(
        roles=[{"variants": variants}],
        slo={"timeToFirstToken": "2s", "interTokenLatency": "100ms"},
        scaling={"recommenders": ["Slo"], "scaleDown": {"drainDeadline": "5s"}},
    )
    await service.until_ready(1)

    serving: list[int] = []

    async def taken_over() -> bool:
        pods = await service.pods()
        serving.append(sum(one["metadata"]["labels"][TAKES] == "true" and is_ready(one) for one in pods.values()))
        return {one["metadata"]["labels"]["stowage.dev/variant"] for one in pods.values()} == {"small"}

    await eventually(taken_over, timeout_seconds=120, what="the small variant bears the load alone")
    assert min(serving) >= 1, "there is never less than the load takes"
    await service.until_condition("MixChosen", "True", "MixInForce")
    big = await service.deployment(variant="big")
    assert big["metadata"]["generation"] > 1, "it was made with a replica, which was taken back"
    (role,) = (await service.status())["roles"]
    assert [(one["name"], one["replicas"]) for one in role["mix"]["variants"]] == [("small", 1), ("big", 0)]
    assert "MixSwitched" in {one["reason"] for one in (await service.status())["decisions"]}

    async def profile_tells() -> bool:
        found = await service.bench.api.get(paths.performance_profile(names["small"]))
        status = found.get("status") or {}
        return [one["status"] for one in status.get("conditions", ())] == ["True"] and status["services"] == 1

    await eventually(profile_tells, what="the profile is accepted, and used by one service")


async def test_a_warm_spare_serves_by_one_label_and_another_one_is_started(service: Service) -> None:
    await service.apply(roles=[{"warm": {"pods": 1}, "variants": [service.variant()]}], replicas=1)

    def of_kind(pods: dict[str, Document], label: str) -> set[str]:
        return {name for name, pod in pods.items() if pod["metadata"]["labels"].get(label) == "true"}

    async def until(serving: int) -> tuple[set[str], set[str]]:
        async def there() -> tuple[set[str], set[str]]:
            pods, status = await service.pods(), await service.status()
            serve, spare = of_kind(pods, TAKES), of_kind(pods, SPARE)
            assert (len(serve), len(spare), len(pods)) == (serving, 1, serving + 1), pods.keys()
            (role,) = status["roles"]
            assert (role["ready"], role["spare"]) == (serving, 1), status
            assert (status["replicas"], status["spend"]["gpus"]) == (serving, 0), status
            return serve, spare

        return await eventually(there, what=f"{serving} replicas serve and one spare is warm")

    first, spare = await until(1)
    await service.bench.api.merge_patch(f"{service.path}/scale", {"spec": {"replicas": 2}})
    second, _ = await until(2)
    assert second == first | spare, "who was warm serves, and the new one is the spare"
    await service.bench.api.merge_patch(f"{service.path}/scale", {"spec": {"replicas": 1}})
    third, kept = await until(1)
    assert third | kept == second, "a replica that is not needed any more is the spare; the idle one went"


async def test_nodes_are_warmed_by_pods_that_make_room_for_replicas(service: Service) -> None:
    container = {"image": "fetch:1", "name": "fetch", "volumeMounts": [{"name": "weights", "mountPath": "/w"}]}
    variant = service.variant()
    variant["template"]["spec"] |= {
        "initContainers": [container],
        "volumes": [{"name": "weights", "hostPath": {"path": "/var/weights"}}],
    }
    roles = [{"warm": {"nodes": 1}, "variants": [variant]}]
    await service.apply(roles=roles, replicas=1, model={"uri": "pvc://models/chat"})

    async def split(replicas: int, warm: int) -> bool:
        found = await service.bench.pods()
        pods = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        kinds = [bool(pod["metadata"]["labels"].get("stowage.dev/prefetch")) for pod in pods]
        nodes = [pod["spec"].get("nodeName", "") for pod in pods]
        status = await service.status()
        assert (kinds.count(False), kinds.count(True)) == (replicas, warm), kinds
        assert all(nodes), nodes
        assert (status["roles"][0]["ready"], status["roles"][0].get("cachedNodes", 0)) == (replicas, warm), status
        assert not warm or len(set(nodes)) == replicas + warm, "a warm node has no replica"
        return True

    await eventually(lambda: split(1, 1), what="the other node is warm")
    await service.until_condition("Accepted", "True", "Accepted")
    await service.bench.api.merge_patch(f"{service.path}/scale", {"spec": {"replicas": 2}})
    await eventually(lambda: split(2, 0), what="the replica went to the warm node, which is in use")
