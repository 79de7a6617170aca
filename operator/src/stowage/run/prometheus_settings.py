"""Which Prometheus servers are asked what: one file that admins write, and nobody else.

Users name rules and never write queries: a query may read whatever the server knows.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, Field, StringConstraints, ValidationError, field_validator, model_validator

from stowage.api.durations import Duration, within
from stowage.api.fields import NamespaceName, Unique
from stowage.api.resource import InvalidObjectError, SpecFields, problems_of
from stowage.decide.training.promql_rules import JOB_SERIES_LABEL, PromqlRule
from stowage.observe.prometheus import Endpoint
from stowage.run.settings import SettingsError

MAX_FILE_BYTES: Final = 512 * 1024
MAX_ENDPOINTS: Final = 8
MAX_RULES: Final = 32
TENANT: Final = r"^[A-Za-z0-9!._*'()|-]+$"
"""Characters of a tenant of Mimir; `|` between several."""
_API: Final = "/api/v1"
_KIND: Final = "file of Prometheus servers and rules"

LabelName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]


def _is_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", url):
        raise ValueError("must be an address such as http://prometheus.monitoring.svc:9090")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no password: give a bearer token, in a Secret")
    if parts.query or parts.fragment:
        raise ValueError("must end with the path, without ? and #")
    if parts.path.rstrip("/").endswith(_API):
        raise ValueError(f"must be the address without {_API}")
    return url


class EndpointFields(SpecFields):
    """One server."""

    name: NamespaceName = "default"
    url: Annotated[str, Field(max_length=1024), AfterValidator(_is_address)]
    bearer_token_file: Path | None = None
    ca_file: Path | None = None
    timeout: Annotated[Duration, within("100ms", "60s")] = Duration("5s")
    tenant: Annotated[str, StringConstraints(min_length=1, max_length=150, pattern=TENANT)] | None = None

    @model_validator(mode="after")
    def _token_is_not_seen(self) -> Self:
        if self.bearer_token_file is not None and not self.url.startswith("https://"):
            raise ValueError("a bearer token is sent over https only")
        return self


class RuleLabels(SpecFields):
    """Which labels of a series say whom it is about."""

    namespace: LabelName = "namespace"
    job: LabelName | None = None
    pod: LabelName | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.job is not None and self.pod is not None:
            raise ValueError("at most one of job and pod may be given")
        return self


class RuleFields(SpecFields):
    """One rule."""

    name: NamespaceName
    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4096)]
    endpoint: NamespaceName = "default"
    hold: Annotated[Duration, within("0s", "1h"), Field(alias="for")] = Duration("60s")
    every: Annotated[Duration, within("5s", "10m")] = Duration("15s")
    namespaces: Annotated[tuple[NamespaceName, ...], Field(max_length=256)] = ()
    labels: RuleLabels = RuleLabels()

    @field_validator("query")
    @classmethod
    def _is_text(cls, query: str) -> str:
        if any(not one.isprintable() and one not in "\n\t" for one in query):
            raise ValueError("must be printable text")
        return query


class _File(SpecFields):
    endpoints: Annotated[tuple[EndpointFields, ...], Field(max_length=MAX_ENDPOINTS), Unique("name")] = ()
    rules: Annotated[tuple[RuleFields, ...], Field(max_length=MAX_RULES), Unique("name")] = ()

    @model_validator(mode="after")
    def _rules_know_their_servers(self) -> Self:
        known = {one.name for one in self.endpoints}
        for rule in self.rules:
            if rule.endpoint not in known:
                raise ValueError(f"rule {rule.name} names endpoint {rule.endpoint}, which is not in endpoints")
        return self


class PrometheusSettings:
    """The servers and the rules.

    Args:
        endpoints: by name.
        rules: by name.
    """

    def __init__(self, endpoints: tuple[Endpoint, ...] = (), rules: tuple[PromqlRule, ...] = ()) -> None:
        self.endpoints = {one.name: one for one in endpoints}
        self.rules = {one.name: one for one in rules}


def read_settings(path: Path | None) -> PrometheusSettings:
    """Read the file; None: there are no servers.

    Raises:
        SettingsError: it cannot be read, or says something that cannot be.
    """
    if path is None:
        return PrometheusSettings()
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise SettingsError(f"{path}: more than {MAX_FILE_BYTES} bytes")
        found = _File.model_validate(yaml.safe_load(content) or {})
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        problems = tuple((field, "(not shown)", rule) for field, _, rule in problems_of(error))  # addresses, passwords
        raise SettingsError(str(InvalidObjectError(_KIND, str(path), problems))) from None
    return PrometheusSettings(tuple(map(_endpoint, found.endpoints)), tuple(map(_rule, found.rules)))


def _endpoint(fields: EndpointFields) -> Endpoint:
    seconds = fields.timeout.seconds
    return Endpoint(fields.name, fields.url, fields.bearer_token_file, fields.ca_file, seconds, fields.tenant)


def _rule(fields: RuleFields) -> PromqlRule:
    labels = fields.labels
    return PromqlRule(
        name=fields.name,
        query=fields.query,
        endpoint=fields.endpoint,
        for_seconds=fields.hold.seconds,
        every_seconds=fields.every.seconds,
        namespaces=frozenset(fields.namespaces),
        namespace_label=labels.namespace,
        name_label=labels.pod or labels.job or JOB_SERIES_LABEL,
        of_pods=labels.pod is not None,
    )
