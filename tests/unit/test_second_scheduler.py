"""The configuration of the scheduler `stowage`."""

from __future__ import annotations

from pathlib import Path

from stowage.demo.second_scheduler import DEFAULT_EXTENDER_PORT, SCHEDULER_NAME, scheduler_configuration
from stowage.run.extender import ExtenderSettings


def test_it_asks_where_the_extender_listens_when_nobody_says_otherwise() -> None:
    assert ExtenderSettings.model_fields["port"].default == DEFAULT_EXTENDER_PORT


def test_it_fails_open_never_preempts_and_looks_at_all_nodes() -> None:
    configuration = scheduler_configuration(Path("/kubeconfig"), 1234)
    [profile] = configuration["profiles"]
    [extender] = configuration["extenders"]

    assert profile["schedulerName"] == SCHEDULER_NAME
    assert profile["plugins"]["postFilter"]["disabled"] == [{"name": "DefaultPreemption"}]
    assert configuration["percentageOfNodesToScore"] == 100
    assert configuration["clientConnection"]["qps"] >= 500
    assert extender["ignorable"] is True
    assert extender["nodeCacheCapable"] is True
    assert extender["urlPrefix"] == "http://127.0.0.1:1234"
