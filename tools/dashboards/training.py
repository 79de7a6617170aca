"""How training jobs are: what fails, how fast it is found and mended, and where their time goes."""

from __future__ import annotations

from typing import Final

from dashboards.parts import JOB, RANGE, Board, Panel, Row, by_instance, increase, quantiles, stat

UNDER_WAY: Final = 'phase=~"Pending|Starting|Recovering|Resizing|Paused"'
STAGES_SUM: Final = f'rate(stowage_training_recovery_seconds_sum{{{JOB},stage!="total"}}[{RANGE}])'
STAGES_COUNT: Final = f'rate(stowage_training_recovery_seconds_count{{{JOB},stage!="total"}}[{RANGE}])'
PRODUCTIVE: Final = f"rate(stowage_training_productive_seconds_total{{{JOB}}}[{RANGE}])"
LOST: Final = f"rate(stowage_training_lost_seconds_total{{{JOB}}}[{RANGE}])"

TRAINING: Final = Board(
    "stowage-training",
    "Stowage / Training",
    "How training jobs are: what fails, how fast it is found and mended, and where their time goes",
    "operator",
    (
        Row(
            "Now",
            (
                stat(
                    "Running",
                    "Jobs of which every rank runs",
                    f'max(stowage_training_jobs{{{JOB},phase="Running"}})',
                ),
                stat(
                    "Waiting",
                    "Jobs whose pods wait for nodes or for their first barrier",
                    f'max(sum by (instance) (stowage_training_jobs{{{JOB},phase=~"Pending|Starting"}}))',
                ),
                stat(
                    "Recovering",
                    "Jobs in which something failed and is being put right",
                    f'max(stowage_training_jobs{{{JOB},phase="Recovering"}})',
                    warn_at=1,
                ),
                stat(
                    "Paused",
                    "Jobs that wait until somebody looks",
                    f'max(stowage_training_jobs{{{JOB},phase="Paused"}})',
                    warn_at=1,
                ),
                stat(
                    "Goodput",
                    "Share of the time of jobs that have not ended which went into steps that count, weighted by nodes",
                    f"max(stowage_training_goodput_ratio{{{JOB}}})",
                    unit="percentunit",
                ),
                stat(
                    "Nodes that jobs are kept from",
                    "Stowage cordoned them, for jobs failed there",
                    f"max(stowage_training_cordoned_nodes{{{JOB}}})",
                    warn_at=1,
                ),
            ),
        ),
        Row(
            "Jobs",
            (
                Panel("Jobs by phase", "Those that are there", by_instance("stowage_training_jobs", "phase")),
                Panel(
                    "Longest in a phase",
                    "Of the job that has been in it for the longest time; Pending and Recovering should fall again",
                    (
                        (
                            f"max by (phase) (stowage_training_phase_age_seconds{{{JOB},{UNDER_WAY}}})",
                            "{{phase}}",
                        ),
                    ),
                    "s",
                ),
                Panel("Ends", "Jobs that ended, by reason", increase("stowage_training_ended_jobs_total", "reason")),
                Panel(
                    "Spares and slow ranks",
                    "Pods that hold a node and wait; ranks slower than those beside them. Nobody is evicted for that",
                    (
                        (f"max(stowage_training_spare_pods{{{JOB}}})", "spares"),
                        (f"max(stowage_training_straggling_ranks{{{JOB}}})", "slow ranks"),
                    ),
                ),
            ),
        ),
        Row(
            "Failures",
            (
                Panel("What happened", "Failures, by event", increase("stowage_training_recoveries_total", "event")),
                Panel("What was done", "Failures, by action", increase("stowage_training_recoveries_total", "action")),
                Panel("Whose fault", "Failures, by domain", increase("stowage_training_recoveries_total", "domain")),
                Panel(
                    "Starts",
                    "After failures, by what was started again",
                    increase("stowage_training_restarts_total", "scope"),
                ),
            ),
        ),
        Row(
            "Recovery",
            (
                Panel(
                    "From failure to evidence",
                    "By event: silence takes 5 s, a hang as long as the rule says",
                    quantiles("stowage_training_detection_seconds", "event", "{{event}}"),
                    "s",
                ),
                Panel(
                    "Stages",
                    "Detect, decide, schedule, start, restore, recompute; total is until training was as far as before",
                    quantiles("stowage_training_recovery_seconds", "stage", "{{stage}}"),
                    "s",
                ),
                Panel(
                    "Mean time to recover, by stage",
                    "Adds up to the mean over all recoveries",
                    (
                        (
                            f"sum by (stage) ({STAGES_SUM}) / sum by (stage) ({STAGES_COUNT})",
                            "{{stage}}",
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "Links to coordinators",
                    "Lost ones were heard before, or are dialled in vain; training goes on without them",
                    (
                        (f"max by (state) (stowage_coordinator_links{{{JOB}}})", "{{state}}"),
                        (f"sum(increase(stowage_coordinator_reconnects_total{{{JOB}}}[{RANGE}]))", "made again"),
                    ),
                ),
            ),
        ),
        Row(
            "Time",
            (
                Panel(
                    "Lost time, by cause",
                    "Seconds lost each second, over all jobs",
                    ((f"sum by (cause) (rate(stowage_training_lost_seconds_total{{{JOB}}}[{RANGE}]))", "{{cause}}"),),
                    "s",
                ),
                Panel(
                    "Goodput",
                    "Productive time over all time, of what passed just now; a job counts once, however large",
                    (
                        (
                            f"sum({PRODUCTIVE}) / (sum({PRODUCTIVE}) + sum({LOST}))",
                            "goodput",
                        ),
                    ),
                    "percentunit",
                ),
                Panel(
                    "Oldest checkpoint",
                    "Of running jobs that make some: so much would be done again",
                    ((f"max(stowage_training_checkpoint_age_seconds{{{JOB}}})", "age"),),
                    "s",
                ),
            ),
        ),
    ),
)
