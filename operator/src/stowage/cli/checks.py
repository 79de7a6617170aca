"""The checks of `stowage doctor`; each says what it found, and what to do when that is not enough."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct

from stowage.api.names import GROUP, SCHEDULER_NAME, SEAT_LABEL
from stowage.cli.cluster import Document, each
from stowage.cli.errors import InputError
from stowage.cli.held_pods import held_pods, let_go
from stowage.cli.held_pods import told as told_of_pods
from stowage.cli.leftovers import Result, leftovers, name_of, phase_of, remove, told
from stowage.cli.rights import attributes
from stowage.cli.server_time import server_time
from stowage.transport import paths
from stowage.transport.api import Api
from stowage.transport.errors import Forbidden, NotFound
from stowage_scheduler.counted import counted

OLDEST_MINOR = 34
NEWEST_MINOR = 36
HANDSHAKE_AGE_SECONDS = 60.0
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
EXTENDER_URL = "http://127.0.0.1:8901/readyz"
EXTENDER_SECONDS = 2.0
MOST_WORDS = 200
NO_PLAN = "unknown: no plan runs, so none was acknowledged; --extender-url asks the extender itself"
KINDS = ("packingpolicies", "packingplans", "trainingjobs", "modelservices", "performanceprofiles")
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Check(Struct, frozen=True):
    """One check: what was looked at, how it went, what was found."""

    name: str
    result: Result
    found: str


class Places(Struct, frozen=True):
    """Where to look: leases as (namespace, name), the extender's address, and whether a person gave that."""

    operator_lease: tuple[str, str]
    scheduler_lease: tuple[str, str]
    extender_url: str = EXTENDER_URL
    extender_url_given: bool = False


def lease_of(text: str, option: str) -> tuple[str, str]:
    """Namespace and name of a lease given as NAMESPACE/NAME.

    Raises:
        InputError: the text is something else.
    """
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        raise InputError(f"{option} {text[:80]!r}: must be NAMESPACE/NAME")
    return namespace, name


async def run_checks(api: Api, places: Places, *, fix: bool = False) -> list[Check]:
    """All checks, in the order in which a person would look; one that is not allowed fails alone.

    With `fix` what was left behind is removed, where that is safe.

    Raises:
        ApiError: the API server cannot be reached at all.
    """
    now = await server_time(api)
    checks = [Check("API server", Result.PASSED, api.server)]
    checks.append(await _guarded("version", _version(api)))
    definitions = await _guarded("custom resources", check_definitions(api))
    checks += [definitions, await _guarded("permissions", check_rights(api, places))]
    checks.append(await _guarded("pod groups", check_pod_groups(api)))
    operator = await _guarded("operator", check_operator(api, *places.operator_lease, now))
    checks.append(operator)
    scheduler = await _guarded(f"scheduler {SCHEDULER_NAME}", check_scheduler(api, *places.scheduler_lease, now))
    checks.append(scheduler)
    answer = await extender_answer(places.extender_url)
    evidence = Evidence(
        answer, places.extender_url, places.extender_url_given, scheduler_leads=scheduler.result is Result.PASSED
    )
    nodes, refused_nodes = await _listed(api, paths.NODES)  # before the plans: a taint is never older than its plan
    plans, refused_plans = await _listed(api, paths.PACKING_PLANS)
    policies, refused_policies = await _listed(api, paths.PACKING_POLICIES)
    refused = "; ".join(filter(None, (refused_plans, refused_policies)))
    checks.append(
        Check("policies", Result.FAILED, refused_policies) if refused_policies else check_policies(policies),
    )
    checks.append(
        Check("extender", Result.FAILED, refused_plans) if refused_plans else check_handshake(plans, now, evidence)
    )
    if refused:
        checks.append(Check("leftovers", Result.FAILED, refused))
    else:
        found = leftovers(nodes, plans, policies)
        removed = await remove(api, found) if fix else ()
        checks.append(Check("leftovers", *told(found, removed, refused_nodes)))
    leads = operator.result is Result.PASSED
    checks.append(await _guarded("training pods", check_held_pods(api, operator_leads=leads, fix=fix)))
    return checks


async def check_held_pods(api: Api, *, operator_leads: bool, fix: bool) -> Check:
    """No pod of a TrainingJob waits for an operator that is not there; with `fix` those are let go."""
    pods = [one async for one in each(api, paths.PODS, {"labelSelector": SEAT_LABEL})]
    jobs = {one["metadata"]["uid"] async for one in each(api, paths.TRAINING_JOBS)}
    found = held_pods(pods, jobs, operator_leads=operator_leads)
    released = await let_go(api, found) if fix else ()
    return Check("training pods", *told_of_pods(found, released))


async def _guarded(name: str, check: Awaitable[Check]) -> Check:
    try:
        return await check
    except Forbidden as error:
        return Check(name, Result.FAILED, _refusal(error))


async def _listed(api: Api, path: str) -> tuple[list[Document], str]:
    """The objects of a collection, and why they could not be read."""
    try:
        return [one async for one in each(api, path)], ""
    except Forbidden as error:
        return [], _refusal(error)


def _refusal(error: Forbidden) -> str:
    return f"this user may not look: {error.message or error}"


async def _version(api: Api) -> Check:
    return check_version(await api.get(paths.VERSION))


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
    for plural in KINDS:
        try:
            definition = await api.get(paths.named(DEFINITIONS, f"{plural}.{GROUP}"))
        except NotFound:
            missing.append(plural)
            continue
        conditions = {one["type"]: one["status"] for one in definition.get("status", {}).get("conditions", ())}
        if conditions.get("Established") != "True":
            missing.append(f"{plural} (not established yet)")
    if missing:
        cure = "install them with the chart (where others made some: --take-ownership), or kubectl apply -f crds/"
        found = f"missing: {', '.join(missing)}; {cure}"
        return Check("custom resources", Result.FAILED, found)
    return Check("custom resources", Result.PASSED, ", ".join(KINDS))


async def check_pod_groups(api: Api) -> Check:
    """Which PodGroups the cluster has; it is well without any, but pods that name one then wait for it."""
    told = []
    for path in (paths.POD_GROUPS, paths.COSCHEDULING_POD_GROUPS):
        version = path.removeprefix("/apis/").rpartition("/")[0]
        try:
            await api.get(path, {"limit": "1"})
        except NotFound:
            told.append(f"{version} is not served")
        else:
            told.append(f"{version} is followed")
    return Check("pod groups", Result.PASSED, ", ".join(told))


async def check_rights(api: Api, places: Places) -> Check:
    """The user of this command may do what operator and extender do."""
    needed = attributes(operator_namespace=places.operator_lease[0], scheduler_namespace=places.scheduler_lease[0])
    refused = []
    for name, wanted in needed.items():
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }
        answer = await api.create(ACCESS_REVIEWS, review)
        if not answer.get("status", {}).get("allowed"):
            refused.append(name)
    if refused:
        return Check("permissions", Result.WARNING, f"this user may not: {', '.join(refused)}")
    return Check("permissions", Result.PASSED, f"all {len(needed)} of operator and extender")


async def check_operator(api: Api, namespace: str, name: str, now: float) -> Check:
    """An operator leads; without one nothing is planned."""
    flag = "it does not run, or runs under another lease (--operator-lease)"
    return await _check_lease(api, "operator", (namespace, name), now, absent=flag, lost=Result.WARNING)


async def check_scheduler(api: Api, namespace: str, name: str, now: float) -> Check:
    """A kube-scheduler with our extender leads."""
    flag = "it does not run, or runs under another lease (--scheduler-lease)"
    what = f"scheduler {SCHEDULER_NAME}"
    return await _check_lease(api, what, (namespace, name), now, absent=flag, lost=Result.FAILED)


async def _check_lease(api: Api, what: str, place: tuple[str, str], now: float, *, absent: str, lost: Result) -> Check:
    called = f"Lease {'/'.join(place)}"
    who = what.partition(" ")[0]
    try:
        lease = await api.get(paths.lease(*place))
    except NotFound:
        return Check(what, Result.WARNING, f"no {called}: {absent}")
    spec = lease.get("spec") or {}
    holder = spec.get("holderIdentity")
    if not holder:
        return Check(what, lost, f"{called} has no holder: the {who} has ended")
    age = _age_seconds(spec.get("renewTime"), now)
    if age is None or age > float(spec.get("leaseDurationSeconds") or 15):
        since = f" {age:.0f} s ago" if age is not None else " never"
        return Check(what, lost, f"{called} of {holder} was renewed{since}: the {who} is down")
    return Check(what, Result.PASSED, f"{holder} leads")


class Evidence(Struct, frozen=True):
    """What else tells of an extender: its answer (None: none came) at an address, and the scheduler that asks it."""

    answer: ReadyAnswer | None
    url: str
    url_given: bool = False
    scheduler_leads: bool = False


class ReadyAnswer(Struct, frozen=True):
    """What /readyz said."""

    ready: bool
    words: str


async def extender_answer(url: str) -> ReadyAnswer | None:
    """Asks the extender whether it is ready; None: nobody answers there."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=EXTENDER_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            words = (await response.content.read(MOST_WORDS)).decode(errors="replace")
            return ReadyAnswer(response.status == 200, " ".join(words.split()))
    except aiohttp.InvalidURL as error:
        raise InputError(f"--extender-url {url[:80]!r}: must be like {EXTENDER_URL}") from error
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def check_policies(policies: Iterable[Document]) -> Check:
    """At least one policy is there and not paused."""
    by_name = {name_of(policy): policy for policy in policies}
    if not by_name:
        words = "none: without a PackingPolicy no pod is packed, and kube-scheduler places pods of jobs one by one"
        return Check("policies", Result.WARNING, words)
    paused = [name for name, policy in by_name.items() if policy.get("spec", {}).get("paused")]
    found = ", ".join(sorted(by_name))
    if paused:
        return Check("policies", Result.WARNING, f"{found}; paused: {', '.join(sorted(paused))}")
    return Check("policies", Result.PASSED, found)


def check_handshake(plans: Iterable[Document], now: float, evidence: Evidence) -> Check:
    """An extender is at work: it has acknowledged the plans that run, or says itself that it is ready.

    Without such evidence the answer is a warning, never "ok".
    """
    running = [plan for plan in plans if phase_of(plan) == "Running" and plan["spec"].get("steering") != "Bind"]
    waiting: list[str] = []
    silent: list[str] = []
    for plan in running:
        uid = plan["metadata"].get("uid")
        if not any(one.get("observedPlan") == uid for one in plan.get("status", {}).get("extenders", ())):
            started = _age_seconds(plan.get("status", {}).get("startedAt"), now) or 0.0
            (silent if started > HANDSHAKE_AGE_SECONDS else waiting).append(name_of(plan))
    if silent:
        return Check("extender", Result.FAILED, f"no extender acknowledged {', '.join(silent)}: is it running?")
    if not evidence.scheduler_leads:
        return Check("extender", Result.WARNING, "not seen: no scheduler leads that could ask it")
    if len(running) > len(waiting):
        told = counted(len(running) - len(waiting), "plan that runs", "plans that run")
        return Check("extender", Result.PASSED, f"acknowledged {told}")
    return _by_its_own_words(evidence, f"not seen yet: {', '.join(waiting)} just started" if waiting else NO_PLAN)


def _by_its_own_words(evidence: Evidence, otherwise: str) -> Check:
    answer = evidence.answer
    if answer is not None and answer.ready:
        return Check("extender", Result.PASSED, f"ready at {evidence.url}")
    if answer is not None:
        return Check("extender", Result.WARNING, f"not ready at {evidence.url}: {answer.words}")
    if evidence.url_given:
        return Check("extender", Result.FAILED, f"nobody answers at {evidence.url}")
    return Check("extender", Result.WARNING, otherwise)


def _age_seconds(timestamp: Any, now: float) -> float | None:  # noqa: ANN401
    try:
        return now - datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return None
