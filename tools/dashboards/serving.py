"""How model services are: replicas, why there are so many, signals, targets, starts and drains."""

from __future__ import annotations

from typing import Final

from dashboards.parts import JOB, RANGE, Board, Panel, Row, by_instance, increase, quantiles, stat

UNSEEN: Final = 'reason=~"SignalsMissing|SignalsStale|SignalsContradictory|PrometheusUnreachable|UnknownEndpoint"'
FAILING: Final = 'reason=~"ReplicasFailing|ReplicasUnplaced|QuotaFull"'
REFUSED: Final = 'reason=~"InvalidSpec|ProfileMissing|ChildRefused|ForeignEdit"'
AT_A_LIMIT: Final = 'reason=~"AtMaximum|BudgetReached|QuotaReached|OutOfStock"'


def _services(which: str) -> str:
    return f"max(sum by (instance) (stowage_serving_services{{{JOB},{which}}}))"


SERVING: Final = Board(
    "stowage-serving",
    "Stowage / Serving",
    "How model services are: replicas, why there are so many, signals, targets, starts and drains",
    "operator",
    (
        Row(
            "Now",
            (
                stat(
                    "Ready replicas",
                    "Replicas that take requests",
                    f'max(stowage_serving_replicas{{{JOB},state="ready"}})',
                ),
                stat(
                    "Not ready yet",
                    "Replicas that start",
                    f'max(stowage_serving_replicas{{{JOB},state="starting"}})',
                ),
                stat(
                    "Without signals",
                    "Services whose replicas stay or rise, for nothing can be known of their load",
                    _services(UNSEEN),
                    warn_at=1,
                ),
                stat(
                    "Below their targets",
                    "Services of which too few requests met every target",
                    _services('reason="BelowAttainment"'),
                    warn_at=1,
                ),
                stat(
                    "Held by a limit",
                    "Roles that ask for more replicas than bounds, budget, quota or stock allow",
                    f"max(sum by (instance) (stowage_serving_roles{{{JOB},{AT_A_LIMIT}}}))",
                    warn_at=1,
                ),
                stat(
                    "Failing",
                    "Services whose replicas fail, have no room or may not be made",
                    _services(FAILING),
                    warn_at=1,
                ),
                stat(
                    "Not acted on",
                    "Services that are refused, or in which somebody else writes",
                    _services(REFUSED),
                    warn_at=1,
                ),
            ),
        ),
        Row(
            "Replicas",
            (
                Panel(
                    "Replicas",
                    "Desired, ready, starting, draining, and spares that are kept warm",
                    by_instance("stowage_serving_replicas", "state"),
                ),
                Panel(
                    "Decisions",
                    "Changes of the number of replicas, by reason",
                    increase("stowage_serving_decisions_total", "reason"),
                ),
                Panel(
                    "Ups and downs",
                    "Changes by direction; many of both are a load that goes to and fro, or a stabilisation too short",
                    increase("stowage_serving_decisions_total", "direction"),
                ),
                Panel(
                    "Why roles are as they are",
                    "Roles by the reason of their number",
                    by_instance("stowage_serving_roles", "reason"),
                ),
            ),
        ),
        Row(
            "Signals and targets",
            (
                Panel(
                    "Conditions",
                    "Services by the reasons of their conditions",
                    by_instance("stowage_serving_services", "reason"),
                ),
                Panel(
                    "Oldest signal",
                    "Age of the newest sample, of the service where it is the oldest",
                    ((f"max(stowage_serving_signal_age_seconds{{{JOB}}})", "age"),),
                    "s",
                ),
                Panel(
                    "Lowest attainment",
                    "Share of requests that met every target, of the service where it is the lowest",
                    ((f"min(stowage_serving_attainment_ratio{{{JOB}}})", "attainment"),),
                    "percentunit",
                ),
            ),
        ),
        Row(
            "Starts and drains",
            (
                Panel(
                    "Cold start",
                    "From being asked for to the first request, of the service where it takes longest",
                    by_instance("stowage_serving_cold_start_seconds", "quantile"),
                    "s",
                ),
                Panel(
                    "Requests held",
                    "Requests that wait at zero for the first replica, of all services",
                    ((f"max(stowage_serving_held_requests{{{JOB}}})", "held"),),
                ),
                Panel(
                    "Requests at activators",
                    "Those that wait and those that a replica works on, where activators are scraped",
                    (
                        ("sum(stowage_activator_waiting_requests)", "waiting"),
                        ("sum(stowage_activator_running_requests)", "running"),
                    ),
                ),
                Panel(
                    "Ends at activators",
                    "Requests by what became of them, where activators are scraped",
                    ((f"sum by (outcome) (increase(stowage_activator_requests_total[{RANGE}]))", "{{outcome}}"),),
                ),
                Panel(
                    "Waits at activators",
                    "From a request's arrival until a replica takes it, or it is refused",
                    quantiles("stowage_activator_wait_seconds", selector=""),
                    "s",
                ),
                Panel(
                    "Warm nodes",
                    "Nodes without a replica that hold image and weights of a role",
                    ((f"max(stowage_serving_cached_nodes{{{JOB}}})", "nodes"),),
                ),
                Panel(
                    "Drains",
                    "From when a replica gets no new requests until it is deleted",
                    quantiles("stowage_serving_drain_seconds"),
                    "s",
                ),
            ),
        ),
    ),
)
