"""The checks of `stowage doctor`; each says what it found, and what to do when that is not enough."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct

from stowage.api.names import GROUP, SCHEDULER_NAME
from stowage.cli.cluster import Document, each
from stowage.cli.errors import InputError
from stowage.transport import paths
from stowage.transport.api import Api
from stowage.transport.errors import NotFound

OLDEST_MINOR = 34
NEWEST_MINOR = 36
HANDSHAKE_AGE_SECONDS = 60.0
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

# what the operator does: (verb, API group, resource, subresource)
NEEDED_RIGHTS = (
    *((verb, "", resource, "") for resource in ("nodes", "pods", "namespaces") for verb in ("list", "watch")),
    *(
        (verb, "apps", resource, "")
        for resource in ("replicasets", "deployments", "statefulsets", "daemonsets")
        for verb in ("list", "watch")
    ),
    *((verb, "batch", "jobs", "") for verb in ("list", "watch")),
    *((verb, "policy", "poddisruptionbudgets", "") for verb in ("list", "watch")),
    *((verb, "scheduling.k8s.io", "priorityclasses", "") for verb in ("list", "watch")),
    *((verb, GROUP, "packingpolicies", "") for verb in ("list", "watch")),
    *((verb, GROUP, "packingplans", "") for verb in ("list", "watch", "create", "delete")),
    ("patch", GROUP, "packingpolicies", "status"),
    ("update", GROUP, "packingplans", "status"),
    ("create", "", "pods", "eviction"),
    ("patch", "", "nodes", ""),
)


class Result(StrEnum):
    """Outcome of a check."""

    PASSED = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Check(Struct, frozen=True):
    """One check: what was looked at, how it went, what was found."""

    name: str
    result: Result
    found: str


async def run_checks(api: Api, lease: str) -> list[Check]:
    """All checks, in the order in which a person would look.

    Raises:
        ApiError: the API server cannot be reached at all.
    """
    namespace, _, name = lease.partition("/")
    if not namespace or not name:
        raise InputError(f"--scheduler-lease {lease!r}: must be NAMESPACE/NAME")
    version = await api.get("/version")
    checks = [Check("API server", Result.PASSED, api.server), check_version(version)]
    definitions = await check_definitions(api)
    checks += [definitions, await check_rights(api)]
    checks.append(await check_scheduler(api, namespace, name))
    if definitions.result is Result.PASSED:
        plans = [plan async for plan in each(api, paths.PACKING_PLANS)]
        policies = [policy async for policy in each(api, paths.PACKING_POLICIES)]
        now = time.time()  # noqa: TID251 - a command reads the clock once, checks get it as an argument
        checks += [check_policies(policies), check_handshake(plans, now), check_leftovers(plans, policies)]
    return checks


def check_version(version: Document) -> Check:
    """Kubernetes 1.34 to 1.36 is supported; newer ones may work."""
    text = str(version.get("gitVersion", "unknown"))
    digits = re.match(r"\d+", str(version.get("minor", "")))
    minor = int(digits.group()) if digits else 0
    if version.get("major") != "1" or minor < OLDEST_MINOR:
        return Check("version", Result.FAILED, f"{text}: Kubernetes 1.{OLDEST_MINOR} or newer is needed")
    if minor > NEWEST_MINOR:
        return Check("version", Result.WARNING, f"{text}: newer than 1.{NEWEST_MINOR}, the newest one tested")
    return Check("version", Result.PASSED, text)


async def check_definitions(api: Api) -> Check:
    """The custom resources are there and served."""
    missing = []
    for plural in ("packingpolicies", "packingplans"):
        try:
            definition = await api.get(paths.named(DEFINITIONS, f"{plural}.{GROUP}"))
        except NotFound:
            missing.append(plural)
            continue
        conditions = {one["type"]: one["status"] for one in definition.get("status", {}).get("conditions", ())}
        if conditions.get("Established") != "True":
            missing.append(f"{plural} (not established yet)")
    if missing:
        found = f"missing: {', '.join(missing)}; install them with kubectl apply -f crds/"
        return Check("custom resources", Result.FAILED, found)
    return Check("custom resources", Result.PASSED, "packingpolicies, packingplans")


async def check_rights(api: Api) -> Check:
    """The user of this command may do what the operator does."""
    refused = []
    for verb, group, resource, subresource in NEEDED_RIGHTS:
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = await api.create(ACCESS_REVIEWS, review)
        if not answer.get("status", {}).get("allowed"):
            refused.append(f"{verb} {resource}{'/' * bool(subresource)}{subresource}")
    if refused:
        return Check("permissions", Result.WARNING, f"this user may not: {', '.join(refused)}")
    return Check("permissions", Result.PASSED, f"all {len(NEEDED_RIGHTS)} of the operator's")


async def check_scheduler(api: Api, namespace: str, name: str) -> Check:
    """A kube-scheduler with our extender leads."""
    what = f"scheduler {SCHEDULER_NAME}"
    try:
        lease = await api.get(paths.lease(namespace, name))
    except NotFound:
        found = f"no Lease {namespace}/{name}: it does not run, or runs under another lease (--scheduler-lease)"
        return Check(what, Result.WARNING, found)
    spec = lease.get("spec", {})
    holder = spec.get("holderIdentity")
    if not holder:
        return Check(what, Result.FAILED, f"Lease {namespace}/{name} has no holder: the scheduler has ended")
    age = _age_seconds(spec.get("renewTime"), time.time())  # noqa: TID251 - as above
    if age is None or age > float(spec.get("leaseDurationSeconds") or 15):
        return Check(what, Result.FAILED, f"Lease {namespace}/{name} of {holder} has expired: the scheduler is down")
    return Check(what, Result.PASSED, f"{holder} leads")


def check_policies(policies: Iterable[Document]) -> Check:
    """At least one policy is there and not paused."""
    by_name = {_name(policy): policy for policy in policies}
    if not by_name:
        return Check("policies", Result.WARNING, "none: the operator does nothing without a PackingPolicy")
    paused = [name for name, policy in by_name.items() if policy.get("spec", {}).get("paused")]
    found = ", ".join(sorted(by_name))
    if paused:
        return Check("policies", Result.WARNING, f"{found}; paused: {', '.join(sorted(paused))}")
    return Check("policies", Result.PASSED, found)


def check_handshake(plans: Iterable[Document], now: float) -> Check:
    """An extender has acknowledged the plans that run."""
    running = [plan for plan in plans if _phase(plan) == "Running"]
    if not running:
        return Check("extender", Result.PASSED, "no plan runs, so none has to be acknowledged")
    silent = []
    for plan in running:
        uid = plan["metadata"].get("uid")
        seen = [one for one in plan.get("status", {}).get("extenders", ()) if one.get("observedPlan") == uid]
        started = _age_seconds(plan.get("status", {}).get("startedAt"), now) or 0.0
        if not seen and started > HANDSHAKE_AGE_SECONDS:
            silent.append(_name(plan))
    if silent:
        return Check("extender", Result.FAILED, f"no extender acknowledged {', '.join(silent)}: is it running?")
    return Check("extender", Result.PASSED, f"{len(running)} running plans acknowledged or just started")


def check_leftovers(plans: Iterable[Document], policies: Iterable[Document]) -> Check:
    """No plan still holds places though nobody carries it out."""
    known = {_name(policy) for policy in policies}
    stale = [
        _name(plan)
        for plan in plans
        if _phase(plan) in {"", "Approved", "Running"} and plan.get("spec", {}).get("policy") not in known
    ]
    if stale:
        found = f"active plans whose policy is gone: {', '.join(sorted(stale))}; end them with stowage abort PLAN"
        return Check("leftovers", Result.WARNING, found)
    return Check("leftovers", Result.PASSED, "none")


def _name(document: Document) -> str:
    return str(document["metadata"]["name"])


def _phase(plan: Document) -> str:
    return str(plan.get("status", {}).get("phase") or "")


def _age_seconds(timestamp: Any, now: float) -> float | None:  # noqa: ANN401
    try:
        return now - datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return None
