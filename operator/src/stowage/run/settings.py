"""Settings of the processes: environment variables `STOWAGE_*`, overridden by flags."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from stowage.api.fields import NamespaceName

CGROUP: Final = Path("/sys/fs/cgroup")

Port = Annotated[int, Field(ge=0, le=65535, description="TCP port; 0: any free one")]
Name = Annotated[str, Field(min_length=1, max_length=253)]


class SettingsError(ValueError):
    """Settings that cannot be used; the message says which, and what they must be."""


def cpu_limit(cgroup: Path = CGROUP) -> int:
    """Whole CPUs this process may use: the cgroup's quota (v2, then v1), at most the CPUs it may run on; at least 1."""
    available = len(os.sched_getaffinity(0))
    quota, period = "max", "100000"
    v2, v1 = cgroup / "cpu.max", cgroup / "cpu" / "cpu.cfs_quota_us"
    if v2.is_file():
        quota, period = v2.read_text().split()
    elif v1.is_file():
        quota, period = v1.read_text().strip(), v1.with_name("cpu.cfs_period_us").read_text().strip()
    if quota not in {"max", "-1"}:
        available = min(available, math.floor(int(quota) / int(period)))
    return max(1, available)


class ProcessSettings(BaseSettings):
    """What every long-running process of Stowage can be told."""

    model_config = SettingsConfigDict(env_prefix="STOWAGE_", extra="forbid", frozen=True)

    kubeconfig: str | None = Field(default=None, description="kubeconfig; unset: $KUBECONFIG, ~/.kube/config, the pod")
    context: str | None = Field(default=None, description="context of the kubeconfig")
    log_format: Literal["human", "json"] = "human"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics_host: str = Field(default="127.0.0.1", description="address of /metrics, /healthz and /readyz")
    metrics_port: Port = 8080
    namespace: Name = Field(default="stowage-system", description="namespace of Stowage's own leases")
    watch_silence_seconds: float = Field(
        default=70.0, ge=2, le=600, description="an open watch without event and bookmark for longer is taken for dead"
    )
    watch_age_limit_seconds: float = Field(
        default=120.0, gt=0, description="a part that follows the cluster does nothing for longer: the process hangs"
    )


class OperatorSettings(ProcessSettings):
    """Settings of `stowage operator`."""

    lease_name: Name = "stowage-operator"
    identity: Name = Field(default_factory=socket.gethostname, description="name of this replica in the lease")
    lease_seconds: int = Field(default=15, ge=2, le=3600, description="a leader not heard of for so long is replaced")
    renew_within_seconds: float = Field(
        default=10.0, gt=0, validate_default=True, description="a leader that can not renew for so long stops"
    )
    lease_retry_seconds: float = Field(
        default=2.0, gt=0, validate_default=True, description="between two tries to get or renew the lease"
    )
    scheduler_lease_namespace: Name = Field(default="kube-system", description="where the second scheduler's lease is")
    scheduler_lease_name: Name = "stowage-scheduler"
    watch_namespaces: Annotated[tuple[NamespaceName, ...], NoDecode] = Field(
        default=(), description="plan and act for pods of these namespaces only, separated by commas; none: of all"
    )
    queue_workers: int = Field(
        default=32, ge=1, le=256, description="keys reconciled at once, half of them at most services"
    )
    solver_workers: int = Field(
        default_factory=cpu_limit,
        ge=1,
        le=256,
        description="neighbourhoods solved at once; beyond 2 in processes of 90 MB",
    )
    audit_seconds: float = Field(
        default=20.0, gt=0, le=600, description="between two looks for changes of policies and plans that went unheard"
    )
    seed: int = Field(default=1, ge=0, description="seed of the packer")
    worker_image: str = Field(
        default="stowage:dev",
        min_length=1,
        description="image of coordinators, activators, and of what brings worker files",
    )
    coordinator_address: str = Field(
        default="",
        pattern=r"^(.+:[0-9]{1,5})?$",
        description="HOST:PORT of every job's coordinator, for trying things out; unset: that of its pod",
    )
    activator_address: str = Field(
        default="",
        pattern=r"^(.+:[0-9]{1,5})?$",
        description="HOST:PORT of every service's activator, for trying things out; unset: that of its pod",
    )
    prometheus_config: Path | None = Field(
        default=None, description="file of the Prometheus servers and the PromQL rules of training jobs; unset: none"
    )
    webhook_port: Port | None = Field(default=None, description="port of the admission webhook; unset: none")
    webhook_host: str = Field(default="127.0.0.1", description="address the webhook listens on")
    webhook_name: str = Field(
        default="", description="name in the webhook's certificate: SERVICE.NAMESPACE.svc, or an address"
    )
    webhook_secret: Name = Field(default="stowage-webhook-tls", description="Secret that holds them")
    webhook_configuration: Name = "stowage"
    webhook_certificates: Path | None = Field(
        default=None, description="folder of tls.crt and tls.key, as cert-manager keeps them; unset: Stowage makes them"
    )

    @field_validator("watch_namespaces", mode="before")
    @classmethod
    def _separated_by_commas(cls, given: object) -> object:
        return [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given

    @field_validator("renew_within_seconds")
    @classmethod
    def _terms_do_not_meet(cls, seconds: float, info: ValidationInfo) -> float:
        lease_seconds = info.data.get("lease_seconds", seconds + 1)
        if seconds >= lease_seconds:
            raise ValueError(f"must be less than lease_seconds, {lease_seconds}, or two processes lead at once")
        return seconds

    @field_validator("lease_retry_seconds")
    @classmethod
    def _a_term_outlives_a_failed_try(cls, seconds: float, info: ValidationInfo) -> float:
        renew_seconds = info.data.get("renew_within_seconds", 3 * seconds)
        if 2 * seconds >= renew_seconds:
            raise ValueError(
                f"must be less than half of renew_within_seconds, {renew_seconds:g}, or one failed try ends a term"
            )
        return seconds
