"""`stowage why KIND/NAME`: why a pod is pending, whether a node can be emptied, how a job or a service is and why."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from stowage.cli.errors import ExitCode, InputError
from stowage.cli.options import (
    ContextOption,
    FileOption,
    KubeconfigOption,
    NowOption,
    Output,
    OutputOption,
    PolicyOption,
)
from stowage.cli.printing import console, print_document, progress
from stowage.cli.times import duration_seconds

if TYPE_CHECKING:
    from stowage.api.packing_plan import PackingPlan
    from stowage.cli.job_answer import JobAnswer
    from stowage.cli.node_answer import NodeAnswer
    from stowage.cli.pod_answer import Answer
    from stowage.cli.service_answer import ServiceAnswer
    from stowage.transport.api import Api
    from stowage_scheduler.cluster import Pod, Snapshot

_Answered = TypeVar("_Answered", "Answer", "JobAnswer", "NodeAnswer", "ServiceAnswer")

_PODS = {"pod", "pods", "po"}
_NODES = {"node", "nodes", "no"}
_JOBS = {"trainingjob", "trainingjobs", "tj"}
_SERVICES = {"modelservice", "modelservices", "msvc"}
_WORDS = {
    "InsufficientCpu": "too little CPU free",
    "InsufficientMemory": "too little memory free",
    "InsufficientGpu": "too few GPUs free",
    "InsufficientPods": "no place for one more pod",
    "InsufficientResource": "too little of another resource free",
    "GpuFragmented": "no single GPU has so much free",
    "NoMatchingNode": "not what its node selector or affinity asks for",
    "TaintsNotTolerated": "a taint, or a cordon",
    "NoReadyNode": "not Ready",
    "HostPortTaken": "its host port is in use",
    "PodAffinity": "not beside the pods that it wants to meet",
    "PodAntiAffinity": "beside pods that it must not meet",
    "TopologySpread": "in a domain that is ahead already",
    "VolumeNodeAffinity": "its volumes cannot be used there",
    "VolumeLimit": "no more volumes can be attached",
    "UnreadablePod": "a pod there cannot be read",
    "GangTopology": "not in the domain of its gang",
}


def why(
    what: Annotated[
        str,
        typer.Argument(
            help="What to explain: pod/NAME, trainingjob/NAME, modelservice/NAME or node/NAME.", metavar="KIND/NAME"
        ),
    ],
    *,
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", help="Namespace of the pod, job or service.")
    ] = "default",
    file: FileOption = None,
    policy: PolicyOption = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="Wall time for looking for a place among all nodes, like 10s. Default: a short look at few.",
        ),
    ] = None,
    now: NowOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Explain why a pod is pending, and the cheapest help; whether a node can be emptied; how a job or service is.

    Of a pod: which rule excludes how many nodes; exit code 0 when it runs or a plan would place it, 1 when it stays
    pending. Of a node: who runs there, who may move, which plan keeps it; exit code 0 when it can be emptied, else 1.
    Of a TrainingJob: why it waits, and the story of its last failure; exit code 1 when it is paused, has failed, or
    waits for nodes in vain. Of a ModelService: why each role has as many replicas as it has; exit code 1 when it lacks
    replicas, misses its targets or is not acted on. Name one of another namespace as KIND/NAMESPACE/NAME.
    """
    kind, slash, name = what.partition("/")
    if kind.lower() in _NODES and name and "/" not in name:
        _node(name, file, policy, budget, now, output, (kubeconfig, context))
        return
    if not slash or kind.lower() not in _PODS | _JOBS | _SERVICES or not name:
        kinds = "pod/NAME, trainingjob/NAME, modelservice/NAME, KIND/NAMESPACE/NAME or node/NAME"
        raise InputError(f"{what[:80]}: must be {kinds}")
    if "/" in name:
        namespace, _, name = name.partition("/")
    if kind.lower() in _JOBS:
        _job((namespace, name), file, policy, budget, now, output, (kubeconfig, context))
        return
    if kind.lower() in _SERVICES:
        _service((namespace, name), file, now, output, (kubeconfig, context))
        return
    from stowage.cli.facts import choose, load
    from stowage.cli.pod_answer import document, explain

    seconds = duration_seconds(budget, "--budget") if budget is not None else None
    with _undisturbed():
        facts = load(file, now, kubeconfig, context)
        chosen = choose(policy, facts)
        pod = find_pod(facts.snapshot, namespace, name)
        with progress("looking for a place"):
            answer = explain(facts.snapshot, pod, chosen, seconds)
        if file is None and not answer.positive:
            answer = _with_plan(answer, pod, kubeconfig, context)
    _end(answer, output, _print_text, document)


def _node(
    name: str,
    file: Path | None,
    policy: str | None,
    budget: str | None,
    now: str | None,
    output: Output,
    cluster: tuple[str | None, str | None],
) -> None:
    """`why node/NAME`; `cluster` are the kubeconfig and its context."""
    from stowage.cli import node_answer, node_text
    from stowage.cli.facts import load

    seconds = duration_seconds(budget, "--budget") if budget is not None else None
    facts = load(file, now, *cluster)
    with progress("looking for places elsewhere"):
        found = node_answer.explain(facts, name, policy, seconds)
    if file is None:
        from stowage.cli.cluster import with_cluster

        found = node_answer.kept_by(found, with_cluster(*cluster, _plans))
    _end(found, output, node_text.show, node_answer.document)


def _job(
    name: tuple[str, str],
    file: Path | None,
    policy: str | None,
    budget: str | None,
    now: str | None,
    output: Output,
    cluster: tuple[str | None, str | None],
) -> None:
    """`why trainingjob/NAME`; `name` is namespace and name, `cluster` the kubeconfig and its context."""
    from stowage.cli import job_answer, job_text
    from stowage.cli.facts import load

    seconds = duration_seconds(budget, "--budget") if budget is not None else None
    facts = load(file, now, *cluster)
    job = job_answer.find_job(facts, *name)
    with progress("looking for places"):
        found = job_answer.explain(facts, job, policy, seconds)
    _end(found, output, job_text.show, job_answer.document)


def _service(
    name: tuple[str, str],
    file: Path | None,
    now: str | None,
    output: Output,
    cluster: tuple[str | None, str | None],
) -> None:
    """`why modelservice/NAME`; `name` is namespace and name, `cluster` the kubeconfig and its context."""
    from stowage.api.resource import InvalidObjectError
    from stowage.cli import service_answer, service_text
    from stowage.cli.cluster import with_cluster
    from stowage.cli.server_time import server_time

    if file is not None:
        from stowage.cli.facts import load

        facts = load(file, now, *cluster)
        stored = service_answer.find_service(facts, *name)
        _end(service_answer.explain(stored, facts.snapshot.now), output, service_text.show, service_answer.document)
        return

    async def read(api: Api) -> ServiceAnswer:
        from stowage.act.serving import get_service

        service = await get_service(api, *name)
        if service is None:
            raise InputError(f"modelservice {'/'.join(name)}: not found")
        return service_answer.explain(service, await server_time(api))

    try:
        found = with_cluster(*cluster, read)
    except InvalidObjectError as error:
        raise InputError(str(error)) from error
    _end(found, output, service_text.show, service_answer.document)


def _end(
    answer: _Answered,
    output: Output,
    show: Callable[[_Answered], None],
    document: Callable[[_Answered], dict[str, Any]],
) -> None:
    """Print an answer in the form that was asked for; the exit code says whether it is a good one."""
    if output is Output.TABLE:
        show(answer)
    else:
        print_document(document(answer), output)
    if not answer.positive:
        raise typer.Exit(ExitCode.NEGATIVE)


async def _plans(api: Api) -> tuple[PackingPlan, ...]:
    """All plans; none where Stowage is not installed."""
    from stowage.act.plans import list_plans
    from stowage.transport import NotFound

    try:
        return await list_plans(api)
    except NotFound:
        return ()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """One answer, then the process ends: collecting garbage would take a tenth of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def find_pod(snapshot: Snapshot, namespace: str, name: str) -> Pod:
    """The pod of this name.

    Raises:
        InputError: there is none, or it was left out as malformed.
    """
    found = next((pod for pod in snapshot.pods if (pod.namespace, pod.name) == (namespace, name)), None)
    if found is not None:
        return found
    for one in snapshot.rejected:
        if one.kind == "Pod" and one.name in {name, f"{namespace}/{name}"}:
            raise InputError(f"pod {namespace}/{name} was left out: {one.field} = {one.value}: {one.rule}")
    elsewhere = sorted(pod.namespace for pod in snapshot.pods if pod.name == name)
    hint = f" (there is one in namespace {elsewhere[0]})" if elsewhere else ""
    raise InputError(f"pod {namespace}/{name}: not found{hint}")


def _with_plan(answer: Answer, pod: Pod, kubeconfig: str | None, context: str | None) -> Answer:
    """Adds what the newest plan that has not ended says of the pod."""
    from msgspec import structs

    from stowage.cli.cluster import each, with_cluster
    from stowage.transport import paths

    async def said(api: Api) -> str | None:
        newest = None
        async for plan in each(api, paths.PACKING_PLANS):
            status = plan.get("status", {})
            uids = {one.get("pod", {}).get("uid") for one in status.get("unplaced", ())}
            if pod.uid in uids:
                newest = max(newest or "", str(plan["metadata"]["name"]))
        return newest

    return structs.replace(answer, plan=with_cluster(kubeconfig, context, said))


def _print_text(answer: Answer) -> None:
    from stowage_scheduler.counted import counted

    out = _Lines()
    match answer.state:
        case "Running" | "Finished":
            out.print(f"pod {answer.pod}: {answer.state.lower()} on node {answer.node}")
            return
        case "Placeable":
            out.print(f"pod {answer.pod}: pending, but a plan places it on node {answer.node}")
            taken = counted(answer.moves, "move or eviction", "moves and evictions")
            out.print(f"  the plan takes {taken} in all (stowage plan shows it)")
        case _:
            _print_pending(answer)
    if answer.note:
        out.print(f"  note: {answer.note}")
    if answer.scheduler_says:
        out.print(f"  kube-scheduler: {answer.scheduler_says}")


def _print_pending(answer: Answer) -> None:
    from stowage_scheduler.counted import counted

    out = _Lines()
    out.print(f"pod {answer.pod}: stays pending: {answer.reason}")
    out.print(f"  what would help: {answer.help}")
    for one in answer.helps[1:]:
        out.print(f"               or: {one.text}")
    for reason, count in sorted(answer.excluded.items(), key=lambda item: (-item[1], item[0])):
        words = _WORDS.get(reason)
        out.print(f"  {count} of {counted(answer.nodes, 'node')}: {reason}{f' ({words})' if words else ''}")
    if answer.conflict:
        one_alone = len(answer.conflict) == 1
        out.print("  this rule alone keeps it pending:" if one_alone else "  these rules cannot hold together:")
    for rule in answer.conflict:
        out.print(f"    - {rule.text}")
    if answer.plan is not None:
        out.print(f"  PackingPlan {answer.plan} says so too")


class _Lines:
    """Lines of text that are not broken: people copy names out of them."""

    def print(self, line: str) -> None:
        console().print(line, soft_wrap=True, highlight=False, markup=False)
