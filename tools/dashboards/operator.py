"""Whether the operators lead, see the cluster and keep up."""

from __future__ import annotations

from typing import Final

from dashboards.parts import JOB, RANGE, Board, Panel, Row, by_instance, increase, quantiles, rate, stat

OPERATOR: Final = Board(
    "stowage-operator",
    "Stowage / Operator health",
    "Whether the operators lead, see the cluster and keep up",
    "operator",
    (
        Row(
            "Now",
            (
                stat("Leaders", "Operators that hold the lease: one", f"sum(stowage_leader{{{JOB}}})", warn_at=2),
                stat("Operators", "Processes that are scraped", f"count(stowage_build_info{{{JOB}}})"),
                stat(
                    "Not followed",
                    "Collections that are not followed: nothing new is begun",
                    f"sum(stowage_degraded{{{JOB}}})",
                    warn_at=1,
                ),
                stat(
                    "Failing keys",
                    "Policies and plans whose last work failed",
                    f"max(stowage_queue_failing_keys{{{JOB}}})",
                    warn_at=1,
                ),
                stat(
                    "Webhook certificate ends in",
                    "Renewed 30 days before; empty without a webhook",
                    f"min(stowage_webhook_certificate_expiry_timestamp_seconds{{{JOB}}} > 0) - time()",
                    unit="s",
                ),
                stat("Epoch", "Of the lease; rises with each leader", f"max(stowage_leader_epoch{{{JOB}}})"),
            ),
        ),
        Row(
            "Work",
            (
                Panel("Waiting keys", "Delayed ones included", by_instance("stowage_queue_depth")),
                Panel(
                    "Reconciling one key", "By kind", quantiles("stowage_reconcile_seconds", "kind", "{{kind}}"), "s"
                ),
                Panel(
                    "Failed work, by kind",
                    "Each comes back later and later",
                    (
                        (
                            f'sum by (kind) (rate(stowage_reconcile_seconds_count{{{JOB},outcome="error"}}[{RANGE}]))',
                            "{{kind}}",
                        ),
                    ),
                    "ops",
                ),
                Panel(
                    "Versions",
                    "Processes by version",
                    (
                        (
                            f"count by (version, python) (stowage_build_info{{{JOB}}})",
                            "{{version}} on Python {{python}}",
                        ),
                    ),
                ),
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
                Panel(
                    "Collections that are not followed",
                    "By reason",
                    ((f"max by (collection, reason) (stowage_degraded{{{JOB}}}) > 0", "{{collection}} {{reason}}"),),
                ),
                Panel(
                    "Watches that are closed",
                    "For longer than a moment",
                    (
                        (
                            f"count by (instance, collection) (stowage_watch_connected{{{JOB}}} == 0)",
                            "{{instance}} {{collection}}",
                        ),
                    ),
                ),
                Panel("Failed watches", "By reason", rate("stowage_watch_failures_total", "reason"), "ops"),
                Panel(
                    "Full lists",
                    "Each after the first is a lost watch",
                    increase("stowage_watch_lists_total", "collection"),
                ),
                Panel(
                    "Events that told nothing new",
                    "Repeated or overtaken ones",
                    rate("stowage_watch_repeated_events_total", "collection"),
                    "ops",
                ),
                Panel(
                    "Doorbell",
                    "The watch of policies and plans: its starts, and changes that only the audit has told",
                    (
                        (f"sum(increase(stowage_doorbell_starts_total{{{JOB}}}[{RANGE}]))", "starts"),
                        (f"sum(increase(stowage_doorbell_unheard_changes_total{{{JOB}}}[{RANGE}]))", "unheard changes"),
                    ),
                ),
                Panel(
                    "Clock offset",
                    "How far the wall clock is ahead of the steady one",
                    by_instance("stowage_clock_offset_seconds"),
                    "s",
                ),
            ),
        ),
        Row(
            "API server and webhook",
            (
                Panel(
                    "Requests to the API server, by status",
                    "0: no answer",
                    rate("stowage_api_requests_total", "status"),
                    "reqps",
                ),
                Panel(
                    "Answers of the API server",
                    "Watches are left out",
                    quantiles("stowage_api_request_seconds", "method", "{{method}}"),
                    "s",
                ),
                Panel("Reviews of the webhook", "By answer", rate("stowage_webhook_answers_total", "outcome"), "reqps"),
                Panel(
                    "Answers of the webhook",
                    "By kind",
                    quantiles("stowage_webhook_request_seconds", "kind", "{{kind}}"),
                    "s",
                ),
            ),
        ),
        Row(
            "Prometheus",
            (
                Panel(
                    "Queries, by outcome",
                    "Resting: not asked, for the endpoint had failed again and again",
                    rate("stowage_query_seconds_count", "outcome"),
                    "reqps",
                ),
                Panel(
                    "Answers of Prometheus",
                    "By endpoint",
                    quantiles("stowage_query_seconds", "endpoint", "{{endpoint}}"),
                    "s",
                ),
                Panel(
                    "Silent rules",
                    "PromQL rules that jobs name and that have had no answer for a minute",
                    by_instance("stowage_silent_promql_rules"),
                ),
            ),
        ),
        Row(
            "Process",
            (
                Panel(
                    "Memory",
                    "Without the solver's workers",
                    (
                        (f"process_resident_memory_bytes{{{JOB}}}", "{{instance}} resident"),
                        (f"process_virtual_memory_bytes{{{JOB}}}", "{{instance}} virtual"),
                    ),
                    "bytes",
                ),
                Panel(
                    "CPU",
                    "Cores used, without the solver's workers",
                    ((f"rate(process_cpu_seconds_total{{{JOB}}}[{RANGE}])", "{{instance}}"),),
                ),
                Panel(
                    "File descriptors",
                    "Open ones, as a part of what is allowed",
                    ((f"process_open_fds{{{JOB}}} / process_max_fds{{{JOB}}}", "{{instance}}"),),
                    "percentunit",
                ),
                Panel(
                    "Up time",
                    "Since the start",
                    ((f"time() - process_start_time_seconds{{{JOB}}}", "{{instance}}"),),
                    "s",
                ),
            ),
        ),
    ),
)
