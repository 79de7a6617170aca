"""Small crowded clusters with one pod that waits, for tests of what is said about it."""

from __future__ import annotations

from hypothesis import strategies as st

from harness.facts import node as make_node
from harness.facts import pod as make_pod
from harness.facts import snapshot
from stowage_scheduler.cluster import (
    DisruptionBudget,
    Effect,
    HostPort,
    LabelSelector,
    Pod,
    PodAffinityTerm,
    Snapshot,
    SpreadConstraint,
    Taint,
    Toleration,
)
from stowage_scheduler.explain.situation import Situation
from stowage_scheduler.explain.table import Table
from stowage_scheduler.options import PackOptions
from stowage_scheduler.rules import Outcome

APPS = {app: LabelSelector((("app", app),)) for app in ("red", "blue")}
KEYS = st.sampled_from(["zone", "host"])
TERMS = st.builds(PodAffinityTerm, KEYS, st.sampled_from([*APPS.values()]), st.just(("default",)))
SPREADS = st.builds(SpreadConstraint, KEYS, st.just(1), st.sampled_from([*APPS.values()]))
PORT = HostPort("TCP", "0.0.0.0", 80)
TAINT = Taint("dedicated", Effect.NO_SCHEDULE, "ml")
STAYS = {"stowage.dev/do-not-disrupt": "true"}
WAITING = "new-0"


@st.composite
def crowded_clusters(draw: st.DrawFn) -> Snapshot:
    """Up to four nodes and six pods that run; one pod waits."""
    nodes = [
        make_node(
            f"n{number}",
            draw(st.integers(2, 5)) * 100,
            labels={"host": f"n{number}"} | draw(st.sampled_from([{"zone": "a"}, {"zone": "b"}, {"disk": "ssd"}, {}])),
            taints=draw(st.sampled_from([(), (), (TAINT,)])),
            ready=draw(st.integers(0, 5)) > 0,
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    pods = [
        make_pod(
            f"rs{number}-0",
            draw(st.integers(1, 3)) * 100,
            on=draw(st.sampled_from(nodes)).name,
            priority=draw(st.integers(0, 2)),
            labels={"app": draw(st.sampled_from([*APPS]))},
            anti_affinity_terms=tuple(draw(st.lists(TERMS, max_size=1))) if draw(st.booleans()) else (),
            host_ports=(PORT,) if draw(st.integers(0, 3)) == 0 else (),
            annotations=STAYS if draw(st.integers(0, 4)) == 0 else {},
            terminating=draw(st.integers(0, 5)) == 0,
        )
        for number in range(draw(st.integers(0, 6)))
    ]
    waiting = make_pod(
        WAITING,
        draw(st.integers(1, 4)) * 100,
        priority=1,
        labels={"app": "red"},
        node_selector=draw(st.sampled_from([{}, {}, {"disk": "ssd"}])),
        tolerations=draw(st.sampled_from([(), (Toleration("dedicated", "Exists"),)])),
        affinity_terms=tuple(draw(st.lists(TERMS, max_size=1))) if draw(st.booleans()) else (),
        anti_affinity_terms=tuple(draw(st.lists(TERMS, max_size=2))),
        spread=tuple(draw(st.lists(SPREADS, max_size=1))),
        host_ports=(PORT,) if draw(st.booleans()) else (),
        preemption_policy="Never" if draw(st.integers(0, 5)) == 0 else "PreemptLowerPriority",
    )
    budgets = tuple(
        DisruptionBudget("default", app, app, selector, disruptions_allowed=draw(st.sampled_from([0, 9])))
        for app, selector in APPS.items()
        if draw(st.integers(0, 2)) == 0
    )
    return snapshot(*nodes, *pods, waiting, budgets=budgets)


def waiting_pod(cluster: Snapshot) -> Pod:
    """The pod that is spoken of."""
    return next(pod for pod in cluster.pods if pod.name == WAITING)


def table_of(cluster: Snapshot, options: PackOptions) -> Table:
    """What it lacks while all that runs stays where it is."""
    standing = {pod.uid: pod.node for pod in cluster.pods if pod.node is not None and not pod.leaving}
    return Table(Situation(Outcome(cluster, options, standing), cluster.nodes), waiting_pod(cluster))
