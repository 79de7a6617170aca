"""The file of Prometheus servers and rules: what is read, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from stowage.cli.errors import InputError
from stowage.cli.processes import settings_from
from stowage.decide.training.promql_rules import PromqlRule
from stowage.observe.prometheus import Endpoint
from stowage.run.prometheus_settings import read_settings
from stowage.run.settings import OperatorSettings, SettingsError

SERVER = "endpoints: [{name: default, url: 'http://prometheus:9090'}]\n"
WHOLE = """
endpoints:
- {name: default, url: "http://prometheus.monitoring.svc:9090"}
- name: gpus
  url: https://thanos.example/prometheus
  bearerTokenFile: /etc/stowage/prometheus/gpus/token
  caFile: /etc/stowage/prometheus/gpus/ca.crt
  timeout: 2s
  tenant: team-a|team-b
rules:
- {name: loss-spike, query: "loss > 10"}
- name: xid
  query: |
    DCGM_FI_DEV_XID_ERRORS > 0
  for: 0s
  every: 30s
  endpoint: gpus
  namespaces: [team-a]
  labels: {namespace: exported_namespace, pod: exported_pod}
"""


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yaml").write_text(WHOLE)
    found = read_settings(tmp_path / "prometheus.yaml")
    folder = Path("/etc/stowage/prometheus/gpus")
    assert list(found.endpoints.values()) == [
        Endpoint("default", "http://prometheus.monitoring.svc:9090"),
        Endpoint(
            "gpus", "https://thanos.example/prometheus", folder / "token", folder / "ca.crt", 2.0, "team-a|team-b"
        ),
    ]
    assert list(found.rules.values()) == [
        PromqlRule("loss-spike", "loss > 10", for_seconds=60.0),
        PromqlRule(
            "xid",
            "DCGM_FI_DEV_XID_ERRORS > 0",
            "gpus",
            for_seconds=0.0,
            every_seconds=30.0,
            namespaces=frozenset({"team-a"}),
            namespace_label="exported_namespace",
            name_label="exported_pod",
            of_pods=True,
        ),
    ]


def test_no_file_and_an_empty_file_name_no_servers(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (None, tmp_path / "empty"):
        assert (read_settings(path).endpoints, read_settings(path).rules) == ({}, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("[", "is not YAML", id="no YAML"),
        pytest.param("- a", "must be a group of fields", id="a list"),
        pytest.param("servers: []", r"servers.*not a known field", id="an unknown field"),
        pytest.param("endpoints: [{name: a}]", r"endpoints\[0\]\.url.*must be given", id="no address"),
        pytest.param("endpoints: [{url: 'ftp://a'}]", r"endpoints\[0\]\.url.*an address such as", id="ftp"),
        pytest.param("endpoints: [{url: 'http://'}]", "an address such as", id="no host"),
        pytest.param("endpoints: [{url: 'http://a b'}]", "an address such as", id="a blank"),
        pytest.param("endpoints: [{url: 'http://a/?x=1'}]", "without [?] and #", id="parameters"),
        pytest.param("endpoints: [{url: 'http://u:hunter2@a'}]", "must hold no password", id="a password"),
        pytest.param("endpoints: [{url: 'http://a/prometheus/api/v1/'}]", "without /api/v1", id="down to its API"),
        pytest.param("endpoints: [{url: 'http://a', bearerTokenFile: /t}]", "over https only", id="a token for all"),
        pytest.param("endpoints: [{url: 'http://a'}, {url: 'http://b'}]", "must not occur twice", id="a name twice"),
        pytest.param("endpoints: [{url: 'http://a', timeout: 5m}]", "between 100ms and 60s", id="an age"),
        pytest.param(
            'endpoints: [{url: "http://a", tenant: "a\\nb"}]', r"endpoints\[0\]\.tenant", id="a line in a tenant"
        ),
        pytest.param("rules: [{name: a, query: up}]", "endpoint default, which is not in endpoints", id="no server"),
        pytest.param(SERVER + "rules: [{name: a, query: ' '}]", r"rules\[0\]\.query.*at least 1", id="no query"),
        pytest.param(SERVER + 'rules: [{name: a, query: "a\\u0000"}]', "printable", id="a query of odd characters"),
        pytest.param(SERVER + "rules: [{name: A_b, query: up}]", r"rules\[0\]\.name", id="an odd name"),
        pytest.param(SERVER + "rules: [{name: a, query: up, every: 1s}]", "between 5s and 10m", id="too often"),
        pytest.param(
            SERVER + "rules: [{name: a, query: up, labels: {namespace: 'a b'}}]",
            r"labels\.namespace",
            id="a label",
        ),
        pytest.param(
            SERVER + "rules: [{name: a, query: up, labels: {job: a, pod: b}}]", "at most one", id="jobs and pods"
        ),
        pytest.param(SERVER + f"rules: [{{name: a, query: {'u' * 5000}}}]", "at most 4096", id="a long query"),
    ],
)
def test_what_cannot_be_is_refused_by_name_of_the_field(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "prometheus.yaml").write_text(text)
    with pytest.raises(SettingsError, match=words) as raised:
        read_settings(tmp_path / "prometheus.yaml")
    assert "hunter2" not in str(raised.value)


def test_a_file_that_is_not_there_or_too_large_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_settings(tmp_path / "nothing")
    (tmp_path / "large").write_text("#" * (1 << 20))
    with pytest.raises(SettingsError, match="more than 524288 bytes"):
        read_settings(tmp_path / "large")


def test_the_setting_has_a_flag() -> None:
    assert settings_from(OperatorSettings, {"prometheus_config": "/a.yaml"}).prometheus_config == Path("/a.yaml")
    with pytest.raises(InputError):
        settings_from(OperatorSettings, {"prometheus_config": 3})
