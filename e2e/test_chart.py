"""The chart as people install it: its own test, the restricted standard, one namespace only, start and readiness."""

from __future__ import annotations

import json
import time

import pytest

from programs import run
from release import STANDARD, Release
from scene import SLOWLY_SECONDS, Scene
from stowage.transport.api import Api

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


def test_its_own_test_passes(release: Release) -> None:
    release.test()


def test_its_namespace_admits_restricted_pods_only(release: Release) -> None:
    labels = release.cluster.get("namespace", release.namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        release.cluster.kubectl("run", "root", "--image=any", "--namespace", release.namespace, "--dry-run=server")
    assert release.restarts() == {}


def test_the_webhook_refuses_what_could_never_work(release: Release) -> None:
    policy = {
        "apiVersion": "stowage.dev/v1alpha1",
        "kind": "PackingPolicy",
        "metadata": {"name": "nobody"},
        "spec": {"podSelector": {"matchExpressions": [
            {"key": "app", "operator": "In", "values": ["a"]},
            {"key": "app", "operator": "NotIn", "values": ["a"]},
        ]}},
    }  # fmt: skip
    file = release.cluster.kubeconfig.with_name("nobody.json")
    file.write_text(json.dumps(policy), encoding="utf-8")
    with pytest.raises(AssertionError, match="podSelector"):
        release.cluster.kubectl("create", "--filename", file, "--dry-run=server")


def test_a_new_operator_is_ready_soon(release: Release) -> None:
    began = time.monotonic()  # noqa: TID251
    release.cluster.kubectl("rollout", "restart", "deployment", "stowage", "--namespace", release.namespace)
    release.cluster.kubectl("rollout", "status", "deployment", "stowage", "--namespace", release.namespace)
    print(f"another operator is Ready {time.monotonic() - began:.1f} s after a restart was asked for")  # noqa: TID251


def test_the_image_starts_with_nothing_writable(image: str) -> None:
    began = time.monotonic()  # noqa: TID251
    with pytest.raises(AssertionError, match="no cluster"):
        run("docker", "run", "--rm", "--read-only", "--cap-drop=ALL", "--user=65532", image, "operator")
    seconds = time.monotonic() - began  # noqa: TID251
    size = int(run("docker", "image", "inspect", image, "--format", "{{.Size}}"))
    print(f"{image}: {size / 1e6:.0f} MB; the operator misses its cluster after {seconds:.1f} s")


async def test_it_can_be_kept_to_one_namespace(release: Release, scene: Scene, api: Api) -> None:
    async def may_evict(namespace: str) -> bool:
        resource = {"verb": "create", "resource": "pods", "subresource": "eviction", "namespace": namespace}
        user = f"system:serviceaccount:{release.namespace}:stowage"
        groups = ["system:serviceaccounts", "system:authenticated"]
        review = {"spec": {"user": user, "groups": groups, "resourceAttributes": resource}}
        answer = await api.create(REVIEWS, {"apiVersion": "authorization.k8s.io/v1", **review})
        return bool(answer["status"]["allowed"])

    assert await may_evict("default")
    release.install(**STANDARD, watchNamespaces=[scene.bench.namespace])
    try:
        assert not await may_evict("default")
        assert await may_evict(scene.bench.namespace)
        await scene.begin()
        await scene.plan_in("Done", timeout_seconds=SLOWLY_SECONDS)
        await scene.until_packed()
    finally:
        release.install(**STANDARD)
