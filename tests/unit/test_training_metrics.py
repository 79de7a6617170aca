"""What jobs show as metrics: all together, and never by name."""

from __future__ import annotations

import random
from typing import Any

import pytest

from stowage.api.durations import instant
from stowage.api.training_job import TrainingJob
from stowage.api.training_words import JobPhase
from stowage.observe.store import Store
from stowage.run.coordinators import Coordinators
from stowage.run.metrics import Metrics
from stowage.run.training_metrics import TrainingMetrics
from stowage_worker.messages import Progress, Straggling
from unit.builders import NOW
from unit.test_training_job_status import Life


class Shown(Life):
    """A job whose every step is shown by a process that leads."""

    def __init__(self, nodes: int = 2, **spec: Any) -> None:
        super().__init__(nodes, **spec)
        self.metrics = Metrics()
        self.term = 1
        links = Coordinators(lambda *_: None, random.Random(1), lambda: self.now)
        self.store = Store(now=lambda: self.now)
        self.numbers = TrainingMetrics(self.metrics, lambda: self.term, lambda: self.now, links, self.store)

    def step(self) -> Any:
        before = self.job
        step = super().step()
        self.numbers.wrote(before, self.job)
        return step

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"stowage_{name}", labels)


def test_a_recovery_is_counted_once_with_each_stage_as_it_ends() -> None:
    life = Shown().run()
    life.tell("Running", progress=Progress(step=12))
    life.step()
    life.fails()
    labels = {"event": "ProcessExited", "action": "RestartProcesses", "domain": "Unknown"}
    assert life.value("training_recoveries_total", **labels) == 1
    assert life.value("training_restarts_total", scope="Process") == 1
    assert life.value("training_detection_seconds_sum", event="ProcessExited") == 1
    assert life.value("training_jobs", phase="Recovering") == 1
    life.now += 7
    assert life.value("training_phase_age_seconds", phase="Recovering") == 7
    life.tell("Running", started_at=life.now - 2, first_step_at=life.now - 1, progress=Progress(step=12))
    life.step()
    for _ in range(2):
        life.step()
    assert life.value("training_recoveries_total", **labels) == 1
    stages = {
        stage: life.value("training_recovery_seconds_sum", stage=stage)
        for stage in ("detect", "decide", "schedule", "start", "restore", "recompute", "total")
    }
    assert stages == {"detect": 1, "decide": 0, "schedule": 0, "start": 5, "restore": 1, "recompute": 1, "total": 8}
    assert life.value("training_recovery_seconds_count", stage="total") == 1


def test_time_goes_into_counters_by_what_became_of_it() -> None:
    life = Shown()
    life.step()
    life.make()
    life.step()
    life.now += 10
    life.tell("Running", started_at=life.now)
    life.step()
    assert life.value("training_lost_seconds_total", cause="Initialization") == 10
    for step in range(1, 4):
        life.now += 5
        life.tell("Running", started_at=NOW + 10, first_step_at=NOW + 12, progress=Progress(step=step))
        life.step()
    assert life.value("training_productive_seconds_total") == 15
    assert life.value("training_goodput_ratio") == pytest.approx(15 / 25)
    life.now += 1
    life.tell("Finished")
    life.step()
    assert life.value("training_ended_jobs_total", reason="AllRanksSucceeded") == 1
    assert life.value("training_goodput_ratio") == 1, "of jobs that have not ended"


def test_slow_ranks_and_old_checkpoints_are_shown() -> None:
    life = Shown().run()
    slow = (Straggling(1, "s1", 2.0, 0.1, 1.4),)
    life.tell("Running", progress=Progress(step=3, checkpoint_step=2), stragglers=slow)
    life.step()
    life.now += 90
    assert life.value("training_straggling_ranks") == 1
    assert life.value("training_checkpoint_age_seconds") == 90


def test_a_standby_shows_nought_and_a_job_that_is_gone_is_not_shown() -> None:
    life = Shown().run()
    assert life.value("training_jobs", phase="Running") == 1
    life.term = 0
    assert life.value("training_jobs", phase="Running") == 0
    life.term = 1
    assert life.value("training_jobs", phase="Running") == 1
    life.numbers.gone(life.job.key)
    assert {life.value("training_jobs", phase=phase.value) for phase in JobPhase} == {0}
    assert life.value("training_goodput_ratio") == 1


def test_who_leads_again_begins_anew_for_jobs_may_have_gone_meanwhile() -> None:
    life = Shown().run()
    life.term = 0
    life.step()
    life.term = 3
    assert life.value("training_jobs", phase="Running") == 0
    life.step()
    assert life.value("training_jobs", phase="Running") == 1


def test_goodput_counts_nodes() -> None:
    life = Shown()
    small, large = {"ratio": "0", "lostSeconds": [{"cause": "Other", "seconds": 100}]}, {"ratio": "1"}
    for name, nodes, goodput in (("small", 1, small), ("large", 3, {**large, "productiveSeconds": 100})):
        spec = {"template": {"spec": {"containers": [{"name": "t", "command": ["x"]}]}}}
        status = {
            "phase": "Running",
            "phaseSince": instant(NOW).isoformat(),
            "nodes": {"desired": nodes},
            "goodput": goodput,
        }
        metadata = {"name": name, "namespace": "team"}
        job = TrainingJob.parse_stored({"metadata": metadata, "spec": spec, "status": status})
        life.numbers.wrote(job, job)
    assert life.value("training_goodput_ratio") == pytest.approx(0.75)


def test_every_name_is_free_of_names_of_jobs() -> None:
    life = Shown().run()
    life.fails()
    labels = {name for family in life.metrics.registry.collect() for one in family.samples for name in one.labels}
    assert not {"namespace", "name", "trainingjob", "pod", "node"} & labels
