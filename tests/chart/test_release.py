"""What the chart promises beyond forms: settings that the processes understand, and files that agree with the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.chart import CHART, MATRIX, NAMESPACE, Object, containers, environment, named, objects, of_kind
from stowage.admission.configuration import configuration
from stowage.api.names import SCHEDULER_ENABLED, SCHEDULER_LABEL
from stowage.demo.second_scheduler import SCHEDULER_ENVIRONMENT, scheduler_configuration
from stowage.run.extender import ExtenderSettings
from stowage.run.settings import OperatorSettings

SECOND = MATRIX["a second scheduler"]


def container(found: list[Object], name: str) -> Object:
    return dict(containers(found))[name]


@pytest.mark.parametrize(
    ("values", "replicas", "strategy"),
    [
        pytest.param({}, 1, {"type": "Recreate"}, id="one: the next waits until it is gone"),
        pytest.param(
            {"replicaCount": 2},
            2,
            {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}},
            id="two: one is always there",
        ),
    ],
)
def test_the_number_of_operators_is_replica_count(values: Any, replicas: int, strategy: Any) -> None:
    spec = named(objects(values), "Deployment", "stowage")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (replicas, strategy)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_every_variable_is_a_setting(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"operator": OperatorSettings, "extender": ExtenderSettings}
    for name, one in containers(objects(values)):
        model = models.get(name.partition("/")[2])
        given = {key: value for key, value in environment(one).items() if key.startswith("STOWAGE_")}
        if model is None:
            assert not given, name
            continue
        with monkeypatch.context() as patch:
            for key, value in given.items():
                patch.setenv(key, value)
            settings = model()
        unknown = {key for key in given if key.removeprefix("STOWAGE_").lower() not in model.model_fields}
        assert unknown == set(), name
        assert settings.metrics_host == "0.0.0.0"


@pytest.mark.parametrize("seconds", [6, 15, 60, 3600])
def test_terms_of_any_length_are_terms_that_the_operator_takes(seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = environment(container(objects({"operator": {"leaseSeconds": seconds}}), "stowage/operator"))
    for key in ("STOWAGE_LEASE_SECONDS", "STOWAGE_RENEW_WITHIN_SECONDS", "STOWAGE_LEASE_RETRY_SECONDS"):
        monkeypatch.setenv(key, given[key])
    settings = OperatorSettings()
    assert settings.lease_seconds == seconds
    assert settings.renew_within_seconds == pytest.approx(seconds * 10 / 15, abs=0.01)
    assert settings.lease_retry_seconds == pytest.approx(seconds * 2 / 15, abs=0.01)


def test_the_scheduler_is_configured_as_the_local_one() -> None:
    found = yaml.safe_load(named(objects(SECOND), "ConfigMap", "stowage-scheduler")["data"]["scheduler.yaml"])
    wanted = scheduler_configuration(Path("/unused"), 8900)
    del wanted["clientConnection"]["kubeconfig"]  # a pod has an account instead
    wanted["leaderElection"]["resourceNamespace"] = NAMESPACE
    assert found == wanted
    scheduler = container(objects(SECOND), "stowage-scheduler/kube-scheduler")
    assert environment(scheduler)["GOGC"] == SCHEDULER_ENVIRONMENT["GOGC"]
    [limit] = [one["valueFrom"]["resourceFieldRef"] for one in scheduler["env"] if one["name"] == "GOMEMLIMIT"]
    assert limit == {"containerName": "kube-scheduler", "resource": "limits.memory"}


@pytest.mark.parametrize(
    ("server", "tag"),
    [
        pytest.param("v1.36.3", "v1.36.3", id="plain"),
        pytest.param("v1.34.1-gke.1234000", "v1.34.1", id="GKE"),
        pytest.param("v1.35.0-eks-a1b2c3d", "v1.35.0", id="EKS"),
        pytest.param("v1.36.0+k3s1", "v1.36.0", id="k3s"),
    ],
)
def test_the_scheduler_has_the_version_of_the_server(server: str, tag: str) -> None:
    scheduler = container(objects(SECOND, kubernetes=server), "stowage-scheduler/kube-scheduler")
    assert scheduler["image"] == f"registry.k8s.io/kube-scheduler:{tag}"


def test_a_changed_configuration_starts_the_scheduler_anew() -> None:
    def checksum(values: dict[str, Any]) -> str:
        template = named(objects(values), "Deployment", "stowage-scheduler")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/configuration"])

    assert checksum(SECOND) != checksum({"scheduler": {"enabled": True, "clientConnection": {"qps": 100}}})
    assert checksum(SECOND) == checksum({"scheduler": {"enabled": True, "replicaCount": 2}})


def test_operator_and_scheduler_meet_at_one_lease() -> None:
    for values, place in (
        (SECOND, (NAMESPACE, "stowage-scheduler")),
        (MATRIX["beside the control plane's scheduler"], ("kube-system", "kube-scheduler")),
    ):
        given = environment(container(objects(values), "stowage/operator"))
        assert (given["STOWAGE_SCHEDULER_LEASE_NAMESPACE"], given["STOWAGE_SCHEDULER_LEASE_NAME"]) == place


@pytest.mark.parametrize(
    ("apis", "version"),
    [
        pytest.param(("v1", "v1beta1"), "v1", id="the server has both"),
        pytest.param(("v1beta1",), "v1beta1", id="the server has the beta"),
        pytest.param((), None, id="the server has none"),
    ],
)
def test_pods_get_their_scheduler_where_the_server_can_do_that(apis: tuple[str, ...], version: str | None) -> None:
    group = "admissionregistration.k8s.io"
    found = objects(SECOND, apis=tuple(f"{group}/{one}/MutatingAdmissionPolicy" for one in apis))
    policies = of_kind(found, "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")
    assert [one["apiVersion"] for one in policies] == ([f"{group}/{version}"] * 2 if version else [])
    if version:
        selector = policies[1]["spec"]["matchResources"]["namespaceSelector"]
        assert selector["matchLabels"] == {SCHEDULER_LABEL: SCHEDULER_ENABLED}
        assert selector["matchExpressions"][0]["values"] == ["kube-system", NAMESPACE]
        assert policies[0]["spec"]["failurePolicy"] == "Ignore"


@pytest.mark.parametrize("policy", ["Ignore", "Fail"])
def test_the_webhook_is_registered_as_the_code_has_it(policy: str) -> None:
    values = {"webhook": {"failurePolicy": policy}, "packing": {"defaultPolicy": {"enabled": False}}}
    found = named(objects(values), "ValidatingWebhookConfiguration", "stowage")
    service = {"name": "stowage-webhook", "namespace": NAMESPACE, "path": "/validate", "port": 443}
    user = f"system:serviceaccount:{NAMESPACE}:stowage"
    wanted = configuration("stowage", {"service": service}, operator_user=user, failure_policy=policy)
    assert found["webhooks"] == wanted["webhooks"]


def test_an_upgrade_names_nothing_that_the_operator_fills_in() -> None:
    found = objects()
    assert "caBundle" not in named(found, "ValidatingWebhookConfiguration", "stowage")["webhooks"][0]["clientConfig"]
    assert not {"data", "stringData"} & set(named(found, "Secret", "stowage-webhook-tls"))


def test_certificates_can_be_handed_to_cert_manager_and_back() -> None:
    found = objects({"webhook": {"certManager": {"enabled": True}}})
    name = named(found, "Certificate", "stowage-webhook")["spec"]["secretName"]
    # not the name of the Secret that Helm makes and deletes
    assert name == "stowage-webhook-cert"
    volumes = named(found, "Deployment", "stowage")["spec"]["template"]["spec"]["volumes"]
    assert [one["secret"]["secretName"] for one in volumes if "secret" in one] == [name]


def test_no_alerts_and_dashboards_for_what_does_not_run() -> None:
    found = objects({"packing": {"enabled": False}, "metrics": MATRIX["all metrics"]["metrics"]})
    assert of_kind(found, "ConfigMap", "PrometheusRule", "ServiceMonitor") == []


@pytest.mark.parametrize(
    ("values", "schedulers"),
    [
        pytest.param({}, ["default-scheduler"], id="no scheduler of its own"),
        pytest.param(SECOND, ["stowage"], id="a second scheduler"),
        pytest.param({"packing": {"defaultPolicy": {"schedulerNames": ["a", "b"]}}}, ["a", "b"], id="told"),
    ],
)
def test_the_default_policy_recommends_for_pods_that_somebody_schedules(values: Any, schedulers: list[str]) -> None:
    policy = named(objects(values), "PackingPolicy", "default")
    assert policy["spec"]["mode"] == "Recommend"
    assert policy["spec"]["schedulerNames"] == schedulers


def test_the_default_policy_is_made_once_and_never_replaced() -> None:
    policy = named(objects(), "PackingPolicy", "default")
    assert policy["metadata"]["annotations"] == {
        "helm.sh/hook": "post-install",
        # said, or Helm would delete what is there before it makes the policy
        "helm.sh/hook-delete-policy": "hook-failed",
    }


def test_the_default_policy_stays_within_the_watched_namespaces() -> None:
    spec = named(objects({"watchNamespaces": ["a", "b"]}), "PackingPolicy", "default")["spec"]
    [expression] = spec["namespaceSelector"]["matchExpressions"]
    assert expression == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]}


def test_alerts_and_dashboards_are_those_of_the_files() -> None:
    found = objects(MATRIX["all metrics"])
    rules = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((CHART / "alerts").glob("*.yaml"))}
    assert rules
    assert {one["metadata"]["name"]: one["spec"] for one in of_kind(found, "PrometheusRule")} == {
        f"stowage-{stem}": rule for stem, rule in rules.items()
    }
    boards = {file.name: file.read_text() for file in sorted((CHART / "dashboards").glob("*.json"))}
    assert boards
    data = [one["data"] for one in of_kind(found, "ConfigMap") if "-dashboard-" in one["metadata"]["name"]]
    assert {name: text.strip() for one in data for name, text in one.items()} == {
        name: text.strip() for name, text in boards.items()
    }


def test_each_process_is_scraped() -> None:
    found = objects(MATRIX["all metrics"])
    services = {one["metadata"]["name"]: one["spec"]["selector"] for one in of_kind(found, "Service")}
    for monitor in of_kind(found, "ServiceMonitor"):
        name = monitor["metadata"]["name"]
        assert services[f"{name}-metrics"].items() <= monitor["spec"]["selector"]["matchLabels"].items()
        assert [one["port"] for one in monitor["spec"]["endpoints"]] == ["metrics"]
    for one in of_kind(found, "Deployment"):
        template = one["spec"]["template"]
        port = int(template["metadata"]["annotations"]["prometheus.io/port"])
        assert port in [port["containerPort"] for part in template["spec"]["containers"] for port in part["ports"]]


def test_pods_leave_a_lost_node_soon() -> None:
    for deployment in of_kind(objects(SECOND), "Deployment"):
        tolerations = deployment["spec"]["template"]["spec"]["tolerations"]
        assert {one["key"]: one["tolerationSeconds"] for one in tolerations} == {
            "node.kubernetes.io/not-ready": 30,
            "node.kubernetes.io/unreachable": 30,
        }


def test_the_test_of_the_release_asks_about_its_own_leases() -> None:
    doctor = container(objects(SECOND), "stowage-doctor/doctor")
    assert doctor["args"] == [
        "doctor",
        f"--operator-lease={NAMESPACE}/stowage-operator",
        f"--scheduler-lease={NAMESPACE}/stowage-scheduler",
    ]


def test_the_test_leaves_its_logs_and_no_rights() -> None:
    hooks = [one for one in objects() if one["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"]
    policies = {one["kind"]: one["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for one in hooks}
    # Helm 3 deletes by hook-succeeded before it reads logs
    assert policies.pop("Pod") == "before-hook-creation"
    assert policies == dict.fromkeys(
        ("ServiceAccount", "ClusterRole", "ClusterRoleBinding"), "before-hook-creation,hook-succeeded"
    )
