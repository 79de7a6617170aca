"""One test per line of the CIS Kubernetes benchmark (section 5) and of the NSA/CISA guide that touches a chart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from harness.chart import MATRIX, Object, containers, named, objects, of_kind, pods

pytestmark = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
Values = dict[str, Any]


def rules(found: list[Object]) -> Iterator[tuple[str, Object]]:
    for role in of_kind(found, "Role", "ClusterRole"):
        for rule in role["rules"]:
            yield f"{role['kind']} {role['metadata']['name']}", rule


def bound(found: list[Object]) -> set[str]:
    return {one["roleRef"]["name"] for one in of_kind(found, "RoleBinding", "ClusterRoleBinding")}


def test_cis_5_1_1_nobody_is_cluster_admin(values: Values) -> None:
    assert not bound(objects(values)) & {"cluster-admin", "admin", "edit", "system:masters"}


WORKLOADS = re.compile(r"(Cluster)?Role (stowage|packer)-mover")
"""What the operator may do in namespaces of workloads."""


def test_cis_5_1_2_secrets_are_read_by_name_but_for_the_tokens_of_jobs(values: Values) -> None:
    for role, rule in rules(objects(values)):
        if "secrets" in rule["resources"] and "resourceNames" not in rule:
            assert WORKLOADS.fullmatch(role), role
            assert set(rule["verbs"]) == {"get", "create"}, "nobody lists Secrets, changes them or deletes them"
        elif "secrets" in rule["resources"]:
            assert role in {"Role stowage-webhook", "Role packer-webhook"}
            assert rule["resourceNames"] in (["stowage-webhook-tls"], ["packer-webhook-tls"])
            assert set(rule["verbs"]) == {"get", "update"}


def test_cis_5_1_3_no_role_has_a_wildcard(values: Values) -> None:
    for role, rule in rules(objects(values)):
        for field in ("apiGroups", "resources", "verbs", "nonResourceURLs", "resourceNames"):
            assert not [one for one in rule.get(field, ()) if "*" in one], role


OF_WORKLOADS = (
    ({"pods"}, {"create", "delete"}),
    ({"deployments"}, {"get", "create", "patch", "delete"}),
)
"""Pods of training jobs, Deployments of model services, and what is done with them."""


def test_cis_5_1_4_nobody_but_the_operator_for_jobs_and_services_creates_pods(values: Values) -> None:
    makers = {"pods", "deployments", "daemonsets", "statefulsets", "replicasets", "jobs", "cronjobs", "pods/exec"}
    for role, rule in rules(objects(values)):
        if set(rule["verbs"]) & {"create", "update", "deletecollection"}:
            made = makers & set(rule["resources"])
            assert not made or (WORKLOADS.fullmatch(role) and (made, set(rule["verbs"])) in OF_WORKLOADS), role


def test_cis_5_1_5_no_pod_uses_the_default_service_account(values: Values) -> None:
    for name, pod in pods(objects(values)):
        assert pod["serviceAccountName"] != "default", name


def test_cis_5_1_6_a_token_is_mounted_only_where_a_pod_asks_for_it(values: Values) -> None:
    found = objects(values)
    assert all(one["automountServiceAccountToken"] is False for one in of_kind(found, "ServiceAccount"))
    assert all(pod["automountServiceAccountToken"] is True for _, pod in pods(found))


def test_cis_5_1_8_nobody_binds_impersonates_or_escalates(values: Values) -> None:
    for role, rule in rules(objects(values)):
        assert not {"bind", "impersonate", "escalate", "approve", "sign"} & set(rule["verbs"]), role
        assert "rbac.authorization.k8s.io" not in rule["apiGroups"], role


def test_cis_5_1_12_webhook_configurations_are_written_by_name(values: Values) -> None:
    for _, rule in rules(objects(values)):
        if "admissionregistration.k8s.io" in rule["apiGroups"]:
            assert rule["resources"] == ["validatingwebhookconfigurations"]
            assert rule["resourceNames"] in (["stowage"], ["packer"])
            assert set(rule["verbs"]) == {"get", "patch"}


def test_cis_5_1_13_nobody_makes_tokens(values: Values) -> None:
    for role, rule in rules(objects(values)):
        assert not {"serviceaccounts/token", "certificatesigningrequests"} & set(rule["resources"]), role


def test_cis_5_2_no_pod_shares_the_node(values: Values) -> None:
    for name, pod in pods(objects(values)):
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod), name
        assert {next(key for key in volume if key != "name") for volume in pod["volumes"]} <= {
            *("emptyDir", "configMap", "secret", "projected")
        }
        projected = [volume["projected"]["sources"] for volume in pod["volumes"] if "projected" in volume]
        assert {key for sources in projected for source in sources for key in source} <= {"configMap", "secret"}
    for name, container in containers(objects(values)):
        assert not any("hostPort" in port for port in container.get("ports", ())), name


def test_cis_5_2_no_container_is_privileged(values: Values) -> None:
    for name, container in containers(objects(values)):
        security = container["securityContext"]
        assert security["privileged"] is False, name
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name


def test_cis_5_3_2_every_deployment_has_a_network_policy(values: Values) -> None:
    found = objects(values)
    if values.get("networkPolicy", {}).get("enabled") is False:
        assert of_kind(found, "NetworkPolicy") == []
        return
    for one in of_kind(found, "Deployment"):
        policy = named(found, "NetworkPolicy", one["metadata"]["name"])["spec"]
        assert policy["podSelector"] == one["spec"]["selector"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert all(rule.get("ports") for rule in [*policy["ingress"], *policy["egress"]])


def test_cis_5_4_1_no_secret_is_in_the_environment(values: Values) -> None:
    for name, container in containers(objects(values)):
        assert "envFrom" not in container, name
        sources = [set(one.get("valueFrom", ())) for one in container.get("env", ())]
        assert not any("secretKeyRef" in source for source in sources), name


def test_cis_5_7_2_seccomp_is_the_runtimes(values: Values) -> None:
    for name, pod in pods(objects(values)):
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name


def test_cis_5_7_3_every_container_has_a_security_context(values: Values) -> None:
    for name, container in containers(objects(values)):
        assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name


def test_cis_5_7_4_nothing_is_in_the_default_namespace(values: Values) -> None:
    assert not [one for one in objects(values) if one["metadata"].get("namespace") == "default"]


def test_nsa_no_pod_runs_as_root(values: Values) -> None:
    for name, pod in pods(objects(values)):
        context = pod["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, 65532, 65532), name
    for name, container in containers(objects(values)):
        assert container["securityContext"]["runAsNonRoot"] is True, name


def test_nsa_file_systems_are_immutable(values: Values) -> None:
    for name, container in containers(objects(values)):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        writable = [one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")]
        assert writable == ["/tmp"], name  # noqa: S108
    for name, pod in pods(objects(values)):
        empty = [one["emptyDir"] for one in pod["volumes"] if "emptyDir" in one]
        assert all(one.get("sizeLimit") for one in empty), name


def test_nsa_every_container_has_limits(values: Values) -> None:
    for name, container in containers(objects(values)):
        assert {"cpu", "memory"} <= set(container["resources"]["limits"]), name
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name


def test_nsa_images_can_be_pinned_and_are_never_latest(values: Values) -> None:
    for name, container in containers(objects(values)):
        repository, at, digest = container["image"].partition("@")
        assert (at and digest.startswith("sha256:")) or repository.rpartition(":")[2] not in {"", "latest"}, name


def test_nsa_actions_can_be_told_apart_in_the_audit_log(values: Values) -> None:
    accounts = {pod["serviceAccountName"] for _, pod in pods(objects(values))}
    assert len(accounts) == len(list(pods(objects(values))))
