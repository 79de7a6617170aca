"""Roles: each gives what the list of rights in code says, no more, and only where it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.chart import MATRIX, NAMESPACE, Object, named, objects, of_kind
from stowage.cli import roles
from stowage.cli.rights import ALL_RIGHTS, NEEDED_RIGHTS, Process, Right, Scope

Grant = tuple[str, str, str, str, str]  # where, group, resource, verb, name of the one object

READING = {"get", "list", "watch"}


def rules_of(found: list[Object], kind: str, role: str, namespace: str) -> list[Object]:
    [rules] = [
        one["rules"]
        for one in of_kind(found, kind)
        if one["metadata"]["name"] == role and one["metadata"].get("namespace", "") == namespace
    ]
    return rules


def granted(found: list[Object], account: str) -> Iterator[Grant]:
    """What a service account may do by the roles of the chart."""
    for binding in of_kind(found, "RoleBinding", "ClusterRoleBinding"):
        subjects = [(one["kind"], one["namespace"], one["name"]) for one in binding["subjects"]]
        if subjects != [("ServiceAccount", NAMESPACE, account)] or "helm.sh/hook" in binding["metadata"].get(
            "annotations", {}
        ):
            continue
        role = binding["roleRef"]
        if role["name"].startswith(("system:", "extension-")):
            continue
        where = binding["metadata"].get("namespace", "")
        for rule in rules_of(found, role["kind"], role["name"], where if role["kind"] == "Role" else ""):
            yield from expanded(rule, where)


def expanded(rule: Object, where: str) -> Iterator[Grant]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames", ("",)):
                    yield where, group, resource, verb, name


NAMES = {
    Scope.OPERATOR_LEASE: "stowage-operator",
    Scope.SCHEDULER_LEASE: "stowage-scheduler",
    Scope.WEBHOOK_SECRET: "stowage-webhook-tls",
    Scope.WEBHOOK_CONFIGURATION: "stowage",
}
IN_CLUSTER = {Scope.CLUSTER, Scope.WEBHOOK_CONFIGURATION}


def wanted(rights: tuple[Right, ...], process: Process, namespaces: tuple[str, ...] = ()) -> Iterator[Grant]:
    """What the list says that a process needs, spelled as grants."""
    for right in rights:
        if right.process is not process:
            continue
        places: tuple[str, ...] = ("",) if right.scope in IN_CLUSTER else (NAMESPACE,)
        if namespaces and right.on_workloads:
            places = namespaces
        for place in places:
            rule = {"apiGroups": [right.group], "resources": right.resources, "verbs": right.verbs}
            names = {"resourceNames": [NAMES[right.scope]]} if right.one_object else {}
            yield from expanded({**rule, **names}, place)


@pytest.mark.parametrize(
    ("values", "rights"),
    [
        pytest.param({}, ALL_RIGHTS, id="with the webhook"),
        pytest.param({"webhook": {"enabled": False}}, NEEDED_RIGHTS, id="without the webhook"),
        pytest.param({"webhook": {"certManager": {"enabled": True}}}, NEEDED_RIGHTS, id="certificates by cert-manager"),
    ],
)
def test_the_operator_may_do_what_the_list_says(values: dict[str, Any], rights: tuple[Right, ...]) -> None:
    assert set(granted(objects(values), "stowage")) == set(wanted(rights, Process.OPERATOR))


@pytest.mark.parametrize(
    ("values", "account"),
    [
        pytest.param(MATRIX["a second scheduler"], "stowage-scheduler", id="beside the chart's scheduler"),
        pytest.param(MATRIX["beside the control plane's scheduler"], "stowage-extender", id="beside another one"),
    ],
)
def test_the_extender_may_do_what_the_list_says(values: dict[str, Any], account: str) -> None:
    own = set(wanted(ALL_RIGHTS, Process.EXTENDER))
    lease = {(NAMESPACE, "coordination.k8s.io", "leases", verb, "stowage-scheduler") for verb in ("get", "update")}
    assert set(granted(objects(values), account)) == (own | lease if account == "stowage-scheduler" else own)


def test_an_operator_held_to_namespaces_changes_nothing_elsewhere() -> None:
    values = {"watchNamespaces": ["team-a", "team-b"]}
    found = set(granted(objects(values), "stowage"))
    listed = set(wanted(ALL_RIGHTS, Process.OPERATOR, ("team-a", "team-b")))
    assert found == listed - {("", "", "nodes", "patch", "")}
    outside = {
        (group, verb) for where, group, _, verb, _ in found if not where and verb not in {"get", "list", "watch"}
    }
    assert {group for group, _ in outside} == {"stowage.dev", "admissionregistration.k8s.io"}


def test_the_lease_of_another_scheduler_is_read_where_it_is() -> None:
    found = set(granted(objects(MATRIX["beside the control plane's scheduler"]), "stowage"))
    assert ("kube-system", "coordination.k8s.io", "leases", "get", "kube-scheduler") in found
    values = {"operator": {"schedulerLease": {"namespace": "scheduling", "name": "mine"}}}
    found = set(granted(objects(values), "stowage"))
    assert ("scheduling", "coordination.k8s.io", "leases", "get", "mine") in found


def test_without_packing_nobody_gets_a_right() -> None:
    found = objects({"packing": {"enabled": False}})
    assert {one["metadata"]["name"] for one in of_kind(found, "Role", "ClusterRole")} == {
        *("stowage-viewer", "stowage-editor", "stowage-approver")
    }
    assert of_kind(found, "RoleBinding", "ClusterRoleBinding", "Deployment", "ServiceAccount") == []


def test_every_right_is_in_one_set_of_rules() -> None:
    for right in ALL_RIGHTS:
        holders = [one.name for one in roles.RULE_SETS if one.holds(right)]
        assert len(holders) == 1, (right, holders)


def test_the_rules_are_those_of_the_list() -> None:
    assert roles.FILE.read_text() == roles.text()


def test_people_see_write_and_approve_by_roles_of_their_own() -> None:
    found = objects()
    label = "rbac.authorization.k8s.io/aggregate-to-"
    parts = {
        kind: {
            key.removeprefix(label)
            for key in named(found, "ClusterRole", f"stowage-{kind}")["metadata"]["labels"]
            if key.startswith(label)
        }
        for kind in ("viewer", "editor", "approver")
    }
    assert parts == {"viewer": {"view", "edit", "admin"}, "editor": {"edit", "admin"}, "approver": set()}
    for kind in parts:
        for rule in named(found, "ClusterRole", f"stowage-{kind}")["rules"]:
            assert rule["apiGroups"] == ["stowage.dev"]
            assert not any(
                one.endswith("/status") and set(rule["verbs"]) - {"get", "list", "watch"} for one in rule["resources"]
            )
