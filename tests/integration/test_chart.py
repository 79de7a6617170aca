"""The chart on a control plane: what upgrade, rollback and removal leave untouched."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from harness.chart import CHART, programs
from harness.workbench import Workbench
from stowage.demo.local_cluster import LocalCluster
from stowage.transport import paths

CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
WITHIN_SECONDS = 120


class Release:
    """A release of the chart under the name and in the namespace of one test."""

    def __init__(self, cluster: LocalCluster, name: str, cache: str) -> None:
        self.name = name
        self._environment = {**cluster.environment, "HOME": cache, "KUBECACHEDIR": f"{cache}/kube"}

    def helm(self, *arguments: str) -> str:
        result = self._run(*arguments)
        assert not result.returncode, result.stderr
        return result.stdout

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(programs() / "helm"), *arguments, "--namespace", self.name]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=self._environment, timeout=WITHIN_SECONDS
        )

    def upgrade(self, *options: str) -> str:
        return self.helm(*self._upgrade(*options))

    def fail_to_install(self) -> None:
        # there are no nodes that could make pods ready
        assert self._run(*self._upgrade("--wait", "--timeout", "2s")).returncode

    def _upgrade(self, *options: str) -> tuple[str, ...]:
        # the definitions are there already, made by the cluster's start
        policy = f"packing.defaultPolicy.name={self.name}"
        given = ("--install", "--take-ownership", "--set", policy, "--set", "scheduler.enabled=true")
        return ("upgrade", self.name, str(CHART), *given, *options)


@pytest.fixture
def release(workbench: Workbench, cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    one = Release(cluster, workbench.namespace, str(tmp_path_factory.mktemp("helm")))
    yield one
    if workbench.namespace in one.helm("list", "--short"):
        one.helm("uninstall", one.name)


async def test_what_is_not_the_charts_outlives_upgrade_rollback_and_removal(
    workbench: Workbench, release: Release
) -> None:
    api, name = workbench.api, release.name
    stem = f"{name}-stowage"
    webhook, secret = f"{CONFIGURATION}/{stem}", f"/api/v1/namespaces/{name}/secrets/{stem}-webhook-tls"
    policy = paths.packing_policy(name)
    await api.merge_patch(
        f"/api/v1/namespaces/{name}", {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    )
    release.upgrade()
    made = (await api.get(policy))["metadata"]["uid"]
    filled = {"tls.crt": base64.b64encode(b"certificate").decode()}
    await api.merge_patch(secret, {"data": filled})
    await api.merge_patch(policy, {"spec": {"mode": "Enforce"}})

    async def untouched() -> dict[str, Any]:
        found = await api.get(policy)
        return {
            "mode": found["spec"]["mode"],
            "same policy": found["metadata"]["uid"] == made,
            "certificate": (await api.get(secret)).get("data"),
        }

    expected = {"mode": "Enforce", "same policy": True, "certificate": filled}
    assert f'The policy "{name}" is in mode Enforce' in release.upgrade("--set", "replicaCount=2")
    deployment = f"/apis/apps/v1/namespaces/{name}/deployments/{stem}"
    assert ((await api.get(deployment))["spec"]["replicas"], await untouched()) == (2, expected)
    release.helm("rollback", name)
    assert ((await api.get(deployment))["spec"]["replicas"], await untouched()) == (1, expected)
    assert (await api.get(webhook))["webhooks"][0]["failurePolicy"] == "Ignore"
    release.helm("uninstall", name)
    kept = await api.get(policy)
    assert kept["metadata"]["uid"] == made
    assert "finalizers" not in kept["metadata"]
    await api.delete(policy)


async def test_after_a_failed_first_installation_the_notes_tell_how_to_make_the_policy(
    workbench: Workbench, release: Release
) -> None:
    release.fail_to_install()
    notes = release.upgrade()
    assert f'The policy "{release.name}" was not found' in notes
    await workbench.api.create(
        paths.PACKING_POLICIES, yaml.safe_load(notes.partition("<<END\n")[2].partition("\nEND\n")[0])
    )
    assert f'The policy "{release.name}" is in mode Recommend' in release.upgrade()
    await workbench.api.delete(paths.packing_policy(release.name))
