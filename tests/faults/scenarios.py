"""Small, hard clusters whose plans need at least ten moves, always the same ones but for names of pods and nodes.

Twenty nodes of 8 CPUs with one pod of 3 CPUs each, and ten pods of 6 CPUs that fit nowhere: there is room for all of
them only if ten of the small ones move to where another small one is.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from harness.workbench import pod_template
from stowage.transport import paths

Document = dict[str, Any]

NODES: Final = 20
NODE_LABEL: Final = {"sweep": "node"}
LOW, HIGH = ("sweep-low", 100), ("sweep-high", 1000)
PRIORITY_CLASSES: Final = (LOW, HIGH)
QUICK: Final[Document] = {
    "mode": "Enforce",
    "trigger": {"quiet": "100ms", "longest": "1s", "unschedulableFor": "100ms"},
    "budget": {"time": "2s", "certifyWithin": "500ms"},
    "disruption": {"minPodAge": "0s", "ownerSettled": "0s"},
}
ALL_AT_ONCE: Final[Document] = {"disruption": {**QUICK["disruption"], "maxUnavailablePerOwner": "100%"}}
"""More moves under way when somebody is killed."""
HALF: Final[Document] = {"disruption": {**QUICK["disruption"], "maxUnavailablePerOwner": "50%"}}
"""Six of the ten moves, and four that wait until replacements are Ready."""


class Victim(enum.Enum):
    """A process that is killed, or whose requests tell when."""

    OPERATOR = "operator"
    EXTENDER = "extender"
    SCHEDULER = "scheduler"
    SOLVER = "solver"


USER_AGENTS: Final = {
    Victim.OPERATOR: "^stowage-operator/",
    Victim.EXTENDER: "^stowage-extender/",
    Victim.SCHEDULER: "^kube-scheduler/",
}


@dataclass(frozen=True)
class Workload:
    """Equal pods of one ReplicaSet.

    Attributes:
        name: without the prefix of the run.
        replicas: how many.
        cpu: of each pod.
        priority: class and value.
        kept: how many of them its disruption budget keeps Ready; None: it has none.
        gang: the pods are one gang, created behind the gate of gangs.
        ends_after: how long its pods take to end; "": they are gone at once.
    """

    name: str
    replicas: int
    cpu: str
    priority: tuple[str, int] = LOW
    kept: int | None = None
    gang: bool = False
    ends_after: str = ""


@dataclass(frozen=True)
class Kills:
    """Kill points of one kind: who is killed, at whose changes, and at which of them (each n-th)."""

    victim: Victim
    trigger: Victim
    every: int = 1


@dataclass(frozen=True)
class Scenario:
    """What runs, what waits, and who steers.

    Attributes:
        name: of the scenario, for reports.
        steering: of the policy.
        scheduler_name: whose pods they are.
        running: workloads that are there first, one pod on each node.
        waiting: workloads that find no room.
        kills: kinds of kill points.
        policy: fields of its spec beside the usual ones.
    """

    name: str
    steering: str
    scheduler_name: str
    running: tuple[Workload, ...]
    waiting: tuple[Workload, ...]
    kills: tuple[Kills, ...]
    policy: Mapping[str, Any] = field(default_factory=dict)

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """All of them."""
        return (*self.running, *self.waiting)

    def expected(self) -> Counter[tuple[str, int]]:
        """The end state: every pod has a place."""
        return Counter(
            {(f"ReplicaSet/{workload.name}", workload.priority[1]): workload.replicas for workload in self.workloads}
        )

    def policy_document(self, name: str) -> Document:
        """The policy that sets the plan going."""
        spec = {
            **QUICK,
            "steering": self.steering,
            "schedulerNames": [self.scheduler_name],
            "nodeSelector": NODE_LABEL,
            **self.policy,
        }
        return {
            "apiVersion": "stowage.dev/v1alpha1",
            "kind": "PackingPolicy",
            "metadata": {"name": name},
            "spec": spec,
        }

    def documents(self, workloads: tuple[Workload, ...], prefix: str) -> list[tuple[str, Document]]:
        """Objects to be created for workloads: collection (of all namespaces) and document."""
        made: list[tuple[str, Document]] = []
        for workload in workloads:
            name = f"{prefix}-{workload.name}"
            if workload.kept is not None:
                spec = {"minAvailable": workload.kept, "selector": {"matchLabels": {"app": name}}}
                budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}}
                made.append((paths.DISRUPTION_BUDGETS, {**budget, "spec": spec}))
            made.append((paths.REPLICA_SETS, self._replica_set(workload, name)))
        return made

    def _replica_set(self, workload: Workload, name: str) -> Document:
        template = pod_template(
            name,
            cpu=workload.cpu,
            scheduler_name=self.scheduler_name,
            priority_class=workload.priority[0],
            nodeSelector=NODE_LABEL,
        )
        if workload.gang:
            template["metadata"]["labels"] |= {
                "stowage.dev/gang": name,
                "stowage.dev/gang-size": str(workload.replicas),
            }
            template["spec"]["schedulingGates"] = [{"name": "stowage.dev/gang"}]
        if workload.ends_after:
            template["metadata"]["annotations"]["sim.stowage.dev/terminate-after"] = workload.ends_after
        return {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": name},
            "spec": {
                "replicas": workload.replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": template,
            },
        }


_RUNNING = (
    # still there, but ending, when a killed process looks again
    Workload("web", 12, "3", ends_after="3s"),
    Workload("api", 8, "3", kept=6),
)

EXTENDER = Scenario(
    name="extender",
    steering="Extender",
    scheduler_name="stowage",
    policy=HALF,
    running=_RUNNING,
    waiting=(Workload("train", 6, "6", HIGH), Workload("batch", 4, "6", LOW)),
    kills=(
        Kills(Victim.OPERATOR, Victim.OPERATOR),
        Kills(Victim.EXTENDER, Victim.EXTENDER),
        Kills(Victim.EXTENDER, Victim.OPERATOR, every=6),
        Kills(Victim.SCHEDULER, Victim.SCHEDULER, every=4),
        Kills(Victim.SOLVER, Victim.SOLVER),
    ),
)
BIND = Scenario(
    name="bind",
    steering="Bind",
    scheduler_name="default-scheduler",
    policy=ALL_AT_ONCE,
    running=_RUNNING,
    # of one priority: the default scheduler would preempt, and the end state would hang on chance
    waiting=(Workload("train", 6, "6"), Workload("batch", 4, "6")),
    kills=(
        Kills(Victim.OPERATOR, Victim.OPERATOR),
        Kills(Victim.SOLVER, Victim.SOLVER),
    ),
)
GATE_EXTENDER = Scenario(
    name="gate-extender",
    steering="Extender",
    scheduler_name="stowage",
    policy=ALL_AT_ONCE,
    running=_RUNNING,
    waiting=(Workload("gang", 6, "6", HIGH, gang=True), Workload("ring", 4, "6", HIGH, gang=True)),
    kills=(
        Kills(Victim.OPERATOR, Victim.OPERATOR),
        Kills(Victim.EXTENDER, Victim.EXTENDER),
        Kills(Victim.EXTENDER, Victim.OPERATOR, every=10),
        Kills(Victim.SCHEDULER, Victim.SCHEDULER, every=8),
    ),
)
GATE_BIND = Scenario(
    name="gate-bind",
    steering="Bind",
    scheduler_name="default-scheduler",
    policy=ALL_AT_ONCE,
    running=_RUNNING,
    waiting=(Workload("gang", 6, "6", HIGH, gang=True), Workload("ring", 4, "6", HIGH, gang=True)),
    kills=(Kills(Victim.OPERATOR, Victim.OPERATOR),),
)
SCENARIOS: Final = (EXTENDER, BIND, GATE_EXTENDER, GATE_BIND)
