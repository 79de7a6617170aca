"""`python -m stowage.cli.roles`: writes the rules of the chart's roles from the list of rights; `--check` compares.

Each set of rights that a role of its own may hold becomes a named template of Helm, `stowage.rules.SET`; the chart's
roles say where they hold and for whom.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml
from msgspec import Struct

from stowage.api.names import GROUP
from stowage.cli.rights import ALL_RIGHTS, Process, Right, Scope

FILE: Final = Path("helm/stowage/templates/_rules.tpl")
HEAD: Final = "{{/* Generated from stowage.cli.rights: change that, then run `python -m stowage.cli.roles`. */}}\n"
READING: Final = frozenset({"get", "list", "watch"})

NAMES: Final = {
    Scope.OPERATOR_LEASE: '{{ include "stowage.operatorLease" . }}',
    Scope.SCHEDULER_LEASE: '{{ include "stowage.watchedLease" . }}',
    Scope.WEBHOOK_SECRET: '{{ include "stowage.webhookSecret" . }}',
    Scope.WEBHOOK_CONFIGURATION: '{{ include "stowage.fullname" . }}',
}
"""The chart's name for the one object that a scope is named after."""


class RuleSet(Struct, frozen=True):
    """Rights that are given together.

    Attributes:
        name: of the template.
        says: what the set is for, in the chart.
        holds: which rights belong to it.
    """

    name: str
    says: str
    holds: Callable[[Right], bool]


def _reads(right: Right) -> bool:
    return set(right.verbs) <= READING


def _in_scope(process: Process, scope: Scope) -> Callable[[Right], bool]:
    return lambda right: right.process is process and right.scope is scope


def _in_cluster(right: Right) -> bool:
    return right.process is Process.OPERATOR and right.scope is Scope.CLUSTER


RULE_SETS: Final = (
    RuleSet("operator.read", "the facts of a snapshot", lambda right: _in_cluster(right) and _reads(right)),
    RuleSet(
        "operator.plan",
        "policies and plans, which belong to the cluster",
        lambda right: _in_cluster(right) and not _reads(right) and right.group == GROUP and not right.on_workloads,
    ),
    RuleSet(
        "operator.nodes",
        "taints and annotations of nodes, which no namespace can bound",
        lambda right: _in_cluster(right) and not _reads(right) and right.resources == ("nodes",),
    ),
    RuleSet(
        "operator.workloads",
        "what carrying out a plan changes in the namespaces of workloads",
        lambda right: _in_cluster(right) and right.on_workloads,
    ),
    RuleSet("operator.lease", "leading", _in_scope(Process.OPERATOR, Scope.OPERATOR_LEASE)),
    RuleSet("operator.schedulerLease", "who leads the schedulers", _in_scope(Process.OPERATOR, Scope.SCHEDULER_LEASE)),
    RuleSet("operator.webhookSecret", "the webhook's certificate", _in_scope(Process.OPERATOR, Scope.WEBHOOK_SECRET)),
    RuleSet(
        "operator.webhookConfiguration",
        "the certificate authority in the webhook's configuration",
        _in_scope(Process.OPERATOR, Scope.WEBHOOK_CONFIGURATION),
    ),
    RuleSet("extender.read", "pods, plans, and their acknowledgement", _in_scope(Process.EXTENDER, Scope.CLUSTER)),
    RuleSet("extender.lease", "the sign that it lives", _in_scope(Process.EXTENDER, Scope.OPERATOR_LEASE)),
)


def rule(right: Right) -> dict[str, Any]:
    """One rule of a role, with the name of the object where a right is needed on one alone."""
    names = {"resourceNames": [NAMES[right.scope]]} if right.one_object else {}
    return {"apiGroups": [right.group], "resources": [*right.resources], **names, "verbs": [*right.verbs]}


def text() -> str:
    """The file of templates, whole."""
    parts = [HEAD]
    for one in RULE_SETS:
        rules = [rule(right) for right in ALL_RIGHTS if one.holds(right)]
        body = yaml.safe_dump(rules, sort_keys=False, default_flow_style=None, width=200)
        parts.append(
            f'\n{{{{/* {one.says} */}}}}\n{{{{- define "stowage.rules.{one.name}" -}}}}\n{body}{{{{- end }}}}\n'
        )
    return "".join(parts)


def main(
    file: Annotated[Path, typer.Option(help="Where the templates are.")] = FILE,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 when the file is not up to date.")
    ] = False,
) -> None:
    """Write the rules of the chart's roles."""
    if not check:
        file.write_text(text(), encoding="utf-8")
        typer.echo(f"written: {file}")
    elif not file.is_file() or file.read_text(encoding="utf-8") != text():
        typer.echo(f"not up to date: {file} (run `python -m stowage.cli.roles`)", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
