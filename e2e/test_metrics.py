"""A real Prometheus scrapes Stowage by the annotations of its pods; dashboards and alerts find what they ask for."""

from __future__ import annotations

import json
import re

from harness.promql import names
from harness.waiting import eventually
from kind_cluster import KindCluster
from prometheus_scene import query
from release import CHART, Release
from scene import GPUS, SLOWLY_SECONDS, Scene
from stowage.run.activator_catalogue import OF_ACTIVATORS
from training_scene import TrainingScene

# metrics with labels have no series before the first time: something went wrong, or Prometheus was asked for a rule
NOT_AT_FIRST = {
    "stowage_solver_failures_total",
    "stowage_packer_faults_total",
    "stowage_watch_failures_total",
    "stowage_rejected_objects",
    "stowage_degraded",
    "stowage_query_seconds_bucket",
    "stowage_query_seconds_count",
}
# an activator runs beside services that may go to zero, and none is made here
OF_NOBODY_HERE = {name for metric in OF_ACTIVATORS for name in metric.series}


def dashboard_expressions() -> dict[str, str]:
    """Expressions by dashboard and panel, as Grafana would ask them."""
    found = {}
    for file in sorted((CHART / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "5m")
                # variables of the dashboard choose everything at first
                found[f"{file.stem}: {panel['title']}: {target['refId']}"] = re.sub(r"\$\w+", ".*", expression)
    return found


async def test_dashboards_show_data_and_no_alert_fires(
    release: Release, prometheus: KindCluster, scene: Scene, training: TrainingScene
) -> None:
    await training.begin("toy", 10_000, "--pause", "0.1", "--mischief", "KILL:1:20:1", nodes=1)
    await scene.begin()
    await scene.bench.replica_set("giant", 1, **scene.pod(gpus=2 * GPUS))  # stays pending, for dashboards to tell
    await scene.plan_in("Done", timeout_seconds=SLOWLY_SECONDS)
    expressions = dashboard_expressions()
    telling = {panel for panel, asked in expressions.items() if names(asked) - NOT_AT_FIRST - OF_NOBODY_HERE}
    assert telling

    async def answered() -> bool:
        """Every panel shows something, or asks for series that are there but have nothing of the kind to tell."""
        silent = {panel: asked for panel, asked in expressions.items() if not query(prometheus, asked)}
        wanted = {name for asked in silent.values() for name in names(asked)} - NOT_AT_FIRST - OF_NOBODY_HERE
        missing = {name for name in wanted if not query(prometheus, name)}
        assert not missing, f"{missing} in {silent}"
        assert len(silent.keys() & telling) < len(telling) / 4, silent
        return True

    await eventually(answered, timeout_seconds=SLOWLY_SECONDS, what="the dashboards show data")
    firing = {alert["metric"]["alertname"] for alert in query(prometheus, 'ALERTS{alertstate="firing"}')}
    assert firing == set()
    (starts,) = query(prometheus, "stowage_doorbell_starts_total")
    assert starts["value"][1] == "1", "the watch of policies and plans ended and had to be started again"
    assert release.restarts() == {}
