"""The admission webhook, asked by a real API server: verdicts, certificates that change, and a dead webhook."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from harness.waiting import eventually
from harness.workbench import Workbench, pod_template
from stowage.admission.configuration import PATH, configuration
from stowage.demo.local_cluster import LocalCluster
from stowage.demo.processes import free_port
from stowage.run.certificates import Lifetimes
from stowage.run.certificates_secret import CONFIGURATIONS, SECRETS
from stowage.run.webhook_server import AdmissionServer, WebhookOptions
from stowage.transport import ApiError, ApiUnavailable, Invalid, paths
from unit.admission_requests import plan, policy, slot, step

Document = dict[str, Any]
DRY = {"dryRun": "All"}
TIMES = Lifetimes()
NEVER = {"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "DoesNotExist"}]}


class Clock:
    """The time by which certificates are made; `ahead` moves it."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead

    def __call__(self) -> float:
        return time.time() + self.ahead  # noqa: TID251 - the API server goes by the clock of this machine


class Site:
    """A configuration of this test alone, and webhooks that it may lead to."""

    def __init__(self, bench: Workbench) -> None:
        self.bench, self.api = bench, bench.api
        self.name = f"stowage-{bench.namespace}"
        self.path = paths.named(CONFIGURATIONS, self.name)

    def server(self, clock: Callable[[], float], port: int = 0) -> AdmissionServer:
        options = WebhookOptions("127.0.0.1", port, "127.0.0.1", self.bench.namespace, "webhook-tls", self.name)
        return AdmissionServer(self.api, lambda: None, options, now=clock, generator=random.Random(1))

    async def register(self, port: int, **fields: Any) -> None:
        client = {"url": f"https://127.0.0.1:{port}{PATH}"}
        await self.api.apply(self.path, configuration(self.name, client, **fields), field_manager="tests")

    async def bundle(self) -> bytes:
        (webhook,) = (await self.api.get(self.path))["webhooks"]
        return base64.b64decode(webhook["clientConfig"].get("caBundle", ""))

    def policy(self, suffix: str = "p", **spec: Any) -> Document:
        document = policy(f"{self.bench.namespace}-{suffix}", **spec)
        del document["metadata"]["uid"], document["metadata"]["creationTimestamp"]
        return document

    def plan(self, *parts: Document, **spec: Any) -> Document:
        document = plan(*parts, **{"policy": f"{self.bench.namespace}-p", **spec})
        document["metadata"] = {"name": f"{self.bench.namespace}-plan"}
        return document


@pytest.fixture
async def site(workbench: Workbench) -> AsyncIterator[Site]:
    made = Site(workbench)
    yield made
    for path in (made.path, *(paths.packing_policy(f"{workbench.namespace}-{end}") for end in "pq")):
        with contextlib.suppress(ApiError):
            await workbench.api.delete(path)


@contextlib.asynccontextmanager
async def running(server: AdmissionServer) -> AsyncIterator[AdmissionServer]:
    task = asyncio.create_task(server.run())

    async def serves() -> bool:
        assert not task.done(), task
        return server.port != 0 and not server.problems()

    try:
        await eventually(serves, what="the webhook has a certificate")
        yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def webhook(site: Site) -> AsyncIterator[AdmissionServer]:
    """A webhook that is asked by now, and without which nothing of ours could be written."""
    async with running(site.server(Clock(0.0))) as server:
        await site.register(server.port, failure_policy="Fail")
        await server.look()
        await until_refused(site)
        yield server


async def shown_by(server: AdmissionServer) -> int:
    """Serial number of the certificate that a new connection gets."""
    shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", server.port))
    return x509.load_pem_x509_certificate(shown.encode()).serial_number


async def refusal(attempt: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await attempt
    return refused.value


def a_pod() -> Document:
    template = pod_template("web", cpu="1")
    return {**template, "metadata": {**template["metadata"], "name": "web"}}


def by_us(error: ApiError) -> bool:
    return isinstance(error, Invalid) and 'admission webhook "validate.stowage.dev" denied the request' in error.message


async def until_refused(site: Site) -> None:
    """API servers take up a configuration a moment after it was written."""

    async def refused() -> bool:
        try:
            await site.api.create(paths.PACKING_POLICIES, site.policy("q", podSelector=NEVER), DRY)
        except ApiError as error:
            return by_us(error)
        return False

    await eventually(refused, what="the webhook is asked")


@pytest.mark.usefixtures("webhook")
async def test_what_the_schema_lets_through_is_refused_with_field_value_and_cure(site: Site) -> None:
    no_policy = await refusal(site.api.create(paths.PACKING_PLANS, site.plan()))
    assert by_us(no_policy)
    words = f"spec.policy = {site.bench.namespace}-p: the PackingPolicy does not exist"
    assert words in no_policy.message
    assert "name one that exists" in no_policy.message
    assert [cause.field for cause in no_policy.causes] == ["spec.policy"]
    await site.api.create(paths.PACKING_POLICIES, site.policy())
    accepted = await site.api.create(paths.PACKING_PLANS, site.plan(step(1, slot="k001"), slot(1)), DRY)
    assert accepted["spec"]["steps"]
    circle = site.plan(step(1, after=["s002"]), step(2, after=["s001"]))
    assert "in a circle" in (await refusal(site.api.create(paths.PACKING_PLANS, circle))).message


@pytest.mark.usefixtures("webhook")
async def test_the_rules_of_the_schema_come_first(site: Site) -> None:
    error = await refusal(site.api.create(paths.PACKING_POLICIES, site.policy(trigger={"quiet": "9s"})))
    assert "webhook" not in error.message
    assert "trigger.quiet must not be longer" in error.message


@pytest.mark.usefixtures("webhook")
async def test_a_job_in_a_namespace_is_refused_for_a_pattern_that_no_schema_can_judge(site: Site) -> None:
    jobs = paths.in_namespace(paths.TRAINING_JOBS, site.bench.namespace)
    pod = {"containers": [{"name": "trainer", "image": "a", "command": ["a"]}]}
    log = {"name": "a", "pattern": "(a+)+b"}
    spec: Document = {"template": {"spec": pod}, "recovery": {"rules": [{"when": {"log": log}, "do": "Fail"}]}}
    job = {"apiVersion": "stowage.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "job"}, "spec": spec}
    error = await refusal(site.api.create(jobs, job, DRY))
    assert by_us(error)
    assert [cause.field for cause in error.causes] == ["spec.recovery.rules[0].when.log.pattern"]
    log["pattern"] = "a+b"
    assert (await site.api.create(jobs, job, DRY))["spec"]["recovery"]["rules"]


@pytest.mark.usefixtures("webhook")
async def test_an_ended_plan_takes_no_approval_and_any_label(site: Site) -> None:
    await site.api.create(paths.PACKING_POLICIES, site.policy())
    made = await site.api.create(paths.PACKING_PLANS, site.plan())
    path = paths.packing_plan(made["metadata"]["name"])
    try:
        await site.api.merge_patch(path, {"spec": {"approval": "Approved"}}, DRY)
        await site.api.merge_patch(f"{path}/status", {"status": {"phase": "Superseded"}})
        for approval in ("Approved", "Aborted"):
            error = await refusal(site.api.merge_patch(path, {"spec": {"approval": approval}}))
            assert by_us(error)
            assert "the plan has ended (Superseded)" in error.message
        await site.api.merge_patch(path, {"metadata": {"labels": {"kept": "true"}}})
    finally:
        await site.api.delete(path)


@pytest.mark.usefixtures("webhook")
async def test_people_see_warnings_where_they_write(site: Site, cluster: LocalCluster, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(site.policy(objective={"tail": "LeastPower"}, disruption={"maxMovesPerHour": 3})))
    command = [str(cluster.programs / "kubectl"), "--kubeconfig", str(cluster.kubeconfig), "apply", "-f", str(file)]
    applied = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=60)
    warnings = [line for line in applied.stderr.splitlines() if line.startswith("Warning: ")]
    assert ["objective.tail: LeastPower" in warnings[0], "no plan moves more" in warnings[1]] == [True, True]


async def test_a_certificate_changes_while_questions_are_asked(site: Site) -> None:
    """The clock starts so far back that every pair of the rotation is valid for the API server, too."""
    clock = Clock(-TIMES.renew_after)
    async with running(site.server(clock)) as server:
        await site.register(server.port, failure_policy="Fail")
        await server.look()
        await until_refused(site)
        await site.api.create(paths.PACKING_POLICIES, site.policy())
        answers: list[bool] = []

        async def keep_asking() -> None:
            while True:  # without a verdict `Fail` would answer 500
                refused = await refusal(site.api.create(paths.PACKING_PLANS, site.plan(policy="no"), DRY))
                if "context deadline exceeded" not in refused.message:  # that is a busy machine, and no certificate
                    answers.append(by_us(refused))

        async def more() -> None:
            asked = len(answers)

            async def answered() -> bool:
                return len(answers) > asked + 20

            await eventually(answered, what="the webhook is asked on")

        asking = asyncio.create_task(keep_asking())
        stages = []
        for ahead in (-3600.0, 0.0, TIMES.overlap, 2 * TIMES.overlap):
            clock.ahead = ahead
            await server.look()
            await more()
            bundle = await site.bundle()
            stages.append((await shown_by(server), bundle.count(b"BEGIN")))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    serials = [serial for serial, _ in stages]
    assert serials[0] == serials[1] != serials[2] == serials[3]
    assert [trusted for _, trusted in stages] == [1, 2, 2, 1]
    assert all(answers)


async def test_replicas_share_a_certificate_and_restore_a_bundle_that_was_wiped(
    site: Site, webhook: AdmissionServer
) -> None:
    async with running(site.server(Clock(0.0))) as other:
        assert await shown_by(webhook) == await shown_by(other)
        told = await site.bundle()
        found = await site.api.get(site.path)
        found["webhooks"][0]["clientConfig"].pop("caBundle")
        await site.api.replace(site.path, found)
        assert await site.bundle() == b""
        await other.look()
        assert await site.bundle() == told
        await until_refused(site)
    secret = await site.api.get(f"{paths.in_namespace(SECRETS, site.bench.namespace)}/webhook-tls")
    assert base64.b64decode(secret["data"]["ca.crt"]) == told


async def test_a_webhook_that_dies_blocks_no_pod_and_nothing_of_ours_either(site: Site) -> None:
    senseless = site.policy("q", podSelector=NEVER)
    async with running(site.server(Clock(0.0))) as server:
        await site.register(server.port)
        await server.look()
        await until_refused(site)
    assert (await site.api.get(site.path))["webhooks"][0]["failurePolicy"] == "Ignore"
    await site.api.create(paths.PACKING_POLICIES, senseless)
    await site.bench.create(paths.in_namespace(paths.PODS, site.bench.namespace), a_pod())
    error = await refusal(site.api.create(paths.PACKING_POLICIES, site.policy(trigger={"quiet": "9s"})))
    assert "trigger.quiet must not be longer" in error.message, "the schema holds all the same"


async def test_a_dead_webhook_that_must_answer_blocks_our_kinds_only_and_no_deletion(site: Site) -> None:
    finalizer = {"metadata": {"finalizers": ["example.org/kept"]}}
    await site.api.create(paths.PACKING_POLICIES, site.policy())
    path = paths.packing_policy(site.policy()["metadata"]["name"])
    await site.api.merge_patch(path, finalizer)
    await site.register(free_port(), failure_policy="Fail")

    async def blocked() -> bool:
        try:
            await site.api.merge_patch(path, {"spec": {"paused": True}}, DRY)
        except ApiUnavailable as error:
            return 'failed calling webhook "validate.stowage.dev"' in error.message
        return False

    await eventually(blocked, what="a policy cannot be written")
    await site.bench.create(paths.in_namespace(paths.PODS, site.bench.namespace), a_pod())
    await site.api.merge_patch(f"{path}/status", {"status": {"pendingPods": 1}})
    await site.api.delete(path)
    await site.api.merge_patch(path, {"metadata": {"finalizers": None}})
    with pytest.raises(ApiError, match="NotFound"):
        await site.api.get(path)


async def test_the_operator_process_serves_it(site: Site, start: Any) -> None:
    port, metrics_port = free_port(), free_port()
    await site.register(port, failure_policy="Fail")
    environment = {
        "STOWAGE_WEBHOOK_PORT": str(port),
        "STOWAGE_WEBHOOK_NAME": "127.0.0.1",
        "STOWAGE_WEBHOOK_SECRET": "webhook-tls",
        "STOWAGE_WEBHOOK_CONFIGURATION": site.name,
        "STOWAGE_NAMESPACE": site.bench.namespace,
    }
    arguments = ("--metrics-port", str(metrics_port), "--solver-workers", "1")
    start("operator", *arguments, ready_url=f"http://127.0.0.1:{metrics_port}/readyz", environment=environment)
    await until_refused(site)
