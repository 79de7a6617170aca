"""What the webhook needs of the API server for its certificate: the listed rights are enough, and none is too much."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.waiting import eventually
from harness.workbench import Workbench
from stowage.admission.configuration import configuration
from stowage.cli.rights import WEBHOOK_RIGHTS, Scope
from stowage.demo.local_cluster import LocalCluster
from stowage.run.certificates_secret import CONFIGURATIONS, SECRETS, SecretCertificates
from stowage.transport import Api, ApiError, Forbidden, paths

ROLES = "/apis/rbac.authorization.k8s.io/v1"
NAMES = {Scope.WEBHOOK_SECRET: "webhook-tls"}
GRANTED = [(right, verb) for right in WEBHOOK_RIGHTS for verb in right.verbs]


class Account:
    """A service account with the rights of the webhook, and both objects as the chart makes them."""

    def __init__(self, bench: Workbench, cluster: LocalCluster, folder: Path) -> None:
        self.api, self.namespace, self.cluster, self.folder = bench.api, bench.namespace, cluster, folder
        self.name = f"webhook-{bench.namespace}"
        self.configuration = paths.named(CONFIGURATIONS, self.name)
        self.cluster_wide = (
            self.configuration,
            f"{ROLES}/clusterroles/{self.name}",
            f"{ROLES}/clusterrolebindings/{self.name}",
        )

    async def prepare(self) -> None:
        inside = f"/api/v1/namespaces/{self.namespace}"
        await self.api.create(f"{inside}/serviceaccounts", {"metadata": {"name": self.name}})
        await self.api.create(f"{inside}/secrets", {"metadata": {"name": "webhook-tls"}, "type": "Opaque"})
        document = configuration(self.name, {"url": "https://127.0.0.1:1/validate"})
        await self.api.create(CONFIGURATIONS, document)

    async def grant(self, *, without: str) -> None:
        for kind, path, scope in (
            ("Role", f"{ROLES}/namespaces/{self.namespace}", Scope.WEBHOOK_SECRET),
            ("ClusterRole", ROLES, Scope.WEBHOOK_CONFIGURATION),
        ):
            rules = [
                {
                    "apiGroups": [right.group],
                    "resources": [*right.resources],
                    "resourceNames": [NAMES.get(scope, self.name)],
                    "verbs": [verb for verb in right.verbs if f"{verb} {right.resources[0]}" != without],
                }
                for right in WEBHOOK_RIGHTS
                if right.scope is scope
            ]
            await self.api.create(f"{path}/{kind.lower()}s", {"metadata": {"name": self.name}, "rules": rules})
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": self.name}
            subject = {"kind": "ServiceAccount", "name": self.name, "namespace": self.namespace}
            body = {"metadata": {"name": self.name}, "roleRef": reference, "subjects": [subject]}
            await self.api.create(f"{path}/{kind.lower()}bindings", body)

    async def connect(self) -> Api:
        """A connection with nothing but the token of the account."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{self.name}/token"
        token = (await self.api.create(path, {"spec": {}}))["status"]["token"]
        config: dict[str, Any] = yaml.safe_load(self.cluster.kubeconfig.read_text())
        config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
        file = self.folder / "kubeconfig"
        file.write_text(yaml.safe_dump(config))
        return await Api.connect(kubeconfig=str(file), user_agent="stowage-operator/test")


@pytest.fixture
async def account(workbench: Workbench, cluster: LocalCluster, tmp_path: Path) -> AsyncIterator[Account]:
    made = Account(workbench, cluster, tmp_path)
    await made.prepare()
    yield made
    for path in made.cluster_wide:
        with contextlib.suppress(ApiError):
            await workbench.api.delete(path)


def certificates(account: Account, api: Api) -> SecretCertificates:
    return SecretCertificates(
        api,
        namespace=account.namespace,
        secret="webhook-tls",  # noqa: S106 - a name
        configuration=account.name,
        names=("127.0.0.1",),
        now=time.time,  # noqa: TID251 - the edge
        use=lambda _: None,
    )


async def test_the_listed_rights_are_enough(account: Account) -> None:
    await account.grant(without="")
    async with await account.connect() as api:

        async def told() -> bool:  # an authorizer takes a moment to see new roles
            with contextlib.suppress(Forbidden):
                return await certificates(account, api).look()
            return False

        await eventually(told, what="the webhook's certificate is made and told")
    (webhook,) = (await account.api.get(account.configuration))["webhooks"]
    secret = await account.api.get(f"{paths.in_namespace(SECRETS, account.namespace)}/webhook-tls")
    assert webhook["clientConfig"]["caBundle"] == secret["data"]["ca.crt"]


@pytest.mark.parametrize("missing", [f"{verb} {right.resources[0]}" for right, verb in GRANTED])
async def test_none_of_them_is_too_much(account: Account, missing: str) -> None:
    await account.grant(without=missing)
    verb, _, resource = missing.partition(" ")
    async with await account.connect() as api:

        async def forbidden() -> bool:
            with pytest.raises(Forbidden) as refused:
                await certificates(account, api).look()
            return f'cannot {verb} resource "{resource}"' in refused.value.message

        await eventually(forbidden, what=f"without {missing} it does not get on")
