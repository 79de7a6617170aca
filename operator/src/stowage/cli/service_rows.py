"""ModelServices in `stowage top`: one row for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from stowage.cli.printing import remark

if TYPE_CHECKING:
    from stowage.api.model_service import ModelService


class ServiceRow(Struct, frozen=True):
    """A service as `top` shows it; what it draws and costs is that of all its replicas, per hour."""

    service: str
    ready: int
    desired: int
    attainment: float | None = None
    reason: str | None = None
    gpus: int | None = None
    cost_per_hour: float | None = None
    power_watts: int | None = None


def service_rows(documents: Iterable[Mapping[str, Any]]) -> list[ServiceRow]:
    """The services, those that miss most first; those that cannot be read are named and left out."""
    from stowage.api.model_service import ModelService
    from stowage.api.resource import InvalidObjectError

    found = []
    for document in documents:
        try:
            found.append(_row(ModelService.parse_stored(document)))
        except InvalidObjectError as error:
            remark(f"left out: {error}")
    return sorted(found, key=lambda row: (1.0 if row.attainment is None else row.attainment, row.service))


def _row(service: ModelService) -> ServiceRow:
    status = service.status
    slo, spend = status.slo, status.spend
    return ServiceRow(
        service=service.key,
        ready=status.ready_replicas,
        desired=status.desired_replicas,
        attainment=float(slo.attainment) if slo is not None and slo.attainment is not None else None,
        reason=status.reason,
        gpus=spend.gpus if spend is not None else None,
        cost_per_hour=float(spend.cost_per_hour) if spend is not None and spend.cost_per_hour is not None else None,
        power_watts=spend.power_watts if spend is not None else None,
    )


def document(rows: Iterable[ServiceRow]) -> list[dict[str, Any]]:
    """The rows as JSON values."""
    return [
        {
            "service": row.service,
            "ready": row.ready,
            "desired": row.desired,
            "attainment": row.attainment,
            "reason": row.reason,
            "gpus": row.gpus,
            "costPerHour": row.cost_per_hour,
            "powerWatts": row.power_watts,
        }
        for row in rows
    ]


def show(rows: Iterable[ServiceRow]) -> None:
    """Print a table; nothing where there are no services."""
    from stowage.cli.plan import print_rows
    from stowage.cli.printing import console

    heads = ("model service", "ready", "desired", "targets met", "reason", "GPUs", "cost/h")
    cells = [
        (
            row.service,
            str(row.ready),
            str(row.desired),
            "" if row.attainment is None else f"{100 * row.attainment:.2f} %",
            row.reason or "",
            "" if row.gpus is None else str(row.gpus),
            "" if row.cost_per_hour is None else f"{row.cost_per_hour:.2f}",
        )
        for row in rows
    ]
    print_rows(console(), heads, cells)
