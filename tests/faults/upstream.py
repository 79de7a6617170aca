"""The API server behind the fault proxy: how to reach it, and a kubeconfig for those who shall go by the proxy."""

from __future__ import annotations

import base64
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Upstream:
    """An API server.

    Attributes:
        url: its address, without a slash at the end.
        tls: how to speak to it, with the client's certificate; None: plain HTTP.
        headers: sent with each request, such as a bearer token.
    """

    url: str
    tls: ssl.SSLContext | None = None
    headers: tuple[tuple[str, str], ...] = ()


def read_kubeconfig(file: Path) -> Upstream:
    """The API server of a kubeconfig's current context, with the credentials of its user."""
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    context = _entry(config, "contexts", config["current-context"])["context"]
    cluster = _entry(config, "clusters", context["cluster"])["cluster"]
    user = _entry(config, "users", context.get("user", "")).get("user") or {}
    url = str(cluster["server"]).rstrip("/")
    headers = (("Authorization", f"Bearer {user['token']}"),) if "token" in user else ()
    if not url.startswith("https:"):
        return Upstream(url, None, headers)
    tls = ssl.create_default_context()
    authority = _bytes(cluster, "certificate-authority", file.parent)
    if authority is not None:
        tls.load_verify_locations(cadata=authority.decode())
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate, key = _bytes(user, "client-certificate", file.parent), _bytes(user, "client-key", file.parent)
    if certificate is not None and key is not None:
        # the ssl module reads certificates from files alone
        with tempfile.NamedTemporaryFile(suffix=".pem") as pair:
            pair.write(certificate + b"\n" + key)
            pair.flush()
            tls.load_cert_chain(pair.name)
    return Upstream(url, tls, headers)


def write_kubeconfig(file: Path, url: str) -> Path:
    """Writes a kubeconfig for a server that asks for no credentials."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "proxy",
        "clusters": [{"name": "proxy", "cluster": {"server": url}}],
        "users": [{"name": "proxy", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
    }
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file


def _entry(config: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next((item for item in config.get(kind) or [] if item["name"] == name), {})
    return found


def _bytes(entry: dict[str, Any], field: str, folder: Path) -> bytes | None:
    if f"{field}-data" in entry:
        return base64.b64decode(entry[f"{field}-data"])
    return (folder / entry[field]).read_bytes() if field in entry else None
