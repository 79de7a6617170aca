"""`stowage operator`, `stowage extender`, `stowage activator`: the long-running processes; `stowage version`.

Every flag is also an environment variable, `STOWAGE_` and the flag's name in capitals; the flag wins.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from stowage.cli.errors import InputError
from stowage.cli.options import ContextOption, KubeconfigOption, Output, OutputOption
from stowage.cli.printing import print_document

if TYPE_CHECKING:
    from stowage.run.settings import ProcessSettings

Settings = TypeVar("Settings", bound="ProcessSettings")


class LogFormat(StrEnum):
    """Form of the log lines."""

    HUMAN = "human"
    JSON = "json"


class LogLevel(StrEnum):
    """Least severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


LogFormatOption = Annotated[LogFormat | None, typer.Option("--log-format", help="Default: human.")]
LogLevelOption = Annotated[LogLevel | None, typer.Option("--log-level", help="Default: info.")]
MetricsHostOption = Annotated[
    str | None, typer.Option("--metrics-host", help="Address of /metrics, /healthz, /readyz. Default: 127.0.0.1.")
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option("--metrics-port", help="0: any free one. Default: 8080; extender 8901, activator 8081."),
]
WatchAgeOption = Annotated[
    float | None,
    typer.Option(
        "--watch-age-limit-seconds", help="Not live when a part that follows the cluster hangs. Default: 120."
    ),
]

WatchSilenceOption = Annotated[
    float | None,
    typer.Option("--watch-silence-seconds", help="An open watch silent for longer is taken for dead. Default: 70."),
]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", help="Namespace of Stowage's own leases. Default: stowage-system.")
]


def version(*, output: OutputOption = Output.TABLE) -> None:
    """Print the version."""
    from stowage import __version__

    if output is Output.TABLE:
        print(__version__)
    else:
        print_document({"version": __version__}, output)


def operator(
    *,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    metrics_host: MetricsHostOption = None,
    metrics_port: MetricsPortOption = None,
    watch_age_limit_seconds: WatchAgeOption = None,
    watch_silence_seconds: WatchSilenceOption = None,
    namespace: NamespaceOption = None,
    lease_name: Annotated[str | None, typer.Option("--lease-name", help="Default: stowage-operator.")] = None,
    lease_seconds: Annotated[
        int | None, typer.Option("--lease-seconds", help="A leader not heard of so long is replaced. Default: 15.")
    ] = None,
    renew_within_seconds: Annotated[
        float | None,
        typer.Option("--renew-within-seconds", help="A leader that can not renew so long stops. Default: 10."),
    ] = None,
    lease_retry_seconds: Annotated[
        float | None, typer.Option("--lease-retry-seconds", help="Between two tries for the lease. Default: 2.")
    ] = None,
    audit_seconds: Annotated[
        float | None,
        typer.Option("--audit-seconds", help="Between two looks for changes that went unheard. Default: 20."),
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--identity", help="Name of this replica in the lease. Default: the host name.")
    ] = None,
    scheduler_lease_namespace: Annotated[
        str | None, typer.Option("--scheduler-lease-namespace", help="Default: kube-system.")
    ] = None,
    scheduler_lease_name: Annotated[
        str | None,
        typer.Option(
            "--scheduler-lease-name", help="Lease of the scheduler with the extender. Default: stowage-scheduler."
        ),
    ] = None,
    queue_workers: Annotated[
        int | None,
        typer.Option(
            "--queue-workers", help="Keys reconciled at once, half of them at most ModelServices. Default: 32."
        ),
    ] = None,
    solver_workers: Annotated[
        int | None,
        typer.Option(
            "--solver-workers",
            help="Parts of a packing solved at once; beyond 2 in processes of 90 MB each. Default: the CPU limit.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the packer. Default: 1.")] = None,
    watch_namespaces: Annotated[
        str | None,
        typer.Option("--watch-namespaces", help="Pods of these alone, separated by commas. Default: of all."),
    ] = None,
    worker_image: Annotated[
        str | None,
        typer.Option("--worker-image", help="Image of coordinators and of the worker files. Default: stowage:dev."),
    ] = None,
    coordinator_address: Annotated[
        str | None,
        typer.Option("--coordinator-address", help="HOST:PORT of every coordinator. Default: that of each job's pod."),
    ] = None,
    activator_address: Annotated[
        str | None,
        typer.Option("--activator-address", help="HOST:PORT of every activator. Default: that of each service's pod."),
    ] = None,
    prometheus_config: Annotated[
        str | None,
        typer.Option(
            "--prometheus-config",
            help="File of Prometheus servers and of PromQL rules for training jobs. Default: there are none.",
        ),
    ] = None,
    webhook_port: Annotated[
        int | None, typer.Option("--webhook-port", help="Port of the admission webhook. Default: there is none.")
    ] = None,
    webhook_host: Annotated[
        str | None, typer.Option("--webhook-host", help="Address it listens on. Default: 127.0.0.1.")
    ] = None,
    webhook_name: Annotated[
        str | None,
        typer.Option("--webhook-name", help="Name in its certificate: SERVICE.NAMESPACE.svc, or an address."),
    ] = None,
    webhook_secret: Annotated[
        str | None, typer.Option("--webhook-secret", help="Secret of its certificates. Default: stowage-webhook-tls.")
    ] = None,
    webhook_configuration: Annotated[
        str | None,
        typer.Option("--webhook-configuration", help="ValidatingWebhookConfiguration to keep. Default: stowage."),
    ] = None,
    webhook_certificates: Annotated[
        str | None,
        typer.Option("--webhook-certificates", help="Folder of tls.crt and tls.key that somebody else renews."),
    ] = None,
) -> None:
    """Run the operator until it is told to end."""
    given = dict(locals())
    from stowage.run.operator import main
    from stowage.run.settings import OperatorSettings

    raise typer.Exit(main(settings_from(OperatorSettings, given)))


def settings_from(model: type[Settings], given: dict[str, Any]) -> Settings:
    """Settings from flags, and from the environment where a flag is not given.

    Raises:
        InputError: a value is out of bounds; the message names the setting.
    """
    from pydantic import ValidationError

    try:
        return model(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        flag, variable = f"--{name.replace('_', '-')}", f"STOWAGE_{name.upper()}"
        raise InputError(f"{flag} or {variable} = {first['input']!r}: {first['msg']}") from error


def extender(
    *,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    metrics_host: MetricsHostOption = None,
    metrics_port: MetricsPortOption = None,
    watch_age_limit_seconds: WatchAgeOption = None,
    watch_silence_seconds: WatchSilenceOption = None,
    namespace: NamespaceOption = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address that kube-scheduler asks at. Default: 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port that kube-scheduler asks at; 0: any free one. Default: 8900.")
    ] = None,
    holder: Annotated[
        str | None,
        typer.Option("--holder", help="Whose lease the scheduler beside holds. Default: the host name."),
    ] = None,
    lease_seconds: Annotated[
        float | None,
        typer.Option("--lease-seconds", help="How long a slot stays promised to a pod not seen bound."),
    ] = None,
) -> None:
    """Run the extender beside a kube-scheduler until it is told to end."""
    given = dict(locals())
    from stowage.run.extender import ExtenderSettings, main

    raise typer.Exit(main(settings_from(ExtenderSettings, given)))


def activator(
    *,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    metrics_host: MetricsHostOption = None,
    metrics_port: MetricsPortOption = None,
    host: Annotated[str | None, typer.Option("--host", help="Address where requests come. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port of it; 0: any free one. Default: 8080.")] = None,
    forward_to: Annotated[
        str | None, typer.Option("--forward-to", help="HOST:PORT of the Service of the replicas that answer.")
    ] = None,
    needs: Annotated[
        str | None,
        typer.Option("--needs", help="HOST:PORT of others that have to take connections, separated by commas."),
    ] = None,
    requests: Annotated[int | None, typer.Option("--requests", help="That may wait. Default: 100.")] = None,
    longest_seconds: Annotated[
        float | None, typer.Option("--longest-seconds", help="That a request waits. Default: 300.")
    ] = None,
    drain_seconds: Annotated[
        float | None, typer.Option("--drain-seconds", help="For requests to end at a stop. Default: 300.")
    ] = None,
) -> None:
    """Hold the requests of a model service without replicas until there is one; run until it is told to end."""
    given = dict(locals())
    from stowage.run.activator import ActivatorSettings, main

    raise typer.Exit(main(settings_from(ActivatorSettings, given)))
