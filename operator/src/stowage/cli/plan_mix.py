"""`stowage plan-serving --mix`: of which replicas a role would be made, at several loads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from stowage.cli.printing import console

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stowage.decide.serving.plan_serving import Demand, Fleet, Split
    from stowage.decide.serving.role_mix import MixQuestion

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of the demand, for which a mix is shown."""
_MOST = 1000


class MixRow(Struct, frozen=True):
    """A mix for a load: replicas by name, and what they cost for an hour; without replicas, none serves it."""

    requests_per_second: float
    replicas: Mapping[str, int]
    cost_per_hour: float
    served_by: Mapping[str, float]
    """What one replica of each serves."""


def mixes(splits: Sequence[Split], demand: Demand, fleet: Fleet) -> list[MixRow]:
    """The cheapest mixes from nothing; the GPUs of the fleet are the stock.

    Args:
        splits: replicas that there may be; those with pipelines are left out, for a variant is one pod.
        demand: at the most.
        fleet: GPUs and their prices.
    """
    from stowage.decide.serving.mix_problem import MICRO
    from stowage.decide.serving.role_mix import answer

    found = []
    for share in SHARES:
        rate = share * demand.requests_per_second
        question = _question([one for one in splits if one.pipeline == 1], demand, fleet, rate)
        chosen = answer(question) if question is not None else None
        parts = chosen.parts if chosen is not None else ()
        found.append(
            MixRow(
                rate,
                {one.name: one.replicas for one in parts if one.replicas},
                chosen.cost_micro / MICRO if chosen is not None else 0.0,
                {one.name: one.requests_per_second for one in parts if one.requests_per_second > 0},
            )
        )
    return found


def _question(splits: Sequence[Split], demand: Demand, fleet: Fleet, rate: float) -> MixQuestion | None:
    from stowage.decide.serving.mix_demand import SHARE_OF_CLOSED_FORM
    from stowage.decide.serving.plan_serving import Role, rated
    from stowage.decide.serving.role_mix import MixQuestion, Option, micro

    serves = {
        f"{one.gpu} tp{one.tensor}": SHARE_OF_CLOSED_FORM * rated(one, Role.UNIFIED, demand).requests_per_second
        for one in splits
    }
    able = {name: found for name, found in serves.items() if found > 0}
    if not able:
        return None
    options = tuple(
        Option(
            name=f"{one.gpu} tp{one.tensor}",
            performance=one.performance,
            cost_micro=micro(fleet.cost(one.gpu) * one.gpus),
            bears=able[f"{one.gpu} tp{one.tensor}"],
            present=0,
            most=min(_MOST, fleet.tensor_groups(one)),
            uses={one.gpu: one.gpus},
        )
        for one in splits
        if f"{one.gpu} tp{one.tensor}" in able
    )
    slowest = min(able, key=lambda name: able[name])
    return MixQuestion(
        role=Role.UNIFIED,
        targets=demand.targets,
        shape=demand.shape,
        options=options,
        replicas=math.ceil(rate / able[slowest]),
        reference=slowest,
        peak=1.0,
        least=1,
        most=_MOST,
        stock=dict(fleet.gpus),
    )


def document(rows: Sequence[MixRow]) -> dict[str, Any]:
    """The answer as JSON values."""
    return {
        "mixes": [
            {
                "requestsPerSecond": round(one.requests_per_second, 4),
                "replicas": dict(one.replicas),
                "costPerHour": round(one.cost_per_hour, 4),
                "requestsPerSecondOfReplica": {name: round(rate, 4) for name, rate in one.served_by.items()},
            }
            for one in rows
        ]
    }


def show(rows: Sequence[MixRow]) -> None:
    """The same for people."""
    from rich.table import Table

    out = console()
    rates = rows[-1].served_by
    out.print(
        "a replica serves, within the targets: " + ", ".join(f"{name} {rate:.2f}/s" for name, rate in rates.items())
    )
    table = Table("requests/s", "replicas", "cost/h", box=None)
    for one in rows:
        counts = " + ".join(f"{count} {name}" for name, count in one.replicas.items()) or "no mix fits"
        table.add_row(f"{one.requests_per_second:.2f}", counts, f"{one.cost_per_hour:.2f}" if one.replicas else "")
    out.print(table)
