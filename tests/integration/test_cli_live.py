"""The command line against a real API server: what it reads, what it writes, how it answers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.waiting import eventually
from harness.workbench import Document, Workbench
from stowage.act.events import CONTROLLER
from stowage.cli.rights import Process, Scope, rules
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import free_port
from stowage.transport import paths

pytestmark = pytest.mark.usefixtures("scheduler")

UNITS = ("--deterministic-budget", "2")


@pytest.fixture
def stowage(cluster: LocalCluster) -> Any:
    """Runs `stowage` with arguments: exit code, standard output, standard error."""

    async def run(*arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "stowage.cli", *arguments),
            env={**os.environ, **cluster.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    return run


async def crowded(bench: Workbench, **spec: Any) -> str:
    """Two nodes with one small pod each; a large pod fits once one of them has moved. Returns the large pod's name."""
    label = {"corner": bench.namespace}
    await bench.nodes(2, cpu="8", labels=label)
    await bench.deployment("small", 2, cpu="3", nodeSelector=label)
    await bench.until_ready("small", 2)
    await bench.replica_set("large", 1, cpu="6", nodeSelector=label)
    (large,) = await bench.until_unschedulable("large", 1)
    policy = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "PackingPolicy",
        "metadata": {"name": f"p-{bench.namespace}"},
        "spec": {"nodeSelector": label, "disruption": {"minPodAge": "0s", "ownerSettled": "0s"}, **spec},
    }
    await bench.create(paths.PACKING_POLICIES, policy)
    return str(large["metadata"]["name"])


async def test_a_dump_gives_the_plan_that_the_live_cluster_gives(
    workbench: Workbench, stowage: Any, tmp_path: Path
) -> None:
    large = await crowded(workbench)
    file = tmp_path / "dump.json"

    assert (await stowage("dump", "-f", str(file)))[:2] == (0, "")
    live = await stowage("plan", "-o", "json", *UNITS)
    from_file = await stowage("plan", "-f", str(file), "-o", "json", *UNITS)

    plans = [json.loads(out) for _, out, _ in (live, from_file)]
    for plan in plans:
        plan.pop("seconds")
    assert plans[0] == plans[1]
    assert live[0] == from_file[0] == 0, live[2]
    assert f"{workbench.namespace}/{large}" in {one["pod"] for one in plans[0]["assignments"]}
    assert len(plans[0]["moves"]) == 1
    assert not {"env", "command", "image"} & keys_of(json.loads(file.read_text()))
    yaml_file = tmp_path / "dump.yaml"
    assert (await stowage("dump", "-o", "yaml", "-f", str(yaml_file)))[:2] == (0, "")
    from_yaml = json.loads((await stowage("plan", "-f", str(yaml_file), "-o", "json", *UNITS))[1])
    assert from_yaml["assignments"] == plans[0]["assignments"]


def keys_of(value: Any) -> set[str]:
    """Every key of a JSON value, at any depth."""
    if isinstance(value, dict):
        return set(value) | {key for part in value.values() for key in keys_of(part)}
    return {key for part in value for key in keys_of(part)} if isinstance(value, list) else set()


async def test_why_tells_a_pod_that_can_be_helped_from_one_that_can_not(workbench: Workbench, stowage: Any) -> None:
    large = await crowded(workbench)
    await workbench.replica_set("huge", 1, cpu="9", nodeSelector={"corner": workbench.namespace})
    (huge,) = await workbench.until_unschedulable("huge", 1)

    namespace = ("-n", workbench.namespace, "-o", "json")
    code, out, _ = await stowage("why", f"pod/{large}", *namespace)
    assert (code, json.loads(out)["state"]) == (0, "Placeable")
    code, out, _ = await stowage("why", f"pod/{huge['metadata']['name']}", *namespace)
    answer = json.loads(out)
    assert (code, answer["state"], answer["reason"]) == (1, "Pending", "InsufficientCpu")
    assert answer["excludedNodes"] == {"InsufficientCpu": 2}
    assert "Insufficient cpu" in answer["schedulerMessage"]


async def test_why_tells_whether_a_node_can_be_emptied(workbench: Workbench, stowage: Any) -> None:
    await crowded(workbench)
    first, second = sorted(await workbench.bound("small"))
    code, out, said = await stowage("why", f"node/{first}", "-o", "json")
    answer = json.loads(out)
    assert (code, answer["canBeEmptied"], answer["keptBy"]) == (0, True, []), said
    assert [pod["to"] for pod in answer["pods"]] == [second]
    await workbench.api.merge_patch(paths.node(second), {"spec": {"unschedulable": True}})
    code, out, _ = await stowage("why", f"node/{first}", "-o", "json")
    assert (code, json.loads(out)["canBeEmptied"]) == (1, False)


async def test_pause_and_resume_write_one_field(workbench: Workbench, stowage: Any) -> None:
    await crowded(workbench)
    policy = f"p-{workbench.namespace}"

    for command, paused in (("pause", True), ("pause", True), ("resume", False)):
        assert (await stowage(command, policy))[0] == 0
        now = await workbench.api.get(paths.packing_policy(policy))
        assert now["spec"]["paused"] is paused
    assert "stowage-cli" in {one["manager"] for one in now["metadata"]["managedFields"]}


async def test_approve_and_abort_write_the_approval_and_say_no_when_it_is_too_late(
    workbench: Workbench, stowage: Any
) -> None:
    name = f"{workbench.namespace}-20260101-101500-aaaa"
    plan = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "PackingPlan",
        "metadata": {"name": name},
        "spec": {"policy": "nobodys", "approval": "Pending", "steering": "Extender"},
    }
    await workbench.create(paths.PACKING_PLANS, plan)

    async def approval() -> Document:
        read: Document = (await workbench.api.get(paths.packing_plan(name)))["spec"]["approval"]
        return read

    assert (await stowage("approve", name))[0] == 0
    assert await approval() == "Approved"
    assert (await stowage("abort", name))[0] == 0
    assert await approval() == "Aborted"
    code, out, err = await stowage("approve", name)
    assert (code, out) == (1, "")
    assert "Aborted cannot become Approved" in err
    assert err.count("\n") == 1
    code, out, err = await stowage("abort", name, "-o", "json")
    assert json.loads(out) == {
        "kind": "PackingPlan",
        "name": name,
        "field": "spec.approval",
        "before": "Aborted",
        "after": "Aborted",
        "changed": False,
    }, err
    code, out, err = await stowage("approve", "no-such-plan")
    assert code == 2
    assert "not found in this cluster" in err


async def test_doctor_finds_a_healthy_cluster_and_leftovers(workbench: Workbench, stowage: Any) -> None:
    code, out, err = await stowage("doctor", "-o", "json")
    results = {one["name"]: one["result"] for one in json.loads(out)["checks"]}
    assert code == 0, (out, err)
    assert {results[name] for name in ("API server", "version", "custom resources", "permissions")} == {"ok"}
    assert results["scheduler stowage"] == "ok"
    missing = await stowage("doctor", "-o", "json", "--operator-lease", f"{workbench.namespace}/nobody")
    found = {one["name"]: one for one in json.loads(missing[1])["checks"]}
    assert found["operator"]["result"] == "warning"
    silent = await stowage("doctor", "-o", "json", "--extender-url", "http://127.0.0.1:1/readyz")
    assert silent[0] == 1, "an extender that was named does not answer"

    plan = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "PackingPlan",
        "metadata": {"name": f"{workbench.namespace}-20260101-101500-bbbb"},
        "spec": {"policy": "gone", "approval": "Approved", "steering": "Extender"},
    }
    await workbench.create(paths.PACKING_PLANS, plan)
    _, out, _ = await stowage("doctor", "-o", "json")
    leftovers = next(one for one in json.loads(out)["checks"] if one["name"] == "leftovers")
    assert leftovers["result"] == "warning"
    assert "bbbb" in leftovers["found"]


async def test_doctor_gives_back_nodes_kept_for_plans_that_do_not_run(workbench: Workbench, stowage: Any) -> None:
    (node,) = await workbench.nodes(1)
    left = {"key": "stowage.dev/reserved", "value": "0d9f6a1e-0000-4000-8000-000000000000", "effect": "NoSchedule"}
    await workbench.api.merge_patch(paths.node(node), {"spec": {"taints": [left]}})
    _, out, _ = await stowage("doctor", "-o", "json")
    before = next(one for one in json.loads(out)["checks"] if one["name"] == "leftovers")
    assert (before["result"], node in before["found"]) == ("warning", True)
    assert (await workbench.api.get(paths.node(node)))["spec"]["taints"] == [left], "looking changes nothing"
    _, out, _ = await stowage("doctor", "--fix", "-o", "json")
    after = next(one for one in json.loads(out)["checks"] if one["name"] == "leftovers")
    assert (after["result"], f"given back: {node}" in after["found"]) == ("ok", True)
    assert "taints" not in (await workbench.api.get(paths.node(node)))["spec"]


async def test_doctor_lets_pods_of_jobs_go_that_nobody_counts(workbench: Workbench, stowage: Any) -> None:
    pods = paths.in_namespace(paths.PODS, workbench.namespace)
    container = {"name": "trainer", "image": "train:1"}
    for name, seat in (("of-a-job", {"stowage.dev/seat": "s0"}), ("of-others", {})):
        metadata = {"name": name, "labels": seat, "finalizers": ["stowage.dev/tracking"]}
        await workbench.api.create(pods, {"metadata": metadata, "spec": {"containers": [container]}})
        await workbench.api.delete(paths.pod(workbench.namespace, name))
    nobody = ("--operator-lease", f"{workbench.namespace}/nobody", "-o", "json")
    _, out, _ = await stowage("doctor", *nobody)
    before = next(one for one in json.loads(out)["checks"] if one["name"] == "training pods")
    assert before["result"] == "warning"
    assert f"{workbench.namespace}/of-a-job" in before["found"]
    _, out, _ = await stowage("doctor", "--fix", *nobody)
    after = next(one for one in json.loads(out)["checks"] if one["name"] == "training pods")
    assert (after["result"], f"let go: {workbench.namespace}/of-a-job" in after["found"]) == ("ok", True)
    assert [one["metadata"]["name"] for one in await workbench.pods()] == ["of-others"], "others' pods are left alone"
    await workbench.api.merge_patch(paths.pod(workbench.namespace, "of-others"), {"metadata": {"finalizers": None}})


async def log_in_with(bench: Workbench, admin: Document, process: Process) -> str:
    """The administrator's kubeconfig for a service account with the listed rights of a process and no others."""
    name = f"{bench.namespace}-{process}"
    roles = "/apis/rbac.authorization.k8s.io/v1"
    account = {"kind": "ServiceAccount", "name": name, "namespace": bench.namespace}
    await bench.api.create(f"/api/v1/namespaces/{bench.namespace}/serviceaccounts", {"metadata": {"name": name}})
    places = {Scope.CLUSTER: "", Scope.OPERATOR_LEASE: "stowage-system", Scope.SCHEDULER_LEASE: "kube-system"}
    for scope, namespace in places.items():
        if not (allowed := rules(process, scope)):
            continue
        kind, within = ("Role", f"{roles}/namespaces/{namespace}") if namespace else ("ClusterRole", roles)
        plural = f"{kind.lower()}s"
        await bench.api.create(f"{within}/{plural}", {"metadata": {"name": name}, "rules": allowed})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [account]}
        await bench.api.create(f"{within}/{plural.removesuffix('s')}bindings", binding)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/{bench.namespace}/serviceaccounts/{name}/token"
    token = (await bench.api.create(path, request))["status"]["token"]
    return yaml.safe_dump({**admin, "users": [{**user, "user": {"token": token}} for user in admin["users"]]})


async def test_the_processes_need_no_more_rights_than_are_listed(
    workbench: Workbench, stowage: Any, start: Any, cluster: LocalCluster, extender_port: int, tmp_path: Path
) -> None:
    started = []
    admin = yaml.safe_load(cluster.kubeconfig.read_text())
    lease = f"stowage-operator-{workbench.namespace}"
    for process, flags in (
        (Process.EXTENDER, ("--port", str(extender_port))),
        (Process.OPERATOR, ("--lease-name", lease, "--solver-workers", "1")),
    ):
        kubeconfig = tmp_path / f"{process}.yaml"
        kubeconfig.write_text(await log_in_with(workbench, admin, process))
        port = str(free_port())
        given = ("--kubeconfig", str(kubeconfig), "--metrics-port", port, *flags)
        started.append(start(process.value, *given, ready_url=f"http://127.0.0.1:{port}/readyz"))
    label = {"corner": workbench.namespace}
    await crowded(workbench, mode="Enforce", steering="Extender", trigger={"quiet": "0s"})
    await workbench.until_ready("large", 1)
    await workbench.api.merge_patch(
        paths.packing_policy(f"p-{workbench.namespace}"), {"spec": {"steering": "Bind"}}
    )  # from here on taints, and a gang that is let go
    gang = {"stowage.dev/gang": "ring", "stowage.dev/gang-size": "2"}
    await workbench.nodes(1, cpu="8", labels=label)
    gate = [{"name": "stowage.dev/gang"}]
    await workbench.replica_set("ring", 2, cpu="4", labels=gang, nodeSelector=label, schedulingGates=gate)
    await workbench.until_ready("ring", 2)
    await workbench.replica_set("late", 1, cpu="2", nodeSelector=label)
    await workbench.until_ready("late", 1)

    async def announced() -> bool:
        events = (await workbench.api.get(paths.events(workbench.namespace)))["items"]
        return CONTROLLER in {event.get("reportingController") for event in events}

    await eventually(announced, what="an event of the operator")
    for process in started:
        assert "forbidden" not in process.log_file.read_text().lower()
    code, out, err = await stowage(
        *("doctor", "-o", "json", "--operator-lease", f"stowage-system/{lease}", "--extender-url"),
        *(f"http://127.0.0.1:{extender_port}/readyz", "--kubeconfig", str(tmp_path / "operator.yaml")),
    )
    found = {one["name"]: one for one in json.loads(out)["checks"]}
    assert code == 1, err  # the operator itself may not read definitions one by one
    assert found["custom resources"]["result"] == "failed"
    assert {found[name]["result"] for name in ("operator", "scheduler stowage", "extender")} == {"ok"}, found
    denied = ("patch packingplans/status", *(f"{verb} leases in stowage-system" for verb in ("patch", "delete")))
    assert found["permissions"]["found"] == f"this user may not: {', '.join(denied)}"


async def test_top_counts_what_runs(workbench: Workbench, stowage: Any) -> None:
    await crowded(workbench)
    code, out, _ = await stowage("top", "-o", "json")
    top = json.loads(out)
    assert code == 0
    mine = [node for node in top["nodes"] if node["name"].startswith(workbench.namespace)]
    assert [node["cpuMilli"] for node in mine] == [{"requested": 3000, "allocatable": 8000}] * 2
    assert top["pendingPods"] == 1
