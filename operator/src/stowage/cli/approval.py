"""`stowage approve`, `abort`, `pause`, `resume`: the few fields that people write."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct

from stowage.cli.errors import ClusterError, ExitCode, InputError
from stowage.cli.options import ContextOption, KubeconfigOption, Output, OutputOption
from stowage.cli.printing import print_document

if TYPE_CHECKING:
    from stowage.transport.api import Api

PlanArgument = Annotated[str, typer.Argument(help="Name of a PackingPlan.", metavar="PLAN")]
PolicyArgument = Annotated[str, typer.Argument(help="Name of a PackingPolicy.", metavar="POLICY")]

_ENDED = {"Done", "Aborted", "Superseded"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_NAME = 253


class Change(Struct, frozen=True):
    """What a command wrote; `before` equals `after` when there was nothing to write."""

    kind: str
    name: str
    field: str
    before: bool | str
    after: bool | str
    sentence: str


def approve(
    name: PlanArgument,
    *,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Approve a plan that a policy in mode Recommend proposed; the operator then carries it out."""
    _report(_decide(name, "Approved", kubeconfig, context), output)


def abort(
    name: PlanArgument,
    *,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Stop a plan: no further step is started; what was moved stays where it is."""
    _report(_decide(name, "Aborted", kubeconfig, context), output)


def pause(
    name: PolicyArgument,
    *,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Stop all planning and every further eviction of a policy at once."""
    _report(_set_paused(name, kubeconfig, context, paused=True), output)


def resume(
    name: PolicyArgument,
    *,
    output: OutputOption = Output.TABLE,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Let a paused policy plan and act again."""
    _report(_set_paused(name, kubeconfig, context, paused=False), output)


def _decide(name: str, approval: str, kubeconfig: str | None, context: str | None) -> Change:
    _refuse_bad_name("PackingPlan", name)
    from stowage.cli.cluster import with_cluster
    from stowage.transport import paths
    from stowage.transport.errors import Conflict, Invalid

    async def write(api: Api) -> Change:
        path = paths.packing_plan(name)
        plan = await _existing(api, path, f"PackingPlan {name}")
        now = str(plan.get("spec", {}).get("approval", "Pending"))
        phase = str(plan.get("status", {}).get("phase", ""))
        if now == approval:
            return done(now, f"PackingPlan {name} is {approval} already (phase {phase or 'none yet'})")
        if phase in _ENDED:
            raise _RefusedError(f"PackingPlan {name} has ended (phase {phase}); approval stays {now}")
        body = {"metadata": {"resourceVersion": plan["metadata"]["resourceVersion"]}, "spec": {"approval": approval}}
        try:
            await api.merge_patch(path, body)
        except Invalid as error:
            raise _RefusedError(
                f"PackingPlan {name}: approval {now} cannot become {approval}: {error.message}"
            ) from error
        except Conflict as error:
            raise ClusterError(f"PackingPlan {name} changed meanwhile; look at it and try again") from error
        return done(now, f"PackingPlan {name}: {now} → {approval}")

    def done(before: str, sentence: str) -> Change:
        return Change("PackingPlan", name, "spec.approval", before, approval, sentence)

    return with_cluster(kubeconfig, context, write)


def _set_paused(name: str, kubeconfig: str | None, context: str | None, *, paused: bool) -> Change:
    _refuse_bad_name("PackingPolicy", name)
    from stowage.cli.cluster import with_cluster
    from stowage.transport import paths

    word = "paused" if paused else "not paused"

    async def write(api: Api) -> Change:
        path = paths.packing_policy(name)
        policy = await _existing(api, path, f"PackingPolicy {name}")
        before = bool(policy.get("spec", {}).get("paused"))
        if before == paused:
            return done(before, f"PackingPolicy {name} is {word} already")
        await api.merge_patch(path, {"spec": {"paused": paused}})
        return done(before, f"PackingPolicy {name} is {word} now")

    def done(before: bool, sentence: str) -> Change:  # noqa: FBT001
        return Change("PackingPolicy", name, "spec.paused", before, paused, sentence)

    return with_cluster(kubeconfig, context, write)


def _report(change: Change, output: Output) -> None:
    if output is Output.TABLE:
        print(change.sentence)
        return
    document = {
        "kind": change.kind,
        "name": change.name,
        "field": change.field,
        "before": change.before,
        "after": change.after,
        "changed": change.before != change.after,
    }
    print_document(document, output)


def _refuse_bad_name(kind: str, name: str) -> None:
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        rule = f"must be lower-case letters, digits, '-' and '.', at most {_LONGEST_NAME} characters"
        raise InputError(f"{kind} {name[:80]!r}: no object can have this name; it {rule}")


async def _existing(api: Api, path: str, what: str) -> dict[str, Any]:
    from stowage.transport.errors import NotFound

    try:
        return await api.get(path)
    except NotFound as error:
        # only an API server that knows the resource says which object it lacks
        if error.reason == "NotFound" and "could not find the requested resource" not in error.message:
            raise InputError(f"{what}: not found in this cluster") from error
        resource = what.partition(" ")[0]
        # whoever knows the name of one has seen it somewhere: most likely in another cluster
        cure = "is it the right one (--context)? If so, stowage doctor tells what is missing and how to install it"
        raise ClusterError(f"{what}: this cluster serves no {resource} at all; {cure}") from error


class _RefusedError(InputError):
    """A clear no: the object does not allow the change any more."""

    code = ExitCode.NEGATIVE
