"""`stowage approve`, `abort`, `pause`, `resume`: the few fields that people write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stowage.cli.errors import ClusterError, ExitCode, InputError
from stowage.cli.options import ContextOption, KubeconfigOption

if TYPE_CHECKING:
    from stowage.transport.api import Api

PlanArgument = Annotated[str, typer.Argument(help="Name of a PackingPlan.", metavar="PLAN")]
PolicyArgument = Annotated[str, typer.Argument(help="Name of a PackingPolicy.", metavar="POLICY")]

_ENDED = {"Done", "Aborted", "Superseded"}


def approve(name: PlanArgument, *, kubeconfig: KubeconfigOption = None, context: ContextOption = None) -> None:
    """Approve a plan that a policy in mode Recommend proposed; the operator then carries it out."""
    _decide(name, "Approved", kubeconfig, context)


def abort(name: PlanArgument, *, kubeconfig: KubeconfigOption = None, context: ContextOption = None) -> None:
    """Stop a plan: no further step is started; what was moved stays where it is."""
    _decide(name, "Aborted", kubeconfig, context)


def pause(name: PolicyArgument, *, kubeconfig: KubeconfigOption = None, context: ContextOption = None) -> None:
    """Stop all planning and every further eviction of a policy at once."""
    _set_paused(name, kubeconfig, context, paused=True)


def resume(name: PolicyArgument, *, kubeconfig: KubeconfigOption = None, context: ContextOption = None) -> None:
    """Let a paused policy plan and act again."""
    _set_paused(name, kubeconfig, context, paused=False)


def _decide(name: str, approval: str, kubeconfig: str | None, context: str | None) -> None:
    from stowage.cli.cluster import with_cluster
    from stowage.transport import paths
    from stowage.transport.errors import Conflict, Invalid

    async def write(api: Api) -> str:
        path = paths.packing_plan(name)
        plan = await _existing(api, path, f"PackingPlan {name}")
        now = str(plan.get("spec", {}).get("approval", "Pending"))
        phase = str(plan.get("status", {}).get("phase", ""))
        if now == approval:
            return f"PackingPlan {name} is {approval} already (phase {phase or 'none yet'})"
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
        return f"PackingPlan {name}: {now} → {approval}"

    print(with_cluster(kubeconfig, context, write))


def _set_paused(name: str, kubeconfig: str | None, context: str | None, *, paused: bool) -> None:
    from stowage.cli.cluster import with_cluster
    from stowage.transport import paths

    word = "paused" if paused else "not paused"

    async def write(api: Api) -> str:
        path = paths.packing_policy(name)
        policy = await _existing(api, path, f"PackingPolicy {name}")
        if bool(policy.get("spec", {}).get("paused")) == paused:
            return f"PackingPolicy {name} is {word} already"
        await api.merge_patch(path, {"spec": {"paused": paused}})
        return f"PackingPolicy {name} is {word} now"

    print(with_cluster(kubeconfig, context, write))


async def _existing(api: Api, path: str, what: str) -> dict[str, Any]:
    from stowage.transport.errors import NotFound

    try:
        return await api.get(path)
    except NotFound as error:
        raise InputError(f"{what}: not found in this cluster") from error


class _RefusedError(InputError):
    """A clear no: the object does not allow the change any more."""

    code = ExitCode.NEGATIVE
