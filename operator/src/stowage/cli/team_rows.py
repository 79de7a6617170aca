"""What a plan does to the shares of teams, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

if TYPE_CHECKING:
    from stowage.api.packing_policy import PackingPolicy
    from stowage_scheduler.cluster import Snapshot
    from stowage_scheduler.packing import Packing

HEADS = ("team", "weight", "share now", "share then", "pods now", "pods then")


def team_rows(policy: PackingPolicy, snapshot: Snapshot, packing: Packing) -> list[tuple[str, ...]]:
    """A row for each team of a policy with fair shares: its dominant share before and after a plan."""
    from stowage.decide.scope import scopes
    from stowage.decide.team_shares import team_shares

    nodes = scopes([policy], snapshot.nodes)[policy.name].nodes
    then = {one.pod.uid: one.node for one in packing.assignments}
    lost = {one.pod.uid for one in packing.evictions}
    pods = tuple(structs.replace(p, node=None if p.uid in lost else then.get(p.uid, p.node)) for p in snapshot.pods)
    before = team_shares(policy, snapshot, nodes)
    after = team_shares(policy, structs.replace(snapshot, pods=pods), nodes)
    return [
        (
            team.name,
            str(team.weight),
            f"{old.share} {old.resource or ''}".rstrip(),
            f"{new.share} {new.resource or ''}".rstrip(),
            str(old.pods),
            str(new.pods),
        )
        for team, old, new in zip(policy.spec.fairness.teams, before, after, strict=False)
    ]
