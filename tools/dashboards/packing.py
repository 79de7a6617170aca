"""What waits, what Stowage plans for it, and what became of the plans."""

from __future__ import annotations

from typing import Final

from dashboards.parts import JOB, RANGE, Board, Panel, Row, increase, quantiles, stat

PACKING: Final = Board(
    "stowage-packing",
    "Stowage / Packing",
    "What waits, what Stowage plans for it, and what became of the plans",
    "operator",
    (
        Row(
            "Now",
            (
                stat(
                    "Pods that stay pending",
                    "Pods that the last packings left: no plan places them",
                    f"max(sum by (instance) (stowage_pending_pods{{{JOB}}}))",
                    warn_at=1,
                ),
                stat(
                    "Pods with a place in a plan",
                    "Pending pods that a plan which has not ended places",
                    f"max(sum by (instance) (stowage_planned_pods{{{JOB}}}))",
                ),
                stat(
                    "Gap",
                    "Pods that the last packings may have missed: the proven bound less the pods placed",
                    f"max(stowage_packing_gap_pods{{{JOB}}})",
                    warn_at=1,
                ),
                stat(
                    "Plans done in a day",
                    "Plans that ended with everything done that still made sense",
                    f'sum(increase(stowage_plans_total{{{JOB},outcome="Done"}}[1d]))',
                ),
                stat("Moves in a day", "Pods that were moved", f"sum(increase(stowage_moves_total{{{JOB}}}[1d]))"),
                stat(
                    "Mistakes in a day",
                    "Answers that the packer's own checks refused, and packings without an answer",
                    f"sum(increase(stowage_packer_faults_total{{{JOB}}}[1d]))"
                    f" + sum(increase(stowage_solver_failures_total{{{JOB}}}[1d]))",
                    warn_at=1,
                ),
            ),
        ),
        Row(
            "Pods",
            (
                Panel(
                    "Pods that stay pending, by reason",
                    "Why no plan places them; kubectl stowage why pod/NAME tells more of one pod",
                    ((f"max by (reason) (stowage_pending_pods{{{JOB}}}) > 0", "{{reason}}"),),
                ),
                Panel(
                    "Pods with a place in a plan, by the plan's phase",
                    "Proposed plans wait for approval",
                    ((f"max by (phase) (stowage_planned_pods{{{JOB}}})", "{{phase}}"),),
                ),
            ),
        ),
        Row(
            "Plans",
            (
                Panel(
                    "Plans that ended, by outcome",
                    "The phase they ended in",
                    increase("stowage_plans_total", "outcome"),
                ),
                Panel(
                    "Duration of plans",
                    "From the start to the end",
                    quantiles("stowage_plan_execution_seconds", "outcome", "{{outcome}}"),
                    "s",
                ),
                Panel(
                    "Pods moved",
                    "Replacements bound as planned",
                    ((f"sum(increase(stowage_moves_total{{{JOB}}}[{RANGE}]))", "moves"),),
                ),
                Panel(
                    "Evictions, by answer", "Answers of the API server", increase("stowage_evictions_total", "outcome")
                ),
                Panel(
                    "Bindings, by answer",
                    "Steering Bind: answers of the API server",
                    increase("stowage_bindings_total", "outcome"),
                ),
                Panel(
                    "Gang pods let go, by answer",
                    "Gates taken away: answers of the API server",
                    increase("stowage_ungatings_total", "outcome"),
                ),
                Panel(
                    "Looks for nodes to empty, by outcome",
                    "While nothing waits, where a policy asks for it",
                    increase("stowage_consolidations_total", "outcome"),
                ),
                Panel(
                    "Nodes emptied",
                    "By plans made for it",
                    ((f"sum(increase(stowage_emptied_nodes_total{{{JOB}}}[{RANGE}]))", "nodes"),),
                ),
            ),
        ),
        Row(
            "Packing",
            (
                Panel(
                    "From event to plan",
                    "From when kube-scheduler gave up on a pod to the first plan that places it",
                    quantiles("stowage_event_to_plan_seconds"),
                    "s",
                ),
                Panel(
                    "Seconds of a packing, by stage",
                    "Mean time that each stage takes",
                    (
                        (
                            (
                                f"sum by (stage) (rate(stowage_solve_seconds_sum{{{JOB}}}[{RANGE}]))"
                                f" / sum by (stage) (rate(stowage_solve_seconds_count{{{JOB}}}[{RANGE}]))"
                            ),
                            "{{stage}}",
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "Packings, by what is proven",
                    "Certified: no plan places more",
                    increase("stowage_packings_total", "outcome"),
                ),
                Panel(
                    "Packings without an answer",
                    "Why the solver gave none",
                    increase("stowage_solver_failures_total", "reason"),
                ),
                Panel(
                    "Objects left out",
                    "Objects that make no sense, by kind; the log names them",
                    ((f"max by (kind) (stowage_rejected_objects{{{JOB}}})", "{{kind}}"),),
                ),
                Panel(
                    "Answers refused by the packer's checks",
                    "Mistakes in Stowage; please report them",
                    ((f"sum(increase(stowage_packer_faults_total{{{JOB}}}[{RANGE}]))", "faults"),),
                ),
            ),
        ),
    ),
)
