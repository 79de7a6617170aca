"""How teams stand: what each holds of the nodes of a policy."""

from __future__ import annotations

from stowage.api.packing_policy import PackingPolicy
from stowage.api.team_share import TeamShare
from stowage.decide.scope import teams_of
from stowage_scheduler.cluster import Snapshot
from stowage_scheduler.fairness import dominant, total
from stowage_scheduler.teams import Membership


def team_shares(policy: PackingPolicy, snapshot: Snapshot, nodes: frozenset[str]) -> tuple[TeamShare, ...]:
    """The share of each team, in the order of the policy; empty where it has no fair shares.

    Args:
        policy: any.
        snapshot: the cluster.
        nodes: names of those that belong to the policy.
    """
    teams = teams_of(policy)
    if not teams:
        return ()
    membership = Membership(teams)
    capacity = total(node.allocatable for node in snapshot.nodes if node.name in nodes)
    held: list[list[int]] = [[] for _ in (*teams, None)]
    for number, pod in enumerate(snapshot.pods):
        if pod.node in nodes and not pod.finished:
            held[membership.of(pod)].append(number)
    found = []
    for team, numbers in zip(teams, held, strict=False):
        share, resource = dominant(total(snapshot.pods[number].requests for number in numbers), capacity)
        found.append(TeamShare(name=team.name, share=f"{share:.2f}", resource=resource, pods=len(numbers)))
    return tuple(found)
