"""Stowage asks for nothing it may not have, and may have nothing that it does not ask for.

Last of the tests on its cluster (pytest goes by file names): it reads what all of them left in the audit log.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from programs import run
from release import Release

AUDIT_LOG = "/var/log/kubernetes/audit.log"
Right = tuple[str, str, str, str]  # service account, group, resource or resource/subresource, verb
# granted for days that a test of minutes does not see, for collections that this cluster lacks, and for a role that is
# taken out of a ModelService (tests/integration/test_model_services.py does that)
NOT_SEEN_HERE = {
    ("packingplans", "delete"),
    ("podgroups", "watch"),
    *((resource, "delete") for resource in ("deployments", "services", "poddisruptionbudgets")),
}
# the API server asks for them when an apply makes an object, and writes `patch` into the audit log
OF_APPLY = {(resource, "create") for resource in ("pods", "services", "deployments", "poddisruptionbudgets")}


def audited(release: Release) -> list[dict[str, Any]]:
    lines = run("docker", "exec", release.cluster.control_plane, "cat", AUDIT_LOG).splitlines()
    return [json.loads(line) for line in lines]


def asked(entry: dict[str, Any]) -> Right:
    account = entry["user"]["username"].rpartition(":")[2]
    what = entry.get("objectRef", {})
    resource = what.get("resource", "") + (f"/{what['subresource']}" if "subresource" in what else "")
    return account, what.get("apiGroup", ""), resource, entry["verb"]


def granted(release: Release) -> set[Right]:
    """What the roles of the release give to its service accounts, upstream's roles for a scheduler left out."""
    cluster, found = release.cluster, set()
    for kind in ("clusterrolebindings", "rolebindings"):
        for binding in cluster.get(
            kind, "--all-namespaces", "--selector", f"app.kubernetes.io/instance={release.name}"
        )["items"]:
            role = binding["roleRef"]
            if role["name"].startswith(("system:", "extension-")):
                continue
            place = ("--namespace", binding["metadata"]["namespace"]) if role["kind"] == "Role" else ()
            rules = cluster.get(role["kind"].lower(), role["name"], *place)["rules"]
            accounts = [one["name"] for one in binding["subjects"] if one["kind"] == "ServiceAccount"]
            found |= {
                (account, group, resource, verb)
                for account in accounts
                for rule in rules
                for group in rule.get("apiGroups", ())
                for resource in rule.get("resources", ())
                for verb in rule["verbs"]
            }
    return found


def while_being_removed(release: Release, entry: dict[str, Any]) -> bool:
    """Helm takes roles away before the last pod has ended."""
    at = datetime.fromisoformat(entry["requestReceivedTimestamp"])
    return any(began <= at <= ended + timedelta(seconds=30) for began, ended in release.away)


def test_no_request_was_forbidden(release: Release) -> None:
    forbidden = {
        asked(entry)
        for entry in audited(release)
        if entry.get("responseStatus", {}).get("code") == 403 and not while_being_removed(release, entry)
    }
    assert forbidden == set()


def test_every_right_was_used(release: Release) -> None:
    used = {asked(entry) for entry in audited(release)}
    unused = {right for right in granted(release) - used if right[2:] not in NOT_SEEN_HERE | OF_APPLY}
    assert granted(release), "the chart's bindings carry the label of the release"
    assert unused == set()
