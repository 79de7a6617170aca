"""Checks of a PackingPolicy against itself and against the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from stowage.admission.known import Known
from stowage.admission.selectors import impossible
from stowage.admission.verdict import Problem
from stowage.api.conditions import condition_of
from stowage.api.consolidation import ConsolidationMode
from stowage.api.packing_policy import Mode, PackingPolicy
from stowage.api.reasons import PolicyCondition, PolicyReason
from stowage.decide.execution import HANDSHAKE_SECONDS, RESERVE_SECONDS
from stowage.decide.power_words import without_figures
from stowage.decide.scope import Scope, scopes
from stowage_scheduler.cluster import LabelSelector, Snapshot
from stowage_scheduler.kube.matching import matches_selector

_NAMED = 3


def problems(policy: PackingPolicy) -> tuple[Problem, ...]:
    """What makes a policy senseless whatever the cluster looks like."""
    spec = policy.spec
    selectors = [("spec.nodeSelector", LabelSelector(labels=tuple(spec.node_selector.items())))]
    if spec.pod_selector is not None:
        selectors.append(("spec.podSelector", spec.pod_selector.to_fact()))
    if spec.namespace_selector is not None:
        selectors.append(("spec.namespaceSelector", spec.namespace_selector.to_fact()))
    for number, team in enumerate(spec.fairness.teams):
        selectors.append((f"spec.fairness.teams[{number}].selector", team.selector.to_fact()))
    return tuple(problem for field, selector in selectors for problem in impossible(field, selector))


def warnings(policy: PackingPolicy, before: PackingPolicy | None, known: Known) -> tuple[str, ...]:
    """What is most likely not meant, or has effects that are easily missed.

    Args:
        policy: as it shall be.
        before: as it is; None: it is new.
        known: the other policies and the cluster.
    """
    unknown = without_figures(policy, known.snapshot.nodes if known.snapshot is not None else ())
    found = [*([f"spec.{unknown}"] if unknown else []), *_by_itself(policy), *_by_the_change(policy, before)]
    if known.snapshot is not None:
        found += _by_the_cluster(policy, known.snapshot)
        if known.policies is None:
            found.append(f"not checked against the nodes of other policies: {known.unread}")
        else:
            others = [other for name, other in known.policies.items() if name != policy.name]
            found += _by_its_rivals(policy, others, known.snapshot)
    return tuple(found)


def _by_itself(policy: PackingPolicy) -> Iterator[str]:
    spec, limits = policy.spec, policy.spec.disruption
    for words in spec.not_supported():
        yield f"spec.{words} is accepted, and this version does not act on it"
    if limits.max_moves_per_hour < limits.max_moves_per_plan:
        yield (
            f"spec.disruption.maxMovesPerHour = {limits.max_moves_per_hour} is less than maxMovesPerPlan = "
            f"{limits.max_moves_per_plan}: no plan moves more than the hour allows"
        )
    if spec.consolidation.mode is ConsolidationMode.WHEN_QUIET and not limits.max_moves_per_plan:
        yield "spec.consolidation.mode = WhenQuiet: with disruption.maxMovesPerPlan = 0 no node is emptied"
    start_seconds = max(HANDSHAKE_SECONDS, RESERVE_SECONDS)
    if limits.plan_timeout.seconds <= start_seconds:
        yield (
            f"spec.disruption.planTimeout = {limits.plan_timeout}: a plan may take {start_seconds:g} s until its "
            "first step; it would end before; give it minutes"
        )

    rule = limits.stop_rule
    if "ready_within" in rule.model_fields_set and rule.ready_within.seconds >= limits.plan_timeout.seconds:
        yield (
            f"spec.disruption.stopRule.readyWithin = {rule.ready_within}: a plan ends after planTimeout = "
            f"{limits.plan_timeout} at the latest; a shorter time would stop it before"
        )


def _by_the_change(policy: PackingPolicy, before: PackingPolicy | None) -> Iterator[str]:
    if before is None or before.spec.mode is policy.spec.mode or policy.spec.mode is not Mode.ENFORCE:
        return
    ready = condition_of(policy.status.conditions, PolicyCondition.READY)
    if ready is not None and ready.reason == PolicyReason.AWAITING_APPROVAL and policy.status.active_plan:
        yield (
            f"spec.mode = Enforce: plan {policy.status.active_plan}, which waits for approval, is superseded by one "
            "that needs none"
        )


def _by_the_cluster(policy: PackingPolicy, cluster: Snapshot) -> Iterator[str]:
    spec, protect = policy.spec, policy.spec.disruption.protect
    selector = LabelSelector(labels=tuple(spec.node_selector.items()))
    if not any(matches_selector(selector, node.labels) for node in cluster.nodes):
        yield f"spec.nodeSelector = {dict(spec.node_selector)}: selects none of the {len(cluster.nodes)} nodes now"
    wanted = spec.namespace_selector.to_fact() if spec.namespace_selector is not None else None
    if wanted is not None and not any(matches_selector(wanted, one) for one in cluster.namespace_labels.values()):
        yield f"spec.namespaceSelector selects none of the {len(cluster.namespace_labels)} namespaces now"
    unknown = [name for name in protect.namespaces if name not in cluster.namespace_labels]
    if unknown and cluster.namespace_labels:  # without any, they are not followed
        yield f"spec.disruption.protect.namespaces: {_some(unknown)} not in this cluster; check the spelling"
    highest = max((one.value for one in cluster.priority_classes), default=None)
    if highest is not None and protect.priority_at_least > highest:
        yield (
            f"spec.disruption.protect.priorityAtLeast = {protect.priority_at_least}: no PriorityClass reaches it "
            f"(the highest is {highest}), so it protects no pod"
        )


def _by_its_rivals(policy: PackingPolicy, others: Sequence[PackingPolicy], cluster: Snapshot) -> Iterator[str]:
    scope_of = scopes([*others, policy], cluster.nodes)
    own = scope_of[policy.name]
    for other in sorted(others, key=lambda one: one.name):
        if other.spec.priority != policy.spec.priority:
            continue
        for winner, loser, scope in (
            (other.name, policy.name, own),
            (policy.name, other.name, scope_of[other.name]),
        ):
            nodes = _held_by(winner, scope)
            if nodes:
                yield (
                    f"spec.nodeSelector: policies {policy.name} and {other.name} have priority "
                    f"{policy.spec.priority} and both select {_some(nodes)}; the older one, {winner}, holds them and "
                    f"{loser} does not use them; set spec.priority to decide"
                )
    above = {name for name in own.lost.values() if _priority_of(name, others) > policy.spec.priority}
    if own.lost and not own.nodes and above:
        yield (
            f"spec.nodeSelector: every node that it selects is held by policies of higher priority "
            f"({_some(sorted(above))}); nothing is planned for this one"
        )


def _priority_of(name: str, policies: Iterable[PackingPolicy]) -> int:
    return next(one.spec.priority for one in policies if one.name == name)


def _held_by(winner: str, scope: Scope) -> list[str]:
    lost: Mapping[str, str] = scope.lost
    return sorted(node for node, holder in lost.items() if holder == winner)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
