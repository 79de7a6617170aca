"""What kube-scheduler asks the extender, and how it answers."""

from __future__ import annotations

from typing import Final

from dashboards.parts import JOB, RANGE, Board, Panel, Row, by_instance, quantiles, rate, stat

EXTENDER: Final = Board(
    "stowage-extender",
    "Stowage / Extender",
    "What kube-scheduler asks the extender, and how it answers",
    "extender",
    (
        Row(
            "Now",
            (
                stat(
                    "Extenders that see nothing",
                    "They admit every pod everywhere",
                    f"count(stowage_extender_fresh{{{JOB}}} == 0) or vector(0)",
                    warn_at=1,
                ),
                stat("Extenders that live", "As the leading operator sees them", "max(stowage_extenders)"),
                stat(
                    "Pods that wait for the scheduler stowage", "Not bound yet", "max(stowage_scheduler_waiting_pods)"
                ),
                stat(
                    "Open slots",
                    "Slots of active plans that wait for a pod",
                    f"max(stowage_extender_open_slots{{{JOB}}})",
                ),
                stat("Leased slots", "Leased to pods and not yet bound", f"max(stowage_extender_slot_leases{{{JOB}}})"),
                stat("Extenders", "Processes that are scraped", f"count(stowage_build_info{{{JOB}}})"),
            ),
        ),
        Row(
            "Answers",
            (
                Panel(
                    "Time to an answer",
                    "kube-scheduler goes on without the extender after 1 s",
                    quantiles("stowage_extender_request_seconds", "verb", "{{verb}}"),
                    "s",
                ),
                Panel(
                    "Answers, by outcome",
                    "echoed: no plan runs",
                    rate("stowage_extender_answers_total", "outcome"),
                    "reqps",
                ),
                Panel(
                    "Open slots",
                    "Slots of active plans that wait for a pod",
                    by_instance("stowage_extender_open_slots"),
                ),
                Panel("Leased slots", "Leased to pods and not yet bound", by_instance("stowage_extender_slot_leases")),
            ),
        ),
        Row(
            "Seeing the cluster",
            (
                Panel(
                    "Age of what a watch told last",
                    "Bookmarks come once a minute, so up to 60 s are usual",
                    by_instance("stowage_watch_age_seconds", "instance, collection"),
                    "s",
                ),
                Panel("Failed watches", "By reason", rate("stowage_watch_failures_total", "reason"), "ops"),
                Panel("Memory", "Resident", ((f"process_resident_memory_bytes{{{JOB}}}", "{{instance}}"),), "bytes"),
                Panel("CPU", "Cores used", ((f"rate(process_cpu_seconds_total{{{JOB}}}[{RANGE}])", "{{instance}}"),)),
            ),
        ),
    ),
)
