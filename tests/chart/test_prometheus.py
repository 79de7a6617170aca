"""What the chart makes of the Prometheus servers and rules in its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from harness.chart import MATRIX, containers, named, objects, of_kind
from stowage.run.prometheus_settings import read_settings

VALUES = MATRIX["queries of Prometheus"]
FOLDER = "/etc/stowage/prometheus"


def deployment(values: dict[str, Any]) -> Any:
    return named(objects(values), "Deployment", "stowage")["spec"]["template"]


def test_the_operator_reads_the_file_that_the_chart_writes(tmp_path: Path) -> None:
    found = named(objects(VALUES), "ConfigMap", "stowage-prometheus")["data"]["prometheus.yaml"]
    (tmp_path / "prometheus.yaml").write_text(found)
    settings = read_settings(tmp_path / "prometheus.yaml")
    assert settings.endpoints["default"].url == "http://prometheus.monitoring.svc:9090"
    assert settings.endpoints["gpus"].timeout_seconds == 2.0
    assert settings.rules["loss-spike"].query == 'loss{team="a"} > 10'
    assert (settings.rules["xid"].of_pods, settings.rules["xid"].name_label) == (True, "exported_pod")


def test_secrets_are_files_where_the_settings_look_for_them_and_nowhere_else() -> None:
    files = yaml.safe_load(named(objects(VALUES), "ConfigMap", "stowage-prometheus")["data"]["prometheus.yaml"])
    pod = deployment(VALUES)["spec"]
    (mount,) = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "prometheus"]
    assert (mount["mountPath"], mount["readOnly"]) == (FOLDER, True)
    (volume,) = [one["projected"] for one in pod["volumes"] if one["name"] == "prometheus"]
    secrets = {
        f"{FOLDER}/{item['path']}": (source["secret"]["name"], item["key"])
        for source in volume["sources"]
        if "secret" in source
        for item in source["secret"]["items"]
    }
    endpoint = files["endpoints"][1]
    assert secrets == {endpoint["bearerTokenFile"]: ("thanos", "token"), endpoint["caFile"]: ("thanos", "ca")}
    environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert environment["STOWAGE_PROMETHEUS_CONFIG"] == f"{FOLDER}/prometheus.yaml"


def test_a_change_of_a_rule_starts_the_operator_anew() -> None:
    changed = {**VALUES, "training": {"promqlRules": [{"name": "a", "query": "up"}]}}
    marks = [deployment(values)["metadata"]["annotations"]["stowage.dev/prometheus"] for values in (VALUES, changed)]
    assert marks[0] != marks[1]


def test_the_network_lets_the_operator_alone_ask() -> None:
    scheduled = {**VALUES, "scheduler": {"enabled": True}}
    asking = {
        policy["metadata"]["name"]
        for policy in of_kind(objects(scheduled), "NetworkPolicy")
        for rule in policy["spec"]["egress"]
        if any(port["port"] == 9090 for port in rule["ports"])
    }
    assert asking == {"stowage"}


def test_without_servers_there_is_nothing_of_them() -> None:
    found = objects({})
    assert not [one for one in of_kind(found, "ConfigMap") if "prometheus" in one["metadata"]["name"]]
    assert all("STOWAGE_PROMETHEUS_CONFIG" not in str(one) for _, one in containers(found))
