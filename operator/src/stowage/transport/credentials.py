"""Where the cluster is and how to log in: a kubeconfig, else the service account of the pod."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import yaml

from stowage.transport.errors import CredentialsError

IN_CLUSTER_HOST = "KUBERNETES_SERVICE_HOST"
KUBECONFIG = "KUBECONFIG"


def find_kubeconfig(explicit: str | None = None) -> str | None:
    """The kubeconfig to use, in kubectl's order: the given one, `$KUBECONFIG`, `~/.kube/config`; None: no such file.

    Raises:
        CredentialsError: the given file does not exist, or a directory is named instead of a file.
    """
    if explicit is not None:
        _refuse_directory(explicit, "--kubeconfig or STOWAGE_KUBECONFIG")
        if not Path(explicit).expanduser().is_file():
            raise CredentialsError(f"kubeconfig {explicit}: no such file; check --kubeconfig or STOWAGE_KUBECONFIG")
        return explicit
    listed = os.environ.get(KUBECONFIG, "")
    for part in listed.split(os.pathsep):
        if part:
            _refuse_directory(part, f"${KUBECONFIG}")
    if any(Path(part).expanduser().is_file() for part in listed.split(os.pathsep) if part):
        return listed
    default = Path.home() / ".kube" / "config"
    return str(default) if not listed and default.is_file() else None


def _refuse_directory(path: str, source: str) -> None:
    if Path(path).expanduser().is_dir():
        raise CredentialsError(f"kubeconfig {path}: is a directory, not a file; check {source}")


async def load(kubeconfig: str | None, context: str | None) -> tuple[Any, asyncio.Task[None] | None]:
    """Load a client configuration.

    Returns:
        The configuration of the official client, and a task that keeps a short-lived token fresh (None when the
        client refreshes by itself or there is nothing to refresh).

    Raises:
        CredentialsError: nothing usable was found, what was found does not parse, or its log-in plugin failed.
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
            _settle_proxy(configuration)
            return configuration, None
        with _words_of_the_loader() as said:
            loader = await config.load_kube_config(
                config_file=path, context=context, client_configuration=configuration, persist_config=False
            )
    except RecursionError as error:
        raise CredentialsError(f"kubeconfig {path}: it is nested too deeply to be one") from error
    except (config.ConfigException, OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise CredentialsError(f"kubeconfig {path or 'of the pod'}: {error}") from error
    _settle_proxy(configuration)
    if "exec" in (loader._user or {}) and not (configuration.api_key or configuration.cert_file):  # noqa: SLF001 - see below
        raise CredentialsError(f"kubeconfig {path}: its exec plugin gave no credentials: {'; '.join(said) or 'none'}")
    if loader.provider == "gcp" or "exec" in (loader._user or {}):  # noqa: SLF001 - the library shows it no other way
        refresh = config.refresh_token(loader, configuration)
        return configuration, asyncio.create_task(refresh, name="token-refresh")
    return configuration, None


def _settle_proxy(configuration: Any) -> None:  # noqa: ANN401 - an untyped library's object
    """Look for a proxy in the environment once, where the kubeconfig names none.

    aiohttp would look in each request, in a thread, and in `~/.netrc` too: a tenth of what a request costs, and a
    password for whoever is asked, which the API server is none of.
    """
    server = urlsplit(configuration.host)
    if not configuration.proxy and not proxy_bypass(server.hostname or ""):
        configuration.proxy = getproxies().get(server.scheme)
    configuration.client_session_kwargs = {"trust_env": False}


@contextlib.contextmanager
def _words_of_the_loader() -> Iterator[list[str]]:
    """What the library logs while it loads: a plugin that fails is told in no other way."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(" ".join(record.getMessage().split()))

    logger = logging.getLogger("kubernetes.aio.config.kube_config")
    keep, propagated = Keep(logging.WARNING), logger.propagate
    logger.addHandler(keep)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(keep)
        logger.propagate = propagated
