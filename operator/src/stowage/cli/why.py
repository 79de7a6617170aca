"""`stowage why KIND/NAME`: why a pod is pending, which rule excludes how many nodes, and what would help."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct

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
    from stowage.api.packing_policy import PackingPolicy
    from stowage.cli.facts import Chosen
    from stowage_scheduler.cluster import Pod, Snapshot
    from stowage_scheduler.options import Budget
    from stowage_scheduler.packing import Packing

_KINDS = {"pod", "pods", "po"}


class Answer(Struct, frozen=True):
    """What is to be said of a pod; `excluded` counts nodes by the reason that rules them out."""

    pod: str
    state: str  # Running, Finished, Placeable (a plan would place it) or Pending
    node: str | None = None
    moves: int = 0  # moves and evictions of the plan that would place it
    reason: str | None = None
    help: str = ""
    excluded: Mapping[str, int] = {}
    nodes: int = 0
    scheduler_says: str = ""
    plan: str | None = None  # a PackingPlan that says so

    @property
    def positive(self) -> bool:
        """Whether the pod runs, has run, or can be placed."""
        return self.state != "Pending"


def why(
    what: Annotated[str, typer.Argument(help="What to explain, as pod/NAME.", metavar="KIND/NAME")],
    *,
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Namespace of the pod.")] = "default",
    file: FileOption = None,
    policy: PolicyOption = None,
    budget: Annotated[str, typer.Option("--budget", help="Wall time for looking for a place, like 2s.")] = "2s",
    now: NowOption = None,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Explain why a pod is pending: which rule excludes how many nodes, and the cheapest thing that would help.

    Exit code 0 when the pod runs or a plan would place it, 1 when it stays pending.
    """
    kind, slash, name = what.partition("/")
    if not slash or kind.lower() not in _KINDS or not name:
        raise InputError(f"{what[:80]}: must be pod/NAME")
    from stowage.cli.facts import choose, load
    from stowage_scheduler.options import Budget

    seconds = duration_seconds(budget, "--budget")
    facts = load(file, now, kubeconfig, context)
    chosen = choose(policy, facts)
    pod = find_pod(facts.snapshot, namespace, name)
    with progress("looking for a place"):
        answer = explain(facts.snapshot, pod, chosen, Budget(seconds=seconds, certify_seconds=seconds / 5))
    if file is None and not answer.positive:
        answer = _with_plan(answer, pod, kubeconfig, context)
    if output is Output.TABLE:
        _print_text(answer)
    else:
        print_document(document(answer), output)
    if not answer.positive:
        raise typer.Exit(ExitCode.NEGATIVE)


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


def explain(snapshot: Snapshot, pod: Pod, chosen: Chosen, budget: Budget) -> Answer:
    """Looks for a plan that places the pod, and explains it when there is none."""
    from stowage.cli.plan import compute

    if pod.finished:
        return Answer(pod=pod.key, state="Finished", node=pod.node)
    if pod.node is not None:
        return Answer(pod=pod.key, state="Running", node=pod.node)
    packing = compute(snapshot, chosen, budget, seed=0)
    says = pod.unschedulable_message
    node = next((one.node for one in packing.assignments if one.pod.uid == pod.uid), None)
    if node is not None:
        moves = len(packing.moves) + len(packing.evictions)
        return Answer(pod=pod.key, state="Placeable", node=node, moves=moves, scheduler_says=says)
    unplaced = next((one for one in packing.unplaced if one.pod.uid == pod.uid), None)
    if unplaced is None:
        return Answer(
            pod=pod.key, state="Pending", reason="OutOfScope", help=_scope_help(pod, chosen.policy), scheduler_says=says
        )
    excluded, nodes = _excluded_nodes(snapshot, packing, pod, chosen)
    if not unplaced.reason.about_nodes:
        excluded = {}
    return Answer(
        pod=pod.key,
        state="Pending",
        reason=str(unplaced.reason),
        help=unplaced.help,
        excluded=excluded,
        nodes=nodes,
        scheduler_says=says,
    )


def _excluded_nodes(snapshot: Snapshot, packing: Packing, pod: Pod, chosen: Chosen) -> tuple[dict[str, int], int]:
    """How many nodes each reason rules out once the plan is carried out, and how many nodes there are."""
    from stowage_scheduler.explain import Explainer
    from stowage_scheduler.explain.gangs import explain_gang, still_waiting
    from stowage_scheduler.gangs import gang_key, gangs

    wanted = chosen.policy.spec.node_selector if chosen.policy is not None else {}
    nodes = [
        node
        for node in snapshot.nodes
        if node.name not in chosen.held_by_others
        and all(node.labels.get(key) == value for key, value in wanted.items())
    ]
    pods = {one.uid: one for one in snapshot.pods}
    residents: dict[str, list[Pod]] = defaultdict(list)
    for assignment in packing.assignments:
        residents[assignment.node].append(pods[assignment.pod.uid])
    explainer = Explainer(snapshot, nodes, residents)
    key = gang_key(pod)
    gang = gangs(snapshot.pods).get(key) if key is not None else None
    if gang is None:
        explanation = explainer.explain(pod)
    else:
        after = {assignment.pod.uid: assignment.node for assignment in packing.assignments}
        explanation = explain_gang(explainer, snapshot, residents, still_waiting(gang, pod, after))
    return {str(reason): count for reason, count in explanation.excluded.items()}, len(nodes)


def _scope_help(pod: Pod, policy: PackingPolicy | None) -> str:
    if pod.gated:
        return "it has scheduling gates: whoever set them has to remove them first"
    if pod.terminating:
        return "it is being deleted"
    if policy is not None and pod.scheduler_name not in policy.spec.scheduler_names:
        names = ", ".join(policy.spec.scheduler_names)
        return f"policy {policy.name} covers pods of scheduler {names}; this one asks for {pod.scheduler_name}"
    return "no policy covers it: look at podSelector, namespaceSelector and protect of the policy"


def _with_plan(answer: Answer, pod: Pod, kubeconfig: str | None, context: str | None) -> Answer:
    """Adds what the newest plan that has not ended says of the pod."""
    from msgspec import structs

    from stowage.cli.cluster import each, with_cluster
    from stowage.transport import paths
    from stowage.transport.api import Api

    async def said(api: Api) -> str | None:
        newest = None
        async for plan in each(api, paths.PACKING_PLANS):
            status = plan.get("status", {})
            uids = {one.get("pod", {}).get("uid") for one in status.get("unplaced", ())}
            if pod.uid in uids:
                newest = max(newest or "", str(plan["metadata"]["name"]))
        return newest

    return structs.replace(answer, plan=with_cluster(kubeconfig, context, said))


def document(answer: Answer) -> dict[str, Any]:
    """The answer as JSON values."""
    return {
        "pod": answer.pod,
        "state": answer.state,
        "node": answer.node,
        "disruptions": answer.moves,
        "reason": answer.reason,
        "help": answer.help,
        "excludedNodes": dict(answer.excluded),
        "nodes": answer.nodes,
        "schedulerMessage": answer.scheduler_says,
        "plan": answer.plan,
    }


def _print_text(answer: Answer) -> None:
    out = console()
    match answer.state:
        case "Running" | "Finished":
            out.print(f"pod {answer.pod}: {answer.state.lower()} on node {answer.node}")
            return
        case "Placeable":
            out.print(f"pod {answer.pod}: pending, but a plan places it on node {answer.node}")
            out.print(f"  the plan takes {answer.moves} moves and evictions in all (stowage plan shows it)")
        case _:
            out.print(f"pod {answer.pod}: stays pending: {answer.reason}")
            out.print(f"  what would help: {answer.help}")
            for reason, count in sorted(answer.excluded.items(), key=lambda item: (-item[1], item[0])):
                out.print(f"  {count} of {answer.nodes} nodes: {reason}")
            if answer.plan is not None:
                out.print(f"  PackingPlan {answer.plan} says so too")
    if answer.scheduler_says:
        out.print(f"  kube-scheduler: {answer.scheduler_says}")
