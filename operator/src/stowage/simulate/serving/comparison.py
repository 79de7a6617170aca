"""Several policies on the same requests: same engines, same starts, same size at the first second."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from stowage.simulate.serving.baselines import oracle
from stowage.simulate.serving.baselines.dynamo import Dynamo
from stowage.simulate.serving.baselines.hpa import Hpa
from stowage.simulate.serving.baselines.keda import Keda, KedaInFlight
from stowage.simulate.serving.baselines.kpa import Kpa
from stowage.simulate.serving.baselines.llumnix import Llumnix
from stowage.simulate.serving.baselines.static_best import best_fixed, first_size
from stowage.simulate.serving.baselines.targets import Targets, derive
from stowage.simulate.serving.baselines.wva_v1 import wva_v1
from stowage.simulate.serving.baselines.wva_v2 import wva_v2
from stowage.simulate.serving.fleet import run
from stowage.simulate.serving.outcome import Outcome
from stowage.simulate.serving.policy import Policy
from stowage.simulate.serving.requests import Requests
from stowage.simulate.serving.setup import Setup
from stowage.simulate.serving.stowage_policy import stowage_policy

OURS = "stowage"
STATIC = "static-best"
ORACLE = oracle.NAME
ONLINE = ("hpa", "kpa", "keda", "keda-in-flight", "wva-v1", "wva-v2", "dynamo", "llumnix")
POLICIES = (OURS, ORACLE, STATIC, *ONLINE)
"""All names, in the order of answers."""
ATTAINMENT = 0.99
TUNED = ("hpa", "kpa", "keda-in-flight")
"""Baselines with a target that users tune."""
FACTORS = (1.15, 0.85, 0.7, 0.55)
"""Of the largest value that the targets allow for one replica alone; many replicas may bear a little more."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What each policy made of the same requests.

    Attributes:
        requests: all that arrived.
        setup: what all ran with; `initial` is the size that meets the targets on the first five minutes.
        targets: what baselines aim at per replica.
        outcomes: by policy, in the order asked for.
    """

    requests: Requests
    setup: Setup
    targets: Targets
    outcomes: Mapping[str, Outcome]


def makers(setup: Setup, targets: Targets, attainment: float = ATTAINMENT) -> dict[str, Callable[[], Policy]]:
    """On-line policies by name; each call makes a new one. Thresholds of baselines are those of `targets`."""
    performance = setup.performance
    return {
        OURS: lambda: stowage_policy(setup, attainment),
        "hpa": lambda: Hpa(targets.in_flight),
        "kpa": lambda: Kpa(targets.in_flight),
        "keda": lambda: Keda(targets.waiting),
        "keda-in-flight": lambda: KedaInFlight(targets.in_flight),
        "wva-v1": wva_v1,
        "wva-v2": lambda: wva_v2(batched_tokens=performance.max_batched_tokens, sequences=performance.max_running),
        "dynamo": lambda: Dynamo(performance, setup.slo_ttft_seconds, setup.slo_itl_seconds),
        "llumnix": Llumnix,
    }


def compare(
    requests: Requests,
    setup: Setup,
    names: Sequence[str] = POLICIES,
    *,
    attainment: float = ATTAINMENT,
    effort: oracle.Effort | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Runs the policies of these names from the size on that meets the targets on the first five minutes.

    `setup.initial` is replaced by that size. The oracle goes last: it may take and improve what the others did. `told`
    is called with each name before its run.

    Raises:
        KeyError: a name is not known.
    """
    told("thresholds")
    targets = derive(requests, setup, attainment)
    guess = targets.requests_per_second
    setup = replace(setup, initial=first_size(requests, setup, attainment, per_replica_per_second=guess))
    online = makers(setup, targets, attainment)
    found: dict[str, Outcome] = {}
    for name in names:
        if name not in (STATIC, ORACLE):
            told(name)
            found[name] = run(requests, online[name], setup)
    if STATIC in names or ORACLE in names:
        told(STATIC)
        fixed = best_fixed(requests, setup, attainment, per_replica_per_second=guess)
        if ORACLE in names:
            told(ORACLE)
            known = list(found.values())
            found[ORACLE] = oracle.perfect_foresight(requests, setup, attainment, fixed, known, effort)
        found[STATIC] = fixed
    return Comparison(requests, setup, targets, {name: found[name] for name in names})


def tuned(comparison: Comparison, attainment: float = ATTAINMENT) -> dict[str, Outcome]:
    """Baselines with targets that somebody set lower, by name and factor: what tuning on this very trace would give."""
    targets, setup = comparison.targets, comparison.setup
    found = {}
    for factor in FACTORS:
        lower = replace(targets, in_flight=factor * targets.in_flight)
        for name in TUNED:
            make = makers(setup, lower, attainment)[name]
            found[f"{name} x {factor:g}"] = run(comparison.requests, make, setup)
    return found
