"""ResourceQuotas as the API server writes them, with only the fields that Stowage reads."""

from __future__ import annotations

from stowage_scheduler.kube.objects import ObjectMeta, ResourceList
from stowage_scheduler.kube.parts import Part


class ScopeRequirement(Part, frozen=True):
    """spec.scopeSelector.matchExpressions[]."""

    scope_name: str
    operator: str
    values: tuple[str, ...] | None = None


class ScopeSelector(Part, frozen=True):
    """spec.scopeSelector."""

    match_expressions: tuple[ScopeRequirement, ...] | None = None


class QuotaSpec(Part, frozen=True):
    """spec of a ResourceQuota."""

    scopes: tuple[str, ...] | None = None
    scope_selector: ScopeSelector | None = None


class QuotaStatus(Part, frozen=True):
    """status of a ResourceQuota; admission reads this, and not what spec.hard wishes."""

    hard: ResourceList | None = None
    used: ResourceList | None = None


class ResourceQuota(Part, frozen=True):
    """v1 ResourceQuota."""

    metadata: ObjectMeta
    spec: QuotaSpec | None = None
    status: QuotaStatus | None = None
