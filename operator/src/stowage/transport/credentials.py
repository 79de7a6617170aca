"""Where the cluster is and how to log in: a kubeconfig, else the service account of the pod."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import yaml

from stowage.transport.errors import CredentialsError

IN_CLUSTER_HOST = "KUBERNETES_SERVICE_HOST"
KUBECONFIG = "KUBECONFIG"


def find_kubeconfig(explicit: str | None = None) -> str | None:
    """The kubeconfig to use, in kubectl's order: the given one, `$KUBECONFIG`, `~/.kube/config`; None: no such file.

    Raises:
        CredentialsError: the given file does not exist.
    """
    if explicit is not None:
        if not Path(explicit).expanduser().is_file():
            raise CredentialsError(f"kubeconfig {explicit}: no such file; check --kubeconfig or STOWAGE_KUBECONFIG")
        return explicit
    listed = os.environ.get(KUBECONFIG, "")
    if any(Path(part).expanduser().is_file() for part in listed.split(os.pathsep) if part):
        return listed
    default = Path.home() / ".kube" / "config"
    return str(default) if not listed and default.is_file() else None


async def load(kubeconfig: str | None, context: str | None) -> tuple[Any, asyncio.Task[None] | None]:
    """Load a client configuration.

    Returns:
        The configuration of the official client, and a task that keeps a short-lived token fresh (None when the
        client refreshes by itself or there is nothing to refresh).

    Raises:
        CredentialsError: nothing usable was found, or what was found does not parse.
    """
    from kubernetes.aio import config as untyped  # noqa: PLC0415 - half a second that offline commands need not pay
    from kubernetes.aio.client.configuration import Configuration  # noqa: PLC0415

    config: Any = untyped
    configuration = Configuration()
    path = find_kubeconfig(kubeconfig)
    try:
        if path is None:
            if IN_CLUSTER_HOST not in os.environ:
                raise CredentialsError(
                    "no cluster: neither --kubeconfig, $KUBECONFIG nor ~/.kube/config exists, and this is no pod"
                )
            config.load_incluster_config(client_configuration=configuration)
            return configuration, None
        loader = await config.load_kube_config(
            config_file=path, context=context, client_configuration=configuration, persist_config=False
        )
    except (config.ConfigException, OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise CredentialsError(f"kubeconfig {path or 'of the pod'}: {error}") from error
    if loader.provider == "gcp" or "exec" in (loader._user or {}):  # noqa: SLF001 - the library shows it no other way
        refresh = config.refresh_token(loader, configuration)
        return configuration, asyncio.create_task(refresh, name="token-refresh")
    return configuration, None
