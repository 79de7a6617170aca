"""The catalogue of metrics: its names, and that the instruments of a process are what it says."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from stowage.run.catalogue import CATALOGUE, PLANS, WATCH_LISTS
from stowage.run.metric import Kind, Metric, Process, Unit
from stowage.run.metrics import Followed, Metrics
from stowage_scheduler.options import Budget, PackOptions
from stowage_scheduler.pack import pack
from unit.one_move import BEFORE

NAMES = [metric.name for metric in CATALOGUE]
UNITS_IN_NAMES = {Unit.SECONDS: "_seconds", Unit.BYTES: "_bytes", Unit.PODS: "_pods|_leases|_slots|_moves"}


def shown(process: Process) -> dict[str, str]:
    """The types of the families that a process shows, by their names in queries."""
    families = Metrics(process=process).registry.collect()
    return {family.name + ("_total" if family.type == "counter" else ""): family.type for family in families}


def test_no_name_is_taken_twice() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("metric", CATALOGUE, ids=NAMES)
def test_names_follow_the_conventions_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"(stowage|process)_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.ours is metric.name.startswith("stowage_")
    assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
    pattern = UNITS_IN_NAMES.get(metric.unit)
    if pattern is not None:
        assert re.search(rf"({pattern})(_total)?$", metric.name), f"the unit {metric.unit} stands in the name"
    assert bool(metric.buckets) is (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(metric.buckets)
    assert metric.text
    assert not metric.text.endswith(".")
    for label in metric.labels:
        assert label.closed is not bool(label.open_for), "either all values are known, or what bounds them is said"
        assert len(set(label.values)) == len(label.values)


@pytest.mark.parametrize("process", Process)
def test_a_process_shows_its_part_of_the_catalogue_and_nothing_else(process: Process) -> None:
    wanted = {metric.name: metric.kind.value for metric in CATALOGUE if process in metric.processes}
    assert shown(process) == wanted


def test_without_a_process_everything_is_shown_but_what_is_known_of_the_process_only() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    names = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
    assert names == {metric.name for metric in CATALOGUE if metric.ours}


def test_what_runs_is_shown_with_its_version() -> None:
    (family,) = [
        one for one in Metrics(process=Process.EXTENDER).registry.collect() if one.name == "stowage_build_info"
    ]
    (sample,) = family.samples
    assert sample.labels.keys() == {"version", "process", "python"}
    assert (sample.labels["process"], sample.value) == ("extender", 1)


def test_counters_of_closed_sets_start_at_nought_so_that_the_first_increase_is_seen() -> None:
    registry = Metrics().registry
    for outcome in ("Done", "Aborted", "Superseded"):
        assert registry.get_sample_value(PLANS.name, {"outcome": outcome}) == 0


def test_a_counter_that_a_reflector_keeps_is_read_when_it_is_scraped() -> None:
    metrics = Metrics()
    reflector = SimpleNamespace(last_event_at=1.0, disconnected_since=None, lists=1, repeated=0)
    metrics.show_reflector("Pod", cast("Followed", reflector), lambda: 3.0)
    reflector.lists = 7
    assert metrics.registry.get_sample_value(WATCH_LISTS.name, {"collection": "Pod"}) == 7
    reflector.on_failure("Silent")
    failures = {"collection": "Pod", "reason": "Silent"}
    assert metrics.registry.get_sample_value("stowage_watch_failures_total", failures) == 1


def test_the_stages_of_a_packing_are_those_of_the_catalogue() -> None:
    packing = pack(BEFORE, PackOptions(), Budget(seconds=1.0, certify_seconds=0.1), 1, lambda: 0.0)
    (solve,) = [metric for metric in CATALOGUE if metric.name == "stowage_solve_seconds"]
    assert {*packing.stages, "total"} <= set(solve.labels[0].values)
